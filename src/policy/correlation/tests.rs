//! The table of the machine row by row, a walk over arbitrary fields, and the skins on a bare service.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use opentelemetry::trace::TraceFlags;
use opentelemetry::trace::TraceId;
use tower::Layer;
use tower::Service;

use super::machine::B3;
use super::machine::Incoming;
use super::machine::Origin;
use super::machine::SAMPLED;
use super::machine::Trace;
use super::machine::is_identifier;
use super::machine::parse_b3;
use super::machine::parse_traceparent;
use super::machine::trace;
use super::machine::traceparent;
use super::machine::uuid_v7;
use super::*;
use crate::http::Call;
use crate::http::Fault;
use crate::http::RequestBody;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::kit::walk;
use crate::telemetry::BuildInfo;
use crate::telemetry::Telemetry;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
const DRAWS: [u64; 4] = [0x1111, 0x2222, 0x3333, 0x4444];
const NOW: u64 = 1_700_000_000_123;

fn unhex(text: &str) -> Vec<u8> {
    let pairs = (0..text.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn decide(incoming: &Incoming<'_>) -> Trace {
    trace(incoming, [1, 2, 3], 0.0)
}

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_str(value).unwrap(),
        )
    };
    let mut headers = HeaderMap::new();
    for (name, value) in fields.iter().map(pair) {
        headers.append(name, value);
    }
    headers
}

fn get<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    assert!(values.next().is_none(), "{name} is there once");
    Some(value.to_str().unwrap())
}

#[test]
fn a_valid_traceparent_is_kept() {
    for (flags, kept) in [
        ("00", 0),
        ("01", 1),
        ("02", 2),
        ("03", 3),
        ("ff", 3),
        ("fc", 0),
    ] {
        let value = format!("00-{TRACE}-{SPAN}-{flags}");
        let parent = parse_traceparent(value.as_bytes()).expect("valid");
        assert_eq!(parent.trace_id.to_vec(), unhex(TRACE));
        assert_eq!(parent.span.to_vec(), unhex(SPAN));
        assert_eq!(parent.flags, kept, "{flags}");
    }
}

#[test]
fn a_later_version_is_read_by_its_prefix() {
    for value in [
        format!("01-{TRACE}-{SPAN}-01"),
        format!("fe-{TRACE}-{SPAN}-01"),
        format!("cc-{TRACE}-{SPAN}-01-what-the-future-holds"),
        format!("01-{TRACE}-{SPAN}-01-"),
    ] {
        assert_eq!(
            parse_traceparent(value.as_bytes()).map(|p| p.flags),
            Some(1),
            "{value}"
        );
    }
}

#[test]
fn an_invalid_traceparent_is_ignored() {
    let zero_trace = "0".repeat(32);
    let zero_span = "0".repeat(16);
    for value in [
        String::new(),
        "00".into(),
        format!("ff-{TRACE}-{SPAN}-01"),
        format!("00-{TRACE}-{SPAN}-01-x"),
        format!("00-{TRACE}-{SPAN}-01-"),
        format!("01-{TRACE}-{SPAN}-01.x"),
        format!("01-{TRACE}-{SPAN}-011"),
        format!("00-{TRACE}-{SPAN}-1"),
        format!("00-{TRACE}-{SPAN}-"),
        format!("00-{TRACE}-{SPAN}"),
        format!("00-{zero_trace}-{SPAN}-01"),
        format!("00-{TRACE}-{zero_span}-01"),
        format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
        format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
        format!("0A-{TRACE}-{SPAN}-01"),
        format!("00-{TRACE}-{SPAN}-0A"),
        format!("00-{TRACE}-{SPAN}-0g"),
        format!("00_{TRACE}-{SPAN}-01"),
        format!("00-{TRACE}_{SPAN}-01"),
        format!("00-{TRACE}-{SPAN}_01"),
        format!(" 00-{TRACE}-{SPAN}-01"),
        format!("00-{TRACE}-{SPAN}-01 "),
        format!("00-{}x-{SPAN}-01", &TRACE[1..]),
        format!("00-{}-{SPAN}-01", &TRACE[1..]),
    ] {
        assert_eq!(parse_traceparent(value.as_bytes()), None, "{value}");
    }
}

#[test]
fn b3_single_field() {
    let short = &TRACE[16..];
    for (value, padded, sampled) in [
        (format!("{TRACE}-{SPAN}"), false, None),
        (format!("{TRACE}-{SPAN}-1"), false, Some(true)),
        (format!("{TRACE}-{SPAN}-0"), false, Some(false)),
        (format!("{TRACE}-{SPAN}-d"), false, Some(true)),
        (format!("{TRACE}-{SPAN}-1-{SPAN}"), false, Some(true)),
        (format!("{short}-{SPAN}-1"), true, Some(true)),
    ] {
        let b3 = parse_b3(value.as_bytes()).unwrap_or_else(|| panic!("{value} is valid"));
        let (trace_id, span) = b3.ids.expect("identifiers");
        let expected = if padded {
            format!("{}{short}", "0".repeat(16))
        } else {
            TRACE.to_owned()
        };
        assert_eq!(trace_id.to_vec(), unhex(&expected), "{value}");
        assert_eq!(span.to_vec(), unhex(SPAN), "{value}");
        assert_eq!(b3.sampled, sampled, "{value}");
    }
    for (value, sampled) in [("0", false), ("1", true), ("d", true)] {
        let only = B3 {
            ids: None,
            sampled: Some(sampled),
        };
        assert_eq!(parse_b3(value.as_bytes()), Some(only));
    }
    for value in [
        String::new(),
        "2".into(),
        "-".into(),
        TRACE.into(),
        format!("{TRACE}-"),
        format!("{TRACE}-{SPAN}-"),
        format!("{TRACE}-{SPAN}-2"),
        format!("{TRACE}-{SPAN}-true"),
        format!("{TRACE}-{SPAN}-1-"),
        format!("{TRACE}-{SPAN}-1-{SPAN}-"),
        format!("{}-{SPAN}", "0".repeat(32)),
        format!("{TRACE}-{}", "0".repeat(16)),
        format!("{}-{SPAN}", &TRACE[1..]),
    ] {
        assert_eq!(parse_b3(value.as_bytes()), None, "{value}");
    }
}

#[test]
fn rows_of_the_table() {
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let other = format!("{}-{SPAN}-0", "a".repeat(32));
    let valid = Incoming {
        traceparent: Some(w3c.as_bytes()),
        b3: Some(other.as_bytes()),
        ..Incoming::default()
    };
    let kept = decide(&valid);
    assert_eq!((kept.origin, kept.flags), (Origin::W3c, SAMPLED));
    assert_eq!(kept.trace_id.to_vec(), unhex(TRACE));
    assert_eq!(kept.parent.map(Vec::from), Some(unhex(SPAN)));

    let b3 = Incoming {
        repeated: true,
        ..valid
    };
    let made = decide(&b3);
    assert_eq!((made.origin, made.flags), (Origin::B3, 0));
    assert_eq!(made.trace_id, [0xaa; 16]);

    let multi = Incoming {
        traceparent: Some(b"nonsense"),
        b3: Some(b"nonsense"),
        b3_trace_id: Some(TRACE.as_bytes()),
        b3_span_id: Some(SPAN.as_bytes()),
        b3_sampled: Some(b"true"),
        ..Incoming::default()
    };
    let made = decide(&multi);
    assert_eq!((made.origin, made.flags), (Origin::B3, SAMPLED));
    assert_eq!(made.trace_id.to_vec(), unhex(TRACE));
    let debug = Incoming {
        b3_sampled: Some(b"0"),
        b3_flags: Some(b"1"),
        ..multi
    };
    assert_eq!(decide(&debug).flags, SAMPLED, "debug is sampled");

    let half = Incoming {
        b3_span_id: None,
        b3_sampled: None,
        ..multi
    };
    assert_eq!(
        (decide(&half).origin, decide(&half).parent),
        (Origin::Begun, None)
    );
    let decision = Incoming {
        b3: Some(b"1"),
        ..Incoming::default()
    };
    assert_eq!(
        (decide(&decision).origin, decide(&decision).flags),
        (Origin::Begun, SAMPLED)
    );

    let begun = decide(&Incoming::default());
    assert_eq!(
        (begun.origin, begun.parent, begun.flags),
        (Origin::Begun, None, 0)
    );
    assert_eq!(begun.trace_id, ((2_u128 << 64) | 3).to_be_bytes());
}

#[test]
fn identifiers_are_never_zero() {
    let zero = trace(&Incoming::default(), [0, 0, 0], 0.0);
    assert_ne!(zero.trace_id, [0; 16]);
    assert_ne!(zero.span, [0; 8]);
}

#[test]
fn the_share_of_begun_traces_is_marked() {
    let marked = |share: f64| {
        let mut draws = walk::Draws::new(7);
        let traces = (0..10_000).map(|_| {
            trace(
                &Incoming::default(),
                [draws.bits(), draws.bits(), draws.bits()],
                share,
            )
        });
        traces.filter(|trace| trace.flags == SAMPLED).count()
    };
    assert_eq!(marked(0.0), 0);
    assert_eq!(marked(1.0), 10_000);
    assert!((900..1100).contains(&marked(0.1)), "{}", marked(0.1));
    assert_eq!(marked(-1.0), 0);
    assert_eq!(marked(f64::NAN), 0);
}

#[test]
fn uuid_v7_after_rfc_9562() {
    // The example of RFC 9562 appendix A.6.
    let uuid = uuid_v7(0x017F_22E2_79B0, 0xCC3, 0x18C4_DC0C_0C07_398F);
    assert_eq!(&uuid, b"017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
    let parsed = uuid::Uuid::try_parse_ascii(&uuid_v7(u64::MAX, u64::MAX, u64::MAX)).unwrap();
    assert_eq!(parsed.get_version_num(), 7);
    assert_eq!(parsed.get_variant(), uuid::Variant::RFC4122);
    assert!(
        uuid_v7(1, u64::MAX, u64::MAX) < uuid_v7(2, 0, 0),
        "sorted by time"
    );
}

#[test]
fn what_is_kept_as_an_identifier() {
    for value in [
        "a",
        "0190f5a0-7a1a-7c1a-8c1a-0190f5a07a1a",
        "req_1:2/3",
        &"x".repeat(128),
    ] {
        assert!(is_identifier(value.as_bytes()), "{value}");
    }
    for value in [
        &b""[..],
        b"a b",
        b"a\tb",
        b"caf\xc3\xa9",
        "x".repeat(129).as_bytes(),
    ] {
        assert!(!is_identifier(value), "{value:?}");
    }
}

#[test]
fn apply_begins_what_is_missing() {
    let mut headers = map(&[("tracestate", "a=1"), ("baggage", "k=v")]);
    let ids = apply(&mut headers, NOW, DRAWS, 0.0);
    let id = get(&headers, "x-request-id").unwrap();
    assert!(id.starts_with("018bcfe5-687b-7"), "{id}");
    assert_eq!(ids.request_id, id);
    assert_eq!(get(&headers, "x-correlation-id"), Some(id));
    assert_eq!(get(&headers, "tracestate"), None, "an orphan says nothing");
    assert_eq!(get(&headers, "baggage"), Some("k=v"));
    assert!(!ids.request_id_kept);
    assert_eq!((ids.origin, ids.parent), (Origin::Begun, None));
    assert_ne!(ids.span, SpanId::INVALID);
    assert_ne!(ids.trace_id, TraceId::INVALID);
    assert!(!ids.flags.is_sampled());
}

#[test]
fn apply_keeps_what_is_valid() {
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let fields = [
        ("x-request-id", "mine"),
        ("x-correlation-id", "ours"),
        ("traceparent", &parent),
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
        ("b3", "0"),
    ];
    let mut headers = map(&fields);
    let ids = apply(&mut headers, NOW, DRAWS, 0.0);
    assert_eq!(headers, map(&fields), "nothing is touched");
    assert_eq!(
        (ids.request_id.as_bytes(), ids.correlation_id.as_bytes()),
        (&b"mine"[..], &b"ours"[..])
    );
    assert!(ids.request_id_kept);
    assert_eq!(ids.trace_id.to_string(), TRACE);
    assert_eq!(
        ids.parent.map(|span| span.to_string()).as_deref(),
        Some(SPAN)
    );
    assert!(ids.flags.is_sampled());
}

#[test]
fn a_request_identifier_stands_in_for_a_missing_correlation() {
    let mut headers = map(&[("x-request-id", "mine")]);
    apply(&mut headers, NOW, DRAWS, 0.0);
    assert_eq!(get(&headers, "x-correlation-id"), Some("mine"));
    let mut headers = map(&[("x-correlation-id", "ours"), ("x-request-id", "not one")]);
    let ids = apply(&mut headers, NOW, DRAWS, 0.0);
    assert_eq!(get(&headers, "x-correlation-id"), Some("ours"));
    assert_ne!(ids.request_id, "not one");
    assert_eq!(get(&headers, "x-request-id").map(str::len), Some(36));
}

#[test]
fn a_repeated_field_becomes_one() {
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let mut headers = map(&[
        ("x-request-id", "first"),
        ("x-request-id", "second"),
        ("x-correlation-id", "a"),
        ("x-correlation-id", "b"),
        ("traceparent", &parent),
        ("traceparent", &parent),
        ("tracestate", "a=1"),
    ]);
    let ids = apply(&mut headers, NOW, DRAWS, 0.0);
    stamp_try(&mut headers, ids.trace_id, ids.flags, 9);
    assert_eq!(get(&headers, "x-request-id"), Some("first"));
    assert_eq!(get(&headers, "x-correlation-id"), Some("a"));
    assert_eq!(ids.origin, Origin::Begun);
    assert_eq!(get(&headers, "tracestate"), None);
    assert!(get(&headers, "traceparent").is_some());
}

#[test]
fn every_try_is_a_span_of_its_own() {
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let mut headers = map(&[("traceparent", &parent), ("tracestate", "a=1")]);
    let ids = apply(&mut headers, NOW, DRAWS, 0.0);
    let mut seen = Vec::new();
    for draw in [5, 6, 7] {
        let span = stamp_try(&mut headers, ids.trace_id, ids.flags, draw);
        assert_eq!(
            get(&headers, "traceparent"),
            Some(format!("00-{TRACE}-{span}-01").as_str())
        );
        assert_eq!(get(&headers, "tracestate"), Some("a=1"));
        assert!(!seen.contains(&span) && span != ids.span && span.to_string() != SPAN);
        seen.push(span);
    }
}

#[test]
fn a_response_gets_the_identifier_of_its_call() {
    let id = HeaderValue::from_static("mine");
    let mut headers = HeaderMap::new();
    stamp_response(&mut headers, &id);
    assert_eq!(get(&headers, "x-request-id"), Some("mine"));
    let mut headers = map(&[("x-request-id", "theirs")]);
    stamp_response(&mut headers, &id);
    assert_eq!(get(&headers, "x-request-id"), Some("mine"));
}

/// Whatever arrives: identifiers are well-formed, one of each is sent, and what is sent is read back as it was meant.
#[test]
fn walk_over_arbitrary_fields() {
    const NAMES: [&str; 9] = [
        "x-request-id",
        "x-correlation-id",
        "traceparent",
        "tracestate",
        "b3",
        "x-b3-traceid",
        "x-b3-spanid",
        "x-b3-sampled",
        "x-b3-flags",
    ];
    walk::seeds(|draws| {
        let w3c = format!("00-{TRACE}-{SPAN}-01");
        let b3 = format!("{TRACE}-{SPAN}-1");
        let good = [
            w3c.as_str(),
            b3.as_str(),
            TRACE,
            SPAN,
            "1",
            "0",
            "d",
            "true",
            "",
            "mine",
        ];
        for _ in 0..20 {
            let mut headers = HeaderMap::new();
            for _ in 0..draws.below(8) {
                let mut value = draws.pick(&good).as_bytes().to_vec();
                if !value.is_empty() && draws.chance(0.4) {
                    let at = draws.below(value.len() as u64) as usize;
                    value[at] = b"0fFg- \xff"[draws.below(7) as usize];
                }
                if draws.chance(0.1) {
                    value.truncate(draws.below(60) as usize);
                }
                let name = HeaderName::from_static(draws.pick(&NAMES));
                headers.append(name, HeaderValue::from_bytes(&value).unwrap());
            }
            let before = headers.clone();
            let now = draws.bits() >> 16;
            let bits = [draws.bits(), draws.bits(), draws.bits(), draws.bits()];
            let ids = apply(&mut headers, now, bits, draws.unit());
            let span = stamp_try(&mut headers, ids.trace_id, ids.flags, draws.bits());

            for (name, id) in [
                ("x-request-id", &ids.request_id),
                ("x-correlation-id", &ids.correlation_id),
            ] {
                assert_eq!(
                    headers.get_all(name).iter().collect::<Vec<_>>(),
                    [id],
                    "{before:?}"
                );
                assert!(is_identifier(id.as_bytes()), "{before:?}");
            }
            let sent = get(&headers, "traceparent").unwrap();
            let read = parse_traceparent(sent.as_bytes()).expect("we send what we accept");
            assert_eq!(
                TraceId::from_bytes(read.trace_id),
                ids.trace_id,
                "{before:?}"
            );
            assert_eq!(SpanId::from_bytes(read.span), span);
            assert_eq!(TraceFlags::new(read.flags), ids.flags);
            assert_ne!(ids.span, SpanId::INVALID);
            assert_eq!(ids.parent.is_none(), ids.origin == Origin::Begun);
            assert!(
                ids.origin == Origin::W3c || !headers.contains_key("tracestate"),
                "{before:?}"
            );
            let again = apply(&mut headers.clone(), now, bits, 0.0);
            assert_eq!(
                again.request_id, ids.request_id,
                "what we send is kept by the next of us"
            );
            assert_eq!(again.trace_id, ids.trace_id);
            assert_eq!(again.parent, Some(span));
        }
    });
}

#[test]
fn traceparent_text() {
    let trace_id: [u8; 16] = unhex(TRACE).try_into().unwrap();
    let span: [u8; 8] = unhex(SPAN).try_into().unwrap();
    let text = traceparent(&trace_id, &span, 1);
    assert_eq!(
        std::str::from_utf8(&text).unwrap(),
        format!("00-{TRACE}-{SPAN}-01")
    );
}

/// Answers at once and remembers the fields it was sent.
#[derive(Clone, Default)]
struct Upstream(Rc<RefCell<Vec<HeaderMap>>>);

impl Service<Call> for Upstream {
    type Response = http::Response<ResponseBody>;
    type Error = Fault;
    type Future = std::future::Ready<Result<Self::Response, Fault>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        self.0.borrow_mut().push(call.head.headers);
        std::future::ready(Ok(http::Response::new(ResponseBody::empty())))
    }
}

#[test]
fn the_skins_leave_their_marks() {
    let upstream = Upstream::default();
    let build = BuildInfo {
        version: "0",
        commit: "",
    };
    let metrics = metrics::Metrics::new(&Telemetry::new(build, 1));
    let per_try = TryLayer::new().layer(upstream.clone());
    let mut stack = CorrelationLayer::new(Settings::default(), metrics).layer(per_try);

    let trail = Rc::new(Trail::new(walk::start()));
    let call = Call {
        head: Box::new(http::Request::new(()).into_parts().0),
        body: RequestBody::Empty,
        trail: Rc::clone(&trail),
    };
    let mut future = std::pin::pin!(stack.call(call));
    let Poll::Ready(Ok(response)) = future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    else {
        panic!("the upstream answers at once");
    };
    let sent = upstream.0.borrow().first().cloned().expect("one try");
    let id = get(&sent, "x-request-id").unwrap().to_owned();
    assert_eq!(get(response.headers(), "x-request-id"), Some(id.as_str()));
    assert_eq!(trail.request_id.borrow().as_ref().unwrap(), id.as_str());
    let mark = trail.trace.get().expect("a trace");
    let parent = parse_traceparent(get(&sent, "traceparent").unwrap().as_bytes()).unwrap();
    assert_eq!((parent.trace_id, parent.flags), (mark.trace_id, mark.flags));
    let made = Duration::from_millis(u64::from_str_radix(&id[..13].replace('-', ""), 16).unwrap());
    assert!(
        crate::clock::unix().abs_diff(made) < Duration::from_secs(3600),
        "made now"
    );
}
