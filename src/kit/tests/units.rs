//! Durations, sizes, shares and rates: what is read, what is refused with which advice, and the way back.

use std::time::Duration;

use crate::kit::units::DURATION_MAX;
use crate::kit::units::Unfit;
use crate::kit::units::format_duration;
use crate::kit::units::format_rate;
use crate::kit::units::format_share;
use crate::kit::units::format_size;
use crate::kit::units::parse_duration;
use crate::kit::units::parse_rate;
use crate::kit::units::parse_share;
use crate::kit::units::parse_size;
use crate::kit::walk;

fn told<T: std::fmt::Debug>(result: Result<T, Unfit>) -> String {
    result.expect_err("refused").to_string()
}

#[test]
fn durations_are_read() {
    for (text, nanos) in [
        ("250ms", 250_000_000),
        ("2s", 2_000_000_000),
        (" 2 s ", 2_000_000_000),
        ("0s", 0),
        ("1.5s", 1_500_000_000),
        ("1.1s", 1_100_000_000),
        ("0.000001ms", 1),
        ("1.50m", 90_000_000_000),
        ("5m", 300_000_000_000),
        ("1h", 3_600_000_000_000),
        ("7d", 604_800_000_000_000),
    ] {
        assert_eq!(
            parse_duration(text),
            Ok(Duration::from_nanos(nanos)),
            "{text}"
        );
    }
    assert_eq!(parse_duration("3650d"), Ok(DURATION_MAX));
}

#[test]
fn durations_are_refused_with_advice() {
    for (text, part) in [
        ("5", "did you mean `5s`?"),
        ("1.5", "did you mean `1.5s`?"),
        ("", "a duration is missing"),
        ("-5s", "negative"),
        ("s", "write it such as `5s`"),
        ("fast", "is not a duration"),
        (".5s", "is not a duration"),
        ("5.s", "is not a duration"),
        ("1.2.3s", "is not a duration"),
        ("1,5s", "unknown unit `,5s`"),
        ("1h30m", "more than one unit"),
        ("5S", "did you mean `5s`?"),
        ("5sec", "did you mean `5s`?"),
        ("2 minutes", "did you mean `2m`?"),
        ("5us", "ms, s, m, h or d"),
        ("0.0000001ms", "finer than a nanosecond"),
        ("0.1234567890123456789s", "finer than a nanosecond"),
        ("3651d", "longer"),
        ("99999999999999999999999d", "longer"),
        ("5e3s", "more than one unit"),
        ("٥s", "is not a duration"),
    ] {
        let told = told(parse_duration(text));
        assert!(told.contains(part), "{text}: {told}");
    }
}

#[test]
fn durations_are_printed_with_the_largest_unit() {
    for (text, printed) in [
        ("0ms", "0s"),
        ("300000ms", "5m"),
        ("90s", "90s"),
        ("60s", "1m"),
        ("24h", "1d"),
        ("1.5s", "1500ms"),
        ("1.25ms", "1.25ms"),
        ("0.000001ms", "0.000001ms"),
    ] {
        let value = parse_duration(text).expect(text);
        assert_eq!(format_duration(value), printed, "{text}");
    }
}

#[test]
fn sizes_are_read() {
    for (text, bytes) in [
        ("0B", 0),
        ("512B", 512),
        ("64KiB", 65_536),
        ("1.5KiB", 1536),
        ("1MiB", 1_048_576),
        ("1GiB", 1_073_741_824),
        ("10kB", 10_000),
        ("1MB", 1_000_000),
        ("2 GB", 2_000_000_000),
    ] {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
}

#[test]
fn sizes_are_refused_with_advice() {
    for (text, part) in [
        ("64", "did you mean `64KiB`?"),
        ("64KB", "did you mean `64KiB`?"),
        ("64k", "did you mean `64KiB`?"),
        ("64Mi", "did you mean `64MiB`?"),
        ("64 parsecs", "B, KiB, MiB, GiB, kB, MB or GB"),
        ("", "a size is missing"),
        ("-1B", "negative"),
        ("0.5B", "whole number of bytes"),
        ("99999999999GiB", "larger"),
        ("99999999999999999999GiB", "larger"),
    ] {
        let told = told(parse_size(text));
        assert!(told.contains(part), "{text}: {told}");
    }
}

#[test]
fn sizes_are_printed_with_the_largest_unit() {
    for (bytes, printed) in [
        (0, "0B"),
        (1536, "1536B"),
        (65_536, "64KiB"),
        (1 << 30, "1GiB"),
        (10_000, "10kB"),
        (1_000_000, "1MB"),
        (1_024_000, "1000KiB"),
        (u64::MAX, "18446744073709551615B"),
    ] {
        assert_eq!(format_size(bytes), printed);
        assert_eq!(parse_size(printed), Ok(bytes));
    }
}

#[test]
fn shares_are_read_and_refused() {
    for (text, share) in [
        ("20%", 0.2),
        ("0%", 0.0),
        ("100%", 1.0),
        ("0.1%", 0.001),
        ("12.5 %", 0.125),
    ] {
        assert_eq!(parse_share(text), Ok(share), "{text}");
    }
    for (text, part) in [
        ("20", "did you mean `20%`?"),
        ("0.2", "did you mean `20%`?"),
        ("0.125", "did you mean `12.5%`?"),
        ("1", "did you mean `1%`?"),
        ("1.0", "did you mean `100%`?"),
        ("101%", "more than 100%"),
        ("-1%", "negative"),
        ("%", "write it such as `20%`"),
        ("20 percent", "did you mean `20%`?"),
        ("20%%", "did you mean `20%`?"),
        ("NaN%", "is not a share"),
    ] {
        let told = told(parse_share(text));
        assert!(told.contains(part), "{text}: {told}");
    }
    assert_eq!(
        [0.2, 0.125, 1.0, 0.001, 0.0].map(format_share),
        ["20%", "12.5%", "100%", "0.1%", "0%"]
    );
}

#[test]
fn rates_are_read_and_refused() {
    for (text, per_second) in [
        ("10/s", 10.0),
        ("600/m", 10.0),
        ("3600/h", 1.0),
        ("0.5/s", 0.5),
        ("1 / m", 1.0 / 60.0),
    ] {
        assert_eq!(parse_rate(text), Ok(per_second), "{text}");
    }
    for (text, part) in [
        ("10", "did you mean `10/s`?"),
        ("10/sec", "did you mean `10/s`?"),
        ("10/minute", "did you mean `10/m`?"),
        ("10rps", "did you mean `10/s`?"),
        ("10ph", "did you mean `10/h`?"),
        ("10/d", "`/s`, `/m` or `/h`"),
        ("", "a rate is missing"),
        ("-1/s", "negative"),
        ("/s", "write it such as `10/s`"),
    ] {
        let told = told(parse_rate(text));
        assert!(told.contains(part), "{text}: {told}");
    }
    let printed = [10.0, 0.5, 1.0 / 60.0, 5.0 / 3600.0, 0.0].map(format_rate);
    assert_eq!(printed, ["10/s", "0.5/s", "1/m", "5/h", "0/s"]);
}

#[test]
fn unfit_keeps_message_and_hint_apart() {
    let fault = parse_duration("5").expect_err("no unit");
    assert_eq!(fault.message, "`5` has no unit: a duration carries one");
    assert_eq!(fault.hint.as_deref(), Some("did you mean `5s`?"));
    assert_eq!(Unfit::new("wrong").to_string(), "wrong");
}

#[test]
fn walk_what_is_printed_is_read_back() {
    walk::seeds(|draws| {
        let shift = draws.below(60);
        let nanos = draws.bits() >> shift;
        let duration = Duration::from_nanos(nanos).min(DURATION_MAX);
        assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        let bytes = draws.bits() >> shift << draws.below(30);
        assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        let share = draws.below(1_000_000) as f64 / 1e6;
        let back = parse_share(&format_share(share)).expect("printed by us");
        assert!((back - share).abs() < 1e-9, "{share} {back}");
        let rate = draws.below(100_000) as f64 / draws.pick(&[1.0, 60.0, 3600.0, 7.0]);
        let back = parse_rate(&format_rate(rate)).expect("printed by us");
        assert!((back - rate).abs() <= rate * 1e-9, "{rate} {back}");
    });
}

#[test]
fn walk_parsers_are_total() {
    let alphabet: Vec<char> = "0123456789.-+%/ smhdKMGiBkéx\0".chars().collect();
    walk::seeds(|draws| {
        for _ in 0..10 {
            let text: String = (0..draws.below(12))
                .map(|_| draws.pick(&alphabet))
                .collect();
            let _ = (parse_duration(&text), parse_size(&text));
            let share = parse_share(&text).unwrap_or(0.0);
            assert!((0.0..=1.0).contains(&share), "{text}");
            let rate = parse_rate(&text).unwrap_or(0.0);
            assert!(rate.is_finite() && rate >= 0.0, "{text}");
        }
    });
}
