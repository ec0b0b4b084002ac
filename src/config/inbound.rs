//! `inbound` and `admin` as settings.

use std::path::PathBuf;

use super::decode::Block;
use super::layers::Merged;
use super::value::Value;
use crate::kit::fields::Fields;
use crate::kit::matcher::Matcher;
use crate::kit::mode::Mode;
use crate::listen::inbound as listener;
use crate::listen::inbound::App;
use crate::listen::inbound::Protocol;
use crate::policy::authorise::config as authorise;
use crate::policy::authorise::machine::Rule;
use crate::policy::authorise::machine::Who;
use crate::policy::limit::config as limit;

/// `inbound`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inbound {
    /// Which applications, and who is let in.
    pub settings: listener::Settings,
    /// Who may call what; `None` is off.
    pub authorise: Option<authorise::Settings>,
    /// How often; `None` is off.
    pub limit: Option<limit::Settings>,
}

/// Where a secret is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretPlace {
    /// In a file.
    File(PathBuf),
    /// In a variable of the environment.
    Env(String),
}

impl SecretPlace {
    /// Reads `file:/path` or `env:NAME`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("file", path) => Some(Self::File(path.into())),
            ("env", name) => Some(Self::Env(name.to_owned())),
            _ => None,
        }
    }
}

/// `inbound` of a merged root; `None` is off.
pub(crate) fn inbound(root: &Merged) -> Option<Inbound> {
    root.block("inbound").map(lift)
}

pub(crate) fn lift(block: &Merged) -> Inbound {
    Inbound {
        settings: listener::Settings {
            apps: apps(block),
            mode: match block.word("mode") {
                Some("permissive") => listener::Mode::Permissive,
                _ => listener::Mode::Strict,
            },
            probes: texts(block, "probes").into_iter().map(Into::into).collect(),
        },
        authorise: block.block("authorise").map(authorise),
        limit: block.block("limit").map(limit::Settings::lift),
    }
}

/// `admin.token` of a merged root.
pub(crate) fn admin_token(root: &Merged) -> Option<SecretPlace> {
    SecretPlace::parse(root.block("admin")?.word("token")?)
}

fn apps(block: &Merged) -> Vec<App> {
    let app = |port: &str, protocol: Option<&str>| {
        Some(App {
            address: App::address(port)?,
            protocol: match protocol {
                Some("http1") => Protocol::Http1,
                Some("http2") => Protocol::Http2,
                Some("tcp") => Protocol::Tcp,
                _ => Protocol::Auto,
            },
        })
    };
    if let Some(port) = block.word("app") {
        return app(port, None).into_iter().collect();
    }
    let entries = blocks(block, "app");
    let apps = entries.filter_map(|entry| {
        let protocol = match entry.entry("protocol").map(|entry| &entry.value) {
            Some(Value::Word(word)) => Some(*word),
            _ => None,
        };
        app(said(entry, "port").first()?, protocol)
    });
    apps.collect()
}

/// `authorise` that is not off.
pub(crate) fn authorise(block: &Merged) -> authorise::Settings {
    let rule = |entry: &Block| Rule {
        // What cannot be read was refused when the block was decoded.
        from: said(entry, "from")
            .into_iter()
            .filter_map(|text| Who::parse(text).ok())
            .collect(),
        to: said(entry, "to")
            .into_iter()
            .filter_map(|text| Matcher::parse(text).ok())
            .collect(),
    };
    authorise::Settings {
        mode: match block.word("mode") {
            Some("shadow") => Mode::Shadow,
            _ => Mode::Enforce,
        },
        rules: blocks(block, "rules").map(rule).collect(),
    }
}

fn texts<'a>(block: &'a Merged, key: &str) -> Vec<&'a str> {
    block.list(key).unwrap_or_default()
}

/// The blocks of a list.
pub(super) fn blocks<'a>(block: &'a Merged, key: &str) -> impl Iterator<Item = &'a Block> {
    let items = match block.value(key) {
        Some((Value::List(items), _)) => items.as_slice(),
        _ => &[],
    };
    items.iter().filter_map(|(item, _)| match item {
        Value::Block(block) => Some(block),
        _ => None,
    })
}

/// The texts of a key that takes one or a list.
pub(super) fn said<'a>(block: &'a Block, key: &str) -> Vec<&'a str> {
    match block.entry(key).map(|entry| &entry.value) {
        Some(Value::Text(text)) => vec![text],
        Some(Value::List(items)) => {
            let texts = items.iter().filter_map(|(item, _)| match item {
                Value::Text(text) => Some(text.as_str()),
                _ => None,
            });
            texts.collect()
        }
        _ => Vec::new(),
    }
}
