use std::io;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use serde_json::Value;

use super::json::FIELD_MAX;
use super::*;
use crate::http::Reason;
use crate::kit::walk;
use crate::redact::Clean;

const BEGAN: Duration = Duration::from_millis(1_790_000_000_042);

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().clone()).expect("UTF-8 only");
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn written(line: &Line<'_>) -> String {
    let mut out = Vec::new();
    line.write(&mut out, &mut Stamp::new());
    String::from_utf8(out).expect("a line is UTF-8")
}

fn value(line: &Line<'_>) -> Value {
    let text = written(line);
    assert_eq!(text.matches('\n').count(), 1, "{text:?}");
    assert!(text.ends_with('\n'), "{text:?}");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:?}"))
}

/// A place that outlives its line, as that of a route does.
fn place(client: &str, upstream: &str, route: &str) -> &'static Place {
    Box::leak(Box::new(Place::new(client, upstream, route)))
}

fn raw(bytes: &[u8]) -> Clean<'_> {
    Clean::vetted(bytes)
}

fn request() -> Line<'static> {
    Line::new(Kind::Request, BEGAN, place("", "pay", ""))
}

#[test]
fn a_full_request_line() {
    let line = Line {
        request_id: raw(b"0198-x"),
        trace_id: raw(b"4bf92f3577b34da6a3ce929d0e0e4736"),
        place: place("checkout", "pay", "POST /charges"),
        host: raw(b"pay.shop"),
        method: raw(b"POST"),
        path: path_of(b"/charges?card=4111"),
        protocol: "HTTP/1.1",
        status: 503,
        reason: Some(Reason::BreakerOpen),
        tries: 2,
        retry_skipped: Some("no_time"),
        hedged: Some("lost"),
        cache: Some("stale_if_error"),
        cache_why: Some("breaker_open"),
        endpoint: Some(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 80))),
        duration: Duration::from_micros(1_234_567),
        head: Some(Duration::from_micros(5)),
        bytes_in: 10,
        bytes_out: u64::MAX,
        ..request()
    };
    let expected = concat!(
        r#"{"time":"2026-09-21T14:13:20.042Z","kind":"request","request_id":"0198-x","#,
        r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","client":"checkout","upstream":"pay","#,
        r#""route":"POST /charges","host":"pay.shop","method":"POST","path":"/charges","protocol":"HTTP/1.1","#,
        r#""status":503,"reason":"breaker_open","tries":2,"retry_skipped":"no_time","hedged":"lost","cache":"stale_if_error","cache_why":"breaker_open","endpoint":"[::1]:80","#,
        r#""duration_ms":1234.567,"head_ms":0.005,"bytes_in":10,"bytes_out":18446744073709551615}"#,
        "\n"
    );
    assert_eq!(written(&line), expected);
}

#[test]
fn a_tunnel_line_tells_its_server_name() {
    let line = Line {
        sni: Some(raw(b"api.stripe.com")),
        tunnel: Some("tls"),
        ..Line::new(Kind::Tunnel, BEGAN, place("", "pay", ""))
    };
    let value = value(&line);
    assert_eq!(value["kind"], "tunnel");
    assert_eq!(value["tunnel"], "tls");
    assert_eq!(value["sni"], "api.stripe.com");
    assert!(value.get("tries").is_none());
    assert!(value.get("status").is_none());
}

#[test]
fn queries_and_fragments_are_never_written() {
    for path in [
        "/a?token=s3cret",
        "/a#s3cret",
        "/a?x#s3cret",
        "?s3cret",
        "/a\u{0}?s3cret",
    ] {
        let text = written(&Line {
            path: path_of(path.as_bytes()),
            ..request()
        });
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn hostile_bytes_stay_inside_their_string() {
    let cases: [&[u8]; 8] = [
        b"\",\"status\":200,\"x\":\"",
        b"\\",
        b"a\r\n{\"kind\":\"request\"}\n",
        b"\x00\x1b[2J\x7f",
        b"\xff\xfe\xc3",
        "\u{2028}\u{2029}\u{202e}\u{feff}\u{85}".as_bytes(),
        "\u{10ffff}é漢".as_bytes(),
        b"\xed\xa0\x80",
    ];
    for bytes in cases {
        let line = Line {
            request_id: raw(bytes),
            host: raw(bytes),
            method: raw(bytes),
            ..request()
        };
        let value = value(&line);
        let expected = String::from_utf8_lossy(bytes);
        for field in ["request_id", "host", "method"] {
            assert_eq!(value[field], *expected, "{bytes:?}");
        }
        let text = written(&line);
        assert!(!text.trim_end().chars().any(char::is_control), "{text:?}");
        assert!(
            !text.contains(['\u{2028}', '\u{202e}', '\u{feff}']),
            "{text:?}"
        );
    }
}

#[test]
fn any_bytes_make_one_line_of_json() {
    // Bytes that mean something to JSON, UTF-8 or a terminal come up more often than the rest.
    let sharp = b"\"\\\n\r\t\0\x1b\x7f\x80\xbf\xc2\xe2\x80\xa8\xed\xf0\xff?#/";
    walk::seeds(|draws| {
        let mut bytes = || -> Vec<u8> {
            let len = draws.below(40) as usize;
            (0..len)
                .map(|_| {
                    if draws.chance(0.5) {
                        draws.pick(sharp)
                    } else {
                        draws.bits() as u8
                    }
                })
                .collect()
        };
        let [id, trace, host, path, sni] = std::array::from_fn(|_| bytes());
        let line = Line {
            request_id: raw(&id),
            trace_id: raw(&trace),
            host: raw(&host),
            path: path_of(&path),
            sni: Some(raw(&sni)),
            ..request()
        };
        let value = value(&line);
        let told = |field: &str| value[field].as_str().unwrap_or("").to_owned();
        assert_eq!(told("request_id"), String::from_utf8_lossy(&id));
        assert_eq!(told("trace_id"), String::from_utf8_lossy(&trace));
        assert_eq!(told("host"), String::from_utf8_lossy(&host));
        assert_eq!(told("sni"), String::from_utf8_lossy(&sni));
        let plain = path
            .split(|byte| matches!(byte, b'?' | b'#'))
            .next()
            .unwrap_or_default();
        assert_eq!(told("path"), String::from_utf8_lossy(plain));
    });
}

#[test]
fn addresses_are_written_as_the_library_writes_them() {
    for text in [
        "0.0.0.0:0",
        "10.20.30.255:65535",
        "[::]:1",
        "[fe80::1%3]:80",
    ] {
        let endpoint: SocketAddr = text.parse().unwrap();
        let line = Line {
            endpoint: Some(endpoint),
            ..request()
        };
        assert_eq!(value(&line)["endpoint"], endpoint.to_string());
    }
}

#[test]
fn long_fields_are_cut_and_marked() {
    let long = vec![b'\x01'; 100_000];
    let line = Line {
        path: raw(&long),
        host: raw(&long[..FIELD_MAX]),
        ..request()
    };
    let value = value(&line);
    let path = value["path"].as_str().unwrap();
    assert_eq!(path.chars().filter(|c| *c == '\u{1}').count(), FIELD_MAX);
    assert!(path.ends_with("[cut]"));
    assert_eq!(value["host"].as_str().unwrap().len(), FIELD_MAX);
    assert!(written(&line).len() < 13 * FIELD_MAX);
}

#[test]
fn time_is_rfc_3339_whatever_the_clock_says() {
    let mut stamp = Stamp::new();
    let cases = [
        (Duration::ZERO, "1970-01-01T00:00:00.000Z"),
        (Duration::from_millis(999), "1970-01-01T00:00:00.999Z"),
        (Duration::from_secs(1), "1970-01-01T00:00:01.000Z"),
        (Duration::from_millis(999), "1970-01-01T00:00:00.999Z"),
        (
            Duration::from_secs(1_709_164_800),
            "2024-02-29T00:00:00.000Z",
        ),
        (
            Duration::from_secs(253_402_207_200),
            "9999-12-30T22:00:00.000Z",
        ),
    ];
    for (since, text) in cases {
        assert_eq!(stamp.format(since), text);
    }
    assert_eq!(
        stamp.format(Duration::MAX).len(),
        "9999-12-30T22:00:00.000Z".len()
    );
}

#[test]
fn lines_of_all_workers_are_written_whole_and_in_order() {
    let paper = Paper::default();
    let dropped = Counter::default();
    let log = AccessLog::start(Box::new(paper.clone()), dropped.clone()).unwrap();
    std::thread::scope(|scope| {
        for worker in 0..3u64 {
            let mut buffer = log.buffer();
            scope.spawn(move || {
                for nth in 0..500 {
                    buffer.line(&Line {
                        bytes_in: worker,
                        bytes_out: nth,
                        ..request()
                    });
                    if nth % 100 == 0 {
                        buffer.flush();
                        assert!(!buffer.needs_flush());
                    }
                }
                // The rest goes when the buffer is dropped.
            });
        }
    });
    log.stop();
    assert_eq!(dropped.get(), 0);
    for worker in 0..3 {
        let lines = paper.lines();
        let mine = lines
            .iter()
            .filter(|line| line["bytes_in"] == worker)
            .map(|line| line["bytes_out"].as_u64().unwrap());
        assert!(mine.eq(0..500), "worker {worker}");
    }
}

#[test]
fn a_quiet_buffer_waits_for_its_tick() {
    let paper = Paper::default();
    let log = AccessLog::start(Box::new(paper.clone()), Counter::default()).unwrap();
    let mut buffer = log.buffer();
    assert!(!buffer.needs_flush());
    buffer.line(&request());
    assert!(buffer.needs_flush());
    assert!(paper.lines().is_empty());
    buffer.flush();
    log.stop();
    assert_eq!(paper.lines().len(), 1);
}

/// A pipe that nobody reads until told.
struct Blocked {
    open: mpsc::Receiver<()>,
    paper: Paper,
}

impl Write for Blocked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // An error means that the gate is gone: open for good.
        let _ = self.open.recv();
        self.paper.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_blocked_reader_costs_lines_but_never_a_worker() {
    let (gate, open) = mpsc::channel();
    let paper = Paper::default();
    let dropped = Counter::default();
    let log = AccessLog::start(
        Box::new(Blocked {
            open,
            paper: paper.clone(),
        }),
        dropped.clone(),
    )
    .unwrap();
    let mut buffer = log.buffer();
    let total = 20_000;
    for _ in 0..total {
        buffer.line(&Line {
            path: raw(&[b'x'; 200]),
            ..request()
        });
    }
    buffer.flush();
    assert!(dropped.get() > 0);
    drop(gate);
    drop(buffer);
    log.stop();
    assert_eq!(paper.lines().len() as u64 + dropped.get(), total);
}

#[test]
fn lines_after_the_stop_are_counted_as_dropped() {
    let dropped = Counter::default();
    let log = AccessLog::start(Box::new(Paper::default()), dropped.clone()).unwrap();
    let mut buffer = log.buffer();
    log.stop();
    buffer.line(&request());
    drop(buffer);
    assert_eq!(dropped.get(), 1);
}

struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_broken_pipe_loses_lines_and_nothing_else() {
    let dropped = Counter::default();
    let log = AccessLog::start(Box::new(Broken), dropped.clone()).unwrap();
    let mut buffer = log.buffer();
    for _ in 0..3 {
        buffer.line(&request());
        buffer.flush();
    }
    drop(buffer);
    log.stop();
    assert_eq!(dropped.get(), 3);
}
