//! The JSON Schema (draft 2020-12) of the language, for editors, made from the registry.
//!
//! A schema sees one value at a time: what depends on two of them (tries against the timeout, a profile that is not there)
//! is the parser's alone. Blocks of later versions are in it, marked, so that an editor explains them.

use serde_json::Map;
use serde_json::Value as Json;
use serde_json::json;

use super::spec::Key;
use super::spec::Kind;
use super::spec::Switch;
use super::spec::Table;
use super::spec::root::ROOT;
use super::spec::upstream::UPSTREAM;

const DURATION: &str = "^[0-9]+(\\.[0-9]+)? *(ms|s|m|h|d)$";
const SIZE: &str = "^[0-9]+(\\.[0-9]+)? *(B|KiB|MiB|GiB|kB|MB|GB)$";
const SHARE: &str = "^[0-9]+(\\.[0-9]+)? *%$";
const RATE: &str = "^[0-9]+(\\.[0-9]+)? */ *(s|m|h)$";

/// The schema of a policy file.
#[must_use]
pub fn schema() -> Json {
    let mut blocks = Blocks::default();
    let policy = blocks.table(&ROOT, &[]);
    // The short form: the upstream's keys, and of the policy around it those that do not clash with one of them.
    let single: Vec<&'static Key> = ROOT
        .keys
        .iter()
        .filter(|key| UPSTREAM.key(key.name).is_none() && key.name != "upstreams")
        .collect();
    let upstream = blocks.table(&UPSTREAM, &single);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://outrider.dev/schema/v1/policy.json",
        "title": "outrider policy",
        "description": "The policy of an outrider sidecar. A file with `upstream` at its top is one upstream.",
        "if": { "type": "object", "required": ["upstream"] },
        "then": upstream,
        "else": policy,
        "$defs": Json::Object(blocks.defs),
    })
}

/// Definitions shared by reference, each made once.
#[derive(Default)]
struct Blocks {
    defs: Map<String, Json>,
    known: Vec<(&'static Table, String)>,
}

impl Blocks {
    fn table(&mut self, table: &'static Table, more: &[&'static Key]) -> Json {
        let mut properties = Map::new();
        for key in table.keys.iter().chain(more.iter().copied()) {
            properties.insert(key.name.to_owned(), self.key(key));
        }
        let required: Vec<&str> = table
            .keys
            .iter()
            .filter(|key| key.required)
            .map(|key| key.name)
            .collect();
        let mut out = json!({
            "type": "object",
            "description": table.doc,
            "properties": properties,
            "additionalProperties": false,
        });
        if !required.is_empty() {
            // A block that is off needs nothing else.
            if table.switch == Switch::Mode {
                out["if"] =
                    json!({ "not": { "properties": { "mode": off() }, "required": ["mode"] } });
                out["then"] = json!({ "required": required });
            } else {
                out["required"] = json!(required);
            }
        }
        out
    }

    fn reference(&mut self, table: &'static Table) -> Json {
        if let Some((_, name)) = self
            .known
            .iter()
            .find(|(known, _)| std::ptr::eq(*known, table))
        {
            return json!({ "$ref": format!("#/$defs/{name}") });
        }
        let base = table
            .name
            .trim_start_matches("an ")
            .trim_start_matches("a ")
            .replace(' ', "-");
        let taken = self
            .known
            .iter()
            .filter(|(known, _)| known.name == table.name)
            .count();
        let name = if taken == 0 {
            base
        } else {
            format!("{base}-{}", taken + 1)
        };
        self.known.push((table, name.clone()));
        let block = self.table(table, &[]);
        self.defs.insert(name.clone(), block);
        json!({ "$ref": format!("#/$defs/{name}") })
    }

    fn key(&mut self, key: &'static Key) -> Json {
        let mut out = self.kind(&key.kind);
        let later = match key.later {
            Some([]) => " (Not enforced by this version: only `off` loads.)".to_owned(),
            Some(words) => format!(
                " (Not enforced by this version except for `{}`.)",
                words.join("`, `")
            ),
            None => String::new(),
        };
        out["description"] = json!(format!("{}{later}", key.doc));
        if !key.default.is_empty() && !key.default.starts_with('[') {
            out["default"] = match key.default.parse::<u64>() {
                Ok(number) => json!(number),
                Err(_) => json!(key.default),
            };
        }
        out
    }

    fn kind(&mut self, kind: &'static Kind) -> Json {
        match kind {
            Kind::Off => off(),
            Kind::Duration(..) => json!({ "type": "string", "pattern": DURATION }),
            Kind::Size(..) => json!({ "type": "string", "pattern": SIZE }),
            Kind::Share { .. } => json!({ "type": "string", "pattern": SHARE }),
            Kind::Rate { .. } => json!({ "type": "string", "pattern": RATE }),
            // Templates like to quote; the bounds hold for numbers, the pattern for texts.
            Kind::Count(low, high) => json!({
                "type": ["integer", "string"],
                "minimum": low,
                "maximum": high,
                "pattern": "^(0|[1-9][0-9]*)$",
            }),
            Kind::Flag => json!({ "enum": [true, false, "on", "off", "yes", "no"] }),
            Kind::Words(words) if words.contains(&"off") => {
                let mut all: Vec<Json> = words.iter().map(|word| json!(word)).collect();
                all.extend([json!("no"), json!(false)]);
                json!({ "enum": all })
            }
            Kind::Words(words) => json!({ "enum": words }),
            // A status, a port or a name of digits is a number to YAML.
            Kind::Text(check) => json!({ "type": ["string", "integer"], "pattern": check.pattern }),
            Kind::List(of, least) => {
                json!({ "type": "array", "items": self.kind(of), "minItems": least })
            }
            Kind::Block(table) => self.block(table),
            Kind::Named(table) => {
                let of = match table.short {
                    Some(_) => self.block(table),
                    None => self.reference(table),
                };
                json!({ "type": "object", "additionalProperties": of })
            }
            Kind::Or(kinds) => {
                let any: Vec<Json> = kinds.iter().map(|kind| self.kind(kind)).collect();
                json!({ "anyOf": any })
            }
        }
    }

    fn block(&mut self, table: &'static Table) -> Json {
        let mut any = vec![self.reference(table)];
        if let Some(short) = table.short.and_then(|short| table.key(short)) {
            any.push(self.kind(&short.kind));
        }
        if table.switch != Switch::Always {
            any.push(off());
        }
        json!({ "anyOf": any })
    }
}

fn off() -> Json {
    json!({ "enum": ["off", "no", false] })
}
