//! The chart, as Helm renders it and Kubernetes would judge it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::python;

#[test]
fn every_value_set_renders_to_objects_that_kubernetes_takes() {
    let told: Value = serde_json::from_str(&python::run("chart/check.py", &[])).expect("JSON");
    assert!(told["value_sets"].as_u64() >= Some(8), "{told}");
    assert!(told["judged"].as_u64() >= Some(300), "{told}");
    println!("{told}");
}

#[test]
fn its_readme_is_made_of_its_values() {
    python::run("chart/readme.py", &["--check"]);
}

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn promtool(args: &[&str]) {
    let done = Command::new("promtool")
        .current_dir(ROOT)
        .args(args)
        .output();
    let done = done.expect("promtool: tests/run installs Debian's prometheus");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert!(done.status.success(), "promtool {args:?}:\n{out}\n{err}");
}

#[test]
fn the_rules_are_sound_and_each_alert_fires_when_it_should_and_not_before() {
    promtool(&["check", "rules", "charts/outrider/rules/outrider.yaml"]);
    promtool(&["test", "rules", "tests/chart/alerts_test.yaml"]);
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).expect(path)
}

/// What stands behind `word` at the beginning of a line.
fn named(text: &str, word: &str) -> BTreeSet<String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter_map(|line| line.strip_prefix(word))
        .map(|name| name.trim().to_owned())
        .collect()
}

#[test]
fn each_alert_has_a_test_and_a_runbook_and_nothing_is_left_over() {
    let alerts = named(&read("charts/outrider/rules/outrider.yaml"), "- alert:");
    let tests = read("tests/chart/alerts_test.yaml");
    for alert in &alerts {
        let fires = tests.contains(&format!("runbook_url: docs/runbooks/{alert}.md"));
        assert!(fires, "{alert} is never seen to fire");
    }
    let books = std::fs::read_dir(Path::new(ROOT).join("docs/runbooks")).expect("docs/runbooks");
    let books: BTreeSet<String> = books
        .filter_map(|book| {
            Some(
                book.ok()?
                    .file_name()
                    .to_str()?
                    .strip_suffix(".md")?
                    .to_owned(),
            )
        })
        .collect();
    assert_eq!(alerts, books);
}

/// Families by name, `_total` and the like included as they stand in queries.
fn families(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.split(|c| !is_part(c))
        .filter(|word| word.starts_with("outrider_"))
        .map(|word| word.trim_end_matches("_bucket").to_owned())
        .collect()
}

#[test]
fn dashboards_and_rules_ask_for_families_that_there_are() {
    let known = families(&read("docs/metrics.md"));
    let asked = ["rules/outrider.yaml", "dashboards/outrider.json"]
        .map(|file| families(&read(&format!("charts/outrider/{file}"))));
    for family in asked.iter().flatten() {
        assert!(known.contains(family), "{family} is not in docs/metrics.md");
    }
}
