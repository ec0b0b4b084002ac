//! Findings as SARIF 2.1.0 (OASIS), for code scanning and editors. Pure: findings in, one JSON value out.

use std::fmt::Write as _;

use serde_json::Value;
use serde_json::json;

use crate::config::Fault;
use crate::config::Severity;
use crate::config::fault::CATALOGUE;

/// The log of one run. Every code is listed as a rule, found or not, so that a viewer knows the whole catalogue.
#[must_use]
pub fn log(faults: &[Fault]) -> Value {
    let rules: Vec<Value> = CATALOGUE
        .iter()
        .map(|code| {
            json!({
                "id": code.code,
                "shortDescription": { "text": code.title },
                "defaultConfiguration": { "level": level(code.severity) },
            })
        })
        .collect();
    let results: Vec<Value> = faults.iter().map(result).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {
                "driver": {
                    "name": "outrider",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": rules,
                },
            },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn result(fault: &Fault) -> Value {
    let text = match &fault.hint {
        Some(hint) => format!("{}; {hint}", fault.message),
        None => fault.message.clone(),
    };
    let mut physical = json!({ "artifactLocation": { "uri": uri(&fault.file) } });
    // A region begins at line 1; a fault of a whole file has none.
    if fault.line > 0 {
        let column = fault.column.max(1);
        physical["region"] = json!({
            "startLine": fault.line,
            "startColumn": column,
            "endColumn": fault.end_column.max(column),
        });
    }
    let mut result = json!({
        "ruleId": fault.code,
        "level": level(fault.severity),
        "message": { "text": text },
        "locations": [{ "physicalLocation": physical }],
    });
    if let Some(index) = CATALOGUE.iter().position(|code| code.code == fault.code) {
        result["ruleIndex"] = json!(index);
    }
    result
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warn => "warning",
    }
}

/// A path as a URI reference (RFC 3986): `file:` when absolute, relative otherwise.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len() + 8);
    if path.starts_with('/') {
        uri.push_str("file://");
    } else if path
        .split('/')
        .next()
        .is_some_and(|first| first.contains(':'))
    {
        // Otherwise what stands before the colon would be read as a scheme.
        uri.push_str("./");
    }
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z'
            | b'a'..=b'z'
            | b'0'..=b'9'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b'/'
            | b':'
            | b'@'
            | b'+'
            | b','
            | b'=' => {
                uri.push(char::from(byte));
            }
            other => {
                // Writing to a String cannot fail.
                let _ = write!(uri, "%{other:02X}");
            }
        }
    }
    uri
}
