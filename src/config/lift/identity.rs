//! `identity`: where our own certificate comes from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::Surroundings;
use super::super::decode::Block;
use super::super::layers::Merged;
use super::super::value::Value;
use crate::identity::TrustDomain;
use crate::identity::config::Settings;
use crate::identity::source::Files;
use crate::identity::source::Own;
use crate::kit::fields::Fields;

/// The identity of a merged root, or the one that the environment names.
pub(crate) fn identity(root: &Merged, around: &Surroundings) -> Option<Settings> {
    match root.block("identity") {
        Some(block) => of_block(block),
        // Switched off in words is off.
        None if root.inside("identity").is_some_and(is_written) => None,
        None => socket(around.spiffe.as_deref()?).map(Settings::Workload),
    }
}

fn is_written(block: &Merged) -> bool {
    block.origin.place.is_some()
}

fn socket(text: &str) -> Option<PathBuf> {
    let path = text
        .strip_prefix("unix://")
        .or_else(|| text.strip_prefix("unix:"))?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

fn of_block(block: &Merged) -> Option<Settings> {
    if let Some(spiffe) = block.word("spiffe") {
        return socket(spiffe).map(Settings::Workload);
    }
    let path = |block: &Merged, key: &str| block.word(key).map(PathBuf::from);
    let (own, ca) = if let Some(files) = block.block("files") {
        let own = Own::Apart {
            cert: path(files, "cert")?,
            key: path(files, "key")?,
        };
        (own, path(files, "ca"))
    } else {
        let bundle = block.block("bundle")?;
        (Own::Bundle(path(bundle, "pem")?), path(bundle, "ca"))
    };
    Some(Settings::Files(Files {
        own,
        ca,
        trust: trust(block),
    }))
}

fn trust(block: &Merged) -> BTreeMap<TrustDomain, PathBuf> {
    let Some((Value::Named(all), _)) = block.value("trust") else {
        return BTreeMap::new();
    };
    let of = |block: &Block| match &block.entry("ca")?.value {
        Value::Text(path) => Some(PathBuf::from(path)),
        _ => None,
    };
    let all = all.iter();
    all.filter_map(|(name, _, block)| Some((TrustDomain::parse(name)?, of(block)?)))
        .collect()
}
