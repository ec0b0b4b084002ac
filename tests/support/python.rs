//! Python, with the packages that judge what we emit.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The interpreter. Made by `tests/run`, or here by who runs one test alone.
pub fn python() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
        let make = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/make");
        let made = Command::new(make).arg(&folder).status();
        assert!(made.expect("bash").success(), "tests/python/make says why");
        folder.join("env/bin/python")
    })
}

/// Runs a script of `tests/`; gives what it printed. A script that ends with another code than 0 fails the test, with
/// all that it said.
pub fn run(script: &str, args: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(script);
    let done = Command::new(python()).arg(path).args(args).output();
    let done = done.expect("python");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert!(done.status.success(), "{script}:\n{out}\n{err}");
    out
}
