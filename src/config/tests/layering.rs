//! Precedence, origins, and what a merged policy lifts to.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::Bind;
use super::super::Endpoints;
use super::super::Protocol;
use super::super::Unmatched;
use super::super::worst_case;
use super::effect;
use super::good;
use super::places;
use crate::endpoint::Member;
use crate::kit::mode::Mode;
use crate::policy::breaker::config::Scope;
use crate::policy::retry::config::Methods;

const LAYERS: &str = "\
defaults: { timeout: 4s, retry: { max: 1, replay: 1KiB }, eject: off }
profiles:
  third-party:
    timeout: { connect: 3s }
    retry: { max: 4 }
    breaker: off
upstreams:
  - upstream: a.b
    use: third-party
    timeout: 6s
    routes:
      - match: GET   /x
        retry: { max: 5 }
        timeout: { idle: 1m }
  - upstream: c.d
";

#[test]
fn each_layer_lies_over_the_one_before() {
    let loaded = good(LAYERS);
    let at = |route, path| effect(&loaded, route, path);
    let is = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(at("*", "timeout.total"), is("6s", "upstreams[0]:10"));
    assert_eq!(
        at("*", "timeout.connect"),
        is("3s", "profile third-party:4")
    );
    assert_eq!(at("*", "timeout.idle"), is("5m", "builtin"));
    assert_eq!(at("*", "retry.max"), is("4", "profile third-party:5"));
    assert_eq!(at("*", "retry.replay"), is("1KiB", "defaults:1"));
    assert_eq!(at("*", "breaker"), is("off", "profile third-party:6"));
    assert_eq!(at("*", "eject"), is("off", "defaults:1"));
    assert_eq!(
        at("GET /x", "retry.max"),
        is("5", "upstreams[0].routes[0]:13")
    );
    assert_eq!(
        at("GET /x", "timeout.idle"),
        is("1m", "upstreams[0].routes[0]:14")
    );
    assert_eq!(at("GET /x", "timeout.total"), is("6s", "upstreams[0]:10"));
}

#[test]
fn what_is_listed_is_what_is_lifted() {
    let policy = good(LAYERS).policy;
    let first = &policy.upstreams[0];
    assert_eq!(first.base.deadline.total, Duration::from_secs(6));
    assert_eq!(first.base.deadline.connect, Duration::from_secs(3));
    assert_eq!(
        first
            .base
            .retry
            .as_ref()
            .map(|retry| (retry.max, retry.replay)),
        Some((4, 1024))
    );
    assert!(first.breaker.is_none() && first.base.breaker.is_none() && first.eject.is_none());
    let route = &first.routes[0];
    assert_eq!(route.name, "GET /x");
    assert!(
        route
            .matcher
            .as_ref()
            .is_some_and(|matcher| matcher.matches("GET", "/x"))
    );
    assert_eq!(route.retry.as_ref().map(|retry| retry.max), Some(5));
    assert_eq!(
        policy.upstreams[1]
            .base
            .retry
            .as_ref()
            .map(|retry| retry.max),
        Some(1)
    );
    assert!(
        policy.upstreams[1].breaker.is_some(),
        "a profile that is not used changes nothing"
    );
    assert_eq!(policy.fallback.deadline.total, Duration::from_secs(4));
    assert!(policy.fallback_eject.is_none());
}

#[test]
fn long_and_short_form_are_the_same() {
    let pairs = [
        ("timeout: 2s", "timeout: { total: 2s }"),
        ("retry: 3", "retry: { max: 3 }"),
        (
            "retry: { budget: 10% }",
            "retry: { budget: { share: 10% } }",
        ),
        ("breaker: {}", "breaker: { mode: enforce }"),
        ("breaker: off", "breaker: { mode: off }"),
        ("breaker: no", "breaker: false"),
        ("breaker: Off", "breaker: FALSE"),
        ("timeout: 1500ms", "timeout: 1.5s"),
        ("retry: { retry_after: no }", "retry: { retry_after: off }"),
    ];
    for (short, long) in pairs {
        let read = |text: &str| {
            format!(
                "{:?}",
                good(&format!("upstream: a.b\n{text}\n")).policy.upstreams
            )
        };
        assert_eq!(read(short), read(long), "{short} and {long}");
    }
}

#[test]
fn a_file_may_be_one_upstream() {
    let text = "upstream: a.b\ntimeout: 2s\nservice: me\nlisten: { admin: off }\nunmatched: deny\nretry: off\n";
    let single = good(text).policy;
    let listed = good("service: me\nlisten: { admin: off }\nunmatched: deny\nupstreams: [{ upstream: a.b, timeout: 2s, retry: off }]\n").policy;
    assert_eq!(
        format!("{:?}", single.upstreams),
        format!("{:?}", listed.upstreams)
    );
    assert_eq!(
        (single.service.as_str(), single.unmatched),
        ("me", Unmatched::Deny)
    );
    assert_eq!(single.listen, listed.listen);
}

#[test]
fn writing_a_block_enables_it_again() {
    let text = "defaults: { retry: { max: 7 } }\nprofiles: { p: { retry: off } }\nupstreams:\n  - upstream: a.b\n    use: p\n    routes:\n      - match: /x\n        retry: {}\n";
    let policy = good(text).policy;
    assert!(policy.upstreams[0].base.retry.is_none());
    let route = policy.upstreams[0].routes[0].retry.as_ref();
    assert_eq!(
        route.map(|retry| (retry.mode, retry.max)),
        Some((Mode::Enforce, 7)),
        "fields below an `off` are kept"
    );
    assert_eq!(
        effect(&good(text), "*", "retry"),
        ("off".to_owned(), "profile p:2".to_owned())
    );
}

#[test]
fn shadow_is_a_field_like_any_other() {
    let text = "upstream: a.b\nbreaker: { mode: shadow }\nroutes:\n  - match: /x\n    breaker: { min_calls: 5 }\n  - match: /y\n    breaker: { mode: enforce }\n";
    let policy = good(text).policy;
    let mode = |at: usize| {
        policy.upstreams[0].routes[at]
            .breaker
            .as_ref()
            .map(|breaker| (breaker.mode, breaker.scope))
    };
    assert_eq!(
        policy.upstreams[0]
            .breaker
            .as_ref()
            .map(|breaker| breaker.mode),
        Some(Mode::Shadow)
    );
    assert_eq!(
        mode(0),
        Some((Mode::Shadow, Scope::Route)),
        "other settings need a machine of their own"
    );
    assert_eq!(
        mode(1),
        Some((Mode::Enforce, Scope::Upstream)),
        "another mode does not"
    );
}

#[test]
fn lists_and_words_are_lifted() {
    let text = "upstream: a.b:80\nendpoints: [10.0.0.1:80, \"[fd00::1]:81\"]\nretry:\n  methods: [PUT, LOCK]\n  when: [503, refused, 503, \"grpc:unavailable\", connect]\n";
    let loaded = super::super::parse("p.yaml", text).expect("loads");
    let upstream = &loaded.policy.upstreams[0];
    let member = |text: &str| Member::from(text.parse::<SocketAddr>().expect("an address"));
    let members = ["10.0.0.1:80", "[fd00::1]:81"].map(member).to_vec();
    assert_eq!(upstream.endpoints, Endpoints::Static(members));
    let retry = upstream.base.retry.as_ref().expect("on");
    assert_eq!(
        retry.methods,
        Methods::List(vec!["PUT".to_owned(), "LOCK".to_owned()])
    );
    assert!(
        retry.when.connect && retry.when.refused && !retry.when.reset && !retry.when.try_timeout
    );
    assert_eq!(
        (retry.when.statuses.as_slice(), retry.when.grpc.as_slice()),
        (&[503][..], &[14][..])
    );
}

#[test]
fn listeners_are_ports_or_addresses() {
    let policy =
        good("upstream: a.b\nlisten: { outbound: 5000, explicit: \"[::1]:5001\", admin: off }\n")
            .policy;
    assert_eq!(policy.listen.outbound, Some(Bind::Loopback(5000)));
    assert_eq!(
        policy.listen.explicit,
        Some(Bind::Address("[::1]:5001".parse().expect("an address")))
    );
    assert_eq!(policy.listen.admin, None);
    let any =
        good("upstream: a.b\nlisten: { outbound: 0, explicit: 0, admin: 127.0.0.1:0 }\n").policy;
    assert_eq!(
        any.listen.outbound,
        Some(Bind::Loopback(0)),
        "port 0 is any free port, so it clashes with nothing"
    );
}

#[test]
fn tunnels_are_told_apart() {
    let policy =
        good("upstreams: [{ upstream: db.x:5432, protocol: tcp, endpoints: original }]\n").policy;
    assert_eq!(
        (policy.upstreams[0].protocol, &policy.upstreams[0].endpoints),
        (Protocol::Tcp, &Endpoints::Original)
    );
}

#[test]
fn the_worst_case_is_bounded_by_the_deadline() {
    let case = |text: &str| {
        worst_case(&good(&format!("upstream: a.b\n{text}\n")).policy.upstreams[0].base)
    };
    let auto = case("timeout: 2s\nretry: 3");
    assert_eq!(
        (auto.tries, auto.latency, auto.uncut),
        (4, Duration::from_secs(2), None)
    );
    let short = case("timeout: { total: 2s, try: 100ms }\nretry: 3");
    assert_eq!(
        short.uncut,
        Some(Duration::from_millis(4 * 100 + 25 + 50 + 100))
    );
    assert_eq!(short.latency, Duration::from_millis(575));
    assert_eq!(case("retry: off").tries, 1);
    assert_eq!(case("retry: { mode: shadow, max: 5 }").tries, 1);
    let decorrelated =
        case("timeout: { try: 100ms }\nretry: { max: 2, backoff: { jitter: decorrelated } }");
    assert_eq!(
        decorrelated.uncut,
        Some(Duration::from_millis(3 * 100 + 75 + 225))
    );
}

#[test]
fn the_worst_case_counts_every_copy() {
    let case = |text: &str| {
        worst_case(&good(&format!("upstream: a.b\n{text}\n")).policy.upstreams[0].base)
    };
    assert_eq!(case("retry: 2\nhedge: {}").tries, 6);
    assert_eq!(case("retry: off\nhedge: { max: 3 }").tries, 4);
    assert_eq!(case("retry: 2\nhedge: { mode: shadow }").tries, 3);
    let tries = "timeout: { total: 9s, try: 100ms }\nretry: off";
    let fixed = case(&format!("{tries}\nhedge: {{ after: 40ms, max: 2 }}"));
    assert_eq!(
        fixed.latency,
        Duration::from_millis(180),
        "the last one fails last"
    );
    let measured = case(&format!("{tries}\nhedge: p99"));
    assert_eq!(
        (measured.latency, measured.uncut),
        (Duration::from_secs(9), None)
    );
}

#[test]
fn a_lint_speaks_where_the_clash_was_written() {
    assert_eq!(
        places(
            "upstream: a.b\ntimeout: { total: 2s, try: 900ms }\nroutes:\n  - match: /x\n    retry: 4\n"
        ),
        ["2:28 OR021", "5:12 OR021"]
    );
    // The connect time of a profile is no fault of the upstream that is in more of a hurry.
    let text = "profiles: { p: { timeout: { connect: 2s } } }\nupstreams: [{ upstream: a.b, use: p, timeout: 1s }]\n";
    assert!(places(text).is_empty());
}
