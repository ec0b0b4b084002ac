//! Judgements of `limit`.

use super::super::fault::Sink;
use super::super::fault::code;
use super::super::layers::Merged;
use crate::kit::fields::Fields;

/// Less than a call an hour, per second.
const TOO_SLOW: f64 = 0.999_999 / 3600.0;

/// Lints of a limit that is on.
pub(super) fn limit(block: &Merged, sink: &mut Sink) {
    let at = |key: &str| block.place(key);
    match (at("rps"), at("rate")) {
        (Some(_), Some(rate)) => {
            let hint = "keep one: `rps` counts calls a second, `rate` carries its unit".to_owned();
            let message = "`rps` and `rate` both say how fast";
            sink.add(code::CONFLICT, rate, message, Some(hint));
        }
        (None, None) => {
            let place = block.origin.place.unwrap_or_default();
            let hint = "add `rps: 100` or `rate: 30/m`".to_owned();
            sink.add(
                code::MISSING_KEY,
                place,
                "limit needs `rps` or `rate`",
                Some(hint),
            );
        }
        _ => {}
    }
    if let (Some(at), Some(rate)) = (at("rate"), block.rate("rate"))
        && rate < TOO_SLOW
    {
        let message = "`rate` in limit: out of range: at least 1/h";
        let hint = "`limit: off` lets every call pass".to_owned();
        sink.add(code::RANGE, at, message, Some(hint));
    }
}
