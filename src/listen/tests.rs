use crate::kit::walk;
use crate::listen::Bind;
use crate::listen::Drain;
use crate::listen::bind;
use crate::listen::tap::Lines;

fn hear(bytes: &[u8]) -> (bool, bool) {
    let mut lines = Lines::default();
    let ended = lines.hear(bytes);
    (ended, lines.has_bare_lf())
}

#[test]
fn the_end_of_a_head_is_heard() {
    assert_eq!(hear(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), (true, false));
    assert_eq!(
        hear(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (true, false)
    );
    assert_eq!(hear(b"GET / HTTP/1.1\r\nHost: a\r\n"), (false, false));
    assert_eq!(hear(b"GET / HTTP/1.1\r\nHo"), (false, false));
}

#[test]
fn a_bare_lf_is_heard_wherever_it_stands() {
    for head in [
        &b"GET / HTTP/1.1\nHost: a\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert!(hear(head).1, "{:?}", String::from_utf8_lossy(head));
    }
}

#[test]
fn a_body_behind_the_head_is_none_of_its_business() {
    assert_eq!(
        hear(b"POST / HTTP/1.1\r\nHost: a\r\n\r\na\nb\n"),
        (true, false)
    );
}

#[test]
fn walk_how_a_head_is_cut_into_pieces_makes_no_difference() {
    const PARTS: [&[u8]; 6] = [b"\r", b"\n", b"\r\n", b"a", b"b: c", b"\r\n\r\n"];
    walk::seeds(|draws| {
        let head: Vec<u8> = (0..draws.below(12))
            .flat_map(|_| draws.pick(&PARTS).to_vec())
            .collect();
        let whole = hear(&head);
        let mut lines = Lines::default();
        let mut rest = &head[..];
        let mut ended = false;
        while !rest.is_empty() && !ended {
            let (piece, next) = rest.split_at(1 + draws.below(rest.len() as u64) as usize);
            ended = lines.hear(piece);
            rest = next;
        }
        assert_eq!(
            (ended, lines.has_bare_lf()),
            whole,
            "{:?}",
            String::from_utf8_lossy(&head)
        );
    });
}

#[test]
fn a_port_is_bound_on_both_loopback_families() {
    let sockets = bind(Bind::Loopback(0)).expect("loopback can be bound");
    let addresses: Vec<_> = sockets
        .iter()
        .map(|socket| socket.local_addr().expect("it is bound"))
        .collect();
    assert!(addresses.iter().all(|address| address.ip().is_loopback()));
    assert!(
        addresses
            .iter()
            .all(|address| address.port() == addresses[0].port())
    );
    let taken = bind(Bind::Address(addresses[0]));
    assert_eq!(
        taken.err().map(|error| error.kind()),
        Some(std::io::ErrorKind::AddrInUse)
    );
}

#[tokio::test]
async fn the_order_to_drain_reaches_who_waits_and_who_looks() {
    let drain = Drain::default();
    let other = drain.clone();
    let mut watch = std::pin::pin!(other.watch());
    let pending = std::future::poll_fn(|cx| {
        let first = watch.as_mut().poll(cx);
        let second = watch.as_mut().poll(cx);
        std::task::Poll::Ready(first.is_pending() && second.is_pending())
    });
    assert!(pending.await);
    drain.begin();
    watch.await;
    drain.begun().await;
}
