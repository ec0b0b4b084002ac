//! Merges the layers of every upstream and route, and finds what only shows across blocks and files.

use std::collections::HashMap;

use super::decode::Block;
use super::fault::Place;
use super::fault::Sink;
use super::fault::code;
use super::layers::Layer;
use super::layers::Merged;
use super::layers::Say;
use super::layers::merge;
use super::spec::root;
use super::spec::upstream as tables;
use super::suggest;
use super::value::Value;
use crate::route::machine::Matcher;
use crate::route::machine::Pattern;

/// Ranks of the layers, lowest first; 0 is built-in.
pub(crate) mod rank {
    pub(crate) const DEFAULTS: usize = 1;
    pub(crate) const PROFILE: usize = 2;
    pub(crate) const UPSTREAM: usize = 3;
    pub(crate) const ROUTE: usize = 4;
}

/// What was merged, before it is lifted: the policy with origins. Lints and listings read this.
#[derive(Debug)]
pub(crate) struct Built {
    /// The top of the file, with `listen` and `telemetry` inside.
    pub(crate) root: Merged,
    /// What unmatched traffic gets.
    pub(crate) fallback: Merged,
    pub(crate) profiles: Vec<Profile>,
    pub(crate) upstreams: Vec<BuiltUpstream>,
}

#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) name: String,
    label: String,
    pub(crate) at: Place,
    pub(crate) used: bool,
}

#[derive(Debug)]
pub(crate) struct BuiltUpstream {
    pub(crate) name: String,
    pub(crate) at: Place,
    pub(crate) pattern: Pattern,
    pub(crate) merged: Merged,
    pub(crate) routes: Vec<BuiltRoute>,
}

#[derive(Debug)]
pub(crate) struct BuiltRoute {
    pub(crate) name: String,
    pub(crate) at: Place,
    pub(crate) matcher: Matcher,
    pub(crate) merged: Merged,
}

/// The layers that lie under an upstream, owned for as long as they are merged.
struct Under<'a> {
    blocks: Vec<(String, usize, Say<'a>)>,
}

impl<'a> Under<'a> {
    fn with(&self, more: Option<(String, usize, Say<'a>)>) -> Under<'a> {
        Under {
            blocks: self.blocks.iter().cloned().chain(more).collect(),
        }
    }

    fn merge(&self, table: &'static super::spec::Table) -> Merged {
        let layers: Vec<Layer<'_>> = self
            .blocks
            .iter()
            .map(|(label, rank, say)| Layer {
                label,
                rank: *rank,
                say: *say,
            })
            .collect();
        merge(table, &layers)
    }
}

/// Merges all documents. Faults that only show across blocks (a profile that is not there, an upstream twice) go to the sink.
pub(crate) fn build(documents: &[Block], sink: &mut Sink) -> Built {
    let several = documents.len() > 1;
    let labels: Vec<Labels> = documents
        .iter()
        .map(|block| Labels::of(block, several, sink))
        .collect();
    let named = || documents.iter().zip(&labels);
    let top = named().map(|(block, labels)| {
        let say = Say::On(block, block.place);
        (labels.policy.clone(), rank::DEFAULTS, say)
    });
    let top = Under {
        blocks: top.collect(),
    };
    let defaults = named().filter_map(|(block, labels)| {
        let entry = block.entry("defaults")?;
        let Value::Block(inner) = &entry.value else {
            return None;
        };
        let say = Say::On(inner, entry.key_at);
        Some((labels.defaults.clone(), rank::DEFAULTS, say))
    });
    let defaults = Under {
        blocks: defaults.collect(),
    };
    let mut profiles = profiles(documents, several, sink);
    let written = named().flat_map(|(document, labels)| upstreams_of(document, labels));
    let upstreams = upstreams(written, &defaults, &mut profiles, sink);
    Built {
        root: top.merge(&root::ROOT),
        fallback: defaults.merge(&tables::DEFAULTS),
        profiles: profiles.into_iter().map(|(profile, _)| profile).collect(),
        upstreams,
    }
}

/// The `upstreams` of one file, each with its label.
fn upstreams_of<'a>(document: &'a Block, labels: &Labels) -> Vec<(String, &'a Block)> {
    let Some(Value::List(items)) = document.entry("upstreams").map(|entry| &entry.value) else {
        return Vec::new();
    };
    let blocks = items
        .iter()
        .enumerate()
        .filter_map(|(index, (item, _))| match item {
            Value::Block(block) => Some((format!("{}[{index}]", labels.upstreams), block)),
            _ => None,
        });
    blocks.collect()
}

fn upstreams<'a>(
    written: impl Iterator<Item = (String, &'a Block)>,
    defaults: &Under<'a>,
    profiles: &mut [(Profile, &'a Block)],
    sink: &mut Sink,
) -> Vec<BuiltUpstream> {
    let mut all: Vec<BuiltUpstream> = Vec::new();
    let mut seen: HashMap<Pattern, Place> = HashMap::new();
    for (label, block) in written {
        let Some(built) = upstream(block, &label, defaults, profiles, sink) else {
            continue;
        };
        if let Some(first) = seen.get(&built.pattern) {
            let hint = first_at(sink, *first);
            let message = format!("the upstream `{}` is already there", built.name);
            sink.add(code::DUPLICATE_UPSTREAM, built.at, message, Some(hint));
        } else {
            seen.insert(built.pattern.clone(), built.at);
            all.push(built);
        }
    }
    all
}

/// What origins call the parts of one file.
struct Labels {
    policy: String,
    upstreams: String,
    defaults: String,
}

impl Labels {
    fn of(block: &Block, several: bool, sink: &Sink) -> Self {
        let file = sink.files.get(block.place.file).filter(|_| several);
        let name = file.map_or_else(String::new, |file| format!("{} ", file.name));
        let label = |what: &str| format!("{name}{what}");
        Self {
            policy: label("policy"),
            upstreams: label("upstreams"),
            defaults: label("defaults"),
        }
    }
}

fn profiles<'a>(
    documents: &'a [Block],
    several: bool,
    sink: &mut Sink,
) -> Vec<(Profile, &'a Block)> {
    let mut all: Vec<(Profile, &Block)> = Vec::new();
    for document in documents {
        let Some(Value::Named(named)) = document.entry("profiles").map(|entry| &entry.value) else {
            continue;
        };
        for (name, at, block) in named {
            if let Some((first, _)) = all.iter().find(|(known, _)| known.name == *name) {
                let hint = first_at(sink, first.at);
                let message = format!("the profile `{name}` is already there");
                sink.add(code::DUPLICATE_PROFILE, *at, message, Some(hint));
                continue;
            }
            let file = sink.files.get(at.file).filter(|_| several);
            let file = file.map_or_else(String::new, |file| format!("{} ", file.name));
            let profile = Profile {
                name: name.clone(),
                label: format!("{file}profile {name}"),
                at: *at,
                used: false,
            };
            all.push((profile, block));
        }
    }
    all
}

fn first_at(sink: &Sink, place: Place) -> String {
    let file = sink
        .files
        .get(place.file)
        .map_or("", |file| file.name.as_str());
    format!(
        "the first is at {file}:{}:{}",
        place.span.line, place.span.column
    )
}

fn upstream<'a>(
    block: &'a Block,
    label: &str,
    defaults: &Under<'a>,
    profiles: &mut [(Profile, &'a Block)],
    sink: &mut Sink,
) -> Option<BuiltUpstream> {
    let profile = profile_of(block, profiles, sink);
    let under = defaults.with(profile).with(Some((
        label.to_owned(),
        rank::UPSTREAM,
        Say::On(block, block.place),
    )));
    let merged = under.merge(&tables::UPSTREAM);
    let entry = block.entry("upstream")?;
    let Value::Text(name) = &entry.value else {
        return None;
    };
    let pattern = Pattern::parse(name).ok()?;
    let mut routes: Vec<BuiltRoute> = Vec::new();
    if let Some(Value::List(items)) = block.entry("routes").map(|entry| &entry.value) {
        for (index, (item, _)) in items.iter().enumerate() {
            let Value::Block(block) = item else { continue };
            let own = (
                format!("{label}.routes[{index}]"),
                rank::ROUTE,
                Say::On(block, block.place),
            );
            let Some(route) = route(block, under.with(Some(own)).merge(&tables::ROUTE)) else {
                continue;
            };
            match routes
                .iter()
                .find(|known| known.matcher.same(&route.matcher))
            {
                Some(first) => {
                    let hint = first_at(sink, first.at);
                    sink.add(
                        code::DUPLICATE_ROUTE,
                        route.at,
                        format!("the route `{}` is already there", route.name),
                        Some(hint),
                    );
                }
                None => routes.push(route),
            }
        }
    }
    Some(BuiltUpstream {
        name: name.clone(),
        at: entry.at,
        pattern,
        merged,
        routes,
    })
}

fn profile_of<'a>(
    block: &Block,
    profiles: &mut [(Profile, &'a Block)],
    sink: &mut Sink,
) -> Option<(String, usize, Say<'a>)> {
    let entry = block.entry("use")?;
    let Value::Text(name) = &entry.value else {
        return None;
    };
    if let Some((profile, block)) = profiles
        .iter_mut()
        .find(|(profile, _)| profile.name == *name)
    {
        profile.used = true;
        return Some((
            profile.label.clone(),
            rank::PROFILE,
            Say::On(block, profile.at),
        ));
    }
    let names = profiles.iter().map(|(profile, _)| profile.name.as_str());
    let hint = match suggest::nearest(name, names) {
        Some(guess) => format!("did you mean `{guess}`?"),
        None if profiles.is_empty() => "there are no `profiles`".to_owned(),
        None => {
            let known: Vec<String> = profiles
                .iter()
                .map(|(profile, _)| format!("`{}`", profile.name))
                .collect();
            format!("known are {}", known.join(", "))
        }
    };
    sink.add(
        code::UNKNOWN_PROFILE,
        entry.at,
        format!("no profile is called `{name}`"),
        Some(hint),
    );
    None
}

fn route(block: &Block, merged: Merged) -> Option<BuiltRoute> {
    let entry = block.entry("match")?;
    let Value::Text(name) = &entry.value else {
        return None;
    };
    let matcher = Matcher::parse(name).ok()?;
    Some(BuiltRoute {
        name: matcher.to_string(),
        at: entry.at,
        matcher,
        merged,
    })
}
