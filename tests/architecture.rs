//! The rules of the house, held by reading the source rather than by memory.
//!
//! Every rule is a function from text to a list of faults (`architecture/rules.rs`), so that `architecture/caught.rs`
//! can plant a violation and see it caught. The reading is textual: a re-export or a macro can slip by, which is what
//! `clippy.toml` is for. CONTRIBUTING.md says what each rule is good for.

#![expect(clippy::panic, reason = "a test fails by panicking")]

#[path = "architecture/caught.rs"]
mod caught;
#[path = "architecture/read.rs"]
mod read;
#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/said.rs"]
mod said;

use std::path::Path;

use read::{File, code, file, is_folder, list, read, walk};
use rules::*;
use said::{SINKS, said};

fn hold(rule: &str, faults: &[String]) {
    assert!(
        faults.is_empty(),
        "{rule}: {} fault(s)\n  {}\n",
        faults.len(),
        faults.join("\n  ")
    );
}

fn hold_each(rule: &str, check: impl Fn(&File) -> Vec<String>) {
    hold(rule, &sources().iter().flat_map(check).collect::<Vec<_>>());
}

fn sources() -> Vec<File> {
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches"] {
        walk(folder, ".rs", &mut files);
    }
    assert!(
        files.len() > 20,
        "only {} source files were found; the walk is broken",
        files.len()
    );
    files
}

fn rooms() -> Vec<String> {
    list("src/policy")
        .into_iter()
        .filter(|name| is_folder(&format!("src/policy/{name}")))
        .collect()
}

#[test]
fn imports_go_one_way() {
    hold_each("imports", imports);
}

#[test]
fn rooms_never_name_one_another() {
    let rooms = rooms();
    hold_each("rooms apart", |f| rooms_apart(f, &rooms));
}

#[test]
fn every_room_has_the_same_six_files() {
    assert!(!rooms().is_empty(), "src/policy/ has no room");
    let faults = rooms()
        .iter()
        .flat_map(|room| room_shape(room, &list(&format!("src/policy/{room}"))))
        .collect::<Vec<_>>();
    hold("room shape", &faults);
}

#[test]
fn machines_and_kit_are_pure() {
    let packages = packages(&read("Cargo.toml"));
    assert!(
        packages.iter().any(|p| p == "tokio"),
        "Cargo.toml was not understood: {packages:?}"
    );
    hold_each("purity", |f| purity(f, &packages));
}

#[test]
fn only_clock_and_rng_read_time_and_chance() {
    hold_each("time and chance", time_and_chance);
}

#[test]
fn nothing_is_said_that_was_not_looked_at() {
    hold_each("said", said);
    for (path, _) in SINKS {
        assert!(!read(path).is_empty(), "{path} is a sink and is gone");
    }
}

#[test]
fn files_and_functions_are_short() {
    hold_each("size", size);
}

#[test]
fn nothing_is_unfinished_or_switched_off() {
    hold_each("marks", marks);
}

#[test]
fn every_room_is_in_readme_sample_stack_and_changelog() {
    let (readme, sample) = (read("README.md"), read("config/outrider.yaml"));
    let ways = ["src/stack.rs", "src/stack/inbound.rs"].map(|page| code(&read(page)));
    let (stack, changelog) = (ways.concat(), read("CHANGELOG.md"));
    let faults = rooms()
        .iter()
        .flat_map(|r| registry(r, &readme, &sample, &stack, &changelog))
        .collect::<Vec<_>>();
    hold("registry", &faults);
}

#[test]
fn every_reason_is_explained() {
    let source = read("src/http/reason.rs");
    assert!(
        reason_words(&source).len() > 20,
        "src/http/reason.rs was not understood"
    );
    hold("reasons", &reasons(&source, &read("docs/reasons.md")));
}

#[test]
fn every_threat_names_tests_that_exist() {
    let mut suite = Vec::new();
    walk("tests/suite", ".rs", &mut suite);
    let tests: Vec<(String, String)> = suite
        .iter()
        .flat_map(|f| {
            let module = f
                .path
                .trim_start_matches("tests/suite/")
                .trim_end_matches(".rs");
            let found = functions_of_tests(&f.code);
            found.into_iter().map(move |name| (module.to_owned(), name))
        })
        .collect();
    assert!(tests.len() > 200, "only {} tests were found", tests.len());
    let page = read("SECURITY.md");
    assert!(
        page.matches("`path_").count() > 20,
        "SECURITY.md was not understood"
    );
    hold("threats", &shown_by(&page, &tests));
}

#[test]
fn pages_link_what_exists() {
    let mut pages: Vec<File> = list("")
        .iter()
        .filter(|n| n.ends_with(".md"))
        .map(|n| file(n, &read(n)))
        .collect();
    walk("docs", ".md", &mut pages);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dead = pages.iter().flat_map(|page| {
        let folder = root
            .join(&page.path)
            .parent()
            .map(Path::to_path_buf)
            .unwrap_or_default();
        let gone = links(&page.text)
            .into_iter()
            .filter(move |target| !folder.join(target).exists());
        gone.map(|target| format!("{}: `{target}` does not exist", page.path))
    });
    hold(
        "links",
        &dead
            .chain(rules_linked(&read("CONTRIBUTING.md")))
            .collect::<Vec<_>>(),
    );
}
