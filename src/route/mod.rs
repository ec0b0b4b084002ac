//! Which upstream a host belongs to and which route a request takes: the most specific match, whatever the order.

pub mod machine;

#[cfg(test)]
mod tests;
