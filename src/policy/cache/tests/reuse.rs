//! RFC 9111 sections 4, 4.2.4, 5.2.1, RFC 5861 and RFC 8246: what a stored answer is used for. The tests stand in the order of
//! the table of the machine.

use super::*;
use crate::policy::cache::machine::Use;
use crate::policy::cache::machine::reuse;
use crate::policy::cache::machine::reuse::Why;

const ETAG: &str = "\netag: \"a\"";
const STALE: Use = Use::Validate(Why::Stale);
const REQUEST: Use = Use::Validate(Why::Request);

/// What becomes of an answer with this `Cache-Control`, `after` seconds later, for a request with these fields.
fn used_by(rules: &Rules, cache: &str, after: u64, request: &str) -> Use {
    let stored = judged(rules, "", 200, &format!("{cache}{ETAG}")).expect("kept");
    reuse::judge(
        &asked(request),
        &stored,
        rules,
        stored.received + secs(after),
    )
}

fn used(cache: &str, after: u64, wants: &str) -> Use {
    let request = if wants.is_empty() {
        String::new()
    } else {
        format!("cache-control: {wants}")
    };
    used_by(
        &Rules::default(),
        &format!("cache-control: {cache}"),
        after,
        &request,
    )
}

fn in_error(rules: &Rules, cache: &str, after: u64, request: &str) -> Option<u64> {
    let stored = judged(rules, "", 200, &format!("cache-control: {cache}{ETAG}")).expect("kept");
    let now = stored.received + secs(after);
    reuse::if_error(&asked(request), &stored, rules, now).map(|by| by.as_secs())
}

#[test]
fn row_1_what_the_policy_alone_made_fresh_is_for_nobody_who_shows_a_cookie() {
    let rules = Rules {
        default_ttl: Some(secs(60)),
        ..Rules::default()
    };
    assert_eq!(used_by(&rules, "", 1, ""), Use::Fresh);
    assert_eq!(used_by(&rules, "", 1, "cookie: a=b"), Use::Bypass);
    assert_eq!(used_by(&rules, "", 1, "authorization: x"), Use::Bypass);
    let said = "cache-control: max-age=60";
    assert_eq!(used_by(&rules, said, 1, "cookie: a=b"), Use::Fresh);
    assert_eq!(used_by(&rules, said, 1, "authorization: x"), Use::Fresh);
    let ignoring = Rules {
        cookies: true,
        ..rules.clone()
    };
    assert_eq!(used_by(&ignoring, "", 1, "cookie: a=b"), Use::Fresh);
    let strict = Rules {
        credentialed: false,
        ..rules
    };
    assert_eq!(used_by(&strict, said, 1, "authorization: x"), Use::Bypass);
}

#[test]
fn row_2_section_5_2_1_4_no_cache_of_the_request() {
    assert_eq!(used("max-age=60", 1, "no-cache"), REQUEST);
    let pragma = used_by(
        &Rules::default(),
        "cache-control: max-age=60",
        1,
        "pragma: no-cache",
    );
    assert_eq!(pragma, REQUEST);
    assert_eq!(used("max-age=60, immutable", 1, "no-cache"), REQUEST);
}

#[test]
fn row_3_section_5_2_2_4_no_cache_of_the_answer() {
    assert_eq!(used("no-cache", 1, ""), STALE);
    assert_eq!(used("no-cache, max-age=60", 1, ""), STALE);
    assert_eq!(
        used(
            "no-cache, max-age=60, stale-while-revalidate=60",
            1,
            "max-stale"
        ),
        STALE
    );
    assert_eq!(used("no-cache=\"x\", max-age=60", 1, ""), Use::Fresh);
}

#[test]
fn row_4_section_5_2_1_1_max_age_of_the_request() {
    assert_eq!(used("max-age=60", 10, "max-age=10"), Use::Fresh);
    assert_eq!(used("max-age=60", 11, "max-age=10"), REQUEST);
    assert_eq!(
        used("max-age=60", 0, "max-age=0"),
        Use::Fresh,
        "as old as the client allows"
    );
    assert_eq!(used("max-age=60", 1, "max-age=0"), REQUEST);
    assert_eq!(
        used("max-age=60", 1, "max-age=soon"),
        REQUEST,
        "the careful reading"
    );
    assert_eq!(
        used("max-age=60", 61, "max-age=3600"),
        STALE,
        "no leave to be stale"
    );
}

#[test]
fn row_4_section_5_2_1_3_min_fresh_of_the_request() {
    assert_eq!(used("max-age=60", 30, "min-fresh=30"), Use::Fresh);
    assert_eq!(used("max-age=60", 31, "min-fresh=30"), REQUEST);
    assert_eq!(used("max-age=60, immutable", 31, "min-fresh=30"), REQUEST);
    assert_eq!(used("max-age=60", 31, "min-fresh=x"), Use::Fresh);
}

#[test]
fn row_4_rfc_8246_immutable_is_not_asked_for_while_it_is_fresh() {
    assert_eq!(used("max-age=60, immutable", 30, "max-age=0"), Use::Fresh);
    assert_eq!(used("max-age=60, immutable", 60, "max-age=0"), STALE);
    assert_eq!(used("max-age=60, immutable", 60, ""), STALE);
}

#[test]
fn row_5_section_4_fresh() {
    assert_eq!(used("max-age=60", 0, ""), Use::Fresh);
    assert_eq!(used("max-age=60", 59, ""), Use::Fresh);
    assert_eq!(used("max-age=60", 60, ""), STALE);
    assert_eq!(used("max-age=60, must-revalidate", 59, ""), Use::Fresh);
    assert_eq!(used("s-maxage=60, max-age=1", 59, ""), Use::Fresh);
    assert_eq!(used("s-maxage=1, max-age=60", 59, ""), STALE);
    assert_eq!(
        used("max-age=60", 1, "no-store"),
        Use::Fresh,
        "it forbids to keep, not to use"
    );
}

#[test]
fn row_6_section_4_2_4_nothing_stale_where_its_origin_forbids_it() {
    for cache in [
        "max-age=60, must-revalidate",
        "max-age=60, proxy-revalidate",
        "s-maxage=60",
    ] {
        assert_eq!(used(cache, 61, "max-stale"), STALE, "{cache}");
        assert_eq!(used(cache, 61, "max-stale=100"), STALE, "{cache}");
    }
    let swr = "max-age=60, must-revalidate, stale-while-revalidate=60";
    assert_eq!(used(swr, 61, ""), STALE);
}

#[test]
fn row_6_section_5_2_2_10_s_maxage_gives_way_only_to_its_own_origin() {
    let rules = Rules {
        stale_while_revalidate: secs(100),
        stale_if_error: secs(100),
        ..Rules::default()
    };
    assert_eq!(used_by(&rules, "cache-control: s-maxage=60", 61, ""), STALE);
    assert_eq!(in_error(&rules, "s-maxage=60", 61, ""), None);
    assert_eq!(
        in_error(&rules, "s-maxage=60", 61, "cache-control: stale-if-error=9"),
        None
    );
    let said = "s-maxage=60, stale-while-revalidate=5, stale-if-error=50";
    assert_eq!(used(said, 61, ""), Use::Revalidating);
    assert_eq!(used(said, 66, ""), STALE);
    assert_eq!(in_error(&rules, said, 110, ""), Some(50));
    assert_eq!(in_error(&rules, said, 111, ""), None);
}

#[test]
fn row_7_section_5_2_1_2_max_stale_of_the_request() {
    assert_eq!(used("max-age=60", 1000, "max-stale"), Use::Stale);
    assert_eq!(used("max-age=60", 70, "max-stale=10"), Use::Stale);
    assert_eq!(used("max-age=60", 71, "max-stale=10"), STALE);
    assert_eq!(used("max-age=60", 71, "max-stale=x"), STALE);
    assert_eq!(
        used("max-age=60", 30, "max-age=20, max-stale=10"),
        Use::Fresh
    );
    assert_eq!(used("max-age=60", 31, "max-age=20, max-stale=10"), REQUEST);
}

#[test]
fn row_8_rfc_5861_section_3_stale_while_revalidate() {
    assert_eq!(
        used("max-age=60, stale-while-revalidate=10", 70, ""),
        Use::Revalidating
    );
    assert_eq!(used("max-age=60, stale-while-revalidate=10", 71, ""), STALE);
    assert_eq!(
        used("max-age=60, stale-while-revalidate=10", 65, "max-age=60"),
        STALE
    );
    assert_eq!(used("max-age=60, stale-while-revalidate=x", 61, ""), STALE);
    let rules = Rules {
        stale_while_revalidate: secs(30),
        ..Rules::default()
    };
    let of = |cache, after| used_by(&rules, cache, after, "");
    assert_eq!(of("cache-control: max-age=60", 90), Use::Revalidating);
    assert_eq!(
        of("cache-control: max-age=60, stale-while-revalidate=5", 66),
        STALE,
        "the origin's word"
    );
}

#[test]
fn row_9_stale() {
    assert_eq!(used("max-age=0", 0, ""), STALE);
    let nobody = used_by(&Rules::default(), "x: y", 0, "");
    assert_eq!(nobody, STALE, "kept for its validator");
}

#[test]
fn row_10_section_5_2_1_7_only_if_cached() {
    assert_eq!(used("max-age=60", 1, "only-if-cached"), Use::Fresh);
    assert_eq!(
        used("max-age=60", 61, "only-if-cached"),
        Use::GatewayTimeout
    );
    assert_eq!(
        used("max-age=60", 61, "only-if-cached, max-stale"),
        Use::Stale
    );
    assert_eq!(
        used("max-age=60", 1, "only-if-cached, no-cache"),
        Use::GatewayTimeout
    );
    let wants = |fields| reuse::missing(&asked(fields));
    assert_eq!(
        wants("cache-control: only-if-cached"),
        Some(Use::GatewayTimeout)
    );
    assert_eq!(wants(""), None);
}

#[test]
fn rfc_5861_section_4_stale_if_error() {
    let none = Rules::default();
    let some = Rules {
        stale_if_error: secs(100),
        ..Rules::default()
    };
    assert_eq!(in_error(&none, "max-age=60", 61, ""), None);
    assert_eq!(
        in_error(&none, "max-age=60", 10, "cache-control: max-age=5"),
        Some(0),
        "fresh is better than that"
    );
    assert_eq!(
        in_error(&none, "max-age=60, stale-if-error=10", 70, ""),
        Some(10)
    );
    assert_eq!(
        in_error(&none, "max-age=60, stale-if-error=10", 71, ""),
        None
    );
    assert_eq!(
        in_error(&none, "max-age=60", 70, "cache-control: stale-if-error=10"),
        Some(10)
    );
    assert_eq!(
        in_error(&some, "max-age=60, stale-if-error=10", 160, ""),
        Some(100),
        "the longer of both"
    );
    assert_eq!(in_error(&some, "max-age=60", 161, ""), None);
}

#[test]
fn section_4_2_4_never_in_error_where_it_is_forbidden() {
    let rules = Rules {
        stale_if_error: secs(100),
        ..Rules::default()
    };
    for cache in [
        "max-age=60, must-revalidate",
        "max-age=60, proxy-revalidate",
        "no-cache",
    ] {
        assert_eq!(in_error(&rules, cache, 61, ""), None, "{cache}");
        assert_eq!(
            in_error(&rules, cache, 61, "cache-control: stale-if-error=9"),
            None,
            "{cache}"
        );
    }
    assert_eq!(
        in_error(&rules, "max-age=60", 61, "cache-control: no-cache"),
        None
    );
    assert_eq!(in_error(&rules, "max-age=60", 61, "cookie: a=b"), Some(1));
}
