//! RFC 9111 sections 4.2.1 to 4.2.3: freshness and age.

use super::*;
use crate::policy::cache::machine::Source;
use crate::policy::cache::machine::fresh;

fn lifetime(response: &str) -> (u64, Source) {
    let (stored, _) = kept(&format!("{response}\netag: \"a\""));
    (stored.lifetime.as_secs(), stored.source)
}

fn age(fields: &str) -> u64 {
    fresh::initial_age(&head(fields), times(walk::start())).as_secs()
}

#[test]
fn section_4_2_1_the_order_of_who_is_asked() {
    let expires = "expires: Tue, 24 Nov 2026 10:00:30 GMT";
    let date = format!("date: {NOW_TEXT}");
    assert_eq!(
        lifetime(&format!(
            "cache-control: s-maxage=10, max-age=20\n{expires}"
        )),
        (10, Source::SharedMaxAge)
    );
    assert_eq!(
        lifetime(&format!("cache-control: max-age=20\n{expires}")),
        (20, Source::MaxAge)
    );
    assert_eq!(
        lifetime(&format!("{expires}\n{date}")),
        (30, Source::Expires)
    );
    assert_eq!(
        lifetime(expires),
        (30, Source::Expires),
        "without Date: since it came"
    );
    assert_eq!(lifetime(""), (0, Source::Nobody));
}

#[test]
fn section_4_2_1_expires_counts_from_the_origins_own_date() {
    let slow = "date: Tue, 24 Nov 2026 09:59:50 GMT\nexpires: Tue, 24 Nov 2026 10:00:20 GMT";
    assert_eq!(lifetime(slow), (30, Source::Expires));
}

#[test]
fn section_5_3_an_invalid_expires_is_in_the_past() {
    for text in [
        "0",
        "-1",
        "never",
        "",
        "Tue, 24 Nov 2026 25:00:00 GMT",
        "Tue, 24 Nov 2026 11:00:00 UTC",
        "1795600000",
    ] {
        assert_eq!(
            lifetime(&format!("expires: {text}")),
            (0, Source::Expires),
            "{text:?}"
        );
    }
    assert_eq!(
        lifetime("expires: Mon, 23 Nov 2026 10:00:00 GMT"),
        (0, Source::Expires)
    );
    assert_eq!(
        lifetime("expires: Tuesday, 24-Nov-26 10:01:00 GMT"),
        (60, Source::Expires)
    );
    assert_eq!(
        lifetime("expires: Tue Nov 24 10:01:00 2026"),
        (60, Source::Expires)
    );
}

#[test]
fn section_4_2_2_guesses_only_when_asked_for() {
    let old = format!("date: {NOW_TEXT}\nlast-modified: Tue, 24 Nov 2026 09:00:00 GMT");
    assert_eq!(lifetime(&old), (0, Source::Nobody));
    let rules = Rules {
        heuristic: Some(0.1),
        ..Rules::default()
    };
    let guess =
        |status, fields: &str| judged(&rules, "", status, fields).map(|s| (s.lifetime, s.source));
    assert_eq!(guess(200, &old), Ok((secs(360), Source::Heuristic)));
    assert_eq!(guess(302, &old), Err(WhyNot::NoFreshness));
    assert_eq!(
        guess(302, &format!("{old}\ncache-control: public")),
        Ok((secs(360), Source::Heuristic))
    );
    // RFC 9110 section 15.1: of failures those about the resource, not those about the moment.
    assert_eq!(guess(404, &old), Ok((secs(360), Source::Heuristic)));
    assert_eq!(guess(503, &old), Err(WhyNot::NoFreshness));
    let ancient = "last-modified: Tue, 24 Nov 1996 09:00:00 GMT";
    assert_eq!(
        guess(200, ancient),
        Ok((secs(86_400), Source::Heuristic)),
        "a day at most"
    );
    assert_eq!(
        guess(200, "last-modified: Tue, 24 Nov 2026 12:00:00 GMT").map(|g| g.0),
        Ok(secs(0)),
        "in the future"
    );
    assert_eq!(
        guess(200, &format!("{old}\ncache-control: max-age=5")),
        Ok((secs(5), Source::MaxAge))
    );
    assert_eq!(
        guess(200, &format!("{old}\nexpires: 0")).map(|g| g.0),
        Ok(secs(0))
    );
}

#[test]
fn policy_speaks_where_the_origin_does_not() {
    let rules = Rules {
        default_ttl: Some(secs(60)),
        ..Rules::default()
    };
    let judge =
        |status, fields: &str| judged(&rules, "", status, fields).map(|s| (s.lifetime, s.source));
    assert_eq!(judge(200, ""), Ok((secs(60), Source::Policy)));
    assert_eq!(judge(200, "pragma: no-cache"), Err(WhyNot::NoFreshness));
    assert_eq!(judge(301, ""), Ok((secs(60), Source::Policy)));
    assert_eq!(judge(302, ""), Err(WhyNot::NoFreshness));
    assert_eq!(judge(404, ""), Err(WhyNot::NoFreshness));
    assert_eq!(
        judge(200, "cache-control: max-age=5"),
        Ok((secs(5), Source::MaxAge))
    );
    assert_eq!(judge(200, "cache-control: no-store"), Err(WhyNot::NoStore));
    assert_eq!(judge(200, "cache-control: private"), Err(WhyNot::Private));
    assert_eq!(
        judge(200, "cache-control: max-age=x\netag: \"a\""),
        Ok((secs(0), Source::MaxAge))
    );
}

#[test]
fn policy_bounds_what_the_origin_says() {
    let rules = Rules {
        ttl_min: Some(secs(10)),
        ttl_max: Some(secs(100)),
        default_ttl: Some(secs(1)),
        ..Rules::default()
    };
    let judge = |fields: &str| judged(&rules, "", 200, fields).map(|s| (s.lifetime, s.source));
    assert_eq!(
        judge("cache-control: max-age=0"),
        Ok((secs(10), Source::Bounded))
    );
    assert_eq!(
        judge("cache-control: max-age=50"),
        Ok((secs(50), Source::MaxAge))
    );
    assert_eq!(
        judge("cache-control: s-maxage=500"),
        Ok((secs(100), Source::Bounded))
    );
    assert_eq!(
        judge(""),
        Ok((secs(1), Source::Policy)),
        "`get` is the policy's own word"
    );
    assert_eq!(
        judge("cache-control: no-store, max-age=50"),
        Err(WhyNot::NoStore)
    );
    let personal = judged(
        &rules,
        "cookie: a=b",
        200,
        "cache-control: max-age=0\netag: \"a\"",
    );
    assert_eq!(
        personal.map(|s| s.lifetime),
        Ok(secs(0)),
        "nothing personal is lengthened"
    );
}

#[test]
fn section_4_2_3_the_greater_of_date_and_age_counts() {
    assert_eq!(age(""), 0);
    assert_eq!(age("age: 30"), 30);
    assert_eq!(age("date: Tue, 24 Nov 2026 09:59:00 GMT"), 60);
    assert_eq!(age("date: Tue, 24 Nov 2026 09:59:00 GMT\nage: 30"), 60);
    assert_eq!(age("date: Tue, 24 Nov 2026 09:59:00 GMT\nage: 90"), 90);
    assert_eq!(
        age("date: Tue, 24 Nov 2026 10:05:00 GMT"),
        0,
        "an origin ahead of us"
    );
    assert_eq!(age("date: nonsense"), 0);
}

#[test]
fn section_4_2_3_the_time_on_the_way_is_age() {
    let start = walk::start();
    let times = Times {
        requested: start,
        received: start + secs(7),
        received_unix: NOW,
    };
    assert_eq!(fresh::initial_age(&head("age: 30"), times), secs(37));
    assert_eq!(fresh::initial_age(&head(""), times), secs(7));
}

#[test]
fn section_5_1_age_is_the_first_number_or_nothing() {
    assert_eq!(age("age: 30, 60"), 30);
    assert_eq!(age("age: 30\nage: 60"), 30);
    for text in ["-1", "1.5", "abc", "", "30s", "+30", "\"30\""] {
        assert_eq!(age(&format!("age: {text}")), 0, "{text:?}");
    }
    assert_eq!(age("age: 99999999999999999999"), 1 << 31);
}

#[test]
fn section_4_2_fresh_as_long_as_the_lifetime_is_longer_than_the_age() {
    let (stored, at) = kept("cache-control: max-age=60\nage: 20");
    assert!(stored.is_fresh(at));
    assert_eq!(stored.ttl(at), 40);
    assert!(stored.is_fresh(at + Duration::from_millis(39_999)));
    assert!(!stored.is_fresh(at + secs(40)));
    assert_eq!(stored.age(at + secs(40)), secs(60));
    assert_eq!(stored.stale_by(at + secs(45)), secs(5));
    assert_eq!(stored.ttl(at + secs(45)), -5);
    assert_eq!(
        stored.age(at - secs(99)),
        secs(20),
        "a clock that steps back makes nothing younger"
    );
}

#[test]
fn an_age_past_every_number_overflows_nothing() {
    let (stored, at) = kept("cache-control: max-age=99999999999\nage: 5");
    assert!(stored.is_fresh(at));
    let far = at + Duration::from_secs(1 << 33);
    assert!(!stored.is_fresh(far));
    assert!(stored.ttl(far) < 0);
}

#[test]
fn a_soft_purge_ends_freshness_and_nothing_else() {
    let rules = Rules {
        stale_if_error: secs(600),
        ..Rules::default()
    };
    let stored = judged(&rules, "", 200, "cache-control: max-age=60\netag: \"a\"").unwrap();
    let now = stored.received + secs(10);
    let aged = stored.expired(now);
    assert!(!aged.is_fresh(now) && aged.stale_by(now).is_zero());
    assert_eq!((aged.age(now), aged.stale_if_error), (secs(10), secs(600)));
    assert_eq!(aged.etag, stored.etag);
    let stale = stored.expired(stored.received + secs(100));
    assert_eq!(
        stale.lifetime, stored.lifetime,
        "one that was stale is not made younger"
    );
}
