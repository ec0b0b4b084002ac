//! The engine against the sections of RFC 9111 and its companions, a test each.

use std::time::Duration;
use std::time::Instant;

use super::machine::Asked;
use super::machine::Headers;
use super::machine::Intake;
use super::machine::Rules;
use super::machine::Stored;
use super::machine::Times;
use super::machine::WhyNot;
use super::machine::ask;
use super::machine::store;
use crate::kit::walk;

mod age;
mod bench;
mod directives;
mod invalidate;
mod key;
mod layer;
mod oracle;
mod part;
mod purge;
mod range;
mod reuse;
mod status;
mod storing;
mod targeted;
mod validate;
mod vary;
mod walks;
mod wire;

/// Fields as they are written.
#[derive(Clone, Debug, Default, PartialEq)]
struct Head(Vec<(String, String)>);

impl Headers for Head {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let lines = self.0.iter().filter(move |(known, _)| known == name);
        lines.map(|(_, value)| value.as_bytes())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|(n, v)| n.len() + v.len() + 4).sum()
    }
}

/// One field a line: `name: value`.
fn head(text: &str) -> Head {
    let line = |line: &str| {
        let (name, value) = line.trim().split_once(':').expect("name: value");
        (name.trim().to_ascii_lowercase(), value.trim().to_owned())
    };
    Head(
        text.lines()
            .filter(|l| !l.trim().is_empty())
            .map(line)
            .collect(),
    )
}

/// The wall clock of every test: 2026-11-24T10:00:00Z.
const NOW: u64 = 1_795_514_400;
const NOW_TEXT: &str = "Tue, 24 Nov 2026 10:00:00 GMT";

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// An answer that came at `at` without delay.
fn times(at: Instant) -> Times {
    Times {
        requested: at,
        received: at,
        received_unix: NOW,
    }
}

/// A request that a cache may answer.
fn asked(fields: &str) -> Asked {
    match ask::read("GET", false, &head(fields)) {
        Intake::Serve(asked) => asked,
        other => panic!("{other:?}"),
    }
}

/// Judges an answer to a GET.
fn judged(rules: &Rules, request: &str, status: u16, response: &str) -> Result<Stored, WhyNot> {
    let start = walk::start();
    let (request_head, response) = (head(request), head(response));
    store::judge(
        &asked(request),
        &request_head,
        status,
        &response,
        times(start),
        rules,
    )
}

/// Why an answer to a plain GET is not kept, by the standard alone.
fn why_not(status: u16, response: &str) -> Option<WhyNot> {
    judged(&Rules::default(), "", status, response).err()
}

/// A kept answer to a plain GET, and when it came.
fn kept(response: &str) -> (Stored, Instant) {
    let stored = judged(&Rules::default(), "", 200, response).expect("kept");
    let at = stored.received;
    (stored, at)
}
