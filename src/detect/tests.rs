//! One test for each row of the table in `machine.rs`, the server name, and the walks over broken bytes.

use super::machine::HELLO_MAX;
use super::machine::METHOD_MAX;
use super::machine::Sni;
use super::machine::Verdict;
use super::machine::classify;
use super::machine::sni;
use crate::kit::walk;
use crate::kit::walk::Draws;

fn all(inputs: &[&[u8]], verdict: Verdict) {
    for input in inputs {
        assert_eq!(classify(input), verdict, "{}", input.escape_ascii());
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[test]
fn nothing_or_empty_lines_are_more() {
    all(&[b"", b"\r\n", b"\r\n\r\n", b"\n"], Verdict::More);
}

#[test]
fn part_of_the_preface_is_more() {
    for end in 1..PREFACE.len() {
        assert_eq!(classify(&PREFACE[..end]), Verdict::More, "{end}");
    }
}

#[test]
fn the_preface_is_http2() {
    assert_eq!(classify(PREFACE), Verdict::Http2);
    let with_settings = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    assert_eq!(classify(&with_settings), Verdict::Http2);
}

#[test]
fn what_leaves_the_preface_is_judged_as_http1() {
    all(
        &[
            b"PRI * HTTP/1.1\r\n",
            b"PRI /x HTTP/1.1\r\n",
            b"PROPFIND /x HTTP/1.1\r\n",
        ],
        Verdict::Http1,
    );
    all(&[b"PRI * SPDY\r\n", b"PRINT\r\n"], Verdict::Opaque);
}

#[test]
fn first_byte_of_tls_is_more() {
    all(&[&[0x16]], Verdict::More);
}

#[test]
fn a_handshake_record_is_tls() {
    all(
        &[
            &[0x16, 3],
            &[0x16, 3, 1],
            &[0x16, 3, 1, 2, 0],
            &[0x16, 3, 1, 2, 0, 1],
            &[0x16, 3, 4],
            &[0x16, 3, 3, 2, 0, 1, 0, 1, 0xFC],
        ],
        Verdict::Tls,
    );
}

#[test]
fn a_record_that_is_no_client_hello_is_opaque() {
    all(
        &[
            &[0x16, 2],
            &[0x16, 3, 5],
            &[0x16, 3, 1, 2, 0, 2],
            &[0x15, 3, 1],
            &[0x80, 0x2E, 1],
        ],
        Verdict::Opaque,
    );
}

#[test]
fn beginning_of_a_token_is_more() {
    all(
        &[b"G", b"GET", b"POS", b"x-custom!", b"\r\nGET", b"P", b"PR"],
        Verdict::More,
    );
    assert_eq!(classify(&[b'A'; METHOD_MAX]), Verdict::More);
}

#[test]
fn a_known_method_and_a_space_is_http1() {
    all(
        &[
            b"GET ",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"CONNECT a:443 HTTP/1.1\r\n",
            b"OPTIONS * HTTP/1.1\r\n",
            b"POST http://a/ HTTP/1.0\r\n",
            b"\r\nGET / HTTP/1.1\r\n",
            b"\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n",
            // Broken, but HTTP: it must be answered 400, not passed on.
            b"GET /\r\n",
            b"GET  / HTTP/1.1\r\n",
            b"PATCH /\xff\n",
        ],
        Verdict::Http1,
    );
}

#[test]
fn another_token_and_a_space_is_http1_if_its_line_may_name_http() {
    all(
        &[
            b"PURGE ",
            b"PURGE /x",
            b"PURGE /x HTTP/1.1\r\n",
            b"MKCALENDAR /c HTTP/1.1\r\n",
            b"get / HTTP/1.1\r\n",
            b"M-SEARCH * HTTP/1.1\r\n",
        ],
        Verdict::Http1,
    );
    let longest = [&[b'A'; METHOD_MAX][..], b" /"].concat();
    assert_eq!(classify(&longest), Verdict::Http1);
}

#[test]
fn another_token_whose_line_does_not_name_http_is_opaque() {
    all(
        &[
            b"EHLO mail.example.com\r\n",
            b"get key\r\n",
            b"set key 0 0 5\r\nhello\r\n",
            b"SSH-2.0-OpenSSH_9.2 Debian\r\n",
            b"AUTH x HTTP\r\nGET / HTTP/1.1\r\n",
        ],
        Verdict::Opaque,
    );
}

#[test]
fn anything_else_is_opaque() {
    all(
        &[
            b"*1\r\n$4\r\nPING\r\n",
            b"PING\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b" GET / HTTP/1.1\r\n",
            b"GET\t/ HTTP/1.1\r\n",
            b"GET\r\n",
            b"GET\0",
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            b"\r\n\r\n\r\n\r\n\r\n",
            b"{\"a\":1}",
            b"(x y",
        ],
        Verdict::Opaque,
    );
    assert_eq!(classify(&[b'A'; METHOD_MAX + 1]), Verdict::Opaque);
}

/// A ClientHello as the handshake carries it, in records of `record` bytes.
fn hello(names: &[u8], extensions: &[u8], record: usize) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([4, 1, 2, 3, 4]); // session id
    body.extend([0, 4, 0x13, 1, 0x13, 2]); // cipher suites
    body.extend([1, 0]); // compression
    let mut all = extensions.to_vec();
    if !names.is_empty() {
        all.extend([0, 0]);
        all.extend(sized(&sized(names)));
    }
    body.extend(sized(&all));
    let mut message = vec![1, 0];
    message.extend(sized(&body));
    let parts = message.chunks(record);
    parts
        .flat_map(|part| [&[0x16, 3, 1][..], &sized(part)].concat())
        .collect()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a short test vector");
    [&length.to_be_bytes()[..], bytes].concat()
}

fn name(host: &[u8]) -> Vec<u8> {
    [&[0][..], &sized(host)].concat()
}

fn named(host: &str) -> Sni {
    Sni::Name(host.to_owned())
}

// An unknown extension with four bytes.
const GREASE: &[u8] = &[0x1A, 0x1A, 0, 4, 1, 2, 3, 4];

#[test]
fn sni_is_found() {
    assert_eq!(
        sni(&hello(&name(b"api.stripe.com"), &[], 4096)),
        named("api.stripe.com")
    );
    assert_eq!(
        sni(&hello(&name(b"API.Stripe.COM."), GREASE, 4096)),
        named("api.stripe.com")
    );
    let followed = [hello(&name(b"a.b"), &[], 4096), vec![0x17, 3, 3, 0, 1, 9]].concat();
    assert_eq!(sni(&followed), named("a.b"));
}

#[test]
fn sni_other_kinds_of_names_are_passed_over() {
    let other = [&[9][..], &sized(b"xyz"), &name(b"a.b")].concat();
    assert_eq!(sni(&hello(&other, &[], 4096)), named("a.b"));
}

#[test]
fn sni_is_none_without_the_extension() {
    assert_eq!(sni(&hello(&[], GREASE, 4096)), Sni::None);
    assert_eq!(sni(&hello(&[], &[], 4096)), Sni::None);
}

#[test]
fn sni_of_the_greatest_length_is_found() {
    let longest = "a".repeat(253);
    let whole = hello(&name(longest.as_bytes()), &[], 4096);
    assert_eq!(sni(&whole), named(&longest));
}

#[test]
fn sni_is_none_for_what_is_no_host_name() {
    let long = [b'a'; 254];
    for host in [
        &b""[..],
        b"a b",
        b"a\nb",
        b"a/b",
        b"a\0",
        b"\xc3\xa9.fr",
        b".",
        b"a\"b",
        &long,
    ] {
        assert_eq!(
            sni(&hello(&name(host), &[], 4096)),
            Sni::None,
            "{}",
            host.escape_ascii()
        );
    }
}

#[test]
fn sni_every_part_of_a_hello_is_more() {
    let whole = hello(&name(b"api.stripe.com"), GREASE, 4096);
    for end in 0..whole.len() {
        assert_eq!(sni(&whole[..end]), Sni::More, "{end} of {}", whole.len());
    }
}

#[test]
fn sni_is_put_together_from_records_of_any_size() {
    for record in 1..60 {
        let whole = hello(&name(b"api.stripe.com"), GREASE, record);
        assert_eq!(sni(&whole), named("api.stripe.com"), "{record}");
        assert_eq!(sni(&whole[..whole.len() - 1]), Sni::More, "{record}");
    }
}

#[test]
fn sni_is_none_for_what_is_no_hello() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        &[0x16, 2],
        &[0x16, 3, 1, 0, 0],
        &[0x16, 3, 1, 0, 4, 2],
        &[0x16, 3, 1, 0x40, 1],
        &[0x16, 3, 1, 0, 9, 1, 1, 0, 0],
        // A second record of another kind inside the hello.
        &[0x16, 3, 1, 0, 1, 1, 0x17],
        &[0x16, 3, 1, 0, 1, 1, 0x16, 4],
    ] {
        assert_eq!(sni(bytes), Sni::None, "{}", bytes.escape_ascii());
    }
}

#[test]
fn sni_gives_up_at_the_limit() {
    let endless = |bytes: usize| {
        let mut hello = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0x3F, 0xFC];
        hello.resize(bytes, 0);
        hello
    };
    assert_eq!(sni(&endless(HELLO_MAX - 1)), Sni::More);
    assert_eq!(sni(&endless(HELLO_MAX)), Sni::None);
}

#[test]
fn sni_a_length_that_lies_is_none() {
    let whole = hello(&name(b"a.b"), &[], 4096);
    // The fields after the handshake header, one after another: session id, suites, compression, extensions, names.
    for place in [43, 48, 54, 56, 60, 62, 65] {
        let mut broken = whole.clone();
        broken[place] = 0xFF;
        assert_eq!(sni(&broken), Sni::None, "{place}");
    }
}

/// Breaks a hello in a few places, cuts it, and lengthens it.
fn broken(draws: &mut Draws) -> Vec<u8> {
    let record = 1 + draws.below(200) as usize;
    let mut bytes = hello(&name(b"api.stripe.com"), GREASE, record);
    for _ in 0..draws.below(6) {
        let place = draws.below(bytes.len() as u64) as usize;
        bytes[place] = draws.pick(&[0, 1, 2, 3, 0x16, 0x7F, 0xFF, draws.clone().bits() as u8]);
    }
    bytes.truncate(draws.below(bytes.len() as u64 + 20) as usize);
    bytes
}

#[test]
fn walk_broken_hellos_never_panic_and_names_are_clean() {
    walk::seeds(|draws| {
        for _ in 0..30 {
            let bytes = broken(draws);
            let _ = classify(&bytes);
            if let Sni::Name(name) = sni(&bytes) {
                assert!(!name.is_empty() && name.len() <= 253);
                assert!(
                    name.bytes()
                        .all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase())
                );
            }
        }
    });
}

#[test]
fn walk_noise_never_panics_and_verdicts_only_settle() {
    let alphabet = b"GETPRI */HTP2.0\r\n\r\nSM\x16\x03\x01\x00\xFF ";
    walk::seeds(|draws| {
        let bytes: Vec<u8> = (0..40)
            .map(|_| {
                if draws.chance(0.2) {
                    draws.bits() as u8
                } else {
                    draws.pick(alphabet)
                }
            })
            .collect();
        let mut settled = None;
        for end in 0..bytes.len() {
            let _ = sni(&bytes[..end]);
            let verdict = classify(&bytes[..end]);
            match settled {
                // Only a line that turns out not to be HTTP may take a verdict back.
                Some(Verdict::Http1 | Verdict::Tls) => {
                    assert!([settled, Some(Verdict::Opaque)].contains(&Some(verdict)));
                }
                Some(before) => assert_eq!(before, verdict, "{}", bytes[..end].escape_ascii()),
                None => {}
            }
            settled = (verdict != Verdict::More).then_some(verdict).or(settled);
        }
    });
}
