//! What is made of what other pods have written.

use std::time::Duration;

use redis::Value;

use crate::shared::roll::CIRCUITS_MAX;
use crate::shared::roll::Called;
use crate::shared::roll::Pod;
use crate::shared::roll::read;
use crate::shared::roll::written;

fn answer(items: &[&str]) -> Value {
    let bulk = |text: &&str| Value::BulkString(text.as_bytes().to_vec());
    Value::Array(items.iter().map(bulk).collect())
}

#[test]
fn what_is_written_is_read() {
    let open = [7, u64::MAX];
    let line = written(&open);
    let called = read(&answer(&["1700", "00000000000000ff", &line]));
    let pod = Pod {
        id: 255,
        open: open.to_vec(),
    };
    let meant = Called {
        time: Duration::from_millis(1700),
        others: vec![pod],
    };
    assert_eq!(called, Some(meant));
}

#[test]
fn what_is_not_ours_says_nothing() {
    let called = read(&answer(&[
        "1",
        "pod-7",
        "",
        "00000000000000ff",
        "x y 1 00000000000000zz",
    ]));
    let others = called.expect("it is an answer").others;
    assert_eq!(
        others,
        [Pod {
            id: 255,
            open: Vec::new()
        }]
    );
    for wrong in [Value::Nil, Value::Int(3), answer(&[]), answer(&["soon"])] {
        assert_eq!(read(&wrong), None);
    }
}

#[test]
fn nobody_names_more_than_is_listened_to() {
    let open: Vec<u64> = (0..1000).collect();
    let line = written(&open);
    assert_eq!(line.split(' ').count(), CIRCUITS_MAX);
    let long = format!("{line} {line}");
    let called = read(&answer(&["1", "00000000000000ff", &long]));
    assert_eq!(
        called.expect("an answer").others[0].open.len(),
        CIRCUITS_MAX
    );
}
