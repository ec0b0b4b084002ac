//! Judgements of `redis`.

use std::net::IpAddr;

use crate::config::build::Built;
use crate::config::fault::Sink;
use crate::config::fault::code;
use crate::kit::fields::Fields;
use crate::shared::Settings;

/// Runs the lints of `redis`.
pub(super) fn run(built: &Built, sink: &mut Sink) {
    let Some(block) = built.root.inside("redis").filter(|block| block.on) else {
        return;
    };
    let settings = Settings::lift(block);
    if let Some(at) = block.place("password")
        && settings.tls.is_none()
        && !settings.nodes.iter().all(|node| is_here(node))
    {
        let message = "the password of Redis is sent in the clear";
        let hint = "add `tls: required`".to_owned();
        sink.add(code::CLEAR_PASSWORD, at, message, Some(hint));
    }
    let tls = block.inside("tls").filter(|tls| tls.on);
    for (one, other) in [("cert", "key"), ("key", "cert")] {
        if let Some(tls) = tls
            && tls.word(one).is_some()
            && tls.word(other).is_none()
            && let Some(at) = tls.place(one)
        {
            let message = format!("`{one}` is of no use without `{other}`");
            let hint = format!("add `{other}`, or remove `{one}`");
            sink.add(code::CONFLICT, at, message, Some(hint));
        }
    }
}

/// Whether a node is reached without leaving this machine.
fn is_here(node: &str) -> bool {
    let host = node.rsplit_once(':').map_or(node, |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
