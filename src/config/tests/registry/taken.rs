//! The parser and the schema take the same.

use std::collections::BTreeSet;
use std::fs;

use super::super::super::fault::CATALOGUE;
use super::super::super::schema;
use super::super::golden;
use super::super::shipped;
use super::OTHERS;
use super::OTHERS_AT_THE_TOP;
use super::beside_an_upstream;
use super::without_and_with;

fn json(text: &str) -> Option<serde_json::Value> {
    serde_saphyr::from_str(text).ok()
}

#[test]
fn what_the_parser_takes_the_schema_takes() {
    let validator = jsonschema::validator_for(&schema()).expect("the schema is a schema");
    let mut texts: Vec<(String, String)> = Vec::new();
    for path in ["outrider.yaml", "minimal.yaml"] {
        texts.push((
            path.to_owned(),
            fs::read_to_string(shipped().join(path)).expect("shipped"),
        ));
    }
    for entry in fs::read_dir(shipped().join("examples")).expect("shipped") {
        let path = entry.expect("readable").path();
        if !path.ends_with("configmap.yaml") {
            texts.push((
                path.display().to_string(),
                fs::read_to_string(&path).expect("readable"),
            ));
        }
    }
    for (path, value) in OTHERS {
        texts.push(((*path).to_owned(), without_and_with(path, value).1));
    }
    for (path, value) in OTHERS_AT_THE_TOP {
        texts.push(((*path).to_owned(), beside_an_upstream(path, value)));
    }
    for (name, text) in texts {
        let value = json(&text).unwrap_or_else(|| panic!("{name} is not YAML"));
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| format!("{}: {error}", error.instance_path))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
}

/// Codes of faults that one value shows by itself, so that a schema can see them.
const STRUCTURAL: &[&str] = &[
    "OR010", "OR012", "OR013", "OR014", "OR016", "OR018", "OR019", "OR020", "OR025",
];
/// Codes of faults between values, or of things that only this version does not do: the schema is to let these pass.
const BETWEEN: &[&str] = &[
    "OR021", "OR022", "OR023", "OR024", "OR027", "OR029", "OR030", "OR031", "OR032", "OR033",
    "OR034", "OR035", "OR036", "OR037", "OR038", "OR039", "OR040", "OR041", "OR042", "OR043",
    "OR052", "OR053", "OR054", "OR055", "OR056", "OR058", "OR060", "OR061", "OR062", "OR070",
    "OR080", "OR081", "OR082", "OR085", "OR086", "OR090", "OR160", "OR161", "OR162",
];

#[test]
fn what_the_schema_refuses_the_parser_refuses_and_the_other_way_round() {
    let validator = jsonschema::validator_for(&schema()).expect("the schema is a schema");
    let (mut refused, mut passed) = (0, 0);
    for case in golden::cases().into_iter().filter(|case| case.is_file()) {
        let Some(value) = fs::read_to_string(&case).ok().and_then(|text| json(&text)) else {
            continue;
        };
        if value.get("kind").is_some_and(|kind| kind == "ConfigMap") {
            continue;
        }
        let said = fs::read_to_string(case.with_extension("err")).expect("recorded");
        let codes: BTreeSet<&str> = CATALOGUE
            .iter()
            .map(|code| code.code)
            .filter(|code| said.contains(&format!(" {code}: ")))
            .collect();
        let valid = validator.is_valid(&value);
        // A key may stand in any layer, so what is missing in one of them is only seen when all are merged.
        let across_layers = [
            "or018-limit-without-rate.yaml",
            "or018-credential-without-source.yaml",
        ];
        if across_layers.iter().any(|name| case.ends_with(name)) {
            assert!(valid, "the schema refuses {}", case.display());
        } else if codes.iter().any(|code| STRUCTURAL.contains(code)) {
            refused += 1;
            assert!(!valid, "the schema takes {}", case.display());
        } else if codes.iter().all(|code| BETWEEN.contains(code))
            && !case.ends_with("or027-both-forms.yaml")
        {
            passed += 1;
            assert!(valid, "the schema refuses {}", case.display());
        }
    }
    assert!(
        refused >= 15 && passed >= 15,
        "{refused} refused, {passed} passed"
    );
}
