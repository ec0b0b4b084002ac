//! Golden refusals: `config/bad/NAME.yaml` (or a directory NAME) says `NAME.err`, to the letter. With `OUTRIDER_BLESS=1` the
//! texts are written anew; read the difference before committing it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use super::super::fault;
use super::super::fault::CATALOGUE;
use super::shipped;

/// The golden cases, in name order.
pub(super) fn cases() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(shipped().join("bad"))
        .expect("config/bad is shipped")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| {
            path.is_dir()
                || path
                    .extension()
                    .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    all.sort();
    all
}

/// What `check` says about one case, with names relative to `config/bad`; what `check --chain` says about the files of a
/// directory whose name ends in `-chain`, in name order.
fn said(case: &Path) -> String {
    let faults = if case.to_string_lossy().ends_with("-chain") {
        let mut policies: Vec<PathBuf> = fs::read_dir(case)
            .expect("shipped")
            .map(|entry| entry.expect("readable").path())
            .collect();
        policies.sort();
        super::super::chain(&policies).findings
    } else {
        match super::super::load(&[case.to_path_buf()]) {
            Ok(loaded) => loaded.warnings,
            Err(faults) => faults,
        }
    };
    let prefix = format!("{}/", shipped().join("bad").display());
    fault::render_all(&faults).replace(&prefix, "")
}

pub(super) fn blessing() -> bool {
    std::env::var_os("OUTRIDER_BLESS").is_some_and(|value| value == "1")
}

#[test]
fn refusals_read_as_recorded() {
    let mut wrong = Vec::new();
    for case in cases() {
        let golden = case.with_extension("err");
        let now = said(&case);
        assert!(!now.is_empty(), "{} has no fault", case.display());
        if blessing() {
            fs::write(&golden, &now).expect("config/bad can be written");
        }
        let recorded = fs::read_to_string(&golden).unwrap_or_default();
        if recorded != now {
            wrong.push(format!(
                "--- {}\n--- recorded\n{recorded}--- now\n{now}",
                golden.display()
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "OUTRIDER_BLESS=1 records them anew\n{}",
        wrong.join("\n")
    );
}

#[test]
fn there_are_enough_and_none_is_left_over() {
    let cases = cases();
    assert!(cases.len() >= 40, "{} golden refusals", cases.len());
    for entry in fs::read_dir(shipped().join("bad")).expect("config/bad is shipped") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "err") {
            let known = cases.iter().any(|case| case.with_extension("err") == path);
            assert!(known, "{} belongs to no case", path.display());
        }
    }
}

#[test]
fn every_code_has_a_refusal_named_after_it() {
    let seen: BTreeSet<String> = cases()
        .iter()
        .filter_map(|case| {
            Some((
                case.file_stem()?.to_str()?.get(..5)?.to_ascii_uppercase(),
                said(case),
            ))
        })
        .filter(|(code, text)| text.contains(code.as_str()))
        .map(|(code, _)| code)
        .collect();
    for code in CATALOGUE {
        // A file above 1 MiB is not worth shipping; `sources` makes one.
        assert!(
            seen.contains(code.code) || code.code == "OR002",
            "no golden refusal shows {}",
            code.code
        );
    }
}

#[test]
fn nothing_that_is_shipped_as_good_is_refused() {
    let mut good = vec![
        shipped().join("outrider.yaml"),
        shipped().join("minimal.yaml"),
    ];
    good.extend(
        fs::read_dir(shipped().join("examples"))
            .expect("shipped")
            .map(|entry| entry.expect("readable").path()),
    );
    assert!(good.len() >= 7);
    for path in good {
        match super::super::load(std::slice::from_ref(&path)) {
            Ok(loaded) => {
                // The one judgement that only a person can make.
                let told: Vec<_> = loaded
                    .warnings
                    .iter()
                    .filter(|fault| fault.code != "OR030")
                    .collect();
                assert!(told.is_empty(), "{}: {told:?}", path.display());
            }
            Err(faults) => panic!("{}", fault::render_all(&faults)),
        }
    }
}

#[test]
fn the_six_lines_are_six() {
    let text = fs::read_to_string(shipped().join("minimal.yaml")).expect("shipped");
    assert_eq!(text.lines().count(), 6);
}
