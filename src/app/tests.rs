use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::app::door::shielded;
use crate::app::tree::Around;
use crate::app::tree::Destination;
use crate::app::tree::Tree;
use crate::config;
use crate::endpoint::discover::Resolver;
use crate::http::Reason;
use crate::identity::Current;
use crate::telemetry::BuildInfo;
use crate::telemetry::Telemetry;

const PAYMENTS: &str = "upstreams:\n  - upstream: payments.shop\n    endpoints: [127.0.0.1:1]\n";

struct Bench {
    telemetry: Arc<Telemetry>,
    resolver: Arc<Resolver>,
}

impl Bench {
    fn new() -> Self {
        let build = BuildInfo {
            version: "",
            commit: "",
        };
        // Names are never asked for in these tests: the server listens nowhere.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        Self {
            telemetry: Telemetry::new(build, 1),
            resolver: Arc::new(Resolver::new(Handle::current(), Some(vec![nowhere]))),
        }
    }

    fn tree(&self, text: &str, before: Option<&Tree>) -> Arc<Tree> {
        let loaded = config::parse("test.yaml", text).expect("the test's policy loads");
        let around = Around {
            telemetry: &self.telemetry,
            resolver: &self.resolver,
            identity: &Current::new(None),
        };
        Tree::new(loaded.policy, &around, before)
    }
}

#[tokio::test]
async fn a_panic_is_caught_when_it_begins_and_when_it_goes_on() {
    fn bug() -> std::future::Ready<u8> {
        panic!("a bug")
    }
    assert_eq!(shielded(Ok(async { 7 })).await, Some(7));
    assert_eq!(shielded(std::panic::catch_unwind(bug)).await, None);
    assert_eq!(shielded(Ok(async { bug().await })).await, None);
}

#[tokio::test]
async fn the_most_specific_upstream_wins_whatever_the_order() {
    let tree = Bench::new().tree(
        "upstreams:
  - upstream: '*.shop'
    endpoints: [127.0.0.1:1]
  - upstream: payments.shop
    endpoints: [127.0.0.1:2]
  - upstream: payments.shop:8080
    endpoints: [127.0.0.1:3]
",
        None,
    );
    for (host, port, name) in [
        ("payments.shop", 80, "payments.shop"),
        ("payments.shop", 8080, "payments.shop:8080"),
        ("orders.shop", 80, "*.shop"),
        ("elsewhere.example", 80, "(unmatched)"),
    ] {
        let live = tree.upstream(host, port, None).expect("it is allowed");
        assert_eq!(live.name, name, "{host}:{port}");
    }
}

#[tokio::test]
async fn what_no_policy_names_is_refused_where_policy_says_so() {
    let tree = Bench::new().tree(&format!("unmatched: deny\n{PAYMENTS}"), None);
    assert!(tree.upstream("payments.shop", 80, None).is_ok());
    let refused = tree.upstream("elsewhere.example", 80, None).err();
    assert_eq!(refused.map(|fault| fault.reason), Some(Reason::Unmatched));
}

#[tokio::test]
async fn a_redirected_connection_goes_where_it_was_going() {
    let tree = Bench::new().tree(PAYMENTS, None);
    let dialled = SocketAddr::from(([127, 0, 0, 1], 7));
    let live = tree
        .upstream("elsewhere.example", 7, Some(dialled))
        .expect("unmatched traffic passes");
    assert_eq!(live.cluster.set().endpoints[0].address, dialled);
    let live = tree
        .upstream("payments.shop", 7, Some(dialled))
        .expect("it is named");
    assert_ne!(live.cluster.set().endpoints[0].address, dialled);
}

#[tokio::test]
async fn a_reload_keeps_what_it_does_not_change_and_nothing_else() {
    let bench = Bench::new();
    let before = bench.tree(&format!("{PAYMENTS}    retry: {{ max: 1 }}\n"), None);
    let old = before.upstream("payments.shop", 80, None).expect("named");

    let after = bench.tree(
        &format!("{PAYMENTS}    retry: {{ max: 3 }}\n"),
        Some(&before),
    );
    assert!(after.generation > before.generation);
    let new = after.upstream("payments.shop", 80, None).expect("named");
    assert!(Arc::ptr_eq(&old.cluster, &new.cluster));
    let machine = |live: &crate::app::upstream::Live| {
        Arc::clone(&live.routes[0].breaker.as_ref().expect("it is on").0)
    };
    assert!(Arc::ptr_eq(&machine(&old), &machine(&new)));
    let budget = |live: &crate::app::upstream::Live| {
        Arc::clone(live.routes[0].budget.as_ref().expect("it is on"))
    };
    assert!(Arc::ptr_eq(&budget(&old), &budget(&new)));

    let other = bench.tree(
        &format!("{PAYMENTS}    breaker: {{ failures: 30% }}\n    eject: {{ consecutive: 9 }}\n"),
        Some(&after),
    );
    let other = other.upstream("payments.shop", 80, None).expect("named");
    assert!(Arc::ptr_eq(&new.cluster, &other.cluster));
    assert!(!Arc::ptr_eq(&machine(&new), &machine(&other)));
    let ejector = |live: &crate::app::upstream::Live| live.ejector.clone().expect("it is on");
    assert!(!Arc::ptr_eq(&ejector(&new), &ejector(&other)));

    let moved = PAYMENTS.replace("127.0.0.1:1", "127.0.0.1:2");
    let moved = bench.tree(&moved, Some(&after));
    let moved = moved.upstream("payments.shop", 80, None).expect("named");
    assert!(
        !Arc::ptr_eq(&new.cluster, &moved.cluster),
        "its endpoints are others"
    );
}

#[tokio::test(start_paused = true)]
async fn what_policy_names_outlives_a_quiet_hour_and_what_a_call_named_does_not() {
    let text = format!("{PAYMENTS}  - upstream: orders.shop:8080\n  - upstream: stock.shop\n");
    let tree = Bench::new().tree(&text, None);
    let _ = tree.upstream("stock.shop", 8080, None).expect("named");
    let _ = tree
        .upstream("elsewhere.example", 80, None)
        .expect("passed");
    let names = || {
        let mut names = Vec::new();
        tree.each(|live| names.push(live.name.clone()));
        names.sort();
        names
    };
    assert_eq!(names().len(), 4);
    tokio::time::advance(std::time::Duration::from_secs(3600)).await;
    tree.sweep();
    assert_eq!(names(), ["orders.shop:8080", "payments.shop"]);
}

#[tokio::test]
async fn probes_are_kept_by_a_reload_that_does_not_change_them_and_stopped_by_one_that_does() {
    let bench = Bench::new();
    let with = |rest: &str| format!("{PAYMENTS}{rest}");
    let before = bench.tree(&with("    health: tcp\n"), None);
    let health = |tree: &Tree| {
        let live = tree.upstream("payments.shop", 80, None).expect("named");
        live.health.clone()
    };
    let first = health(&before).expect("it is on");
    let id = before.upstream("payments.shop", 80, None).expect("named");
    let id = id.cluster.set().endpoints[0].id;
    while first.told(id).is_none() {
        tokio::task::yield_now().await;
    }
    let same = bench.tree(&with("    health: tcp\n    retry: off\n"), Some(&before));
    assert!(Arc::ptr_eq(&first, &health(&same).expect("it is on")));
    let other = bench.tree(
        &with("    health: { probe: tcp, every: 7s }\n"),
        Some(&same),
    );
    assert!(!Arc::ptr_eq(&first, &health(&other).expect("it is on")));
    assert!(first.told(id).is_none(), "it was stopped");
    let off = bench.tree(&with("    health: off\n"), Some(&other));
    assert!(health(&off).is_none());
}

#[tokio::test]
async fn a_reload_that_changes_a_list_or_its_weights_keeps_the_endpoints_that_stay() {
    let bench = Bench::new();
    let before = bench.tree(PAYMENTS, None);
    let live = before.upstream("payments.shop", 80, None).expect("named");
    let endpoint = Arc::clone(&live.cluster.set().endpoints[0]);
    let list = "[{ address: 127.0.0.1:1, weight: 3 }, 127.0.0.1:2]";
    let keeps = |tree: &Tree, place: usize, weight: u32, is_near: bool| {
        let live = tree.upstream("payments.shop", 80, None).expect("named");
        let set = live.cluster.set();
        assert!(Arc::ptr_eq(&set.endpoints[place], &endpoint));
        let member = &set.members[place];
        assert_eq!(member.weight, weight);
        assert_eq!(live.balancer.is_near(member.zone.as_ref()), is_near);
    };
    let heavier = bench.tree(&PAYMENTS.replace("[127.0.0.1:1]", list), Some(&before));
    keeps(&heavier, 0, 3, false);
    let zones = "{ zones: { a: [127.0.0.1:2, 127.0.0.1:1] } }";
    let zoned = PAYMENTS.replace("[127.0.0.1:1]", zones);
    let zoned = bench.tree(&format!("zone: a\n{zoned}"), Some(&heavier));
    keeps(&zoned, 1, 1, true);
    assert!(!endpoint.is_gone());
}

#[tokio::test]
async fn routes_share_the_upstreams_breaker_unless_they_set_their_own() {
    let tree = Bench::new().tree(
        &format!(
            "{PAYMENTS}    routes:
      - match: GET /a
        breaker: {{ mode: shadow }}
      - match: GET /b
        breaker: {{ failures: 10% }}
"
        ),
        None,
    );
    let live = tree.upstream("payments.shop", 80, None).expect("named");
    let of = |name: &str| {
        let route = live.routes.iter().find(|route| route.policy.name == name);
        let (breaker, mode) = route.and_then(|r| r.breaker.clone()).expect("it is on");
        (breaker, mode)
    };
    assert!(Arc::ptr_eq(&of("GET /a").0, &of("*").0));
    assert_ne!(of("GET /a").1, of("*").1);
    assert!(!Arc::ptr_eq(&of("GET /b").0, &of("*").0));
}

/// A process and its control groups as files, with 60 MiB resident.
fn memory(membership: &str, files: &[(&str, &str)]) -> Option<f64> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("in a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    write("proc/cgroup", membership);
    write(
        "proc/status",
        "Name:\toutrider\nVmRSS:\t   61440 kB\nThreads:\t4\n",
    );
    for (name, text) in files {
        write(&format!("cgroup/{name}"), text);
    }
    super::memory::read(&dir.path().join("proc"), &dir.path().join("cgroup"))
}

#[test]
fn memory_is_judged_by_the_least_limit_of_our_group_and_those_above() {
    let near =
        |got: Option<f64>, expected: f64| got.is_some_and(|got| (got - expected).abs() < 1e-9);
    let mib = |count: u64| (count << 20).to_string();
    let of_v2 = |own: &str, above: &str| {
        memory(
            "0::/pod/outrider\n",
            &[("pod/outrider/memory.max", own), ("pod/memory.max", above)],
        )
    };
    assert!(near(of_v2(&mib(120), "max\n"), 0.5));
    assert!(near(of_v2(&mib(120), &mib(80)), 0.75));
    assert_eq!(of_v2("max\n", "max\n"), None, "no limit");
    let inside = memory("0::/\n", &[("memory.max", &mib(240))]);
    assert!(near(inside, 0.25), "the group's own view: {inside:?}");
    let of_v1 = memory(
        "5:cpu,cpuacct:/a\n4:memory:/pod\n0::/\n",
        &[
            ("memory/pod/memory.limit_in_bytes", &mib(120)),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ],
    );
    assert!(near(of_v1, 0.5), "{of_v1:?}");
    assert_eq!(memory("", &[]), None);
}

#[tokio::test]
async fn with_a_credential_the_name_is_the_policys_however_the_host_is_spelled() {
    let name = |text: &str, host: &str| {
        let tree = Bench::new().tree(text, None);
        let live = tree.upstream(host, 8080, None).expect("it is named");
        match &live.key.destination {
            Destination::Name(name, 8080) => name.to_string(),
            other => format!("{other:?}"),
        }
    };
    let plain = "upstreams:\n  - upstream: payments.shop\n";
    let on_a_route = format!(
        "{plain}    routes:\n      - match: /pay\n        credential: env:OUTRIDER_TEST_KEY\n"
    );
    for host in [
        "payments.shop",
        "payments.shop.",
        "PAYMENTS.shop",
        "payments.shop.svc.cluster.local",
    ] {
        assert_eq!(name(&on_a_route, host), "payments.shop", "{host}");
        assert_eq!(name(plain, host), host, "without one, it is as asked for");
    }
}
