//! Decoded documents to one typed policy: merges the layers of every upstream and route, and lifts each block into the
//! settings of its room.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::Bind;
use super::Endpoints;
use super::Limits;
use super::Listen;
use super::Policy;
use super::Protocol;
use super::Route;
use super::Unmatched;
use super::Upstream;
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
use crate::kit::fields::Fields;
use crate::policy::breaker::config as breaker;
use crate::policy::deadline::config as deadline;
use crate::policy::eject::config as eject;
use crate::policy::retry::config as retry;
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
    let label = |block: &Block, what: &str| {
        let name = sink
            .files
            .get(block.place.file)
            .map_or("", |file| file.name.as_str());
        if several {
            format!("{name} {what}")
        } else {
            what.to_owned()
        }
    };
    let labels: Vec<Labels> = documents
        .iter()
        .map(|block| Labels {
            policy: label(block, "policy"),
            upstreams: label(block, "upstreams"),
            defaults: label(block, "defaults"),
        })
        .collect();
    let top = documents.iter().zip(&labels).map(|(block, labels)| {
        (
            labels.policy.clone(),
            rank::DEFAULTS,
            Say::On(block, block.place),
        )
    });
    let root = Under {
        blocks: top.collect(),
    }
    .merge(&root::ROOT);
    let defaults =
        documents
            .iter()
            .zip(&labels)
            .filter_map(|(block, labels)| match block.entry("defaults") {
                Some(entry) => match &entry.value {
                    Value::Block(inner) => Some((
                        labels.defaults.clone(),
                        rank::DEFAULTS,
                        Say::On(inner, entry.key_at),
                    )),
                    _ => None,
                },
                None => None,
            });
    let defaults = Under {
        blocks: defaults.collect(),
    };
    let fallback = defaults.merge(&tables::DEFAULTS);
    let mut profiles = profiles(documents, several, sink);
    let mut upstreams: Vec<BuiltUpstream> = Vec::new();
    let mut seen: HashMap<Pattern, Place> = HashMap::new();
    for (document, labels) in documents.iter().zip(&labels) {
        let Some(Value::List(items)) = document.entry("upstreams").map(|entry| &entry.value) else {
            continue;
        };
        for (index, (item, _)) in items.iter().enumerate() {
            if let Value::Block(block) = item {
                let own = format!("{}[{index}]", labels.upstreams);
                let Some(built) = upstream(block, &own, &defaults, &mut profiles, sink) else {
                    continue;
                };
                if let Some(first) = seen.get(&built.pattern) {
                    let hint = first_at(sink, *first);
                    let message = format!("the upstream `{}` is already there", built.name);
                    sink.add(code::DUPLICATE_UPSTREAM, built.at, message, Some(hint));
                } else {
                    seen.insert(built.pattern.clone(), built.at);
                    upstreams.push(built);
                }
            }
        }
    }
    let profiles = profiles.into_iter().map(|(profile, _)| profile).collect();
    Built {
        root,
        fallback,
        profiles,
        upstreams,
    }
}

/// What origins call the parts of one file.
struct Labels {
    policy: String,
    upstreams: String,
    defaults: String,
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

/// The typed policy. Only called when no fault refuses it.
pub(crate) fn policy(
    built: &Built,
    service: Option<&str>,
    revision: String,
    sources: Vec<PathBuf>,
) -> Policy {
    let own = built
        .root
        .word("service")
        .or(service)
        .unwrap_or("unknown_service");
    Policy {
        service: own.to_owned(),
        listen: listen(&built.root),
        unmatched: if built.root.word("unmatched") == Some("deny") {
            Unmatched::Deny
        } else {
            Unmatched::Pass
        },
        upstreams: built.upstreams.iter().map(lift_upstream).collect(),
        fallback: lift_route("*", None, &built.fallback),
        fallback_eject: built.fallback.block("eject").map(eject::Settings::lift),
        access_log: built
            .root
            .block("telemetry")
            .is_some_and(|telemetry| telemetry.word("log") == Some("json")),
        revision,
        sources,
    }
}

fn lift_upstream(built: &BuiltUpstream) -> Upstream {
    let merged = &built.merged;
    Upstream {
        pattern: built.pattern.clone(),
        name: built.name.clone(),
        endpoints: endpoints(merged),
        eject: merged.block("eject").map(eject::Settings::lift),
        breaker: merged.block("breaker").map(breaker::Settings::lift),
        protocol: if merged.word("protocol") == Some("tcp") {
            Protocol::Tcp
        } else {
            Protocol::Auto
        },
        base: lift_route("*", None, merged),
        routes: built
            .routes
            .iter()
            .map(|route| lift_route(&route.name, Some(&route.matcher), &route.merged))
            .collect(),
    }
}

fn endpoints(merged: &Merged) -> Endpoints {
    match merged.list("endpoints") {
        Some(list) => Endpoints::Static(
            list.iter()
                .filter_map(|text| text.parse::<SocketAddr>().ok())
                .collect(),
        ),
        None if merged.word("endpoints") == Some("original") => Endpoints::Original,
        None => Endpoints::Dns,
    }
}

fn lift_route(name: &str, matcher: Option<&Matcher>, merged: &Merged) -> Route {
    let breaker = merged.block("breaker").map(|block| {
        let settings = breaker::Settings::lift(block);
        // One machine cannot follow two settings, so a route that changes them gets its own.
        let scope = if block.written_by(rank::ROUTE) {
            breaker::Scope::Route
        } else {
            settings.scope
        };
        breaker::Settings { scope, ..settings }
    });
    Route {
        name: name.to_owned(),
        matcher: matcher.cloned(),
        deadline: merged
            .block("timeout")
            .map(deadline::Settings::lift)
            .unwrap_or_default(),
        retry: merged.block("retry").map(retry::Settings::lift),
        breaker,
    }
}

/// `listen` of a merged root.
pub(crate) fn listen(root: &Merged) -> Listen {
    let block = root.block("listen");
    let bind = |key: &str| block.and_then(|block| block.word(key)).and_then(bind);
    Listen {
        outbound: bind("outbound"),
        explicit: bind("explicit"),
        admin: bind("admin"),
        limits: block
            .and_then(|block| block.block("limits"))
            .map(Limits::lift)
            .unwrap_or_default(),
    }
}

fn bind(text: &str) -> Option<Bind> {
    text.parse::<u16>()
        .map(Bind::Loopback)
        .or_else(|_| text.parse::<SocketAddr>().map(Bind::Address))
        .ok()
}

impl Limits {
    fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        Self {
            head: block.size("head").unwrap_or(built_in.head),
            headers: block.count("headers").unwrap_or(built_in.headers),
            uri: block.size("uri").unwrap_or(built_in.uri),
            body: block.size("body"),
            connections: block.count("connections").unwrap_or(built_in.connections),
            head_read: block.duration("head_read").unwrap_or(built_in.head_read),
            idle: block.duration("idle").unwrap_or(built_in.idle),
            detect: block.duration("detect").unwrap_or(built_in.detect),
        }
    }
}
