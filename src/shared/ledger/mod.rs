//! Purges that reach every pod: a chain of records in Redis, told by messages, checked against by whoever may have missed one.

pub mod machine;

#[cfg(test)]
mod tests;
