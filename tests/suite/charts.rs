//! The chart, as Helm renders it and Kubernetes would judge it.

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
