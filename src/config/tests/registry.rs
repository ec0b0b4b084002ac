//! The registry against everything that is made from it.

mod beside;
mod others;
mod taken;

use std::collections::BTreeSet;
use std::fs;

use self::beside::needed;
use self::beside::with_app;
use self::others::OTHERS;
use self::others::OTHERS_AT_THE_TOP;
use super::super::Loaded;
use super::super::fault::CATALOGUE;
use super::super::layers::merge;
use super::super::schema;
use super::super::spec;
use super::super::spec::Key;
use super::super::spec::Kind;
use super::super::spec::Table;
use super::super::spec::bulkhead as spec_bulkhead;
use super::super::spec::cache as caches;
use super::super::spec::credential as credential_table;
use super::super::spec::health as health_table;
use super::super::spec::hedge as hedges;
use super::super::spec::limit as limit_table;
use super::super::spec::rooms;
use super::super::spec::root;
use super::super::spec::upstream;
use super::super::value;
use super::super::value::Value;
use super::faults;
use super::golden;
use super::shipped;
use crate::audit;
use crate::balance;
use crate::connect::tls;
use crate::endpoint::health::config as health;
use crate::http::hops;
use crate::kit::units;
use crate::listen::Limits;
use crate::policy::authorise::config as authorise;
use crate::policy::breaker::config as breaker;
use crate::policy::bulkhead::config as bulkhead;
use crate::policy::cache::config as cache;
use crate::policy::credential::config as credential;
use crate::policy::deadline::config as deadline;
use crate::policy::eject::config as eject;
use crate::policy::fault::config as fault;
use crate::policy::hedge::config as hedge;
use crate::policy::idempotency::config as idempotency;
use crate::policy::limit::config as limit;
use crate::policy::overload;
use crate::policy::retry::config as retry;
use crate::redact;
use crate::shared;
use crate::telemetry::story;

fn tables_in(kind: &'static Kind, all: &mut Vec<&'static Table>) {
    match kind {
        Kind::Block(table) | Kind::Named(table)
            if !all.iter().any(|known| std::ptr::eq(*known, *table)) =>
        {
            all.push(table);
            table.keys.iter().for_each(|key| tables_in(&key.kind, all));
        }
        Kind::List(of, _) => tables_in(of, all),
        Kind::Or(kinds) => kinds.iter().for_each(|kind| tables_in(kind, all)),
        _ => {}
    }
}

fn every_table() -> Vec<&'static Table> {
    let mut all = vec![&root::ROOT];
    root::ROOT
        .keys
        .iter()
        .for_each(|key| tables_in(&key.kind, &mut all));
    all
}

fn check_kind(kind: &'static Kind, at: &str) {
    match kind {
        Kind::Duration(low, high) => {
            let parse =
                |text| units::parse_duration(text).unwrap_or_else(|fault| panic!("{at}: {fault}"));
            assert!(parse(low) <= parse(high), "{at}");
        }
        Kind::Size(low, high) => {
            let parse =
                |text| units::parse_size(text).unwrap_or_else(|fault| panic!("{at}: {fault}"));
            assert!(parse(low) <= parse(high), "{at}");
        }
        Kind::List(of, _) => check_kind(of, at),
        Kind::Or(kinds) => kinds.iter().for_each(|kind| check_kind(kind, at)),
        _ => {}
    }
}

#[test]
fn tables_are_sound() {
    for table in every_table() {
        let names: BTreeSet<&str> = table.keys.iter().map(|key| key.name).collect();
        assert_eq!(
            names.len(),
            table.keys.len(),
            "a key twice in {}",
            table.name
        );
        assert!(
            table.short.is_none_or(|short| table.key(short).is_some()),
            "{}",
            table.name
        );
        for key in table.keys {
            let at = format!("{} in {}", key.name, table.name);
            assert!(
                !key.doc.is_empty() && key.doc.ends_with('.'),
                "{at}: a sentence"
            );
            check_kind(&key.kind, &at);
            if !key.default.is_empty() {
                let value = value::built_in(&key.kind, key.default);
                assert!(
                    !matches!(value, Value::Unset),
                    "{at}: the default `{}` does not parse",
                    key.default
                );
                let back = value.to_string();
                assert!(
                    matches!(value::built_in(&key.kind, &back), Value::List(_))
                        || back == reprint(key),
                    "{at}: {back}"
                );
            }
        }
    }
}

/// `60s` and `1m` are the same value; it is printed in one way.
fn reprint(key: &'static Key) -> String {
    value::built_in(&key.kind, key.default).to_string()
}

#[test]
fn built_in_values_are_those_of_the_code() {
    assert_eq!(
        deadline::Settings::lift(&merge(&rooms::TIMEOUT, &[])),
        deadline::Settings::default()
    );
    assert_eq!(
        hops::Settings::lift(&merge(&spec::hops::HOPS, &[])),
        hops::Settings::default()
    );
    assert_eq!(
        fault::Settings::lift(&merge(&spec::fault::FAULT, &[])),
        fault::Settings::default()
    );
    assert_eq!(
        retry::Settings::lift(&merge(&rooms::RETRY, &[])),
        retry::Settings::default()
    );
    assert_eq!(
        breaker::Settings::lift(&merge(&rooms::BREAKER, &[])),
        breaker::Settings::default()
    );
    assert_eq!(
        breaker::Slow::lift(&merge(&rooms::SLOW, &[])),
        breaker::Slow::default()
    );
    assert_eq!(
        balance::Settings::lift(&merge(&spec::balance::BALANCE, &[])),
        balance::Settings::default()
    );
    assert_eq!(
        eject::Settings::lift(&merge(&rooms::EJECT, &[])),
        eject::Settings::default()
    );
    // What a policy must say itself, its rate, is the same as long as nobody has said it.
    assert_eq!(
        limit::Settings::lift(&merge(&limit_table::LIMIT, &[])),
        limit::Settings::default()
    );
    assert_eq!(
        health::Settings::lift(&merge(&health_table::HEALTH, &[])),
        health::Settings::default()
    );
    assert_eq!(
        tls::Mtls::lift(&merge(&spec::mtls::MTLS, &[])),
        tls::Mtls::default()
    );
    assert_eq!(
        tls::Originate::lift(&merge(&spec::originate::ORIGINATE, &[])),
        tls::Originate::default()
    );
    assert_eq!(
        overload::Settings::lift(&merge(&spec::overload::OVERLOAD, &[])),
        overload::Settings::default()
    );
    assert_eq!(
        story::Settings::lift(&merge(&root::EXPLAIN, &[])),
        story::Settings::default()
    );
    assert_eq!(
        bulkhead::Settings::lift(&merge(&spec_bulkhead::BULKHEAD, &[])),
        bulkhead::Settings::default()
    );
    assert_eq!(
        bulkhead::Adaptive::lift(&merge(&spec_bulkhead::ADAPTIVE, &[])),
        bulkhead::Adaptive::default()
    );
    assert_eq!(
        hedge::Settings::lift(&merge(&hedges::HEDGE, &[])),
        hedge::Settings::default()
    );
    assert_eq!(
        idempotency::Settings::lift(&merge(&hedges::IDEMPOTENCY, &[])),
        idempotency::Settings::default()
    );
    // As with a limit: where the secret comes from, a policy must say itself.
    assert_eq!(
        credential::Settings::lift(&merge(&credential_table::CREDENTIAL, &[])),
        credential::Settings::default()
    );
    assert_eq!(
        cache::Settings::lift(&merge(&caches::CACHE, &[])),
        cache::Settings::default()
    );
    assert_eq!(
        cache::Negative::lift(&merge(&caches::NEGATIVE, &[])),
        cache::Negative::default()
    );
    assert_eq!(
        redact::Settings::lift(&merge(&spec::redact::REDACT, &[])),
        redact::Settings::default()
    );
    assert_eq!(
        audit::Settings::lift(&merge(&spec::redact::AUDIT, &[])),
        audit::Settings::default()
    );
    assert_eq!(
        cache::StoreSettings::lift(&merge(&caches::STORE, &[])),
        cache::StoreSettings::default()
    );
    // What only its writer can know, the application and the rules, is none as long as nobody has said it.
    assert_eq!(
        super::super::inbound::lift(&merge(&spec::inbound::INBOUND, &[])),
        super::super::Inbound::default()
    );
    assert_eq!(
        super::super::inbound::authorise(&merge(&spec::inbound::AUTHORISE, &[])),
        authorise::Settings::default()
    );
    // Nodes are what a policy must say itself.
    assert_eq!(
        shared::Settings::lift(&merge(&spec::redis::REDIS, &[])),
        shared::Settings::default()
    );
    assert_eq!(
        super::super::lift::listen(&merge(&root::ROOT, &[])).limits,
        Limits::default()
    );
}

fn enforced(table: &'static Table, prefix: &str, paths: &mut BTreeSet<String>) {
    for key in table.keys.iter().filter(|key| key.later.is_none()) {
        let path = format!("{prefix}{}", key.name);
        match key.kind {
            Kind::Block(inner) => enforced(inner, &format!("{path}."), paths),
            _ => {
                paths.insert(path);
            }
        }
    }
}

fn nested(path: &str, value: &str) -> String {
    let mut out = String::new();
    let keys: Vec<&str> = path.split('.').collect();
    for (depth, key) in keys.iter().enumerate() {
        let end = if depth + 1 == keys.len() { " " } else { "\n" };
        out = out + &"  ".repeat(depth) + key + ":" + end;
    }
    out + value + "\n"
}

/// A policy that loads, with warnings or without.
fn loaded(text: &str) -> Loaded {
    super::super::parse("p.yaml", text).unwrap_or_else(|_| panic!("{text}{:?}", faults(text)))
}

/// Lines that a key needs beside it, by the block it is in, or by its own name; a key that is one of them needs none.
const BESIDE: &[(&str, &[&str], &str)] = &[
    (
        "limit.away",
        &[],
        "  rps: 70\n  scope: global\nredis: [\"localhost:6379\"]\n",
    ),
    (
        "limit.",
        &["limit.rps", "limit.rate"],
        "  rps: 70\nredis: [\"localhost:6379\"]\n",
    ),
    (
        "fault.",
        &["fault.until"],
        "  until: 2027-01-01T00:00:00Z\n",
    ),
    (
        "credential.oauth2.token_url",
        &[],
        "    client_id: a\n    client_secret: env:A\n",
    ),
    (
        "credential.oauth2.client_id",
        &[],
        "    token_url: https://a.b/t\n    client_secret: env:A\n",
    ),
    (
        "credential.oauth2.client_secret",
        &[],
        "    token_url: https://a.b/t\n    client_id: a\n",
    ),
    (
        "credential.oauth2.",
        &[],
        "    token_url: https://a.b/t\n    client_id: a\n    client_secret: env:A\n",
    ),
    ("credential.", &["credential.from"], "  from: env:A\n"),
];

/// The policy without the key, and with it.
fn without_and_with(path: &str, value: &str) -> (String, String) {
    let text = format!("upstream: a.b\n{}", nested(path, value));
    let beside = BESIDE.iter().find(|(block, by_themselves, _)| {
        path.starts_with(block) && !by_themselves.contains(&path)
    });
    if path.starts_with("mtls.") {
        let identity = "identity: { bundle: /etc/outrider/id.pem }\n";
        return (
            format!("upstream: a.b\n{identity}"),
            format!("{text}{identity}"),
        );
    }
    match beside {
        Some((block, _, lines)) => {
            let (inside, _) = path.rsplit_once('.').expect("it is in a block");
            let bare = if *block == path {
                "upstream: a.b\n".to_owned()
            } else {
                let open = nested(inside, "");
                format!("upstream: a.b\n{}\n{lines}", open.trim_end())
            };
            (bare, format!("{text}{lines}"))
        }
        None => ("upstream: a.b\n".to_owned(), text),
    }
}

/// A key at the top, in a file with one upstream. In the short form `cache` is that of the upstream.
fn beside_an_upstream(path: &str, value: &str) -> String {
    let upstream = if path.starts_with("cache.") {
        "upstreams:\n  - upstream: a.b\n"
    } else if path.starts_with("identity.") {
        // A name of the world: inside a cluster it would be asked why it is called in plaintext.
        "upstream: example.com\n"
    } else {
        "upstream: a.b\n"
    };
    let text = format!("{upstream}{}{}", nested(path, value), needed(path));
    with_app(path, &text)
}

fn without(mut paths: BTreeSet<String>, not: &[&str]) -> BTreeSet<String> {
    paths.retain(|path| !not.contains(&path.as_str()));
    paths
}

#[test]
fn every_enforced_key_of_an_upstream_changes_the_policy() {
    let mut paths = BTreeSet::new();
    enforced(&upstream::UPSTREAM, "", &mut paths);
    let paths = without(paths, &["upstream", "use", "routes"]);
    assert_eq!(
        paths,
        OTHERS.iter().map(|(path, _)| (*path).to_owned()).collect()
    );
    for (path, value) in OTHERS {
        let (bare, text) = without_and_with(path, value);
        let built_in = format!("{:?}", loaded(&bare).policy.upstreams);
        let loaded = loaded(&text);
        assert_ne!(
            built_in,
            format!("{:?}", loaded.policy.upstreams),
            "{path} changes nothing"
        );
        let listed = loaded
            .effective
            .find(Some(0), "*")
            .expect("listed")
            .values
            .iter()
            .find(|effect| effect.path == *path);
        let listed = listed.unwrap_or_else(|| panic!("{path} is not listed"));
        assert!(
            listed.origin.starts_with("upstreams[0]:"),
            "{path}: {listed:?}"
        );
    }
}

#[test]
fn every_enforced_key_at_the_top_changes_the_policy() {
    let mut paths = BTreeSet::new();
    enforced(&root::ROOT, "", &mut paths);
    paths.retain(|path| !path.starts_with("defaults."));
    let paths = without(paths, &["apiVersion", "kind", "profiles", "upstreams"]);
    assert_eq!(
        paths,
        OTHERS_AT_THE_TOP
            .iter()
            .map(|(path, _)| (*path).to_owned())
            .collect()
    );
    let read = |text: &str| {
        let policy = loaded(text).policy;
        format!(
            "{} {:?} {:?} {} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            policy.service,
            policy.listen,
            policy.unmatched,
            policy.access_log,
            policy.hops,
            policy.zone,
            policy.cache,
            policy.overload,
            policy.explain,
            policy.redact,
            policy.audit,
            policy.identity,
            policy.inbound,
            policy.admin_token,
            policy.redis,
        )
    };
    for (path, value) in OTHERS_AT_THE_TOP {
        let bare = match path.rsplit_once('.') {
            Some(("inbound.limit", _)) => "inbound:\n  app: 70\n  limit: { rps: 70 }\n",
            Some(("inbound.authorise", _)) => "inbound:\n  app: 70\n  authorise: [any]\n",
            Some(("inbound", _)) => "inbound:\n  app: 70\n",
            Some(("redis" | "redis.tls", key)) if key != "nodes" => "redis: [\"localhost:6379\"]\n",
            Some(("listen", "inbound")) => "inbound: 70\n",
            _ => "",
        };
        let bare = match *path {
            // It may not stand beside the other way to say it, nor without one of them.
            "inbound.limit.rate" | "inbound.limit.rps" => "inbound:\n  app: 70\n",
            // One that is the same is no change.
            "inbound.authorise.rules" => "inbound:\n  app: 70\n  authorise: [anonymous]\n",
            _ => bare,
        };
        assert_ne!(
            read(&format!("upstream: a.b\n{bare}")),
            read(&beside_an_upstream(path, value)),
            "{path} changes nothing"
        );
    }
}

#[test]
fn every_key_that_is_not_enforced_is_refused_by_name() {
    for table in [
        &root::ROOT,
        &root::LISTEN,
        &root::TELEMETRY,
        &upstream::UPSTREAM,
    ] {
        for key in table.keys.iter().filter(|key| key.later.is_some()) {
            let text = fs::read_to_string(shipped().join("bad/or040-all.err")).expect("shipped");
            assert!(
                text.contains(&format!("`{}", key.name)),
                "{} is not in or040-all",
                key.name
            );
        }
    }
}

#[test]
fn the_sample_shows_every_key() {
    let sample = fs::read_to_string(shipped().join("outrider.yaml")).expect("shipped");
    for table in every_table() {
        for key in table.keys {
            // Alternatives to a block that is shown.
            if ["adaptive", "files", "bundle"].contains(&table.name) {
                continue;
            }
            let shown = sample.contains(&format!("{}:", key.name))
                || sample.contains(&format!("{} ", key.name));
            assert!(
                shown,
                "config/outrider.yaml does not show `{}` of {}",
                key.name, table.name
            );
        }
    }
}

#[test]
fn the_committed_schema_is_the_one_that_is_made() {
    let path = shipped().join("schema.json");
    let made = serde_json::to_string_pretty(&schema()).expect("a schema is JSON") + "\n";
    if golden::blessing() {
        fs::write(&path, &made).expect("config can be written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "config/schema.json is old: OUTRIDER_BLESS=1 makes it anew"
    );
}

#[test]
fn every_code_is_explained_and_no_other() {
    let path = shipped().with_file_name("docs").join("policy-errors.md");
    let text = fs::read_to_string(path).expect("docs/policy-errors.md is shipped");
    let explained: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### ")?.split(' ').next())
        .collect();
    let known: Vec<&str> = CATALOGUE.iter().map(|code| code.code).collect();
    assert_eq!(explained, known);
    for code in CATALOGUE {
        let heading = format!("### {} {}: {}", code.code, code.severity.word(), code.title);
        assert!(text.contains(&heading), "no heading `{heading}`");
    }
}
