//! Seeded walks: what holds whatever the words and the clock.

use super::*;
use crate::kit::walk::Draws;
use crate::policy::cache::machine::Use;
use crate::policy::cache::machine::reuse;

const SAID: [&str; 14] = [
    "max-age=0",
    "max-age=10",
    "max-age=100",
    "s-maxage=20",
    "no-cache",
    "must-revalidate",
    "proxy-revalidate",
    "public",
    "immutable",
    "stale-while-revalidate=30",
    "stale-if-error=60",
    "max-age=x",
    "private=\"x\"",
    "foo=\"a, b\"",
];
const WANTED: [&str; 9] = [
    "no-cache",
    "max-age=0",
    "max-age=15",
    "min-fresh=5",
    "max-stale",
    "max-stale=40",
    "only-if-cached",
    "no-store",
    "stale-if-error=50",
];

fn some(draws: &mut Draws, from: &[&'static str]) -> String {
    let count = draws.below(4);
    let words: Vec<&str> = (0..count).map(|_| draws.pick(from)).collect();
    format!("cache-control: {}", words.join(", "))
}

fn rules(draws: &mut Draws) -> Rules {
    let mut maybe = |n| draws.chance(0.5).then(|| secs(n));
    Rules {
        default_ttl: maybe(25),
        ttl_min: maybe(5),
        ttl_max: maybe(50),
        heuristic: maybe(1).map(|_| 0.1),
        negative: maybe(3).map(|span| (404, span)).into_iter().collect(),
        stale_while_revalidate: maybe(10).unwrap_or_default(),
        stale_if_error: maybe(200).unwrap_or_default(),
        cookies: maybe(1).is_some(),
        credentialed: maybe(1).is_some(),
    }
}

fn answer(draws: &mut Draws) -> String {
    let mut text = some(draws, &SAID);
    for line in [
        "etag: \"a\"",
        "age: 7",
        "date: Tue, 24 Nov 2026 09:59:55 GMT",
        "last-modified: Tue, 24 Nov 2026 09:00:00 GMT",
        "expires: Tue, 24 Nov 2026 10:00:40 GMT",
    ] {
        if draws.chance(0.5) {
            text = format!("{text}\n{line}");
        }
    }
    text
}

#[test]
fn age_never_falls_and_nothing_is_fresh_past_its_lifetime() {
    walk::seeds(|draws| {
        let rules = rules(draws);
        let status = draws.pick(&[200, 200, 200, 301, 302, 404, 503]);
        let Ok(stored) = judged(&rules, "", status, &answer(draws)) else {
            return;
        };
        let (mut now, mut age) = (stored.received, stored.age(stored.received));
        for _ in 0..40 {
            now += draws.pause();
            assert!(stored.age(now) >= age, "younger");
            age = stored.age(now);
            assert_eq!(stored.is_fresh(now), age < stored.lifetime);
            assert_eq!(stored.stale_by(now).is_zero(), age <= stored.lifetime);
            let asked = asked(&some(draws, &WANTED));
            check(&stored, &asked, &rules, now);
            if draws.chance(0.05) {
                assert!(!stored.expired(now).is_fresh(now));
            }
        }
    });
}

fn check(stored: &Stored, asked: &Asked, rules: &Rules, now: Instant) {
    let (fresh, wants) = (stored.is_fresh(now), &asked.directives);
    match reuse::judge(asked, stored, rules, now) {
        Use::Fresh => {
            assert!(fresh, "fresh past its lifetime");
            assert!(!stored.no_cache && !wants.no_cache);
        }
        Use::Stale => {
            assert!(!fresh && !stored.forbids_stale() && wants.max_stale.given());
        }
        Use::Revalidating => {
            assert!(!fresh && !stored.no_cache && !stored.revalidate);
            assert!(stored.stale_by(now) <= stored.stale_while_revalidate);
        }
        Use::Validate(_) => {
            assert!(!wants.only_if_cached);
            let why = wants.no_cache || stored.no_cache || !fresh;
            assert!(
                why || wants.max_age.given() || wants.min_fresh.given(),
                "asked for nothing"
            );
        }
        Use::GatewayTimeout => assert!(wants.only_if_cached),
        Use::Bypass => assert!(asked.personal(rules) || !rules.credentialed),
    }
    if let Some(by) = reuse::if_error(asked, stored, rules, now) {
        assert!(!stored.no_cache && !stored.revalidate && !wants.no_cache);
        let client = wants.stale_if_error.seconds().unwrap_or(0);
        assert!(by <= stored.stale_if_error.max(secs(client.into())));
    }
}

#[test]
fn what_is_forbidden_is_never_kept() {
    walk::seeds(|draws| {
        let rules = rules(draws);
        let word = draws.pick(&["no-store", "private", "NO-STORE=1", "private=\"\""]);
        let response = format!("{}\ncache-control: {word}", answer(draws));
        assert!(judged(&rules, "", 200, &response).is_err(), "{response}");
        let credentials = judged(&rules, "authorization: x", 200, &answer(draws));
        if let Ok(stored) = credentials {
            assert!(rules.credentialed);
            assert!(
                stored.source.of_origin() || stored.lifetime.is_zero(),
                "by our word alone"
            );
        }
    });
}
