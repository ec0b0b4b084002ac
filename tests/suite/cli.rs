//! The commands: what they print, and how they end.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

use crate::support::proxy::BINARY;
use crate::support::setup::Setup;

const GOOD: &str = "upstream: payments.shop
timeout: 2s
retry: { max: 3, budget: 20% }
breaker: { failures: 50%, over: 10s }
routes:
  - match: POST /charges
    retry: off
";

const BAD: &str = "upstreams:
  - upstream: payments.shop
    retry: { budjet: 20% }
    timeout: 2
  - upstream: orders.shop
    breaker: { failures: lots }
";

struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

fn outrider(args: &[&str]) -> Done {
    let mut command = Command::new(BINARY);
    command.args(args).env("NO_COLOR", "1").stdin(Stdio::null());
    let output = command.output().expect("start outrider");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Done {
        code: output.status.code(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

fn file(dir: &Path, name: &str, text: &str) -> String {
    let path: PathBuf = dir.join(name);
    std::fs::write(&path, text).expect("write a policy");
    path.to_str().expect("a UTF-8 path").to_owned()
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[test]
fn the_version_is_told() {
    for args in [&["version"][..], &["--version"]] {
        let done = outrider(args);
        assert_eq!(done.code, Some(0), "{}", done.err);
        assert!(
            done.out.starts_with("outrider ") && done.out.contains(env!("CARGO_PKG_VERSION")),
            "{}",
            done.out
        );
    }
}

#[test]
fn help_has_examples() {
    for command in [
        "run",
        "check",
        "route",
        "policy show",
        "schema",
        "demo",
        "version",
        "breaker",
        "breaker open",
        "breaker auto",
        "fault",
        "fault stop",
        "fault list",
        "cache",
        "cache purge",
        "cache stats",
        "",
    ] {
        let mut args: Vec<&str> = command.split_whitespace().collect();
        args.push("--help");
        let done = outrider(&args);
        assert_eq!(done.code, Some(0), "{command}: {}", done.err);
        assert!(done.out.contains("Examples:"), "{command}: {}", done.out);
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for args in [
        &[][..],
        &["fly"],
        &["run"],
        &["check"],
        &["run", "--workers", "0", "x.yaml"],
        &["demo", "--duration", "1"],
        &["cache", "purge"],
        &["cache", "purge", "http://a/", "--all"],
    ] {
        let done = outrider(args);
        assert_eq!(done.code, Some(2), "{args:?}: {}{}", done.out, done.err);
        assert!(!done.err.is_empty(), "{args:?} says why");
    }
}

#[test]
fn a_good_policy_passes_the_check() {
    let dir = temporary();
    let good = file(dir.path(), "good.yaml", GOOD);
    let done = outrider(&["check", &good]);
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    // The worst case of each route: four tries of the upstream, one of the route.
    assert!(
        done.out.contains("payments.shop") && done.out.contains("POST /charges"),
        "{}",
        done.out
    );
    let done = outrider(&["check", "--format", "json", &good]);
    let findings: Value = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!(
        (done.code, findings.as_array().map(Vec::len)),
        (Some(0), Some(0)),
        "{}",
        done.out
    );
}

#[test]
fn all_faults_are_told_at_once_with_their_places() {
    let dir = temporary();
    let bad = file(dir.path(), "bad.yaml", BAD);
    let done = outrider(&["check", &bad]);
    assert_eq!(done.code, Some(1));
    for part in [
        "bad.yaml:3:",
        "bad.yaml:4:",
        "bad.yaml:6:",
        "error OR012",
        "`budget`",
        "error OR014",
    ] {
        assert!(done.out.contains(part), "{part} in:\n{}", done.out);
    }
    let done = outrider(&["check", "--format", "json", &bad]);
    assert_eq!(done.code, Some(1));
    let findings: Value = serde_json::from_str(&done.out).expect("JSON");
    let findings = findings.as_array().expect("a list");
    assert!(findings.len() >= 3, "{findings:?}");
    for finding in findings {
        for key in [
            "file", "line", "column", "severity", "code", "message", "hint",
        ] {
            assert!(finding.get(key).is_some(), "{key} in {finding}");
        }
        assert_eq!(
            (finding["file"].as_str(), finding["severity"].as_str()),
            (Some(bad.as_str()), Some("error"))
        );
        assert!(
            finding["code"]
                .as_str()
                .is_some_and(|code| code.starts_with("OR") && code.len() == 5),
            "{finding}"
        );
    }
    let budget = findings
        .iter()
        .find(|finding| finding["code"] == "OR012")
        .expect("the unknown key");
    assert_eq!(
        (budget["line"].as_u64(), budget["column"].as_u64()),
        (Some(3), Some(14))
    );
    assert!(
        budget["hint"]
            .as_str()
            .is_some_and(|hint| hint.contains("budget")),
        "{budget}"
    );
}

#[test]
fn sarif_has_its_shape() {
    let dir = temporary();
    let bad = file(dir.path(), "bad.yaml", BAD);
    let done = outrider(&["check", "--format", "sarif", &bad]);
    assert_eq!(done.code, Some(1));
    let log: Value = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!(log["version"], "2.1.0");
    assert!(
        log["$schema"]
            .as_str()
            .is_some_and(|schema| schema.contains("sarif"))
    );
    let run = &log["runs"][0];
    assert_eq!(run["tool"]["driver"]["name"], "outrider");
    let rules = run["tool"]["driver"]["rules"].as_array().expect("rules");
    let results = run["results"].as_array().expect("results");
    assert!(results.len() >= 3);
    for result in results {
        assert!(
            rules.iter().any(|rule| rule["id"] == result["ruleId"]),
            "{result}"
        );
        assert_eq!(result["level"], "error");
        assert!(result["message"]["text"].is_string());
        let place = &result["locations"][0]["physicalLocation"];
        assert!(
            place["artifactLocation"]["uri"].is_string()
                && place["region"]["startLine"].as_u64() > Some(0),
            "{result}"
        );
    }
}

#[test]
fn a_chain_is_computed_and_its_findings_are_told() {
    let dir = temporary();
    let web = "service: web\nupstreams: [{ upstream: orders.shop, timeout: 2s }, { upstream: users.shop }]\ndefaults: { retry: 3 }\n";
    let web = file(dir.path(), "web.yaml", web);
    let orders = "service: orders\nupstream: payments.shop\nretry: 3\n";
    let orders = file(dir.path(), "orders.yaml", orders);
    let payments = file(
        dir.path(),
        "payments.yaml",
        "upstream: ledger.bank\nretry: 3\n",
    );
    let chain = ["check", "--chain", &web, &orders, &payments];

    let done = outrider(&chain);
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    for told in [
        "OR061: one call can become 64",
        "for nobody for up to 3s",
        "4 x 4 x 4 = 64",
        "1.73x + 36.4/s",
        "3 files: 2 warnings",
    ] {
        assert!(done.out.contains(told), "no `{told}` in\n{}", done.out);
    }
    let strict: Vec<&str> = chain.into_iter().chain(["--strict"]).collect();
    assert_eq!(outrider(&strict).code, Some(1));
    let found = |format: &str| {
        let args: Vec<&str> = chain.into_iter().chain(["--format", format]).collect();
        let done = outrider(&args);
        assert_eq!(done.code, Some(0), "{}", done.err);
        serde_json::from_str::<Value>(&done.out).expect("JSON")
    };
    assert_eq!(found("json").as_array().map(Vec::len), Some(2));
    assert_eq!(found("sarif")["runs"][0]["results"][0]["ruleId"], "OR062");

    let lost = file(dir.path(), "lost.yaml", "service: lost\nupstream: a.b\n");
    let done = outrider(&["check", "--chain", &web, &lost]);
    assert_eq!(done.code, Some(1), "{}", done.out);
    assert!(done.out.contains("OR060"), "{}", done.out);
    assert_eq!(
        outrider(&["check", "--chain", "/nowhere.yaml"]).code,
        Some(2)
    );
}

#[test]
fn warnings_fail_only_a_strict_check() {
    let dir = temporary();
    let odd = file(
        dir.path(),
        "odd.yaml",
        "upstream: api.shop\nretry: { methods: all }\n",
    );
    let done = outrider(&["check", &odd]);
    assert_eq!(done.code, Some(0), "{}", done.out);
    assert!(done.out.contains("warn"), "{}", done.out);
    assert_eq!(outrider(&["check", "--strict", &odd]).code, Some(1));
}

#[test]
fn a_config_map_is_unwrapped() {
    let dir = temporary();
    let wrap = |policy: &str| {
        let inside = format!("    {}\n", policy.trim_end().replace('\n', "\n    "));
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: policy\ndata:\n  outrider.yaml: |\n{inside}"
        )
    };
    let good = file(dir.path(), "good.yaml", &wrap(GOOD));
    assert_eq!(outrider(&["check", &good]).code, Some(0));
    let bad = file(dir.path(), "bad.yaml", &wrap(BAD));
    let done = outrider(&["check", "--format", "json", &bad]);
    assert_eq!(done.code, Some(1));
    let findings: Value = serde_json::from_str(&done.out).expect("JSON");
    let budget = findings
        .as_array()
        .and_then(|all| all.iter().find(|one| one["code"] == "OR012"))
        .expect("the unknown key");
    assert_eq!(
        (budget["line"].as_u64(), budget["column"].as_u64()),
        (Some(9), Some(18)),
        "places are those of the outer file"
    );
}

#[test]
fn what_cannot_be_read_ends_with_2() {
    let dir = temporary();
    let nowhere = dir.path().join("nowhere.yaml");
    let nowhere = nowhere.to_str().expect("a UTF-8 path");
    for args in [
        &["check", nowhere][..],
        &["run", nowhere],
        &["route", nowhere, "GET", "http://a.test/"],
        &["policy", "show", nowhere],
    ] {
        let done = outrider(args);
        assert_eq!(done.code, Some(2), "{args:?}: {}{}", done.out, done.err);
        assert!(
            format!("{}{}", done.out, done.err).contains("nowhere.yaml"),
            "{args:?}"
        );
    }
}

#[test]
fn a_bad_policy_does_not_start() {
    let dir = temporary();
    let bad = file(dir.path(), "bad.yaml", BAD);
    let done = outrider(&["run", &bad]);
    assert_eq!(done.code, Some(2));
    assert!(
        done.err.contains("OR012") && done.err.contains("bad.yaml:3:14"),
        "{}",
        done.err
    );
    assert!(done.out.is_empty(), "stdout belongs to the access log");
    // What cannot be carried out, as showing a certificate that there is none of, is refused, not passed over.
    let bare = file(
        dir.path(),
        "bare.yaml",
        "upstream: a.test\nmtls: required\n",
    );
    let done = outrider(&["run", &bare]);
    assert!(
        done.code == Some(2) && done.err.contains("OR100"),
        "{}",
        done.err
    );
}

#[test]
fn a_port_that_is_taken_is_told() {
    let dir = temporary();
    let setup = Setup::new();
    let taken = std::net::TcpListener::bind(("127.0.0.1", setup.outbound)).expect("take the port");
    let policy = file(dir.path(), "policy.yaml", &setup.text());
    let done = outrider(&["run", &policy]);
    assert_eq!(done.code, Some(2), "{}", done.err);
    assert!(
        done.err.contains(&setup.outbound.to_string()),
        "{}",
        done.err
    );
    drop(taken);
}

#[test]
fn route_tells_what_happens_to_a_request() {
    let dir = temporary();
    let good = file(dir.path(), "good.yaml", GOOD);
    let done = outrider(&["route", &good, "POST", "http://payments.shop/charges?x=1"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    for part in ["payments.shop", "POST /charges", "builtin", "2s"] {
        assert!(done.out.contains(part), "{part} in:\n{}", done.out);
    }
    let done = outrider(&[
        "route",
        &good,
        "GET",
        "http://payments.shop/other",
        "--format",
        "json",
    ]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    let chosen: Value = serde_json::from_str(&done.out).expect("JSON");
    assert!(chosen.to_string().contains("payments.shop"), "{chosen}");
    assert_eq!(
        outrider(&["route", &good, "get", "http://payments.shop/"]).code,
        Some(2),
        "methods are case-sensitive"
    );
    assert_eq!(
        outrider(&["route", &good, "GET", "ftp://payments.shop/"]).code,
        Some(2)
    );
}

#[test]
fn every_value_is_shown_with_its_origin() {
    let dir = temporary();
    let good = file(dir.path(), "good.yaml", GOOD);
    let done = outrider(&["policy", "show", "--expanded", &good]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    for part in [
        "payments.shop",
        "POST /charges",
        "builtin",
        "budget",
        "min_calls",
        "max_share",
    ] {
        assert!(done.out.contains(part), "{part} in:\n{}", done.out);
    }
}

#[test]
fn the_schema_is_json() {
    let done = outrider(&["schema"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    let schema: Value = serde_json::from_str(&done.out).expect("JSON");
    assert!(
        schema["$schema"]
            .as_str()
            .is_some_and(|text| text.contains("json-schema.org")),
        "{}",
        schema["$schema"]
    );
    let validator = jsonschema::validator_for(&schema).expect("a schema that holds for itself");
    assert!(
        validator.is_valid(&serde_json::json!({ "upstream": "payments.shop", "timeout": "2s" }))
    );
    assert!(
        !validator.is_valid(&serde_json::json!({ "upstream": "payments.shop", "timout": "2s" }))
    );
}

#[test]
fn the_demo_ends_with_its_figures() {
    let done = outrider(&["demo", "--json", "--duration", "5s"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    let figures = done.out.trim();
    let figures: Value = serde_json::from_str(&figures[figures.find('{').expect("an object")..])
        .expect("one JSON object");
    for side in ["straight", "outrider"] {
        for key in ["success", "p50_ms", "p99_ms", "requests", "tries"] {
            assert!(figures[side][key].is_number(), "{side}.{key} in {figures}");
        }
        assert!(figures[side]["requests"].as_u64() > Some(0), "{figures}");
    }
    for key in ["opened", "closed", "recovery_s"] {
        assert!(
            figures["breaker"].get(key).is_some(),
            "breaker.{key} in {figures}"
        );
    }
    assert_eq!(
        figures["straight"]["requests"], figures["outrider"]["requests"],
        "both sides get the same load"
    );
}
