//! Judgements that need the merged policy: what contradicts itself is an error, what is merely suspicious a warning.

mod balance;
mod bulkhead;
mod cache;
mod credential;
mod eject;
mod fault;
mod health;
mod hedge;
mod inbound;
mod limit;
mod redis;
mod tls;

use std::collections::HashSet;
use std::time::Duration;

use super::Bind;
use super::Surroundings;
use super::build::Built;
use super::build::BuiltUpstream;
use super::build::rank;
use super::fault::Place;
use super::fault::Sink;
use super::fault::code;
use super::layers::Held;
use super::layers::Merged;
use super::layers::Origin;
use super::lift;
use super::value::Value;
use super::worst;
use crate::kit::fields::Fields;
use crate::kit::net::Net;
use crate::kit::units;
use crate::policy::deadline::config as deadline;
use crate::policy::retry::config as retry;

/// Ports of protocols in which the server speaks first, or that are not HTTP: reading first bytes costs a wait or hangs.
const TCP_PORTS: &[(u16, &str)] = &[
    (21, "FTP"),
    (22, "SSH"),
    (25, "SMTP"),
    (110, "POP3"),
    (143, "IMAP"),
    (389, "LDAP"),
    (587, "SMTP"),
    (1433, "SQL Server"),
    (1521, "Oracle"),
    (3306, "MySQL"),
    (4222, "NATS"),
    (5432, "PostgreSQL"),
    (5672, "AMQP"),
    (6379, "Redis"),
    (9042, "Cassandra"),
    (9092, "Kafka"),
    (11211, "memcached"),
    (27017, "MongoDB"),
];

const TLS_PORTS: &[u16] = &[443, 8443];

/// Methods whose repetition changes nothing more (RFC 9110 section 9.2.2).
const REPEATABLE: &[&str] = &["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];

/// Runs every lint.
pub(super) fn run(built: &Built, around: &Surroundings, sink: &mut Sink) {
    listeners(&built.root, sink);
    inbound::run(&built.root, around, sink);
    hops(&built.root, sink);
    policy(&built.fallback, sink);
    eject::run(&built.fallback, sink);
    balance::run(built, around, sink);
    cache::run(built, sink);
    tls::run(built, around, sink);
    redis::run(built, sink);
    limit::run(built, sink);
    for upstream in &built.upstreams {
        self::upstream(upstream, sink);
    }
    for profile in built.profiles.iter().filter(|profile| !profile.used) {
        let hint = format!("name it with `use: {}` or remove it", profile.name);
        sink.add(
            code::UNUSED_PROFILE,
            profile.at,
            format!("no upstream uses the profile `{}`", profile.name),
            Some(hint),
        );
    }
}

fn listeners(root: &Merged, sink: &mut Sink) {
    let listen = lift::listen(root);
    let block = root.inside("listen");
    let place = |key: &str| block.and_then(|block| block.place(key));
    let named = [
        ("outbound", listen.outbound),
        ("explicit", listen.explicit),
        ("inbound", listen.inbound),
        ("admin", listen.admin),
    ];
    if let (None, None, Some(at)) = (
        listen.outbound,
        listen.explicit,
        place("outbound").or_else(|| place("explicit")),
    ) {
        let hint = "leave `outbound` or `explicit` on".to_owned();
        sink.add(
            code::CONFLICT,
            at,
            "there is no way in: `outbound` and `explicit` are both off",
            Some(hint),
        );
    }
    for (index, (key, bind)) in named.iter().enumerate() {
        for (other, earlier) in named.iter().take(index) {
            if let (Some(a), Some(b), Some(at)) =
                (bind, earlier, place(key).or_else(|| place(other)))
                && clash(*a, *b)
            {
                sink.add(
                    code::CONFLICT,
                    at,
                    format!("`{key}` and `{other}` listen on the same port"),
                    None,
                );
            }
        }
        if let (Some(Bind::Address(address)), Some(at)) = (bind, place(key))
            && !matches!(*key, "admin" | "inbound")
            && !address.ip().is_loopback()
        {
            let message = format!(
                "`{key}` is open to the network: anyone who reaches {address} can call through it"
            );
            sink.add(
                code::OPEN_LISTENER,
                at,
                message,
                Some(format!("`{key}: {}` binds loopback", address.port())),
            );
        }
    }
}

fn hops(root: &Merged, sink: &mut Sink) {
    let block = root.inside("hops").filter(|block| block.on);
    let Some((Value::List(items), _)) = block.and_then(|block| block.value("trust")) else {
        return;
    };
    for (item, at) in items {
        let Value::Text(text) = item else { continue };
        if Net::parse(text).is_ok_and(|net| net.is_everything()) {
            let message = format!(
                "`{text}` trusts everybody: whoever sends a request decides how long it may take and that it is not retried"
            );
            let hint = "name the networks of your own hops".to_owned();
            sink.add(code::OPEN_TRUST, *at, message, Some(hint));
        }
    }
}

fn clash(a: Bind, b: Bind) -> bool {
    let port = |bind: Bind| match bind {
        Bind::Loopback(port) => port,
        Bind::Address(address) => address.port(),
    };
    let apart = match (a, b) {
        (Bind::Address(a), Bind::Address(b)) => {
            a.ip() != b.ip() && !a.ip().is_unspecified() && !b.ip().is_unspecified()
        }
        (Bind::Address(a), Bind::Loopback(_)) | (Bind::Loopback(_), Bind::Address(a)) => {
            !a.ip().is_loopback() && !a.ip().is_unspecified()
        }
        _ => false,
    };
    port(a) == port(b) && port(a) != 0 && !apart
}

fn upstream(upstream: &BuiltUpstream, sink: &mut Sink) {
    let tcp = upstream.merged.word("protocol") == Some("tcp");
    ports(upstream, tcp, sink);
    if tcp {
        tunnel(upstream, sink);
    } else {
        policy(&upstream.merged, sink);
        credential::run(upstream, sink);
        hedge::endpoints(upstream, sink);
        fault::reach(upstream, sink);
        for route in &upstream.routes {
            hedge::methods(route, sink);
            policy(&route.merged, sink);
            reachable(&route.name, route.at, sink);
        }
    }
    eject::run(&upstream.merged, sink);
    health::lint(upstream, tcp, sink);
    twice(&upstream.merged, sink);
}

fn twice(merged: &Merged, sink: &mut Sink) {
    let mut seen = HashSet::new();
    for (member, at) in lift::listed(merged).unwrap_or_default() {
        if !seen.insert(member.address) {
            let message = format!("the endpoint `{}` is already in the list", member.address);
            sink.add(code::DUPLICATE_ENDPOINT, at, message, None);
        }
    }
}

fn ports(upstream: &BuiltUpstream, tcp: bool, sink: &mut Sink) {
    let Some(port) = upstream.pattern.port() else {
        return;
    };
    if tcp {
        return;
    }
    if let Some((_, name)) = TCP_PORTS.iter().find(|(known, _)| *known == port) {
        let message = format!(
            "port {port} is {name}, which is not HTTP; reading first bytes delays it, or hangs if the server speaks first"
        );
        sink.add(
            code::NEEDS_TCP,
            upstream.at,
            message,
            Some("add `protocol: tcp`".to_owned()),
        );
    }
    if TLS_PORTS.contains(&port) && upstream.merged.block("originate").is_some() {
        let message = format!(
            "outrider speaks TLS to `{}`, so the application must not: it has to speak plain HTTP to port {port}",
            upstream.name
        );
        let hint = format!(
            "write `upstream: {0}` and let it call `http://{0}/`: calls to port 80 go to 443",
            upstream.pattern.host()
        );
        sink.add(code::OPAQUE_TLS, upstream.at, message, Some(hint));
        return;
    }
    if TLS_PORTS.contains(&port) {
        let message = format!(
            "the application calls `{}` over TLS itself; retry and breaker cannot see inside",
            upstream.name
        );
        let hint = "only connecting, ejection and the log apply; `protocol: tcp` says so, and with `originate: tls` it can call over plain HTTP"
            .to_owned();
        sink.add(code::OPAQUE_TLS, upstream.at, message, Some(hint));
    }
}

fn tunnel(upstream: &BuiltUpstream, sink: &mut Sink) {
    for key in [
        "cache",
        "credential",
        "limit",
        "retry",
        "breaker",
        "bulkhead",
        "idempotency",
        "hedge",
        "fault",
    ] {
        let Some(block) = upstream.merged.inside(key).filter(|block| block.on) else {
            continue;
        };
        if let Some(at) = first_place(block, rank::UPSTREAM) {
            let message = format!(
                "`{key}` cannot see inside a tunnel: `{}` has `protocol: tcp`",
                upstream.name
            );
            sink.add(code::TUNNEL, at, message, Some("remove it".to_owned()));
        }
    }
    if let Some(route) = upstream.routes.first() {
        let message = format!(
            "no request can reach this route: `{}` has `protocol: tcp`, so nothing is matched",
            upstream.name
        );
        sink.add(
            code::UNREACHABLE_ROUTE,
            route.at,
            message,
            Some("remove `routes`".to_owned()),
        );
    }
}

/// The first place at which a layer of that rank wrote into a block.
fn first_place(block: &Merged, rank: usize) -> Option<Place> {
    let own = block.origin.place.filter(|_| block.origin.rank == rank);
    own.or_else(|| {
        block.fields.iter().find_map(|field| match &field.held {
            Held::Value(_, origin) if origin.rank == rank => origin.place,
            Held::Block(inner) => first_place(inner, rank),
            Held::Value(..) => None,
        })
    })
}

fn reachable(name: &str, at: Place, sink: &mut Sink) {
    let path = name.split_whitespace().last().unwrap_or_default();
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        let message =
            format!("no request can reach `{name}`: clients remove dot segments before they send");
        sink.add(
            code::UNREACHABLE_ROUTE,
            at,
            message,
            Some("write the path that is sent".to_owned()),
        );
    }
    if name.starts_with("CONNECT ") {
        let message = format!("no request can reach `{name}`: CONNECT has no path");
        sink.add(
            code::UNREACHABLE_ROUTE,
            at,
            message,
            Some("remove the route".to_owned()),
        );
    }
}

/// Lints of one route, of a base, or of the defaults. Built-in values are sound by themselves, so each lint speaks only
/// where a file wrote one of the values that it is about; the same value seen through several routes is told once.
fn policy(merged: &Merged, sink: &mut Sink) {
    let deadline = merged
        .block("timeout")
        .map(deadline::Settings::lift)
        .unwrap_or_default();
    let total = merged
        .inside("timeout")
        .and_then(|block| block.value("total"))
        .map(|(_, origin)| origin);
    if let Some(block) = merged.inside("timeout") {
        timeouts(block, &deadline, total, sink);
    }
    fault::block(merged, deadline.total, sink);
    if let Some(block) = merged.block("retry") {
        tries(merged, block, &deadline, sink);
        retries(merged, block, sink);
    }
    if let Some(block) = merged.block("hedge") {
        hedge::delays(block, &deadline, total, sink);
    }
    if let Some(block) = merged.block("limit") {
        limit::limit(block, sink);
    }
    if let Some(block) = merged.block("breaker") {
        breaker(block, &deadline, total, sink);
    }
    if let Some(block) = merged.block("bulkhead") {
        bulkhead::run(block, &deadline, total, sink);
    }
}

fn timeouts(block: &Merged, deadline: &deadline::Settings, by: Option<&Origin>, sink: &mut Sink) {
    let total = deadline.total;
    for (key, limit) in [
        ("connect", Some(deadline.connect)),
        ("try", deadline.per_try),
    ] {
        let Some(limit) = limit.filter(|limit| *limit > total) else {
            continue;
        };
        if let Some(at) = block.place_over(key, by) {
            let message = format!(
                "{key} {} is longer than the whole call, {}",
                units::format_duration(limit),
                units::format_duration(total)
            );
            let note = "the total ends it first".to_owned();
            sink.add(code::IDLE_TIMEOUT, at, message, Some(note));
        }
    }
}

fn tries(merged: &Merged, retry: &Merged, deadline: &deadline::Settings, sink: &mut Sink) {
    let settings = retry::Settings::lift(retry);
    let Some(per_try) = deadline.per_try.filter(|_| settings.max > 0) else {
        return;
    };
    let timeout = merged.inside("timeout");
    let parts = [(timeout, "try"), (timeout, "total"), (Some(retry), "max")];
    let written = parts
        .into_iter()
        .filter_map(|(block, key)| block?.value(key))
        .map(|(_, origin)| origin);
    // The one that came last made them clash; of several, the first.
    let Some(at) = written
        .rev()
        .max_by_key(|origin| origin.rank)
        .and_then(|origin| origin.place)
    else {
        return;
    };
    let count = settings.max + 1;
    let waits = worst::waits(&settings.backoff, settings.max);
    let all = per_try.saturating_mul(count).saturating_add(waits);
    // A try that is longer than the call has a warning of its own.
    if all <= deadline.total || per_try > deadline.total {
        return;
    }
    let before_last = per_try.saturating_mul(settings.max).saturating_add(waits);
    let end = if before_last >= deadline.total {
        "the last try can never run"
    } else {
        "the last try is cut short"
    };
    let text = seconds;
    let message = format!(
        "{count} tries x {} + back-off {} = {} exceeds timeout {}; {end}",
        text(per_try),
        text(waits),
        text(all),
        text(deadline.total)
    );
    sink.add(
        code::TRIES_EXCEED_TIMEOUT,
        at,
        message,
        Some(fitting(deadline.total, waits, count)),
    );
}

/// Sums read better as `3.375s` than as `3375ms`.
fn seconds(value: Duration) -> String {
    let whole = value.subsec_nanos() == 0 || value < Duration::from_secs(1);
    if whole {
        units::format_duration(value)
    } else {
        format!("{}s", value.as_millis() as f64 / 1000.0)
    }
}

fn fitting(total: Duration, waits: Duration, count: u32) -> String {
    let room = total.saturating_sub(waits) / count;
    let room = Duration::from_millis(u64::try_from(room.as_millis()).unwrap_or(u64::MAX));
    if room < Duration::from_millis(10) {
        return "leave `try` at `auto`".to_owned();
    }
    format!(
        "leave `try` at `auto`, or use at most `{}`",
        units::format_duration(room)
    )
}

fn retries(merged: &Merged, block: &Merged, sink: &mut Sink) {
    let settings = retry::Settings::lift(block);
    if let (Some(at), true) = (block.place("max"), settings.max == 0) {
        sink.add(
            code::IDLE_RETRY,
            at,
            "`max: 0` retries nothing",
            Some("`retry: off` says so".to_owned()),
        );
    }
    if let (Some(at), Some(list)) = (block.place("when"), block.list("when"))
        && list.is_empty()
    {
        sink.add(
            code::IDLE_RETRY,
            at,
            "an empty `when` retries nothing",
            Some("`retry: off` says so".to_owned()),
        );
    }
    let unsafe_methods = match &settings.methods {
        retry::Methods::All => Some("POST and PATCH".to_owned()),
        retry::Methods::List(list) => {
            let unsafe_ones: Vec<&str> = list
                .iter()
                .map(String::as_str)
                .filter(|method| !REPEATABLE.contains(method))
                .collect();
            (!unsafe_ones.is_empty()).then(|| unsafe_ones.join(", "))
        }
        retry::Methods::Safe | retry::Methods::Idempotent => None,
    };
    if let (Some(methods), Some(at)) = (unsafe_methods, block.place("methods"))
        && !hedge::has_key(merged)
    {
        let message =
            format!("{methods} may be carried out twice: a call that failed may have been done");
        let hint = "declare `idempotency: {}` if the upstream honours a key; keep it only if it detects repetition by itself".to_owned();
        sink.add(code::UNSAFE_RETRY, at, message, Some(hint));
    }
    hedge::large_budget(block, settings.budget.share, "retries", sink);
    if let Some(backoff) = block.inside("backoff")
        && let Some(at) = backoff.place("base").or_else(|| backoff.place("max"))
        && settings.backoff.base > settings.backoff.max
    {
        let (base, max) = (
            units::format_duration(settings.backoff.base),
            units::format_duration(settings.backoff.max),
        );
        sink.add(
            code::CONFLICT,
            at,
            format!("back-off base {base} is above its max {max}"),
            None,
        );
    }
}

fn breaker(block: &Merged, deadline: &deadline::Settings, by: Option<&Origin>, sink: &mut Sink) {
    let settings = crate::policy::breaker::config::Settings::lift(block);
    let text = units::format_duration;
    if settings.failures.is_none() && settings.consecutive.is_none() && settings.slow.is_none() {
        let at = block
            .place("failures")
            .or_else(|| block.place("consecutive"));
        if let Some(at) = at {
            let message =
                "this breaker can never open: `failures`, `consecutive` and `slow` are all off";
            sink.add(
                code::ODD_BREAKER,
                at,
                message,
                Some("`breaker: off` says so".to_owned()),
            );
        }
    }
    if let Some(at) = block.place("open").or_else(|| block.place("open_max"))
        && settings.open > settings.open_max
    {
        let message = format!(
            "open {} is above open_max {}",
            text(settings.open),
            text(settings.open_max)
        );
        sink.add(code::CONFLICT, at, message, None);
    }
    if let Some(at) = block.place_over("over", by)
        && settings.over < deadline.total
        && settings.consecutive.is_none()
    {
        let message = format!(
            "the window of {} is shorter than a call may last, {}",
            text(settings.over),
            text(deadline.total)
        );
        let hint = format!(
            "at least `{}`, so that slow failures meet in one window",
            text(deadline.total.saturating_mul(2))
        );
        sink.add(code::ODD_BREAKER, at, message, Some(hint));
    }
    if let Some(slow) = &settings.slow
        && let Some(at) = block
            .inside("slow")
            .and_then(|block| block.place_over("over", by))
        && slow.over >= deadline.total
    {
        let message = format!(
            "no call can be slower than {}: the timeout ends it at {}",
            text(slow.over),
            text(deadline.total)
        );
        sink.add(
            code::ODD_BREAKER,
            at,
            message,
            Some("use less than the timeout".to_owned()),
        );
    }
}
