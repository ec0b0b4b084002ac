//! Bodies flow as they come, both ways, and no faster than they are taken.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::path_forward::PLAIN;
use crate::support::call::Call;
use crate::support::client::Raw;
use crate::support::h2client;
use crate::support::h2client::H2;
use crate::support::h2origin::H2Act;
use crate::support::h2origin::H2Origin;
use crate::support::origin::Act;
use crate::support::origin::After;
use crate::support::origin::Answer;
use crate::support::origin::Gate;
use crate::support::origin::Origin;
use crate::support::origin::chunk;
use crate::support::origin::pattern;
use crate::support::setup::Setup;
use crate::support::until;
use crate::support::wire::Body;
use crate::support::wire::Fault;
use crate::support::wire::Wire;
use crate::support::within;

/// More than every buffer on the way, the kernel's included.
const LARGE: usize = 64 << 20;
/// What the buffers on the way may hold together: at most 6 MiB each for four sockets of loopback, and a little of ours.
const HELD: usize = 32 << 20;

#[tokio::test]
async fn both_directions_flow_at_once() {
    let origin = Origin::start(|_| Act::Duplex).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let mut raw = proxy.connect().await;
    raw.send(
        format!(
            "{}Transfer-Encoding: chunked\r\n\r\n",
            Call::new("POST", "/duplex").head()
        )
        .as_bytes(),
    )
    .await;
    let mut body = Body::default();
    let mut began = false;
    for n in 0..20 {
        let piece = format!("piece {n}");
        raw.send(&chunk(piece.as_bytes())).await;
        if !began {
            assert_eq!(raw.head("POST").await.0, 200);
            began = true;
        }
        let start = body.content.len();
        while body.content.len() < start + piece.len() {
            assert!(
                within("a chunk", raw.wire.chunk(&mut body))
                    .await
                    .expect("a good chunk")
            );
        }
        assert_eq!(
            &body.content[start..],
            piece.as_bytes(),
            "each piece is back before the next is sent"
        );
    }
    raw.send(b"0\r\n\r\n").await;
    assert!(!raw.wire.chunk(&mut body).await.expect("the last chunk"));
    assert!(origin.only().whole);
}

#[tokio::test]
async fn both_directions_flow_at_once_over_http2() {
    let origin = H2Origin::start(|_, _| H2Act::Echo).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let client = H2::connect(proxy.outbound).await;
    let (pieces, from) = mpsc::channel::<Bytes>(1);
    let stream = futures_util::stream::unfold(from, |mut from| async {
        let piece: Option<Bytes> = from.recv().await;
        piece.map(|piece| (Ok(Frame::data(piece)), from))
    });
    let request = h2client::request("POST", "/echo").body(BodyExt::boxed(StreamBody::new(stream)));
    let sending = client.begin(request.expect("a good request"));
    let first = async {
        pieces
            .send(Bytes::from_static(b"piece 0"))
            .await
            .expect("the stream is read");
    };
    let (response, ()) = tokio::join!(sending, first);
    let mut body = response
        .expect("a response before the request is whole")
        .into_body();
    for n in 0..20 {
        let mut got = Vec::new();
        while got.len() < format!("piece {n}").len() {
            let frame = within("a frame", body.frame())
                .await
                .expect("not the end")
                .expect("no failure");
            got.extend_from_slice(frame.data_ref().expect("data"));
        }
        assert_eq!(got, format!("piece {n}").as_bytes());
        pieces
            .send(Bytes::from(format!("piece {}", n + 1)))
            .await
            .expect("the stream is read");
    }
    drop(pieces);
}

#[tokio::test]
async fn a_slow_reader_holds_up_the_origin() {
    let origin = Origin::start(|_| Act::Flood(LARGE)).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let mut raw = Raw::connect(proxy.outbound).await;
    SockRef::from(&raw.wire.io)
        .set_recv_buffer_size(64 << 10)
        .expect("SO_RCVBUF");
    raw.send(&Call::get("/flood").bytes()).await;
    let (status, _, framing) = raw.head("GET").await;
    assert_eq!(status, 200);
    let sent = plateau("the origin is held up", || origin.sent()).await;
    assert!(
        sent < HELD,
        "{sent} bytes are on their way to a client that reads nothing"
    );
    let body = within("the rest", raw.wire.body(framing))
        .await
        .expect("a whole body");
    assert!(body.content == pattern(LARGE));
}

#[tokio::test]
async fn a_slow_origin_holds_up_the_client() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |_| Act::Unread(held.clone())).await;
    let proxy = Setup::shop(&[origin.addr], &format!("{PLAIN}\ntimeout: 60s"))
        .start()
        .await;
    let mut raw = Raw::connect(proxy.outbound).await;
    raw.send(
        format!(
            "{}Content-Length: {LARGE}\r\n\r\n",
            Call::new("POST", "/slow").head()
        )
        .as_bytes(),
    )
    .await;
    let taken = Arc::new(AtomicUsize::new(0));
    let (read, mut write) = raw.wire.io.into_split();
    let count = Arc::clone(&taken);
    let sending = tokio::spawn(async move {
        for piece in pattern(LARGE).chunks(64 << 10) {
            write
                .write_all(piece)
                .await
                .expect("the proxy takes the body");
            count.fetch_add(piece.len(), Ordering::SeqCst);
        }
        write
    });
    let sent = plateau("the client is held up", || taken.load(Ordering::SeqCst)).await;
    assert!(
        sent < HELD,
        "{sent} bytes are on their way to an origin that reads nothing"
    );
    gate.open();
    let write = sending.await.expect("the sender did not panic");
    let mut raw = Raw {
        wire: Wire::new(read.reunite(write).expect("two halves of one")),
    };
    assert_eq!(raw.reply("POST").await.is(200).text(), LARGE.to_string());
    assert!(origin.only().body.content == pattern(LARGE));
}

/// Waits until a count that has begun no longer moves over 30 looks.
async fn plateau(what: &str, look: impl Fn() -> usize) -> usize {
    let last = std::cell::Cell::new((0, 0));
    let (look, last) = (&look, &last);
    until(what, || async {
        let now = look();
        let (before, times) = last.get();
        last.set(if now == before && now > 0 {
            (now, times + 1)
        } else {
            (now, 0)
        });
        (last.get().1 > 30).then_some(now)
    })
    .await
}

#[tokio::test]
async fn a_dripping_origin_is_passed_on_drop_by_drop() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |asked| match asked.target {
        "/drip" => Act::Drip(Answer::ok("one byte at a time"), 7),
        "/half" => Act::Answer(Answer::ok("half closed").then(After::HalfClose)),
        _ => Act::Hold(held.clone(), Box::new(Act::Answer(Answer::ok("late")))),
    })
    .await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    assert_eq!(
        proxy.get("/drip").await.is(200).text(),
        "one byte at a time"
    );
    assert_eq!(proxy.get("/half").await.is(200).text(), "half closed");
    // While one is held, others pass.
    let mut late = proxy.connect().await;
    late.send(&Call::get("/late").bytes()).await;
    for _ in 0..5 {
        proxy.get("/drip").await.is(200);
    }
    gate.open();
    assert_eq!(late.reply("GET").await.is(200).text(), "late");
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_upstream_request() {
    let origin = Origin::start(|_| Act::Silence).await;
    let proxy = Setup::shop(&[origin.addr], PLAIN).start().await;
    let mut raw = proxy.connect().await;
    raw.send(&Call::get("/left").bytes()).await;
    until("the origin has the request", || async {
        (origin.requests() == 1).then_some(())
    })
    .await;
    drop(raw);
    until("the origin's connection ends", || async {
        (origin.open() == 0).then_some(())
    })
    .await;
    let line = proxy.logged_path("/left").await;
    assert_eq!(
        (line["status"].as_u64(), line["reason"].as_str()),
        (Some(499), Some("client_closed")),
        "{line}"
    );
}

#[tokio::test]
async fn a_response_cut_by_the_origin_is_cut_for_the_client() {
    let whole = Answer::ok(vec![b'x'; 1000]);
    let chunks = Answer::status(200).chunked(&[b"abc", b"def"]);
    let acts = vec![
        Act::Cut(whole.clone(), whole.bytes(false).len() - 10, After::Reset),
        Act::Cut(chunks.clone(), chunks.bytes(false).len() - 5, After::Close),
        Act::Raw(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nZZ\r\n".to_vec(),
            After::Keep,
        ),
    ];
    let origin = Origin::sequence(acts).await;
    let proxy = Setup::shop(&[origin.addr], "breaker: off").start().await;
    for path in ["/length", "/chunks", "/bad-chunk"] {
        let mut raw = proxy.connect().await;
        raw.send(&Call::get(path).bytes()).await;
        // What was not sent yet may also be held back as a whole.
        let cut = matches!(
            raw.try_reply("GET").await,
            Ok(None) | Err(Fault::Short(_) | Fault::Io(_))
        );
        assert!(cut, "{path}: a cut response must not look whole");
        assert_eq!(
            proxy.logged_path(path).await["reason"],
            "response_aborted",
            "{path}"
        );
    }
    assert_eq!(
        origin.requests(),
        3,
        "a response that began is never tried again"
    );
}
