//! What is made of an answer about a bucket.

use std::time::Duration;

use redis::Value;

use crate::shared::quota::Drawn;
use crate::shared::quota::read;

#[test]
fn only_four_numbers_are_an_answer() {
    let of = |items: &[i64]| {
        read(&Value::Array(
            items.iter().map(|n| Value::Int(*n)).collect(),
        ))
    };
    let meant = Drawn {
        calls: 3,
        left: 0,
        pods: 2,
        next: Duration::from_micros(40),
    };
    assert_eq!(of(&[3, 0, 2, 40]), Some(meant));
    assert_eq!(of(&[3, 0, 2]), None);
    assert_eq!(of(&[-3, 0, 2, 40]), None);
    assert_eq!(read(&Value::Nil), None);
}
