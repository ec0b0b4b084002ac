//! `check --chain`: which upstream is the next policy, and how hops multiply.

use std::fs;
use std::path::PathBuf;

use super::super::Chain;
use super::super::Load;
use super::super::chain;
use super::super::fault;

/// The chain of these texts, in files `a.yaml`, `b.yaml` and so on.
fn chained(texts: &[&str]) -> Chain {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let paths: Vec<PathBuf> = ('a'..)
        .zip(texts)
        .map(|(name, text)| {
            let path = dir.path().join(format!("{name}.yaml"));
            fs::write(&path, text).expect("write a policy");
            path
        })
        .collect();
    chain(&paths)
}

fn codes(chain: &Chain) -> Vec<&'static str> {
    chain.findings.iter().map(|fault| fault.code).collect()
}

/// The upstream that the first policy reaches the second by.
fn way(caller: &str, service: &str) -> Result<String, String> {
    let callee = format!("{service}\nupstream: leaf.test\nretry: off\n");
    let found = chained(&[caller, &callee]);
    match found.hops.first() {
        Some(hop) => Ok(hop.routes[0].upstream.clone()),
        None => Err(fault::render_all(&found.findings)),
    }
}

const TWO: &str = "defaults: { retry: off }\nupstreams: [{ upstream: orders.shop }, { upstream: orders.test }, { upstream: users.shop:81 }, { upstream: \"*.bank\" }]\n";

#[test]
fn the_next_policy_is_found_by_its_service() {
    for (service, upstream) in [
        ("service: orders.shop", "orders.shop"),
        ("service: orders.test.svc.cluster.local", "orders.test"),
        ("service: users", "users.shop:81"),
        ("service: Users.shop", "users.shop:81"),
        ("service: ledger.bank", "*.bank"),
    ] {
        assert_eq!(way(TWO, service).as_deref(), Ok(upstream), "{service}");
    }
}

#[test]
fn a_service_that_several_upstreams_may_be_is_refused() {
    let told = way(TWO, "service: orders").expect_err("ambiguous");
    assert!(told.contains("OR060"), "{told}");
    assert!(
        told.contains("`orders` could be `orders.shop` or `orders.test`"),
        "{told}"
    );
    let told = way(TWO, "service: nobody").expect_err("not there");
    assert!(told.contains("stands for `nobody`"), "{told}");
    let told = way(TWO, "").expect_err("nothing is said");
    assert!(told.contains("does not say which upstream"), "{told}");
}

#[test]
fn the_only_upstream_needs_no_service() {
    let one = "upstream: orders.shop\nretry: off\n";
    assert_eq!(way(one, "").as_deref(), Ok("orders.shop"));
    assert_eq!(way(one, "service: other").as_deref(), Ok("orders.shop"));
    let none = "defaults: { retry: off }\n";
    assert_eq!(way(none, "service: orders").as_deref(), Ok("(unmatched)"));
    let denied = "unmatched: deny\n";
    assert!(way(denied, "service: orders").is_err());
}

#[test]
fn ports_of_one_host_are_one_service() {
    let caller = "defaults: { retry: off }\nupstreams: [{ upstream: orders.shop:80 }, { upstream: orders.shop:81, retry: 1 }]\n";
    let found = chained(&[caller, "service: orders\nupstream: leaf.test\nretry: off\n"]);
    assert_eq!(found.hops[0].routes.len(), 2);
    assert_eq!(found.hops[0].tries(), 2, "the worse of the two");
}

fn close(load: Load, factor: f64, extra: f64) -> bool {
    (load.factor - factor).abs() < 1e-9 && (load.extra_per_s - extra).abs() < 1e-9
}

#[test]
fn tries_multiply_and_budgets_bound_the_load() {
    let hop = "upstream: next.shop\nretry: { max: 3, budget: { share: 20%, floor: 10/s } }\n";
    let found = chained(&[hop, hop, hop]);
    assert_eq!(codes(&found), ["OR061"]);
    assert_eq!(found.worst(), 64);
    assert_eq!(found.worst_of_one(), 4);
    // 10 of the first hop pass two more, 10 of the second one.
    assert!(
        close(found.load(), 1.728, 14.4 + 12.0 + 10.0),
        "{:?}",
        found.load()
    );
    assert!(close(found.load_of_one(), 1.2, 10.0));
}

#[test]
fn copies_multiply_too_and_have_a_budget_of_their_own() {
    let hop = "upstream: next.shop\nretry: { max: 1, budget: { share: 20%, floor: 10/s } }\nhedge: { budget: { share: 5%, floor: 1/s } }\n";
    let found = chained(&[hop]);
    assert_eq!(found.worst(), 4);
    assert!(close(found.load(), 1.25, 11.0), "{:?}", found.load());
    let shadow = "upstream: next.shop\nretry: off\nhedge: { mode: shadow }\n";
    assert!(close(chained(&[shadow]).load(), 1.0, 0.0));
}

#[test]
fn hedges_multiply_at_every_hop() {
    let hop = "upstream: next.shop\nretry: { max: 1, budget: { share: 20%, floor: 0/s } }\nhedge: { budget: 5% }\n";
    let found = chained(&[hop, hop]);
    assert_eq!(found.worst(), 16, "2 copies x 2 tries, twice");
    assert_eq!(found.worst_of_one(), 8, "copies at both, tries at one");
    assert!(close(found.load(), 1.25 * 1.25, 0.0));
    assert!(close(found.load_of_one(), 1.25 * 1.05, 0.0));
}

#[test]
fn what_does_not_retry_does_not_multiply() {
    for off in ["retry: off", "retry: { mode: shadow }"] {
        let hop = format!("upstream: next.shop\n{off}\n");
        let found = chained(&[&hop, &hop, "upstream: next.shop\nretry: 3\n"]);
        assert_eq!(codes(&found), [] as [&str; 0], "{off}");
        assert_eq!(found.worst(), 4);
        assert!(close(found.load(), 1.2, 10.0));
    }
}

#[test]
fn hops_that_do_not_tell_each_other_are_known() {
    let tells = |hops: &str| chained(&[&format!("upstream: next.shop\n{hops}\n")]).hops[0].tells;
    assert!(tells(""));
    for off in [
        "hops: off",
        "hops: { retry: off }",
        "hops: { mode: shadow }",
    ] {
        assert!(!tells(off), "{off}");
    }
}

#[test]
fn a_budget_cannot_give_more_than_max_allows() {
    let found =
        chained(&["upstream: next.shop\nretry: { max: 1, budget: { share: 100%, floor: 0/s } }\n"]);
    assert!(found.findings.iter().all(|fault| fault.code == "OR031"));
    assert!(close(found.load(), 2.0, 0.0));
}

#[test]
fn a_caller_that_gives_up_first_is_told() {
    let callee = "upstream: leaf.test\nretry: off\ntimeout: 5s\nroutes: [{ match: GET /slow, timeout: 9s }]\n";
    let told = |caller: &str| {
        let found = chained(&[
            &format!("upstream: next.shop\nretry: off\n{caller}\n"),
            callee,
        ]);
        codes(&found)
            .into_iter()
            .filter(|code| *code == "OR062")
            .count()
    };
    assert_eq!(
        told("timeout: 2s"),
        2,
        "neither the base nor the route is waited for"
    );
    assert_eq!(told("timeout: 5s"), 1, "the route");
    assert_eq!(
        told("timeout: 5s\nroutes: [{ match: GET /patient, timeout: 9s }]"),
        0
    );
    assert_eq!(told("timeout: 9s"), 0);
    assert_eq!(
        told("timeout: { total: 9s, try: 1s }"),
        2,
        "a try ends first"
    );
}

#[test]
fn faults_of_every_policy_are_told_and_nothing_is_computed() {
    let found = chained(&[
        "upstream: a.b\nretry: { budjet: 1 }\n",
        "upstream: c.d\ntimeout: 2\n",
    ]);
    assert_eq!(codes(&found), ["OR012", "OR014"]);
    assert!(found.hops.is_empty());
    assert!(found.findings[0].file.ends_with("a.yaml"));
    assert!(found.findings[1].file.ends_with("b.yaml"));
}
