//! The language, tested through its doors: `parse`, `load`, `schema`, and the golden refusals under `config/bad`.

mod chain;
mod golden;
mod layering;
mod limit;
mod registry;
mod scalars;
mod sources;
mod suggestions;
mod watching;
mod yaml;

use std::path::PathBuf;

use super::Fault;
use super::Loaded;

/// `config/` of the repository.
fn shipped() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config")
}

/// Loads a text that must load without warnings.
fn good(text: &str) -> Loaded {
    match super::parse("p.yaml", text) {
        Ok(loaded) if loaded.warnings.is_empty() => loaded,
        Ok(loaded) => panic!(
            "warnings for\n{text}\n{}",
            super::fault::render_all(&loaded.warnings)
        ),
        Err(faults) => panic!("faults for\n{text}\n{}", super::fault::render_all(&faults)),
    }
}

/// All faults and warnings of a text.
fn faults(text: &str) -> Vec<Fault> {
    match super::parse("p.yaml", text) {
        Ok(loaded) => loaded.warnings,
        Err(faults) => faults,
    }
}

/// `line:column code` of each fault.
fn places(text: &str) -> Vec<String> {
    faults(text)
        .iter()
        .map(|fault| format!("{}:{} {}", fault.line, fault.column, fault.code))
        .collect()
}

/// The effective value and origin of a path: of the base of the first upstream, or of its route of that name.
fn effect(loaded: &Loaded, route: &str, path: &str) -> (String, String) {
    let values = loaded
        .effective
        .find(Some(0), route)
        .expect("the route is in the listing");
    let found = values.values.iter().find(|effect| effect.path == path);
    let found = found.unwrap_or_else(|| panic!("no {path} in {values:?}"));
    (found.value.clone(), found.origin.clone())
}
