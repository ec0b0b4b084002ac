//! What a text must look like, one check for each kind of name. The pattern is for editors that read the schema; the
//! function is the rule and says what to write instead.

use std::net::IpAddr;
use std::net::SocketAddr;

use super::super::suggest;
use super::Check;
use crate::balance::Key;
use crate::endpoint::health::config::Statuses;
use crate::http::GRPC_STATUS;
use crate::identity::PeerPattern;
use crate::kit::net::Net;
use crate::kit::units::Unfit;
use crate::policy::cache::config::NEVER_NEGATIVE;
use crate::policy::cache::config::Principal;
use crate::policy::eject::config::parse_factor;
use crate::policy::fault::config as fault;
use crate::route::machine::Matcher;
use crate::route::machine::Pattern;

/// The words of `retry.when` that are not numbers.
pub const CONDITIONS: &[&str] = &["connect", "refused", "reset", "try_timeout"];

pub(super) const TOKEN: &str = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$";
const HOST_AND_PORT: &str = "^[^\\s/]+:[0-9]{1,5}$";

pub(in crate::config) static NAME: Check = Check {
    name: "a name (letters, digits, `.`, `_`, `-`)",
    pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
    test: name,
};
pub(super) static BIND: Check = Check {
    name: "a port or `address:port`",
    pattern: "^([0-9]{1,5}|[^\\s/]+:[0-9]{1,5})$",
    test: bind,
};
pub(super) static ADDRESS: Check = Check {
    name: "an `address:port`",
    pattern: HOST_AND_PORT,
    test: address,
};
pub(super) static UPSTREAM: Check = Check {
    name: "a host, `host:port` or `*.glob`",
    pattern: "^[^\\s/@?#]+$",
    test: upstream,
};
pub(super) static MATCH: Check = Check {
    name: "a match such as `POST /charges`",
    pattern: "^([A-Za-z0-9!#$%&'+.^_`|~-]+[ \\t]+)?/\\S*$",
    test: route_match,
};
pub(super) static CONDITION: Check = Check {
    name: "a retry condition",
    pattern: "^(connect|refused|reset|try_timeout|[45][0-9][0-9]|grpc:[a-z_]+)$",
    test: condition,
};
pub(super) static METHOD: Check = Check {
    name: "a method such as `GET`",
    pattern: "^[A-Z][A-Z-]*$",
    test: method,
};
pub(super) static HEADER: Check = Check {
    name: "a header name",
    pattern: TOKEN,
    test: header,
};
pub(super) static KEY_HEADER: Check = Check {
    name: "a header name",
    pattern: TOKEN,
    test: key_header,
};
pub(super) static PRINCIPAL: Check = Check {
    name: "a selector `header:NAME` or `cookie:NAME`",
    pattern: "^(header|cookie):[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
    test: principal,
};
pub(super) static NEGATIVE: Check = Check {
    name: "a status such as `404`",
    pattern: "^[45][0-9][0-9]$",
    test: negative,
};
pub(super) static HASH_KEY: Check = Check {
    name: "a key to hash: `header:NAME`, `cookie:NAME`, `path` or `source`",
    pattern: "^(path|source|(header|cookie):[A-Za-z0-9!#$%&'*+.^_`|~-]+)$",
    test: hash_key,
};
pub(super) static LIMIT_KEY: Check = Check {
    name: "a selector such as `header:NAME` or `path`",
    pattern: "^(header:[A-Za-z0-9!#$%&'*+.^_`|~-]+|path|method|source|peer)$",
    test: limit_key,
};
pub(super) static PERCENTILE: Check = Check {
    name: "a percentile such as `p95`",
    pattern: "^p[1-9][0-9]?(\\.[0-9]+)?$",
    test: percentile,
};
pub(super) static FACTOR: Check = Check {
    name: "a factor such as `3x`, from 1.5x to 1000x",
    pattern: "^[0-9]+(\\.[0-9]+)?x$",
    test: factor,
};
pub(super) static SECRET: Check = Check {
    name: "a secret's place, `file:/path` or `env:NAME`",
    pattern: "^(file:/.+|env:[A-Za-z_][A-Za-z0-9_]*)$",
    test: secret,
};
pub(super) static FORMAT: Check = Check {
    name: "a format with `{}` in it",
    pattern: "\\{\\}",
    test: format,
};
pub(super) static SPIFFE_ID: Check = Check {
    name: "a SPIFFE ID, or all below one as in `spiffe://td/ns/shop/*`",
    pattern: "^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)*(/\\*)?$",
    test: spiffe,
};
pub(super) static SERVER_NAME: Check = Check {
    name: "a host name such as `api.example.com`",
    pattern: "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$",
    test: server_name,
};
pub(super) static PATH: Check = Check {
    name: "a path such as `/healthz`",
    pattern: "^/[^\\s#]*$",
    test: path,
};
pub(super) static STATUSES: Check = Check {
    name: "a status such as `204`, or a class such as `2xx`",
    pattern: "^[1-5]([0-9][0-9]|xx)$",
    test: statuses,
};
pub(super) static GRPC_SERVICE: Check = Check {
    name: "a gRPC service such as `shop.v1.Orders`",
    pattern: "^[A-Za-z_][A-Za-z0-9_.]*$",
    test: grpc_service,
};
pub(super) static FILE: Check = Check {
    name: "an absolute file name",
    pattern: "^/.+$",
    test: file,
};
pub(super) static TIMESTAMP: Check = Check {
    name: "a time such as `2026-12-01T00:00:00Z`",
    pattern: "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$",
    test: timestamp,
};
pub(super) static ABORT: Check = Check {
    name: "a status such as `503`, or `grpc:unavailable`",
    pattern: "^([45][0-9][0-9]|grpc:[a-z_]+)$",
    test: abort,
};
pub(super) static GUARD: Check = Check {
    name: "a condition such as `errors > 5%`",
    pattern: "^errors *> *[0-9]+(\\.[0-9]+)?%$",
    test: guard,
};
pub(super) static HOST_PORT: Check = Check {
    name: "a `host:port`",
    pattern: HOST_AND_PORT,
    test: host_port,
};
pub(super) static SOCKET: Check = Check {
    name: "a socket `unix:///path`",
    pattern: "^unix:///.+$",
    test: socket,
};
pub(super) static URL: Check = Check {
    name: "an http URL",
    pattern: "^https?://[^\\s/]+(/\\S*)?$",
    test: url,
};

pub(super) static TRUST: Check = Check {
    name: "`local`, an address or a network such as `10.0.0.0/8`",
    pattern: "^(local|[0-9a-fA-F:.]+(/[0-9]{1,3})?)$",
    test: trust,
};

fn ensure(ok: bool, text: &str, check: &Check) -> Result<(), Unfit> {
    if ok {
        Ok(())
    } else {
        Err(Unfit::new(format!("`{text}` is not {}", check.name)))
    }
}

fn name(text: &str) -> Result<(), Unfit> {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let ok = text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(word);
    ensure(ok, text, &NAME)
}

fn factor(text: &str) -> Result<(), Unfit> {
    ensure(parse_factor(text).is_some(), text, &FACTOR)
}

fn token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn trust(text: &str) -> Result<(), Unfit> {
    if text == "local" {
        return Ok(());
    }
    let guess = match text {
        "all" | "any" | "*" => Some("`0.0.0.0/0` and `::/0` are everybody"),
        "loopback" | "localhost" | "pod" | "self" | "app" => Some("did you mean `local`?"),
        _ => None,
    };
    Net::parse(text).map(drop).map_err(|fault| match guess {
        Some(guess) => Unfit::new(format!("`{text}` is not {}", TRUST.name)).hint(guess),
        None => fault,
    })
}

fn bind(text: &str) -> Result<(), Unfit> {
    if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        return match text.parse::<u16>() {
            Ok(_) => Ok(()),
            Err(_) => Err(Unfit::new(format!(
                "`{text}` is not a port: ports end at 65535"
            ))),
        };
    }
    if let Some(port) = text.strip_prefix(':') {
        return Err(Unfit::new(format!("`{text}` has no address")).hint(format!(
            "write `{port}` for loopback or `0.0.0.0:{port}` for every interface"
        )));
    }
    address(text).map_err(|fault| Unfit {
        message: format!("`{text}` is not {}", BIND.name),
        ..fault
    })
}

fn address(text: &str) -> Result<(), Unfit> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 && !address.ip().is_loopback() {
            Err(Unfit::new(format!("`{text}` names port 0")))
        } else {
            Ok(())
        };
    }
    let fault = Unfit::new(format!("`{text}` is not {}", ADDRESS.name));
    if let Ok(ip) = text.parse::<IpAddr>() {
        let guess = SocketAddr::new(ip, 8080);
        return Err(fault.hint(format!("the port is missing: `{guess}`?")));
    }
    if text
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    {
        return Err(fault.hint("addresses are literal here, such as `10.0.0.1:8080` or `[fd00::1]:8080`; names belong in `upstream`"));
    }
    Err(fault)
}

fn upstream(text: &str) -> Result<(), Unfit> {
    Pattern::parse(text).map(drop)
}

fn route_match(text: &str) -> Result<(), Unfit> {
    Matcher::parse(text).map(drop)
}

fn condition(text: &str) -> Result<(), Unfit> {
    if CONDITIONS.contains(&text) {
        return Ok(());
    }
    if let Some(status) = text.strip_prefix("grpc:") {
        return grpc(text, status);
    }
    if let Ok(code) = text.parse::<u16>() {
        return if (400..=599).contains(&code) {
            Ok(())
        } else {
            Err(Unfit::new(format!(
                "status {code} cannot be retried: only 400 to 599 are failures"
            )))
        };
    }
    let fault = Unfit::new(format!("unknown retry condition `{text}`"));
    if matches!(
        text,
        "5xx" | "gateway-error" | "gateway_error" | "retriable-status-codes"
    ) {
        return Err(fault.hint("name the codes: `502, 503, 504`"));
    }
    let known = CONDITIONS.iter().copied().chain(["grpc:unavailable"]);
    Err(match suggest::nearest(text, known) {
        Some(guess) => fault.hint(format!("did you mean `{guess}`?")),
        None => fault.hint("known are `connect`, `refused`, `reset`, `try_timeout`, a status such as `503`, `grpc:unavailable`"),
    })
}

fn grpc(text: &str, status: &str) -> Result<(), Unfit> {
    if status == "ok" {
        return Err(Unfit::new("`grpc:ok` is success; it cannot be retried"));
    }
    if GRPC_STATUS.contains(&status) {
        return Ok(());
    }
    let fault = Unfit::new(format!("unknown gRPC status in `{text}`"));
    if let Some(name) = status
        .parse::<usize>()
        .ok()
        .and_then(|code| GRPC_STATUS.get(code))
    {
        return Err(fault.hint(format!("statuses go by name: `grpc:{name}`")));
    }
    let lower = status.to_ascii_lowercase().replace('-', "_");
    Err(match suggest::nearest(&lower, GRPC_STATUS.iter().copied()) {
        Some(guess) => fault.hint(format!("did you mean `grpc:{guess}`?")),
        None => fault.hint("the names are those of the gRPC specification in lower case, such as `grpc:unavailable`"),
    })
}

fn method(text: &str) -> Result<(), Unfit> {
    if token(text) && text.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(
            Unfit::new(format!("`{text}` is no method: methods are case-sensitive"))
                .hint(format!("did you mean `{}`?", text.to_ascii_uppercase())),
        );
    }
    let ok = text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    ensure(ok, text, &METHOD)
}

fn header(text: &str) -> Result<(), Unfit> {
    ensure(token(text), text, &HEADER)
}

/// Headers that frame, route or authorise a message: a key in their place would break every call.
const TAKEN: &[&str] = &[
    "host",
    "connection",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "trailer",
    "te",
    "upgrade",
    "expect",
    "via",
    "date",
    "cookie",
    "authorization",
    "proxy-authorization",
    "proxy-connection",
    "keep-alive",
    "x-request-id",
    "traceparent",
    "tracestate",
    "grpc-timeout",
];

fn key_header(text: &str) -> Result<(), Unfit> {
    header(text)?;
    if TAKEN.iter().any(|name| text.eq_ignore_ascii_case(name)) {
        return Err(Unfit::new(format!("`{text}` has a meaning of its own"))
            .hint("name the header that the upstream reads its idempotency key from"));
    }
    Ok(())
}

fn principal(text: &str) -> Result<(), Unfit> {
    ensure(Principal::parse(text).is_some(), text, &PRINCIPAL).map_err(|fault| {
        let (kind, name) = text.split_once(':').unwrap_or(("", text));
        match suggest::nearest(kind, ["header", "cookie"]) {
            Some(kind) if token(name) => fault.hint(format!("did you mean `{kind}:{name}`?")),
            _ if token(text) => fault.hint(format!("did you mean `header:{text}`?")),
            _ => fault,
        }
    })
}

fn negative(text: &str) -> Result<(), Unfit> {
    let status = text.parse::<u16>().ok();
    let status = status.filter(|code| text.len() == 3 && (400..=599).contains(code));
    let Some(status) = status else {
        return ensure(false, text, &NEGATIVE)
            .map_err(|fault| fault.hint("each is one status from 400 to 599"));
    };
    if NEVER_NEGATIVE.contains(&status) {
        return Err(Unfit::new(format!(
            "{status} is about one request or one moment, never about the next"
        ))
        .hint("404, 405, 410, 500 and 503 are among those that can be kept"));
    }
    Ok(())
}

fn hash_key(text: &str) -> Result<(), Unfit> {
    ensure(Key::parse(text).is_some(), text, &HASH_KEY).map_err(|fault| {
        let (kind, name) = text.split_once(':').unwrap_or(("", text));
        match suggest::nearest(kind, ["header", "cookie"]) {
            Some(kind) if token(name) => fault.hint(format!("did you mean `{kind}:{name}`?")),
            _ => match suggest::nearest(name, ["path", "source"]) {
                Some(word) => fault.hint(format!("did you mean `{word}`?")),
                None if kind.is_empty() && token(name) => {
                    fault.hint(format!("did you mean `header:{name}`?"))
                }
                None => fault,
            },
        }
    })
}

fn limit_key(text: &str) -> Result<(), Unfit> {
    const WORDS: [&str; 4] = ["path", "method", "source", "peer"];
    if WORDS.contains(&text) || text.strip_prefix("header:").is_some_and(token) {
        return Ok(());
    }
    let fault = Unfit::new(format!("`{text}` is not {}", LIMIT_KEY.name));
    Err(match suggest::nearest(text, WORDS) {
        Some(guess) => fault.hint(format!("did you mean `{guess}`?")),
        None if token(text) => fault.hint(format!("did you mean `header:{text}`?")),
        None => fault.hint("known are `header:NAME`, `path`, `method`, `source` and `peer`"),
    })
}

fn percentile(text: &str) -> Result<(), Unfit> {
    let value = text
        .strip_prefix('p')
        .and_then(|digits| digits.parse::<f64>().ok());
    ensure(
        value.is_some_and(|value| (1.0..100.0).contains(&value)),
        text,
        &PERCENTILE,
    )
}

fn secret(text: &str) -> Result<(), Unfit> {
    if text
        .strip_prefix("file:")
        .is_some_and(|path| path.len() > 1 && path.starts_with('/'))
    {
        return Ok(());
    }
    let variable = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if text.strip_prefix("env:").is_some_and(variable) {
        return Ok(());
    }
    // The text itself may be the secret, so it must not be repeated into a log.
    Err(Unfit::new("a secret is never written in the policy")
        .hint("name its place: `file:/path` or `env:NAME`"))
}

fn format(text: &str) -> Result<(), Unfit> {
    ensure(
        text.contains("{}") && !text.chars().any(char::is_control),
        text,
        &FORMAT,
    )
}

fn spiffe(text: &str) -> Result<(), Unfit> {
    ensure(PeerPattern::parse(text).is_some(), text, &SPIFFE_ID)
}

fn server_name(text: &str) -> Result<(), Unfit> {
    let label = |label: &str| {
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        !label.is_empty() && label.len() <= 63 && label.chars().all(word)
    };
    ensure(
        text.len() <= 253 && text.split('.').all(label),
        text,
        &SERVER_NAME,
    )
}

fn path(text: &str) -> Result<(), Unfit> {
    // What is sent: a fragment never is, and what is not ASCII goes out percent-encoded.
    let sent = text.starts_with('/')
        && !text.contains('#')
        && text.parse::<http::uri::PathAndQuery>().is_ok();
    ensure(sent, text, &PATH)
}

fn statuses(text: &str) -> Result<(), Unfit> {
    ensure(Statuses::parse(text).is_some(), text, &STATUSES)
}

fn grpc_service(text: &str) -> Result<(), Unfit> {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    ensure(begins && text.chars().all(word), text, &GRPC_SERVICE)
}

fn file(text: &str) -> Result<(), Unfit> {
    ensure(text.len() > 1 && text.starts_with('/'), text, &FILE)
}

fn timestamp(text: &str) -> Result<(), Unfit> {
    ensure(rfc3339(text), text, &TIMESTAMP)?;
    // The calendar has the last word: there is no 31st of February.
    fault::until(text).map(drop)
}

fn abort(text: &str) -> Result<(), Unfit> {
    fault::abort(text).map(drop)
}

fn guard(text: &str) -> Result<(), Unfit> {
    fault::guard(text).map(drop)
}

fn rfc3339(text: &str) -> bool {
    let number = |range: std::ops::Range<usize>| -> Option<u32> {
        let digits = text.get(range)?;
        if digits.bytes().all(|b| b.is_ascii_digit()) {
            digits.parse().ok()
        } else {
            None
        }
    };
    let within = |at: usize, len: usize, low: u32, high: u32| {
        number(at..at + len).is_some_and(|n| (low..=high).contains(&n))
    };
    let head = within(0, 4, 0, 9999)
        && within(5, 2, 1, 12)
        && within(8, 2, 1, 31)
        && within(11, 2, 0, 23)
        && within(14, 2, 0, 59)
        && within(17, 2, 0, 60);
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let bytes = text.as_bytes();
    if !head || !marks.iter().all(|(at, mark)| bytes.get(*at) == Some(mark)) {
        return false;
    }
    let tail = text.get(19..).unwrap_or_default();
    let tail = match tail.strip_prefix('.') {
        Some(fraction) => {
            let rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if rest.len() == fraction.len() {
                return false;
            }
            rest
        }
        None => tail,
    };
    if tail == "Z" {
        return true;
    }
    let zone = tail.as_bytes();
    zone.len() == 6
        && matches!(zone.first(), Some(b'+' | b'-'))
        && zone.get(3) == Some(&b':')
        && [1, 2, 4, 5]
            .iter()
            .all(|at| zone.get(*at).is_some_and(u8::is_ascii_digit))
}

fn host_port(text: &str) -> Result<(), Unfit> {
    let ok = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && !host.contains(['/', ' '])
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    ensure(ok, text, &HOST_PORT)
}

fn socket(text: &str) -> Result<(), Unfit> {
    ensure(
        text.strip_prefix("unix:///")
            .is_some_and(|path| !path.is_empty()),
        text,
        &SOCKET,
    )
}

fn url(text: &str) -> Result<(), Unfit> {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .unwrap_or_default();
    ensure(
        !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace),
        text,
        &URL,
    )
}
