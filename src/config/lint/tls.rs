//! Lints of `identity`, `mtls` and `originate`.

use super::super::Surroundings;
use super::super::build::Built;
use super::super::build::BuiltUpstream;
use super::super::fault::Place;
use super::super::fault::Sink;
use super::super::fault::code;
use super::super::layers::Merged;
use super::super::lift;
use super::super::value::Value;
use crate::identity::TrustDomain;
use crate::kit::fields::Fields;

/// What contradicts itself, and what is not protected although it could be.
pub(super) fn run(built: &Built, around: &Surroundings, sink: &mut Sink) {
    identity(&built.root, sink);
    // One that cannot be read has a fault of its own.
    let is_written = built.root.block("identity").is_some();
    let has_identity = is_written || lift::identity(&built.root, around).is_some();
    let defaults = &built.fallback;
    let layers = built
        .upstreams
        .iter()
        .map(|upstream| (&upstream.merged, upstream.at));
    let mut told = false;
    for (merged, at) in layers.chain([(defaults, Place::default())]) {
        let Some(block) = merged.block("mtls") else {
            continue;
        };
        let at = block.place("mode").or(block.origin.place).unwrap_or(at);
        if !has_identity && !told {
            told = true;
            let hint = "add `identity: { spiffe: unix:///path }` or `identity: { files: { cert, key, ca } }`, or set SPIFFE_ENDPOINT_SOCKET";
            let message = "`mtls` needs a certificate to show, and there is no `identity`";
            sink.add(code::NO_IDENTITY, at, message, Some(hint.to_owned()));
        }
        if let Some(originate) = merged.block("originate") {
            let at = originate.origin.place.unwrap_or(at);
            let message =
                "`mtls` and `originate` are both on, and a connection has one kind of TLS";
            let hint = "`mtls: off` here, for what is not one of our own; or remove `originate`";
            sink.add(code::CONFLICT, at, message, Some(hint.to_owned()));
        }
    }
    for upstream in &built.upstreams {
        if has_identity {
            plaintext(upstream, sink);
        }
    }
}

fn identity(root: &Merged, sink: &mut Sink) {
    let Some(block) = root.block("identity") else {
        return;
    };
    let at = block.origin.place.unwrap_or_default();
    let sources = [
        ("spiffe", block.place("spiffe")),
        (
            "files",
            block.block("files").and_then(|files| files.origin.place),
        ),
        (
            "bundle",
            block.block("bundle").and_then(|bundle| bundle.origin.place),
        ),
    ];
    let written: Vec<_> = sources
        .iter()
        .filter_map(|(name, at)| at.map(|at| (*name, at)))
        .collect();
    let hint = || Some("name one of `spiffe`, `files` and `bundle`".to_owned());
    match written.as_slice() {
        [] => sink.add(
            code::CONFLICT,
            at,
            "`identity` does not say where the certificate comes from",
            hint(),
        ),
        [_] => {}
        [(first, _), (second, at), ..] => {
            let message = format!("`identity` has `{first}` and `{second}`, and can be only one");
            sink.add(code::CONFLICT, *at, message, hint());
        }
    }
    let Some((Value::Named(all), origin)) = block.value("trust") else {
        return;
    };
    if let (Some(_), Some(at)) = (block.place("spiffe"), origin.place) {
        let message =
            "the Workload API names the trust domains that it federates with; `trust` adds none";
        sink.add(
            code::CONFLICT,
            at,
            message,
            Some("remove `trust`".to_owned()),
        );
    }
    for (name, at, _) in all {
        if TrustDomain::parse(name).is_none() {
            let message = format!(
                "`{name}` is no trust domain: lower-case letters, digits, `.`, `-` and `_`"
            );
            sink.add(code::TEXT, *at, message, None);
        }
    }
}

/// Names that only resolve inside a cluster: what goes to them unprotected could be protected.
fn plaintext(upstream: &BuiltUpstream, sink: &mut Sink) {
    let host = upstream.pattern.host();
    let labels = host.split('.').count();
    let is_inside = host.ends_with(".svc")
        || host.ends_with(".svc.cluster.local")
        || labels == 2 && is_service(&host);
    let merged = &upstream.merged;
    let is_secured = merged.block("mtls").is_some() || merged.block("originate").is_some();
    if is_secured || !is_inside {
        return;
    }
    let said = merged.inside("mtls").and_then(|block| block.origin.place);
    let message = format!(
        "calls to `{}` go in plaintext inside the cluster, although this workload has an identity",
        upstream.name
    );
    let hint = "`mtls: required`; `preferred` while its side does not speak TLS yet".to_owned();
    sink.add(
        code::PLAINTEXT_INSIDE,
        said.unwrap_or(upstream.at),
        message,
        Some(hint),
    );
}

/// `payments.shop` may be a service and its namespace, or a name of the world; the latter end in a known way.
fn is_service(host: &str) -> bool {
    const WORLD: &[&str] = &[
        "com", "org", "net", "io", "dev", "app", "cloud", "ai", "co", "edu", "gov", "info", "eu",
        "de", "uk", "fr", "us",
    ];
    let last = host.rsplit('.').next().unwrap_or_default();
    !WORLD.contains(&last) && !last.bytes().all(|byte| byte.is_ascii_digit())
}
