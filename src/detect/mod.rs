//! What a connection speaks, told from its first bytes.

mod io;
pub mod machine;

#[cfg(test)]
mod tests;

pub use io::First;
pub use io::read_first;
