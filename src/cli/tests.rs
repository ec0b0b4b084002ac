use clap::CommandFactory;
use clap::Parser;

use crate::cli::Cli;
use crate::cli::check;
use crate::cli::out;
use crate::cli::paint::Paint;
use crate::cli::policy;
use crate::cli::route;
use crate::cli::route::Target;
use crate::cli::run;
use crate::cli::sarif;
use crate::config;
use crate::config::Fault;
use crate::config::Loaded;
use crate::config::Severity;

fn fault(severity: Severity, line: u32) -> Fault {
    Fault {
        file: "conf d/outrider.yaml".to_owned(),
        line,
        column: 14,
        end_column: 20,
        severity,
        code: "OR012",
        message: "unknown key `budjet` in retry".to_owned(),
        hint: Some("did you mean `budget`?".to_owned()),
        snippet: "     9 |     retry: { budjet: 20% }\n       |              ^^^^^^\n".to_owned(),
    }
}

const GOOD: &str = "\
upstreams:
  - upstream: payments.shop
    timeout: 2s
    retry: { max: 3, budget: 20% }
    routes:
      - match: GET /reports/**
        timeout: 30s
  - upstream: \"*.shop\"
    retry: off
";

fn good(text: &str) -> Loaded {
    config::parse("p.yaml", text)
        .unwrap_or_else(|faults| panic!("{}", config::fault::render_all(&faults)))
}

fn target(url: &str) -> Target {
    Target::parse(url).unwrap_or_else(|why| panic!("{url}: {why}"))
}

#[test]
fn arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_examples_in_its_help() {
    let mut left = vec![Cli::command()];
    while let Some(mut command) = left.pop() {
        let name = command.get_name().to_owned();
        let help = command.render_long_help().to_string();
        left.extend(
            command
                .get_subcommands()
                .filter(|sub| sub.get_name() != "help")
                .cloned(),
        );
        assert!(help.contains("Examples:"), "{name}: {help}");
        for line in help.lines() {
            assert!(line.chars().count() <= 125, "{name}: {line}");
        }
    }
}

#[test]
fn a_run_needs_a_policy_and_sensible_numbers() {
    let parsed = |arguments: &[&str]| {
        Cli::try_parse_from(std::iter::once("outrider").chain(arguments.iter().copied()))
    };
    assert!(
        parsed(&[
            "run",
            "a.yaml",
            "b.yaml",
            "--workers",
            "2",
            "--drain",
            "1m",
            "--dns",
            "10.0.0.1"
        ])
        .is_ok()
    );
    for wrong in [
        &["run"][..],
        &["run", "a.yaml", "--workers", "0"],
        &["run", "a.yaml", "--drain", "25"],
        &["run", "a.yaml", "--dns", "dns.example"],
        &["check"],
        &["check", "a.yaml", "--format", "xml"],
        &["route", "a.yaml", "GET"],
        &["demo", "--duration", "soon"],
        &["brew"],
        &[],
    ] {
        let told = parsed(wrong).expect_err(&format!("{wrong:?} must be refused"));
        assert_eq!(told.exit_code(), 2, "{wrong:?}");
    }
}

#[test]
fn name_servers_have_an_optional_port() {
    let read = |text| run::name_server(text).map(|address| address.to_string());
    assert_eq!(read("10.0.0.1").as_deref(), Ok("10.0.0.1:53"));
    assert_eq!(read("10.0.0.1:5353").as_deref(), Ok("10.0.0.1:5353"));
    assert_eq!(read("::1").as_deref(), Ok("[::1]:53"));
    assert_eq!(read("[::1]").as_deref(), Ok("[::1]:53"));
    assert_eq!(read("[::1]:5353").as_deref(), Ok("[::1]:5353"));
    assert!(read("dns.example").is_err());
}

#[test]
fn a_fault_without_colour_is_told_as_it_displays() {
    for severity in [Severity::Error, Severity::Warn] {
        for line in [0, 9] {
            let fault = fault(severity, line);
            assert_eq!(check::told(&fault, Paint(false)), fault.render());
        }
    }
    assert!(check::told(&fault(Severity::Error, 9), Paint(true)).contains("\x1b[31merror"));
}

#[test]
fn findings_as_json_have_exactly_the_promised_fields() {
    let bare = Fault {
        hint: None,
        ..fault(Severity::Warn, 0)
    };
    let list =
        check::json(&[fault(Severity::Error, 9), bare]).expect("text and numbers can be written");
    let expected = "[\
        {\"file\":\"conf d/outrider.yaml\",\"line\":9,\"column\":14,\"severity\":\"error\",\"code\":\"OR012\",\
        \"message\":\"unknown key `budjet` in retry\",\"hint\":\"did you mean `budget`?\"},\
        {\"file\":\"conf d/outrider.yaml\",\"line\":0,\"column\":14,\"severity\":\"warn\",\"code\":\"OR012\",\
        \"message\":\"unknown key `budjet` in retry\",\"hint\":null}]";
    assert_eq!(list, expected);
    assert_eq!(check::json(&[]).expect("nothing can be written"), "[]");
}

#[test]
fn sarif_places_a_fault_and_knows_the_whole_catalogue() {
    let log = sarif::log(&[fault(Severity::Error, 9), fault(Severity::Warn, 0)]);
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"]
        .as_array()
        .expect("rules is a list");
    assert_eq!(rules.len(), config::fault::CATALOGUE.len());
    let result = &run["results"][0];
    let index = result["ruleIndex"]
        .as_u64()
        .expect("the code is in the catalogue") as usize;
    assert_eq!(rules[index]["id"], result["ruleId"]);
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "conf%20d/outrider.yaml");
    assert_eq!(place["region"]["startLine"], 9);
    assert_eq!(place["region"]["endColumn"], 20);
    let whole = &run["results"][1];
    assert_eq!(whole["level"], "warning");
    assert!(
        whole["locations"][0]["physicalLocation"]
            .get("region")
            .is_none(),
        "a region begins at line 1"
    );
}

#[test]
fn exit_codes_follow_the_findings() {
    let warn = || fault(Severity::Warn, 9);
    let error = || fault(Severity::Error, 9);
    let unread = Fault {
        code: config::fault::code::UNREADABLE.code,
        ..error()
    };
    assert_eq!(check::exit(&[], true), 0);
    assert_eq!(check::exit(&[warn()], false), 0);
    assert_eq!(check::exit(&[warn()], true), out::FINDINGS);
    assert_eq!(check::exit(&[warn(), error()], false), out::FINDINGS);
    assert_eq!(check::exit(&[error(), unread], false), out::CANNOT);
}

#[test]
fn check_tells_the_worst_case_of_each_route() {
    let loaded = good(GOOD);
    let text = check::text(&[], Some(&loaded), Paint(false));
    let row = |upstream: &str, route: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(upstream) && line.contains(route));
        let line = line.unwrap_or_else(|| panic!("no row {upstream} {route} in\n{text}"));
        line.split_whitespace()
            .rev()
            .take(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(row("payments.shop", " * "), ["2s", "4"]);
    assert_eq!(row("payments.shop", "GET /reports/**"), ["30s", "4"]);
    assert_eq!(row("*.shop", " * "), ["5s", "1"]);
    assert_eq!(row("(unmatched)", " * "), ["5s", "3"]);
    assert!(text.ends_with("1 file: no findings\n"), "{text}");
}

#[test]
fn urls_are_read_as_a_client_would_send_them() {
    let read = |url: &str| {
        let Target {
            host,
            port,
            path,
            tls,
        } = target(url);
        (host, port, path, tls)
    };
    let is = |host: &str, port, path: &str, tls| (host.to_owned(), port, path.to_owned(), tls);
    assert_eq!(
        read("http://payments.shop/charges?a=b"),
        is("payments.shop", 80, "/charges", false)
    );
    assert_eq!(
        read("payments.shop:8080"),
        is("payments.shop", 8080, "/", false)
    );
    assert_eq!(read("https://[::1]/x"), is("::1", 443, "/x", true));
    for wrong in ["ftp://a/", "http://u:p@a/", "http:///x", "a b", ""] {
        assert!(Target::parse(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn the_most_specific_upstream_and_route_take_a_request() {
    let loaded = good(GOOD);
    let chosen = |method: &str, url: &str| {
        let target = target(url);
        let chosen = route::choose(&loaded.policy, method, &target);
        (
            chosen.upstream.map(|(index, _)| index),
            chosen.route.name.clone(),
        )
    };
    assert_eq!(
        chosen("GET", "http://payments.shop/reports/7"),
        (Some(0), "GET /reports/**".to_owned())
    );
    assert_eq!(
        chosen("POST", "http://payments.shop/reports/7"),
        (Some(0), "*".to_owned())
    );
    assert_eq!(
        chosen("GET", "http://stock.shop/reports/7"),
        (Some(1), "*".to_owned())
    );
    assert_eq!(
        chosen("GET", "http://elsewhere.example/"),
        (None, "*".to_owned())
    );
}

#[test]
fn route_tells_values_with_their_origins() {
    let loaded = good(GOOD);
    let target = target("https://payments.shop/reports/7");
    let chosen = route::choose(&loaded.policy, "GET", &target);
    let text = chosen.text(&loaded);
    assert!(text.contains("worst case  4 tries, 30s\n"), "{text}");
    assert!(text.contains("cannot see inside"), "{text}");
    let total = text
        .lines()
        .find(|line| line.starts_with("timeout.total"))
        .expect("the deadline is listed");
    assert!(
        total.contains("30s") && total.ends_with("upstreams[0].routes[0]:7"),
        "{total}"
    );
    let json = chosen.json(&loaded);
    assert_eq!(json["worst_case"]["tries"], 4);
    assert_eq!(json["worst_case"]["latency_ms"], 30_000.0);
    let values = json["values"].as_array().expect("values is a list");
    assert!(
        values
            .iter()
            .any(|value| value["path"] == "retry.max" && value["origin"] == "upstreams[0]:4"),
        "{json}"
    );
}

/// Paths and values of every route, without origins.
fn in_force(loaded: &Loaded) -> Vec<(String, String, Vec<(String, String)>)> {
    let pairs = |values: &[config::Effect]| {
        values
            .iter()
            .map(|e| (e.path.clone(), e.value.clone()))
            .collect()
    };
    let routes = loaded.effective.routes.iter();
    let mut all: Vec<_> = routes
        .map(|r| (r.upstream.clone(), r.route.clone(), pairs(&r.values)))
        .collect();
    all.push((
        "policy".to_owned(),
        String::new(),
        pairs(&loaded.effective.global),
    ));
    all
}

#[test]
fn a_normalised_policy_loads_again_as_the_same() {
    let rich = "\
service: checkout
zone: eu-1a
listen: { outbound: 14750, explicit: off, admin: \"127.0.0.1:0\", limits: { body: 1MiB } }
unmatched: deny
defaults: { timeout: 3s, breaker: { open: 2s }, retry: off }
profiles:
  third-party: { timeout: { total: 8s, connect: 500ms }, retry: { max: 1 } }
upstreams:
  - upstream: \"*.example.com:8443\"
    use: third-party
    routes:
      - match: POST /charges
        retry: { when: [connect, refused, 503], methods: all }
      - match: /x/*
        retry: off
        breaker: { mode: shadow }
  - upstream: ledger.shop
    endpoints: [\"10.0.0.1:8080\", \"[::1]:8080\"]
    breaker: { consecutive: 3, slow: { over: 1s, share: 80% } }
    eject: off
  - upstream: zoned.shop
    endpoints: { zones: { eu-1a: [{ address: \"[::1]:8081\", weight: 3 }, 10.0.0.1:8080], b: { endpoints: [\"[::1]:8080\"] } } }
    balance: { hash: cookie:sid, bound: 150% }
  - upstream: listed.shop
    endpoints: [{ address: 10.0.0.1:8080 }, { address: 10.0.0.2:8080, weight: 2 }]
";
    for text in [GOOD, rich] {
        let loaded = good(text);
        let shown = policy::normalised(&loaded);
        let again = config::parse("shown.yaml", &shown)
            .unwrap_or_else(|faults| panic!("{shown}\n{}", config::fault::render_all(&faults)));
        assert_eq!(in_force(&loaded), in_force(&again), "{shown}");
        assert_eq!(
            policy::normalised(&again),
            shown,
            "normalising twice changes nothing"
        );
    }
}
