//! Lints of the listener in front of the application.

use crate::config::Bind;
use crate::config::Surroundings;
use crate::config::decode::Block;
use crate::config::fault::Place;
use crate::config::fault::Sink;
use crate::config::fault::code;
use crate::config::inbound;
use crate::config::layers::Merged;
use crate::config::lift;
use crate::config::lint::limit;
use crate::kit::fields::Fields;
use crate::kit::matcher::Matcher;
use crate::listen::inbound::Mode;
use crate::policy::authorise::machine::Who;
use crate::policy::authorise::machine::is_clear;

/// Runs them.
pub(super) fn run(root: &Merged, around: &Surroundings, sink: &mut Sink) {
    let bind = lift::listen(root).inbound;
    let opened = root
        .inside("listen")
        .and_then(|block| block.place("inbound"));
    let block = root.inside("inbound").filter(|block| block.on);
    let Some(block) = block else {
        if let (Some(_), Some(at)) = (bind, opened) {
            sink.add(
                code::CONFLICT,
                at,
                "`listen.inbound` is on, and nobody says what is behind it",
                Some("add `inbound: { app: 8080 }` with the port of the application".to_owned()),
            );
        }
        return;
    };
    if let (None, Some(at)) = (bind, block.origin.place) {
        sink.add(
            code::IDLE_INBOUND,
            at,
            "`inbound` has no effect: its port is not open",
            Some("add `listen: { inbound: 4752 }`".to_owned()),
        );
    }
    let settings = inbound::lift(block);
    apps(block, bind, sink);
    if let Some(block) = block.block("limit") {
        limit::limit(block, sink);
    }
    let is_open = settings.settings.mode == Mode::Permissive;
    if let (Some(_), false, None, Some(at)) = (
        bind,
        is_open,
        lift::identity(root, around),
        block.origin.place,
    ) {
        sink.add(
            code::CLOSED_INBOUND,
            at,
            "nobody gets in: `strict` takes mutual TLS only, and there is no `identity` to answer with",
            Some(
                "add `identity: { spiffe: unix:///path }` or `identity: { files: { cert, key, ca } }`, or set SPIFFE_ENDPOINT_SOCKET"
                    .to_owned(),
            ),
        );
    }
    match (block.inside("authorise").filter(|block| block.on), is_open) {
        (Some(authorise), _) => rules(authorise, is_open, sink),
        (None, true) => {
            if let Some(at) = block.place("mode") {
                sink.add(
                    code::OPEN_INBOUND,
                    at,
                    "`permissive` lets everybody in, without an identity: anyone who reaches the port may call the application",
                    Some("use it while callers are moved over, then `mode: strict`".to_owned()),
                );
            }
        }
        (None, false) => {}
    }
}

/// Ports that lead back to us, and ports that a redirect could not tell apart.
fn apps(block: &Merged, bind: Option<Bind>, sink: &mut Sink) {
    let settings = inbound::lift(block).settings;
    let Some(at) = block.place("app") else { return };
    let port = bind.map(|bind| match bind {
        Bind::Loopback(port) => port,
        Bind::Address(address) => address.port(),
    });
    for (index, app) in settings.apps.iter().enumerate() {
        if Some(app.address.port()) == port {
            let message = format!(
                "`app` is port {}, on which `inbound` itself listens",
                app.address.port()
            );
            sink.add(code::CONFLICT, at, message, None);
        }
        let known = &settings.apps[..index];
        if known
            .iter()
            .any(|other| other.address.port() == app.address.port())
        {
            let message = format!("the app port {} is there twice", app.address.port());
            sink.add(code::CONFLICT, at, message, None);
        }
    }
}

fn rules(block: &Merged, is_open: bool, sink: &mut Sink) {
    for rule in inbound::blocks(block, "rules") {
        for (text, at) in texts(rule, "to") {
            let Ok(matcher) = Matcher::parse(text) else {
                continue;
            };
            let path = text.split_whitespace().last().unwrap_or_default();
            if matcher.names_path() && !is_clear(&path.replace("**", "a").replace('*', "a")) {
                let message = format!(
                    "no request can match `{text}`: a path that could be read in two ways is never allowed by name"
                );
                let hint =
                    "write the path without `//`, dot segments, `;` and needless percent-encoding"
                        .to_owned();
                sink.add(code::IDLE_RULE, at, message, Some(hint));
            }
        }
        for (text, at) in texts(rule, "from") {
            if !is_open && Who::parse(text) == Ok(Who::Anonymous) {
                let message =
                    "`anonymous` meets nobody: in mode strict every caller has an identity";
                let hint = "paths that are asked for in the clear belong in `probes`".to_owned();
                sink.add(code::IDLE_RULE, at, message, Some(hint));
            }
        }
    }
}

/// The texts of a key that takes one or a list, each with its place.
fn texts<'a>(block: &'a Block, key: &str) -> Vec<(&'a str, Place)> {
    let Some(entry) = block.entry(key) else {
        return Vec::new();
    };
    let said = inbound::said(block, key);
    match &entry.value {
        crate::config::value::Value::List(items) => said
            .into_iter()
            .zip(items.iter().map(|(_, at)| *at))
            .collect(),
        _ => said.into_iter().map(|text| (text, entry.at)).collect(),
    }
}
