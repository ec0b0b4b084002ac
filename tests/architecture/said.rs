//! No text leaves that was not looked at.

use crate::read::{File, line_of, places};
use crate::rules::is_test;

/// Who may write to the outside, and what makes sure that it was looked at.
pub const SPEAKERS: &[(&str, &str)] = &[
    (
        "src/telemetry/diagnostics.rs",
        "each line goes through `redact::text`",
    ),
    ("src/cli/out.rs", "takes `Clean`, or a text that it redacts"),
    (
        "src/cli/run.rs",
        "hands stdout to the access log, which takes `Clean`",
    ),
    ("src/cli/demo", "shows figures of its own making"),
    (
        "src/kit/walk.rs",
        "is compiled for tests only, and tells a seed",
    ),
];

/// Who may say that a text needs no look, and why.
pub const VETTERS: &[(&str, &str)] = &[
    ("src/redact/", "makes them"),
    (
        "src/telemetry/access_log/line.rs",
        "names that the policy gives",
    ),
    ("src/telemetry/layer.rs", "the hex digits of a trace ID"),
    (
        "src/admin/pages.rs",
        "metrics, whose labels are the policy's, and the index",
    ),
    (
        "src/http/answer.rs",
        "words of ours around an identifier that was looked at",
    ),
    ("src/cli/schema.rs", "the language itself"),
    (
        "src/cli/policy.rs",
        "a policy that loads, which names places and holds no secret",
    ),
];

/// Where texts leave, and the form in which each of them takes them.
pub const SINKS: &[(&str, &[&str])] = &[
    (
        "src/telemetry/access_log/json.rs",
        &[
            "fn word(&mut self, key: &'static str, word: &'static str)",
            "fn text(&mut self, key: &'static str, text: &Clean<'_>)",
        ],
    ),
    ("src/telemetry/diagnostics.rs", &["write_all(redact::text("]),
    (
        "src/admin/pages.rs",
        &["body: Clean<'static>)", "Full::from(body.into_bytes())"],
    ),
    (
        "src/http/answer.rs",
        &["Bytes::from(body.into_bytes())", "redact::id("],
    ),
    (
        "src/cli/out.rs",
        &["fn put(text: &Clean<'_>)", "redact::text(text.as_bytes())"],
    ),
    (
        "src/audit/event.rs",
        &["redact::json(&mut value)", "redact::text("],
    ),
];

/// No text leaves that was not looked at: few may speak, fewer may vouch, and what the others hand them is `Clean`.
pub fn said(f: &File) -> Vec<String> {
    if is_test(f) || !f.path.starts_with("src/") {
        return Vec::new();
    }
    let is_in = |list: &[(&str, &str)]| list.iter().any(|(prefix, _)| f.path.starts_with(prefix));
    let mut faults = Vec::new();
    let aloud = [
        "println", "eprintln", "print!", "eprint!", "stdout()", "stderr()",
    ];
    for word in aloud.iter().filter(|_| !is_in(SPEAKERS)) {
        for at in places(&f.code, word) {
            // Whether a person looks at it is asked of the stream, and nothing is said to it.
            let before = f.code[..at].lines().last().unwrap_or_default();
            if !before.contains("Paint::to(&") {
                let line = line_of(&f.code, at);
                faults.push(format!(
                    "{}:{line}: `{word}`: speak through cli::out or tracing",
                    f.path
                ));
            }
        }
    }
    for at in places(&f.code, "Clean::vetted")
        .into_iter()
        .filter(|_| !is_in(VETTERS))
    {
        let line = line_of(&f.code, at);
        faults.push(format!(
            "{}:{line}: `Clean::vetted`: let redact look at it",
            f.path
        ));
    }
    let forms = SINKS
        .iter()
        .filter(|(path, _)| *path == f.path)
        .flat_map(|(_, forms)| *forms);
    let flat: String = f.text.split_whitespace().collect::<Vec<_>>().join(" ");
    for form in forms.filter(|form| !flat.replace("( ", "(").replace(", )", ")").contains(*form)) {
        faults.push(format!("{}: a sink lost its form `{form}`", f.path));
    }
    faults
}
