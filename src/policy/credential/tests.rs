//! One test for each row of the tables in `machine.rs`, named after it, the walks, and the layer around a mock.

mod layer;
mod token;

use super::machine::After;
use super::machine::Decision;
use super::machine::Found;
use super::machine::Holding;
use super::machine::Look;
use super::machine::SECRET_MAX;
use super::machine::Trouble;
use super::machine::form;
use super::machine::judge;
use super::machine::on_answer;
use super::machine::on_look;
use super::machine::secret;
use crate::kit::walk;

const ALL: [Holding; 3] = [Holding::Held, Holding::Pending, Holding::Missing];

#[test]
fn the_applications_own_is_kept_whatever_there_is() {
    for holding in ALL {
        assert_eq!(judge(true, false, holding), Decision::Keep);
    }
}

#[test]
fn a_secret_that_is_held_is_set() {
    assert_eq!(judge(false, false, Holding::Held), Decision::Set);
    assert_eq!(judge(true, true, Holding::Held), Decision::Set);
}

#[test]
fn one_on_its_way_is_waited_for() {
    assert_eq!(judge(false, false, Holding::Pending), Decision::Wait);
    assert_eq!(judge(true, true, Holding::Pending), Decision::Wait);
}

#[test]
fn without_one_the_call_does_not_go() {
    assert_eq!(judge(false, false, Holding::Missing), Decision::Refuse);
    assert_eq!(
        judge(true, true, Holding::Missing),
        Decision::Refuse,
        "what is to be replaced is not good enough"
    );
}

#[test]
fn any_other_answer_passes() {
    for other in [false, true] {
        assert_eq!(on_answer(false, other, true, || true), After::Pass);
    }
}

#[test]
fn a_401_without_another_key_passes_and_asks_for_a_fresh_token() {
    assert_eq!(on_answer(true, false, true, || true), After::Renew);
}

#[test]
fn a_401_with_another_key_passes_if_the_body_is_gone_or_the_budget() {
    assert_eq!(on_answer(true, true, false, || true), After::BodyGone);
    assert_eq!(on_answer(true, true, true, || false), After::NoBudget);
}

#[test]
fn a_401_with_another_key_is_sent_once_more() {
    assert_eq!(on_answer(true, true, true, || true), After::Second);
}

#[test]
fn the_budget_is_only_drawn_on_for_what_is_sent() {
    for (refused, other, replayable) in [
        (false, true, true),
        (true, false, true),
        (true, true, false),
    ] {
        let drawn = || panic!("drawn on for nothing");
        let _ = on_answer(refused, other, replayable, drawn);
    }
}

#[test]
fn what_is_held_already_is_nothing_new() {
    assert_eq!(on_look(Found::Held, true, true), Look::Rest);
}

#[test]
fn the_first_secret_is_taken_at_once() {
    for again in [false, true] {
        for writing in [false, true] {
            assert_eq!(on_look(Found::Other { again }, false, writing), Look::Take);
        }
    }
}

#[test]
fn another_secret_is_looked_at_again() {
    assert_eq!(
        on_look(Found::Other { again: false }, true, false),
        Look::Again
    );
    assert_eq!(
        on_look(Found::Other { again: true }, true, true),
        Look::Again,
        "somebody still writes"
    );
}

#[test]
fn another_secret_that_stays_is_taken() {
    assert_eq!(
        on_look(Found::Other { again: true }, true, false),
        Look::Take
    );
}

#[test]
fn what_is_no_secret_is_counted_and_never_taken() {
    for trouble in Trouble::ALL {
        for held in [false, true] {
            assert_eq!(
                on_look(Found::Nothing(trouble), held, false),
                Look::Count(trouble)
            );
        }
    }
}

#[test]
fn a_secret_is_the_file_without_the_end_of_its_line() {
    for text in ["k3y", "k3y\n", "k3y\r\n"] {
        assert_eq!(secret(text.as_bytes()), Ok(&b"k3y"[..]), "{text:?}");
    }
    assert_eq!(secret(b"two words"), Ok(&b"two words"[..]));
    assert_eq!(secret("schlüssel".as_bytes()), Ok("schlüssel".as_bytes()));
}

#[test]
fn what_cannot_stand_in_a_header_is_no_secret() {
    for text in ["", "\n", " \t\r\n"] {
        assert_eq!(secret(text.as_bytes()), Err(Trouble::Empty), "{text:?}");
    }
    for text in [
        "a\nb",
        "a\r\nx-evil: 1",
        "a\0b",
        "\ta",
        "a ",
        " a",
        "a\tb",
        "a\x7f",
        "a\n\n",
    ] {
        assert_eq!(secret(text.as_bytes()), Err(Trouble::Malformed), "{text:?}");
    }
    let long = vec![b'a'; SECRET_MAX];
    assert!(secret(&long).is_ok());
    assert_eq!(secret(&[&long[..], b"a"].concat()), Err(Trouble::TooLarge));
}

#[test]
fn walk_every_secret_that_is_taken_is_a_header_value() {
    walk::seeds(|draws| {
        let text: Vec<u8> = (0..draws.below(20))
            .map(|_| draws.below(256) as u8)
            .collect();
        if let Ok(secret) = secret(&text) {
            assert!(http::HeaderValue::from_bytes(secret).is_ok());
            assert!(text.starts_with(secret));
        }
    });
}

/// A form as it is read at the other end.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = std::str::from_utf8(&rest[..2]).expect("two digits");
                out.push(u8::from_str_radix(digits, 16).expect("hexadecimal"));
                rest = &rest[2..];
            }
            byte => out.push(*byte),
        }
    }
    out
}

#[test]
fn walk_a_form_is_read_as_it_was_written_and_never_outgrows_its_room() {
    walk::seeds(|draws| {
        let value: Vec<u8> = (0..draws.below(40))
            .map(|_| draws.below(256) as u8)
            .collect();
        let room = form::room(4, value.len());
        let mut text = Vec::with_capacity(room);
        form::pair("name", &value, &mut text);
        assert!(text.len() <= room);
        assert!(text.iter().all(u8::is_ascii_graphic));
        let written = text.strip_prefix(b"name=").expect("its name");
        assert!(!written.contains(&b'&') && !written.contains(&b'='));
        assert_eq!(decoded(written), value);
    });
}

#[test]
fn base64_is_that_of_rfc_4648() {
    for (text, expected) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
        ("\u{3ff}?>", "z78/Pg=="),
    ] {
        let mut out = Vec::new();
        form::base64(text.as_bytes(), &mut out);
        assert_eq!(std::str::from_utf8(&out), Ok(expected), "{text}");
    }
}
