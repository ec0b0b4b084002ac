//! `limit`: its rate, its keys, whose it is.

use std::time::Duration;

use super::effect;
use super::good;
use super::places;
use crate::kit::mode::Mode;
use crate::policy::limit::config::Headers;
use crate::policy::limit::config::Rate;
use crate::policy::limit::config::Scope;
use crate::policy::limit::config::Selector;
use crate::policy::limit::config::Settings;
use crate::policy::limit::machine::lease::Away;

fn base(limit: &str) -> Settings {
    let text = format!("upstream: a.b\nlimit: {limit}\n");
    let policy = good(&text).policy;
    policy.upstreams[0].base.limit.clone().expect("it is on")
}

#[test]
fn a_rate_is_told_in_the_unit_it_is_whole_in() {
    let told = |per_second: f64| {
        let rate = Rate::of(per_second);
        (rate.calls, rate.per.as_secs(), rate.in_a_second())
    };
    assert_eq!(told(10.0), (10, 1, 10));
    assert_eq!(told(600.0 / 60.0), (10, 1, 10));
    assert_eq!(told(30.0 / 60.0), (30, 60, 1));
    assert_eq!(told(90.0 / 60.0), (90, 60, 1));
    assert_eq!(told(5.0 / 3600.0), (5, 3600, 1));
    assert_eq!(told(1.0 / 3600.0), (1, 3600, 1));
}

#[test]
fn selectors_are_read_as_they_are_written() {
    let user = Selector::Header(http::HeaderName::from_static("x-user"));
    for (text, meant) in [
        ("path", Some(Selector::Path)),
        ("method", Some(Selector::Method)),
        ("source", Some(Selector::Source)),
        ("peer", Some(Selector::Peer)),
        ("header:X-User", Some(user)),
        ("cookie:id", None),
    ] {
        assert_eq!(Selector::parse(text), meant);
    }
}

#[test]
fn the_burst_is_one_second_of_the_rate_unless_it_is_written() {
    assert_eq!(base("{ rps: 50 }").burst, 50);
    assert_eq!(base("{ rps: 50, burst: 7 }").burst, 7);
    assert_eq!(base("{ rate: 600/m }").burst, 10);
    assert_eq!(base("{ rate: 30/m }").burst, 1);
    assert_eq!(base("{ rate: 30/m }").rate.per, Duration::from_secs(60));
}

#[test]
fn everything_written_arrives() {
    let text = "{ mode: shadow, rps: 3, burst: 4, per: [method, \"header:X-User\"], keys: 5, headers: all, scope: pod }";
    let user = http::HeaderName::from_static("x-user");
    let meant = Settings {
        mode: Mode::Shadow,
        rate: Rate::per_second(3),
        burst: 4,
        per: vec![Selector::Method, Selector::Header(user)],
        keys: 5,
        headers: Headers::All,
        scope: Scope::Pod,
        own: false,
    };
    assert_eq!(base(text), meant);
    assert_eq!(base("{ rps: 3, per: path }").per, [Selector::Path]);
}

#[test]
fn who_counts_together_and_what_holds_without_redis() {
    let scope = |limit: &str| {
        let text = format!("upstream: a.b\nlimit: {limit}\nredis: [\"localhost:6379\"]\n");
        let policy = good(&text).policy;
        policy.upstreams[0]
            .base
            .limit
            .clone()
            .expect("it is on")
            .scope
    };
    assert_eq!(scope("{ rps: 3 }"), Scope::Pod);
    for (word, away) in [
        ("local", Away::Local),
        ("allow", Away::Allow),
        ("deny", Away::Deny),
    ] {
        let limit = format!("{{ rps: 3, scope: global, away: {word} }}");
        assert_eq!(scope(&limit), Scope::Global(away));
    }
    let unsaid = "{ rps: 3, scope: global }";
    let text = format!("upstream: a.b\nlimit: {unsaid}\nredis: [\"localhost:6379\"]\n");
    assert_eq!(places(&text), ["2:25 OR092"]);
}

#[test]
fn a_later_layer_may_say_the_rate_in_the_other_way() {
    let text = "defaults: { limit: { rps: 100, burst: 5 } }\nupstreams:\n  - upstream: a.b\n    limit: { rate: 30/m }\n    routes:\n      - match: /x\n        limit: { rps: 7 }\n";
    let loaded = good(text);
    let upstream = &loaded.policy.upstreams[0];
    let (base, route) = (&upstream.base.limit, &upstream.routes[0].limit);
    let rates = [base, route].map(|limit| limit.as_ref().map(|limit| (limit.rate, limit.burst)));
    let minute = Rate {
        calls: 30,
        per: Duration::from_secs(60),
    };
    assert_eq!(rates, [Some((minute, 5)), Some((Rate::per_second(7), 5))]);
    assert_eq!(effect(&loaded, "*", "limit.rate").1, "upstreams[0]:4");
    let listed = &loaded.effective.find(Some(0), "*").expect("listed").values;
    assert!(
        !listed.iter().any(|effect| effect.path == "limit.rps"),
        "{listed:?}"
    );
}

#[test]
fn a_route_has_a_limit_of_its_own_if_it_changes_more_than_the_mode() {
    let text = "upstream: a.b\nlimit: { rps: 5 }\nroutes:\n  - match: /x\n    limit: { mode: shadow }\n  - match: /y\n    limit: { burst: 9 }\n  - match: /z\n    limit: off\n";
    let routes = &good(text).policy.upstreams[0].routes;
    let own = |at: usize| {
        routes[at]
            .limit
            .as_ref()
            .map(|limit| (limit.own, limit.mode))
    };
    assert_eq!(own(0), Some((false, Mode::Shadow)));
    assert_eq!(own(1), Some((true, Mode::Enforce)));
    assert_eq!(own(2), None);
}

#[test]
fn only_a_limit_that_is_on_needs_a_rate() {
    assert_eq!(places("upstream: a.b\nlimit: off\n"), [""; 0]);
    assert_eq!(
        places("upstream: a.b\nlimit: { burst: 5, mode: off }\n"),
        [""; 0]
    );
    assert_eq!(
        places("upstream: a.b\nlimit: { burst: 5 }\n"),
        ["2:1 OR018"]
    );
    assert_eq!(places("upstream: a.b\nlimit: {}\n"), ["2:1 OR018"]);
    let text =
        "upstream: a.b\nlimit: { rps: 5 }\nroutes: [{ match: /x, limit: { mode: shadow } }]\n";
    assert_eq!(places(text), [""; 0]);
}
