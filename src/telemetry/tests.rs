use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::*;
use crate::http::MethodClass;
use crate::http::Reason;
use crate::kit::walk;

const BUILD: BuildInfo = BuildInfo {
    version: "1.2.3",
    commit: "abc",
};
const MS: Duration = Duration::from_millis(1);

fn telemetry() -> Arc<Telemetry> {
    Telemetry::new(BUILD, 2)
}

/// Samples by name and labels as written; refuses what is not `OpenMetrics`.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut family = String::new();
    let mut families = BTreeSet::new();
    let body = text
        .strip_suffix("# EOF\n")
        .expect("the text ends in # EOF");
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().unwrap().to_owned();
            assert!(
                families.insert(family.clone()),
                "{family} is announced twice"
            );
            assert!(family.starts_with("outrider_"), "{line}");
        } else if let Some(rest) = line
            .strip_prefix("# TYPE ")
            .or_else(|| line.strip_prefix("# UNIT "))
        {
            assert_eq!(rest.split(' ').next(), Some(family.as_str()), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let name = series.split('{').next().unwrap();
            let suffix = name
                .strip_prefix(family.as_str())
                .unwrap_or_else(|| panic!("{line} is not of {family}"));
            assert!(
                ["", "_total", "_info", "_sum", "_count", "_bucket"].contains(&suffix),
                "{line}"
            );
            assert!(!series.contains("{}"), "{line}");
            let value = value
                .parse()
                .unwrap_or_else(|_| panic!("no number: {line}"));
            assert!(
                samples.insert(series.to_owned(), value).is_none(),
                "twice: {line}"
            );
        }
    }
    samples
}

fn one(samples: &BTreeMap<String, f64>, series: &str) -> f64 {
    *samples
        .get(series)
        .unwrap_or_else(|| panic!("no {series} in {samples:#?}"))
}

#[test]
fn a_new_process_tells_its_build_and_nothing_of_requests() {
    let samples = parse(&telemetry().encode());
    let build = r#"outrider_build_info{version="1.2.3",commit="abc"}"#;
    assert!((one(&samples, build) - 1.0).abs() < 1e-9);
    assert!((one(&samples, "outrider_workers") - 2.0).abs() < 1e-9);
    assert!(
        !samples
            .keys()
            .any(|series| series.starts_with("outrider_requests_total"))
    );
    assert!(
        !samples
            .keys()
            .any(|series| series.starts_with("outrider_policy_info"))
    );
}

#[test]
fn a_request_counts_once_in_each_family() {
    let telemetry = telemetry();
    let route = telemetry.route("pay", "*");
    route.began();
    route.request(0, MethodClass::Safe, 200, None, MS);
    route.request(1, MethodClass::Unsafe, 503, Some(Reason::BreakerOpen), MS);
    let samples = parse(&telemetry.encode());
    let ok =
        r#"outrider_requests_total{upstream="pay",route="*",method="safe",status="2xx",reason=""}"#;
    let open = r#"outrider_requests_total{upstream="pay",route="*",method="unsafe",status="5xx",reason="breaker_open"}"#;
    assert_eq!(one(&samples, ok) as u64, 1);
    assert_eq!(one(&samples, open) as u64, 1);
    let of = |name: &str| one(&samples, &format!(r#"{name}{{upstream="pay",route="*"}}"#));
    assert_eq!(of("outrider_requests_in_flight") as u64, 1);
    assert_eq!(of("outrider_tries_total") as u64, 0);
    assert_eq!(of("outrider_request_duration_seconds_count") as u64, 2);
    assert!((of("outrider_request_duration_seconds_sum") - 0.002).abs() < 1e-9);
    route.ended(3);
    let samples = parse(&telemetry.encode());
    let of = |name: &str| one(&samples, &format!(r#"{name}{{upstream="pay",route="*"}}"#));
    assert_eq!(of("outrider_requests_in_flight") as u64, 0);
    assert_eq!(of("outrider_tries_total") as u64, 3);
}

#[test]
fn statuses_outside_the_five_classes_are_other() {
    let telemetry = telemetry();
    let route = telemetry.route("pay", "*");
    for status in [0, 99, 100, 199, 299, 304, 499, 599, 600, 999, u16::MAX] {
        route.request(0, MethodClass::Idempotent, status, None, MS);
    }
    let samples = parse(&telemetry.encode());
    let of = |class: &str| {
        let labels =
            format!(r#"upstream="pay",route="*",method="idempotent",status="{class}",reason="""#);
        one(&samples, &format!("outrider_requests_total{{{labels}}}")) as u64
    };
    assert_eq!(
        ["other", "1xx", "2xx", "3xx", "4xx", "5xx"].map(of),
        [5, 2, 1, 1, 1, 1]
    );
}

#[test]
fn label_values_are_escaped() {
    let telemetry = telemetry();
    telemetry.route("a\"b\\c\nd", "é").ended(1);
    let text = telemetry.encode();
    assert!(
        text.contains(r#"outrider_tries_total{upstream="a\"b\\c\nd",route="é"} 1"#),
        "{text}"
    );
    parse(&text);
}

#[test]
fn handles_of_the_same_names_share_their_series() {
    let telemetry = telemetry();
    telemetry.route("pay", "*").ended(1);
    telemetry.route("pay", "*").ended(1);
    assert_eq!(
        one(
            &parse(&telemetry.encode()),
            r#"outrider_tries_total{upstream="pay",route="*"}"#
        ) as u64,
        2
    );
}

#[test]
fn two_scrapes_of_an_idle_process_are_the_same_text() {
    let telemetry = telemetry();
    for name in ["c", "a", "b"] {
        telemetry
            .route(name, "*")
            .request(0, MethodClass::Safe, 200, None, MS);
        telemetry.upstream(name).opened();
    }
    assert_eq!(telemetry.encode(), telemetry.encode());
}

#[test]
fn the_wire_cannot_make_series() {
    // The most that one route can have: methods x statuses x (reasons and none), whatever arrives.
    let telemetry = telemetry();
    let route = telemetry.route("pay", "*");
    let mut most = 0;
    walk::seeds(|draws| {
        let reason = if draws.chance(0.5) {
            None
        } else {
            Some(draws.pick(Reason::ALL))
        };
        let status = draws.bits() as u16;
        let method = draws.pick(&MethodClass::ALL);
        route.request(
            draws.bits() as usize,
            method,
            status,
            reason,
            Duration::from_nanos(draws.bits()),
        );
        let count = parse(&telemetry.encode())
            .keys()
            .filter(|s| s.starts_with("outrider_requests_total"))
            .count();
        most = most.max(count);
    });
    assert!(
        most <= MethodClass::ALL.len() * 6 * (Reason::ALL.len() + 1),
        "{most}"
    );
}

#[test]
fn upstreams_that_left_the_policy_are_forgotten() {
    let telemetry = telemetry();
    let gone = telemetry.route("gone", "*");
    gone.request(0, MethodClass::Safe, 200, None, MS);
    telemetry.upstream("gone").opened();
    telemetry.route("stays", "*").ended(1);
    telemetry.route(UNMATCHED, "*").ended(1);
    telemetry.retain(&HashSet::from(["stays".to_owned()]));

    // A request that was under way when the policy changed ends now, with a reason not seen before.
    gone.request(0, MethodClass::Safe, 504, Some(Reason::Deadline), MS);
    gone.ended(1);
    let text = telemetry.encode();
    assert!(!text.contains("\"gone\""), "{text}");
    assert!(text.contains("\"stays\""));
    assert!(text.contains(UNMATCHED));

    // Named again, it begins anew.
    telemetry.route("gone", "*").ended(1);
    assert_eq!(
        one(
            &parse(&telemetry.encode()),
            r#"outrider_tries_total{upstream="gone",route="*"}"#
        ) as u64,
        1
    );
}

#[test]
fn reloads_without_end_leave_no_trace() {
    let telemetry = telemetry();
    let mut lengths = BTreeSet::new();
    walk::seeds(|draws| {
        let names: HashSet<String> = (0..5)
            .map(|_| format!("u{:03}", draws.below(900) + 100))
            .take(5)
            .collect();
        for name in &names {
            telemetry
                .route(name, "*")
                .request(0, MethodClass::Safe, 200, None, MS);
            telemetry.upstream(name).closed(Closed::Age);
        }
        telemetry.retain(&names);
        let shown = parse(&telemetry.encode()).len();
        lengths.insert((names.len(), shown));
    });
    // As many series as upstreams ask for, however many went before.
    let by_names: BTreeSet<usize> = lengths.iter().map(|(names, _)| *names).collect();
    assert_eq!(by_names.len(), lengths.len(), "{lengths:?}");
}

#[test]
fn a_histogram_adds_up_over_its_shards() {
    let hist = Hist::make(4);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let hist = hist.clone();
            scope.spawn(move || (0..1000).for_each(|_| hist.record(worker, MS)));
        }
    });
    assert_eq!(hist.count(), 4000);
    assert!((hist.sum_seconds() - 4.0).abs() < 1e-9);
}

#[test]
fn histogram_bounds_are_inclusive_and_buckets_grow() {
    let telemetry = telemetry();
    let route = telemetry.route("pay", "*");
    let durations = [
        Duration::ZERO,
        MS,
        MS + Duration::from_nanos(1),
        Duration::from_secs(10),
        Duration::MAX,
    ];
    for elapsed in durations {
        route.request(7, MethodClass::Safe, 200, None, elapsed);
    }
    let samples = parse(&telemetry.encode());
    let bucket = |le: &str| {
        let labels = format!(r#"le="{le}",upstream="pay",route="*""#);
        one(
            &samples,
            &format!("outrider_request_duration_seconds_bucket{{{labels}}}"),
        ) as u64
    };
    assert_eq!(
        ["0.0001", "0.0005", "0.001", "0.0025", "5.0", "10.0", "+Inf"].map(bucket),
        [1, 1, 2, 3, 3, 4, 5]
    );
    assert!(
        telemetry
            .encode()
            .contains("# UNIT outrider_request_duration_seconds seconds\n")
    );
}

#[test]
fn every_duration_falls_into_the_bucket_of_its_bound() {
    walk::seeds(|draws| {
        let hist = Hist::make(3);
        let mut sum = Duration::ZERO;
        for _ in 0..20 {
            let elapsed = Duration::from_nanos(draws.bits() >> (draws.below(40) + 24));
            hist.record(draws.bits() as usize, elapsed);
            sum += elapsed;
        }
        assert_eq!(hist.count(), 20);
        assert!((hist.sum_seconds() - sum.as_secs_f64()).abs() < 1e-6);
    });
}

#[test]
fn a_level_falls_where_it_did_not_rise() {
    let level = Level::make(2);
    let held: Vec<Held> = (0..10).map(|_| level.hold()).collect();
    assert_eq!(level.get(), 10);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            enter_worker(1);
            drop(held);
        });
    });
    assert_eq!(level.get(), 0);
}

#[test]
fn workers_beyond_the_cells_still_count() {
    let tally = Tally::make(2);
    for worker in [0, 1, 2, 3, usize::MAX] {
        tally.inc_on(worker);
    }
    assert_eq!(tally.get(), 5);
}

#[test]
fn a_word_is_counted_under_its_own_name() {
    let telemetry = telemetry();
    let family = telemetry.family(&Def::<Counter, 1>::new(
        "outrider_words_total",
        "Words",
        ["word"],
    ));
    let words = ByWord::new(move |word| family.get([word]));
    for word in ["a", "b", "a"] {
        words.inc(word);
    }
    let samples = parse(&telemetry.encode());
    assert_eq!(one(&samples, r#"outrider_words_total{word="a"}"#) as u64, 2);
    assert_eq!(one(&samples, r#"outrider_words_total{word="b"}"#) as u64, 1);
}

#[test]
#[should_panic(expected = "a family name is declared once")]
fn a_name_has_one_type() {
    let telemetry = telemetry();
    let _ = telemetry.family(&Def::<Counter, 1>::new("outrider_twice", "Once", ["a"]));
    let _ = telemetry.family(&Def::<Gauge, 1>::new("outrider_twice", "Twice", ["a"]));
}

#[test]
fn a_refresh_runs_before_each_scrape() {
    let telemetry = telemetry();
    let gauge = telemetry
        .family(&Def::<Gauge, 0>::new("outrider_refreshed", "Scrapes", []))
        .get([]);
    telemetry.before_scrape(Box::new(move || {
        gauge.inc();
    }));
    let _ = telemetry.encode();
    assert_eq!(
        one(&parse(&telemetry.encode()), "outrider_refreshed") as u64,
        2
    );
}

#[test]
fn a_policy_shows_only_its_last_revision() {
    let telemetry = telemetry();
    let process = &telemetry.process;
    process.set_policy("one", Duration::from_secs(1));
    process.set_policy("two", Duration::from_millis(1_700_000_000_500));
    process.reloaded(Reload::Applied);
    let samples = parse(&telemetry.encode());
    assert_eq!(
        samples
            .keys()
            .filter(|series| series.starts_with("outrider_policy_info"))
            .count(),
        1
    );
    assert_eq!(
        one(&samples, r#"outrider_policy_info{revision="two"}"#) as u64,
        1
    );
    assert_eq!(one(&samples, "outrider_policy_reload_success") as u64, 1);
    assert!(
        (one(&samples, "outrider_policy_loaded_timestamp_seconds") - 1_700_000_000.5).abs() < 1e-3
    );

    process.reloaded(Reload::Refused);
    let samples = parse(&telemetry.encode());
    assert_eq!(one(&samples, "outrider_policy_reload_success") as u64, 0);
    assert_eq!(
        one(&samples, r#"outrider_policy_info{revision="two"}"#) as u64,
        1
    );
    assert_eq!(
        one(
            &samples,
            r#"outrider_policy_reloads_total{result="refused"}"#
        ) as u64,
        1
    );
}

#[test]
fn connections_and_tunnels_end_with_their_guards() {
    let telemetry = telemetry();
    let connection = telemetry.process.accepted(Listener::Explicit);
    let tunnel = telemetry.process.tunnel(TunnelKind::Tls);
    tunnel.bytes(10, 20);
    tunnel.bytes(1, 2);
    telemetry.process.refused(Reason::ConnectionLimit);
    telemetry.process.panicked();
    let read = || {
        let samples = parse(&telemetry.encode());
        [
            r#"outrider_connections_accepted_total{listener="explicit"}"#,
            r#"outrider_connections_active{listener="explicit"}"#,
            r#"outrider_tunnels_total{kind="tls"}"#,
            r#"outrider_tunnels_active{kind="tls"}"#,
            r#"outrider_tunnel_bytes_total{kind="tls",direction="out"}"#,
            r#"outrider_tunnel_bytes_total{kind="tls",direction="in"}"#,
            r#"outrider_connections_refused_total{reason="connection_limit"}"#,
            "outrider_panics_total",
        ]
        .map(|series| one(&samples, series) as u64)
    };
    assert_eq!(read(), [1, 1, 1, 1, 11, 22, 1, 1]);
    drop((connection, tunnel));
    assert_eq!(read(), [1, 0, 1, 0, 11, 22, 1, 1]);
}

#[test]
fn a_pool_and_its_names_are_told() {
    let telemetry = telemetry();
    let upstream = telemetry.upstream("pay");
    upstream.opened();
    upstream.opened();
    upstream.closed(Closed::Peer);
    upstream.idle.up();
    let waiting = upstream.pending.hold();
    upstream.connect_failed(Reason::ConnectRefused);
    upstream.resolved();
    upstream.lookup_failed(true);
    upstream.set_endpoints(3);
    let samples = parse(&telemetry.encode());
    drop(waiting);
    let of = |name: &str| one(&samples, &format!(r#"{name}{{upstream="pay"}}"#)) as u64;
    assert_eq!(
        [
            of("outrider_pool_connections"),
            of("outrider_pool_opened_total")
        ],
        [1, 2]
    );
    assert_eq!(
        [
            of("outrider_pool_idle_connections"),
            of("outrider_pool_pending_requests")
        ],
        [1, 1]
    );
    assert_eq!(
        [
            of("outrider_dns_lookups_total"),
            of("outrider_dns_failures_total")
        ],
        [2, 1]
    );
    assert_eq!([of("outrider_dns_stale"), of("outrider_endpoints")], [1, 3]);
    assert_eq!(
        one(
            &samples,
            r#"outrider_pool_closed_total{upstream="pay",why="peer"}"#
        ) as u64,
        1
    );
    let refused = r#"outrider_connect_failures_total{upstream="pay",reason="connect_refused"}"#;
    assert_eq!(one(&samples, refused) as u64, 1);
}

#[test]
fn scrapes_and_reloads_may_cross_requests() {
    let telemetry = telemetry();
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let (telemetry, done) = (&telemetry, &done);
            scope.spawn(move || {
                enter_worker(worker);
                for round in 0..200 {
                    let route = telemetry.route(&format!("u{}", round % 7), "*");
                    route.began();
                    route.request(
                        worker,
                        MethodClass::Safe,
                        200,
                        Some(Reason::ALL[round % Reason::ALL.len()]),
                        MS,
                    );
                    route.ended(1);
                }
                done.fetch_add(1, Relaxed);
            });
        }
        while done.load(Relaxed) < 2 {
            parse(&telemetry.encode());
            telemetry.retain(&HashSet::from(["u1".to_owned(), "u2".to_owned()]));
        }
    });
    let in_flight = parse(&telemetry.encode());
    let in_flight = in_flight
        .iter()
        .filter(|(series, _)| series.starts_with("outrider_requests_in_flight"));
    assert!(in_flight.map(|(_, value)| value.abs()).sum::<f64>() < 0.5);
}
