//! Judgements of `credential`: a secret goes only where the policy itself says, and nobody on the way reads it.

use super::super::fault::Sink;
use super::super::fault::code;
use super::super::layers::Merged;
use super::super::lift;
use crate::config::build::BuiltUpstream;
use crate::config::fault::Place;
use crate::kit::fields::Fields;
use crate::policy::credential::Settings;
use crate::policy::credential::config::Grant;
use crate::policy::credential::config::Origin;

/// Runs the lints of an upstream and its routes.
pub(super) fn run(upstream: &BuiltUpstream, sink: &mut Sink) {
    block(upstream, &upstream.merged, sink);
    for route in &upstream.routes {
        block(upstream, &route.merged, sink);
    }
}

fn block(upstream: &BuiltUpstream, merged: &Merged, sink: &mut Sink) {
    let Some(credential) = merged.block("credential") else {
        return;
    };
    let Some(at) = written(credential) else {
        return;
    };
    source(credential, at, sink);
    reach(upstream, at, sink);
    plain(upstream, at, sink);
    kept(merged, credential, sink);
}

/// Where a file speaks of it.
fn written(block: &Merged) -> Option<Place> {
    let inside = block
        .inside("oauth2")
        .and_then(|oauth2| oauth2.origin.place);
    block.place("from").or(inside).or(block.origin.place)
}

/// Where the secret comes from.
fn source(credential: &Merged, at: Place, sink: &mut Sink) {
    let grant = credential.block("oauth2");
    match (credential.word("from"), grant) {
        // Where something else is refused, it may be what stood there.
        (None, None) if !sink.refuses() => {
            let hint = "add `from: file:/path`, or `oauth2: { ... }`".to_owned();
            let message = "credential needs `from` or `oauth2`";
            sink.add(code::MISSING_KEY, at, message, Some(hint));
        }
        (Some(_), Some(_)) => {
            let message = "`from` and `oauth2` both say where the secret comes from";
            sink.add(code::CONFLICT, at, message, Some("keep one".to_owned()));
        }
        _ => {}
    }
    let settings = Settings::lift(credential);
    let next = credential.place("next");
    if let (Some(Origin::Grant(grant)), Some(oauth2)) =
        (&settings.from, credential.inside("oauth2"))
    {
        if let Some(next) = next {
            let message =
                "`next` has no part in `oauth2`: a token that is refused is asked for anew";
            sink.add(code::CONFLICT, next, message, Some("remove it".to_owned()));
        }
        let at = oauth2.place("token_url").unwrap_or(at);
        token_endpoint(grant, at, sink);
    } else if let (Some(next), Some(Origin::Place(from))) = (next, &settings.from)
        && settings.next.as_ref() == Some(from)
    {
        let message = "`next` is the same place as `from`: the second try would carry the same key";
        sink.add(
            code::CONFLICT,
            next,
            message,
            Some("name another".to_owned()),
        );
    }
}

fn token_endpoint(grant: &Grant, at: Place, sink: &mut Sink) {
    if !grant.token_url.starts_with("http://") {
        return;
    }
    let authority = grant.authority();
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, port)| {
            if port.bytes().all(|byte| byte.is_ascii_digit()) {
                host
            } else {
                authority
            }
        });
    let bare = host.trim_matches(['[', ']']);
    let is_loopback = bare.eq_ignore_ascii_case("localhost")
        || bare
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    if is_loopback {
        return;
    }
    if grant.insecure {
        let message =
            format!("the client's secret and its tokens go to `{host}` for everybody to read");
        let hint = "use `https`; `ca` names the anchors of a server of your own".to_owned();
        sink.add(code::PLAIN_CREDENTIAL, at, message, Some(hint));
    } else {
        let message = format!("the client's secret would go to `{host}` without TLS");
        let hint =
            "use `https`; `insecure: true` if nobody can be on the way, which is rarely known"
                .to_owned();
        sink.add(code::LOOSE_CREDENTIAL, at, message, Some(hint));
    }
}

/// Whether the policy itself says who gets the secret.
fn reach(upstream: &BuiltUpstream, at: Place, sink: &mut Sink) {
    if upstream.pattern.is_glob() {
        let message = format!(
            "the secret would go to every host that `{}` stands for, and whoever sends a request chooses one",
            upstream.name
        );
        let hint = "give it an upstream that names one host".to_owned();
        sink.add(code::LOOSE_CREDENTIAL, at, message, Some(hint));
    } else if upstream.merged.word("endpoints") == Some("original")
        && !is_verified(&upstream.merged)
    {
        let message = format!(
            "the secret would go to whatever address was dialled, if only the request says that it is for `{}`",
            upstream.name
        );
        let hint = "`endpoints: dns` or a list goes by the policy; `originate: tls`, or `mtls: required` with `peers`, proves who is there".to_owned();
        sink.add(code::LOOSE_CREDENTIAL, at, message, Some(hint));
    }
}

/// Whether a connection is only used once the peer has shown that it is the one that the policy names.
fn is_verified(merged: &Merged) -> bool {
    let mtls = merged.block("mtls").is_some_and(|mtls| {
        let peers = mtls.list("peers").is_some_and(|peers| !peers.is_empty());
        mtls.word("mode") == Some("required") && peers
    });
    mtls || is_originated(merged)
}

fn is_originated(merged: &Merged) -> bool {
    merged.word("originate") == Some("tls") || merged.block("originate").is_some()
}

/// Whether somebody on the way can read it.
fn plain(upstream: &BuiltUpstream, at: Place, sink: &mut Sink) {
    let merged = &upstream.merged;
    let mtls = merged.block("mtls");
    let is_sealed = mtls.is_some_and(|mtls| mtls.word("mode") == Some("required"));
    if is_sealed || is_originated(merged) {
        return;
    }
    let stays_here = lift::listed(merged).is_some_and(|all| {
        all.iter()
            .all(|(member, _)| member.address.ip().is_loopback())
    });
    if stays_here {
        return;
    }
    let message = format!(
        "the secret goes to `{}` for everybody on the way to read",
        upstream.name
    );
    let hint = "`originate: tls` or `mtls: required` seals it".to_owned();
    sink.add(code::PLAIN_CREDENTIAL, at, message, Some(hint));
}

/// Whether a cache beside it keeps what it is told to keep.
fn kept(merged: &Merged, credential: &Merged, sink: &mut Sink) {
    let Some(cache) = merged.block("cache") else {
        return;
    };
    if credential.word("mode") == Some("shadow") || cache.word("credentialed") == Some("own") {
        return;
    }
    for key in ["get", "heuristic"] {
        let is_set = cache.duration(key).is_some() || cache.share(key).is_some();
        if let Some(at) = cache.place(key).filter(|_| is_set) {
            let message = format!(
                "`{key}` keeps nothing: these calls carry a credential, and what answers them is kept only where the upstream says that others may have it"
            );
            let hint =
                "`credentialed: own` says that it is the service's own, the same for all it calls"
                    .to_owned();
            sink.add(code::IDLE_CACHE, at, message, Some(hint));
        }
    }
}
