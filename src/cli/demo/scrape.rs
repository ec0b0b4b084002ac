//! A look at outrider from outside: its `/metrics`, as Prometheus would read them.
//!
//! The demo asks over HTTP rather than in the process, so that what it shows is what an operator can have.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::Duration;

use crate::cli::demo::story::Event;
use crate::cli::demo::story::Light;

/// Longest wait for the admin port; it stands on loopback in this very process.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the demo wants to know of outrider at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// State of the breaker.
    pub state: Light,
    /// Times it went to open.
    pub opened: u64,
    /// Times it went to half-open.
    pub probing: u64,
    /// Times it went to closed.
    pub closed: u64,
    /// Endpoints taken out, ever.
    pub ejections: u64,
    /// Endpoints that are out now; `None` when no metric tells.
    pub ejected: Option<u64>,
    /// Retries sent.
    pub retries: u64,
}

impl View {
    /// The counter behind `event`.
    #[must_use]
    pub fn count(&self, event: Event) -> u64 {
        match event {
            Event::Opened => self.opened,
            Event::Probing => self.probing,
            Event::Closed => self.closed,
            Event::Ejected => self.ejections,
        }
    }
}

/// Asks the admin port for its metrics.
///
/// # Errors
/// When the port does not answer in time.
pub fn look(admin: SocketAddr) -> io::Result<View> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // HTTP/1.0 keeps the answer free of chunks, and ends it with the connection. In one piece: an answer may come, and the
    // connection go, before a second write.
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {admin}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .unwrap_or((answer.as_str(), ""));
    if head.split_whitespace().nth(1) != Some("200") {
        return Err(io::Error::other(
            "the admin port did not answer 200 to GET /metrics",
        ));
    }
    Ok(read(body))
}

/// Reads the exposition text.
#[must_use]
pub fn read(text: &str) -> View {
    let mut view = View::default();
    for (name, labels, value) in text.lines().filter_map(sample) {
        let count = value.max(0.0) as u64;
        match name {
            "outrider_breaker_state" => light(&mut view, labels, value),
            "outrider_breaker_transitions_total" => match label(labels, "to") {
                Some("open") => view.opened += count,
                Some("half_open" | "half-open") => view.probing += count,
                Some("closed") => view.closed += count,
                _ => {}
            },
            "outrider_ejections_total" => view.ejections += count,
            "outrider_endpoints_ejected" => view.ejected = Some(view.ejected.unwrap_or(0) + count),
            "outrider_retries_total" => view.retries += count,
            _ => {}
        }
    }
    view
}

/// `outrider_breaker_state` is either one series per state (1 on the state it is in) or one number.
fn light(view: &mut View, labels: &str, value: f64) {
    let state = match label(labels, "state") {
        Some(_) if value < 0.5 => return,
        Some("open") => Light::Open,
        Some("half_open" | "half-open") => Light::HalfOpen,
        None if value >= 1.5 => Light::Open,
        None if value >= 0.5 => Light::HalfOpen,
        Some(_) | None => Light::Closed,
    };
    // Of several breakers the worst is shown.
    if state as u8 > view.state as u8 {
        view.state = state;
    }
}

fn sample(line: &str) -> Option<(&str, &str, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let (name, rest) = match line.split_once('{') {
        Some((name, rest)) => {
            let (labels, value) = rest.rsplit_once('}')?;
            return Some((name, labels, value.split_whitespace().next()?.parse().ok()?));
        }
        None => line.split_once(' ')?,
    };
    Some((name, "", rest.split_whitespace().next()?.parse().ok()?))
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|pair| {
        pair.strip_prefix(name)?
            .strip_prefix("=\"")?
            .strip_suffix('"')
    })
}
