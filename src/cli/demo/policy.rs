//! The policy that the demo runs, as text: the same text is shown and loaded.

use std::net::SocketAddr;
use std::time::Duration;

/// The host name the load asks for.
pub const HOST: &str = "payments.demo";

/// How long the application waits for an answer, on both sides.
pub const APP_TIMEOUT: Duration = Duration::from_secs(2);

/// The script is written for 30 s. A shorter play needs a breaker that finds out sooner; a longer one does not need a
/// slower breaker.
const WRITTEN_FOR: Duration = Duration::from_secs(30);

/// The part of the policy worth showing: everything but the ports.
#[must_use]
pub fn shown(endpoints: &[SocketAddr], total: Duration) -> String {
    let list = endpoints
        .iter()
        .map(|a| format!("\"{a}\""))
        .collect::<Vec<_>>()
        .join(", ");
    let (over, open, base) = (
        scaled(2000, 1000, total),
        scaled(500, 150, total),
        scaled(500, 100, total),
    );
    let open_max = open * 2;
    format!(
        "upstreams:
  - upstream: {HOST}
    endpoints: [{list}]
    timeout: {{ total: 1500ms, try: 250ms }}
    retry: {{ max: 3, budget: 20%, when: [connect, refused, reset, try_timeout, 503] }}
    breaker: {{ failures: 50%, over: {over}ms, open: {open}ms, open_max: {open_max}ms }}
    eject: {{ consecutive: 5, base: {base}ms }}
"
    )
}

/// The whole text: loopback, free ports, nothing else.
#[must_use]
pub fn whole(shown: &str) -> String {
    format!(
        "service: demo\nlisten: {{ outbound: \"127.0.0.1:0\", explicit: off, admin: \"127.0.0.1:0\" }}\n{shown}"
    )
}

fn scaled(millis: u64, least: u64, total: Duration) -> u64 {
    let factor = (total.as_secs_f64() / WRITTEN_FOR.as_secs_f64()).min(1.0);
    ((millis as f64 * factor) as u64).clamp(least, millis)
}
