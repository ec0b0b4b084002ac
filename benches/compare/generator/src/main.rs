//! HTTP/1.1 at a steady rate, or as fast as it is answered, over connections that stay: directly, or through a tunnel that a
//! CONNECT asks for. The result is one JSON object.
//!
//! At a steady rate a request is due when the schedule says so, whether or not earlier ones were answered, and its latency
//! counts from then: a proxy that stands still for a while makes all that were due meanwhile late, not one.

mod connection;
mod report;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use connection::Connection;
use connection::Progress;
use report::Report;
use rustix::event::Timespec;
use rustix::event::epoll;
use rustix::fd::OwnedFd;

const USAGE: &str = "usage: generator --to IP:PORT --path /PATH --host NAME --size BYTES --connections N --seconds S \
                     [--rate REQUESTS-A-SECOND] [--tunnel HOST:PORT]";
/// How long requests that were begun may take after the end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that are told of at once.
const EVENTS: usize = 256;

/// What is asked for.
struct Order {
    to: SocketAddr,
    request: Vec<u8>,
    size: u64,
    connections: usize,
    lasting: Duration,
    /// Between two requests; none is a closed loop.
    every: Option<Duration>,
    tunnel: Option<String>,
}

impl Order {
    fn read(words: &[String]) -> Option<Self> {
        let mut found = std::collections::HashMap::new();
        for pair in words.chunks(2) {
            let [flag, value] = pair else { return None };
            found.insert(flag.strip_prefix("--")?, value.as_str());
        }
        let (path, host) = (found.remove("path")?, found.remove("host")?);
        let rate = match found.remove("rate") {
            Some(rate) => Some(rate.parse::<f64>().ok().filter(|rate| *rate > 0.0)?),
            None => None,
        };
        let order = Self {
            to: found.remove("to")?.parse().ok()?,
            request: format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes(),
            size: found.remove("size")?.parse().ok()?,
            connections: found
                .remove("connections")?
                .parse()
                .ok()
                .filter(|n| *n > 0)?,
            lasting: Duration::from_secs_f64(found.remove("seconds")?.parse().ok()?),
            every: rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
            tunnel: found.remove("tunnel").map(str::to_owned),
        };
        found.is_empty().then_some(order)
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(order) = Order::read(&words) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    // The kernel may otherwise wake a sleeper up to 50 us late to save power. Where this cannot be said, it stays so.
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
    match run(&order) {
        Ok(report) => {
            println!("{}", report.json());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("generator: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The requests that are due and the connections that are free.
struct Load<'a> {
    order: &'a Order,
    poller: OwnedFd,
    connections: Vec<Connection>,
    free: Vec<usize>,
    due: VecDeque<Instant>,
    next: Instant,
    end: Instant,
    report: Report,
}

fn run(order: &Order) -> std::io::Result<Report> {
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections = Vec::with_capacity(order.connections);
    for key in 0..order.connections {
        let connection = Connection::open(order.to, order.tunnel.as_deref())?;
        connection.watch(&poller, key)?;
        connections.push(connection);
    }
    let began = Instant::now();
    let mut load = Load {
        order,
        poller,
        free: (0..connections.len()).rev().collect(),
        connections,
        due: VecDeque::new(),
        next: began,
        end: began + order.lasting,
        report: Report::new(began),
    };
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        load.send()?;
        let now = Instant::now();
        let is_done =
            load.free.len() + load.report.lost == load.connections.len() && load.due.is_empty();
        if now >= load.end && (is_done || now >= load.end + PATIENCE) {
            break;
        }
        load.wait(&mut events, now)?;
        for event in &events {
            load.receive(event.data.u64() as usize);
        }
    }
    let unanswered = load.connections.len() - load.free.len() - load.report.lost + load.due.len();
    load.report.unanswered = unanswered as u64;
    Ok(load.report)
}

impl Load<'_> {
    /// Notes what has become due, and sends as much of it as there are free connections.
    fn send(&mut self) -> std::io::Result<()> {
        let now = Instant::now();
        match self.order.every {
            Some(every) => {
                while self.next <= now && self.next < self.end {
                    self.due.push_back(self.next);
                    self.next += every;
                }
            }
            None if now < self.end => self.due.extend(self.free.iter().map(|_| now)),
            None => {}
        }
        while let Some(intended) = self.due.front().copied() {
            let Some(key) = self.free.pop() else { break };
            self.due.pop_front();
            self.connections[key].send(&self.order.request, intended)?;
        }
        Ok(())
    }

    fn wait(&self, events: &mut Vec<epoll::Event>, now: Instant) -> std::io::Result<()> {
        let until = match self.order.every {
            Some(_) if self.next < self.end => self.next,
            _ if now < self.end => self.end,
            _ => self.end + PATIENCE,
        };
        events.clear();
        let left = until.saturating_duration_since(now);
        let left = Timespec::try_from(left).map_err(std::io::Error::other)?;
        epoll::wait(
            &self.poller,
            rustix::buffer::spare_capacity(events),
            Some(&left),
        )?;
        Ok(())
    }

    fn receive(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        match connection.receive() {
            Progress::Waits => {}
            Progress::Answered {
                status,
                bytes,
                intended,
            } => {
                self.free.push(key);
                self.report
                    .answered(status, bytes, self.order.size, intended);
            }
            Progress::Lost { idle } => {
                connection.leave(&self.poller);
                self.free.retain(|free| *free != key);
                self.report.lost += 1;
                self.report.broken += u64::from(!idle);
            }
        }
    }
}
