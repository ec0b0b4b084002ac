//! Secrets that are texts: addresses of people, tokens, keys, passwords in URLs and beside their names.

use memchr::memchr_iter;
use memchr::memchr2_iter;
use memchr::memmem;

use super::find::Found;
use super::find::is_word;
use super::names::Names;
use super::names::Verdict;

/// RFC 3986 section 3.2.1: `scheme://user:password@host`. A password may hold any character in spite of the RFC, so all up
/// to the last `@` goes: better a path too little than a password too much.
pub fn userinfo(text: &[u8], found: &mut Found) {
    for at in memmem::find_iter(text, b"://") {
        let start = at + 3;
        let end = text[start..]
            .iter()
            .position(|byte| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\\' | b'`'))
            .map_or(text.len(), |len| start + len);
        let Some(len) = memchr::memrchr(b'@', &text[start..end]) else {
            continue;
        };
        let user = &text[start..start + len];
        // `http://host/@me` has no user, only an unusual path.
        if !user.is_empty() && (user.contains(&b':') || !user.contains(&b'/')) {
            found.add(start, start + len);
        }
    }
}

/// RFC 5321 section 4.1.2, as far as addresses are used: a local part without quotes, a domain with a letter-only end.
pub fn emails(text: &[u8], found: &mut Found) {
    for at in memchr_iter(b'@', text) {
        let is_local = |byte: &u8| is_word(*byte) || b".%+'-".contains(byte);
        let local = text[..at].iter().rev().take_while(|byte| is_local(byte));
        let start = at - local.count();
        let start = start + leading(&text[start..at], b".'+%-");
        if start == at || found.covers(start) {
            continue;
        }
        let domain = text[at + 1..]
            .iter()
            .take_while(|byte| is_word(**byte) || matches!(byte, b'.' | b'-'));
        let mut end = at + 1 + domain.count();
        while end > at + 1 && matches!(text[end - 1], b'.' | b'-' | b'_') {
            end -= 1;
        }
        if is_domain(&text[at + 1..end]) {
            found.add(start, end);
        }
    }
}

fn leading(text: &[u8], of: &[u8]) -> usize {
    text.iter().take_while(|byte| of.contains(byte)).count()
}

fn is_domain(text: &[u8]) -> bool {
    let mut labels = text.rsplit(|byte| *byte == b'.');
    let top = labels.next().unwrap_or_default();
    let is_top = top.len() >= 2
        && top
            .iter()
            .all(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80);
    let mut rest = labels.peekable();
    is_top && rest.peek().is_some() && rest.all(|label| !label.is_empty())
}

const fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// RFC 7519: base64url of `{"`, a dot, and more of it. What has five parts (RFC 7516) begins in the same way.
pub fn jwts(text: &[u8], found: &mut Found) {
    for start in memmem::find_iter(text, b"eyJ") {
        if start > 0 && text[start - 1].is_ascii_alphanumeric() {
            continue;
        }
        let head = run(text, start, is_base64url);
        if head < 10 || text.get(start + head) != Some(&b'.') {
            continue;
        }
        let rest = run(text, start + head, |byte| {
            is_base64url(byte) || byte == b'.'
        });
        if rest >= 8 {
            found.add(start, start + head + rest);
        }
    }
}

fn run(text: &[u8], start: usize, of: impl Fn(u8) -> bool) -> usize {
    text[start..].iter().take_while(|byte| of(**byte)).count()
}

/// Keys that say whose they are: how they begin, and how much at least follows.
const PREFIXES: &[(&str, usize)] = &[
    ("AKIA", 16),
    ("ASIA", 16),
    ("AIza", 30),
    ("SG.", 20),
    ("dop_v1_", 32),
    ("gho_", 30),
    ("ghp_", 30),
    ("ghr_", 30),
    ("ghs_", 30),
    ("ghu_", 30),
    ("github_pat_", 22),
    ("glpat-", 16),
    ("hf_", 30),
    ("npm_", 30),
    ("pypi-", 16),
    ("rk_live_", 16),
    ("rk_test_", 16),
    ("shpat_", 28),
    ("sk-", 20),
    ("sk_live_", 16),
    ("sk_test_", 16),
    ("whsec_", 24),
    ("xapp-", 10),
    ("xoxa-", 10),
    ("xoxb-", 10),
    ("xoxe-", 10),
    ("xoxp-", 10),
    ("xoxr-", 10),
    ("xoxs-", 10),
    ("ya29.", 20),
];

/// API keys of well-known makers.
pub fn keys(text: &[u8], found: &mut Found) {
    for start in 0..text.len() {
        if !matches!(
            text[start],
            b'A' | b'S' | b'd' | b'g' | b'h' | b'n' | b'p' | b'r' | b's' | b'w' | b'x' | b'y'
        ) || (start > 0 && text[start - 1].is_ascii_alphanumeric())
        {
            continue;
        }
        let rest = &text[start..];
        let known = PREFIXES
            .iter()
            .find(|(prefix, _)| rest.starts_with(prefix.as_bytes()));
        let Some((prefix, least)) = known else {
            continue;
        };
        let is_dotted = prefix.ends_with('.');
        let body = run(text, start + prefix.len(), |byte| {
            is_base64url(byte) || (is_dotted && byte == b'.')
        });
        let body_text = &rest[prefix.len()..prefix.len() + body];
        // `sk-` also begins words; a key is not made of small letters and dashes alone.
        let is_prose = body_text
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || *byte == b'-');
        if body >= *least && !is_prose {
            found.add(start, start + prefix.len() + body);
        }
    }
}

/// RFC 7468: private keys, up to their end or, if that was cut off, to the end of what there is.
pub fn pems(text: &[u8], found: &mut Found) {
    for start in memmem::find_iter(text, b"-----BEGIN") {
        let label = &text[start..text.len().min(start + 64)];
        if memmem::find(label, b"PRIVATE").is_none() || found.covers(start) {
            continue;
        }
        let body = start + 10;
        let end = memmem::find(&text[body..], b"-----END")
            .map(|at| body + at + 8)
            .and_then(|at| memmem::find(&text[at..], b"-----").map(|len| at + len + 5));
        let open = || memchr::memchr(b'"', &text[body..]).map_or(text.len(), |len| body + len);
        found.add(start, end.unwrap_or_else(open));
    }
}

/// RFC 6750 section 2.1 and RFC 7617: a scheme and what follows it.
pub fn bearers(text: &[u8], found: &mut Found) {
    for at in memchr2_iter(b'b', b'B', text) {
        let scheme = [b"bearer".as_slice(), b"basic"].into_iter().find(|scheme| {
            text[at..]
                .get(..scheme.len())
                .is_some_and(|word| word.eq_ignore_ascii_case(scheme))
        });
        let Some(scheme) = scheme.filter(|_| at == 0 || !is_word(text[at - 1])) else {
            continue;
        };
        let mut start = at + scheme.len();
        let gap = start;
        loop {
            match &text[start..] {
                [b' ' | b'\t' | b'+', ..] => start += 1,
                [b'%', b'2', b'0', ..] => start += 3,
                _ => break,
            }
        }
        if start == gap {
            continue;
        }
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=%".contains(&byte);
        let len = run(text, start, is_token);
        let token = &text[start..start + len];
        // `Basic authentication` is prose; `Basic dXNlcjpwYXNz` is not.
        let is_prose = len < 16
            && token
                .iter()
                .skip(1)
                .all(|byte| byte.is_ascii_lowercase() || *byte == b'.');
        if len >= 6 && !is_prose {
            found.add(start, start + len);
        }
    }
}

/// A name that means a secret, `=` or `:`, and the secret: `password=x`, `"token": "x"`, `Cookie: a=b; c=d`.
pub fn pairs(text: &[u8], names: &Names, found: &mut Found) {
    for at in memchr2_iter(b'=', b':', text) {
        if found.covers(at) {
            continue;
        }
        let name = name_before(text, at);
        if name.is_empty() || names.in_text(name) != Verdict::Secret {
            continue;
        }
        if let Some((start, end)) = value_after(text, at, name) {
            found.add(start, end);
        }
    }
}

fn name_before(text: &[u8], at: usize) -> &str {
    let mut end = at;
    while end > 0 && at - end < 2 && text[end - 1] == b' ' {
        end -= 1;
    }
    if end > 0 && matches!(text[end - 1], b'"' | b'\'') {
        end -= 1;
        while end > 0 && text[end - 1] == b'\\' {
            end -= 1;
        }
    }
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let name = text[..end]
        .iter()
        .rev()
        .take(64)
        .take_while(|byte| is_name(byte));
    let start = end - name.count();
    std::str::from_utf8(&text[start..end]).unwrap_or_default()
}

/// Values whose name is followed by words that are no secret: where one is kept, what a flag says, what is masked already.
const NO_SECRET: &[&str] = &["file:", "env:", "***", "hash_", "null", "true", "false"];

fn value_after(text: &[u8], at: usize, name: &str) -> Option<(usize, usize)> {
    let mut start = at + 1;
    start += run(text, start, |byte| byte == b' ').min(2);
    start += run(text, start, |byte| byte == b'\\');
    let quote = text
        .get(start)
        .copied()
        .filter(|byte| matches!(byte, b'"' | b'\''));
    start += usize::from(quote.is_some());
    let value = text.get(start..)?;
    if NO_SECRET
        .iter()
        .any(|word| value.starts_with(word.as_bytes()))
    {
        return None;
    }
    // These hold spaces and semicolons: `Bearer x`, `a=b; c=d`.
    let lower = name.to_ascii_lowercase();
    let is_long = lower.ends_with("authorization") || lower.ends_with("cookie");
    let ends = |byte: u8| match quote {
        Some(quote) => byte == quote || byte == b'\\' || byte == b'\n',
        None if is_long => matches!(byte, b'"' | b'\\' | b'\n' | b'\r'),
        None => {
            byte.is_ascii_whitespace()
                || b"&;,\"'`()[]{}<>\\|".contains(&byte)
                || byte == b':' && at + 1 == start
        }
    };
    let len = run(text, start, |byte| !ends(byte));
    // `cookie:sid` says where something is; a secret that stands that close is longer or has a digit.
    let is_close = text[at] == b':' && at + 1 == start;
    let first = run(text, start, |byte| byte.is_ascii_graphic() && !ends(byte));
    let value = &text[start..start + first];
    if is_close && first < 16 && !value.iter().any(u8::is_ascii_digit) {
        return None;
    }
    (len > 0).then_some((start, start + len))
}
