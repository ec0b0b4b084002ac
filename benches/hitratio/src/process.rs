//! A whole outrider under the same traffic, through real sockets: what its memory comes to.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::BUDGET;
use crate::traffic::Dice;
use crate::traffic::Traffic;
use crate::traffic::size;

/// Clients at once, each with a connection.
const CLIENTS: usize = 16;
/// Samples of resident memory in the whole run.
const LOOKS: usize = 20;

/// What came of it.
pub struct Memory {
    idle: u64,
    peak: u64,
    hits: f64,
    /// What outrider itself says that its cache takes.
    weight: u64,
}

impl Memory {
    /// Prints it; false if it is too much.
    pub fn tell(&self, bar: f64) -> bool {
        let grown = self.peak.saturating_sub(self.idle) as f64 / BUDGET as f64;
        let met = grown <= bar;
        let word = if met { "met" } else { "not met" };
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!(
            "\na whole outrider, zipf s = 1.0: {:.2} % hits; memory {:.1} MiB at rest, {:.1} MiB at most, of which the cache \
             counts {:.1}",
            100.0 * self.hits,
            mib(self.idle),
            mib(self.peak),
            mib(self.weight),
        );
        println!("bar: at most {bar} x budget over its memory at rest: {grown:.2}: {word}");
        met
    }
}

/// Ends what was started when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn measure(binary: &str, requests: usize, seed: u64) -> std::io::Result<Memory> {
    let asked = Arc::new(AtomicU64::new(0));
    let origin = origin(Arc::clone(&asked))?;
    let (outbound, admin) = (free_port()?, free_port()?);
    let policy = std::env::temp_dir().join(format!("hitratio-{}.yaml", std::process::id()));
    std::fs::write(
        &policy,
        format!(
            "service: bench\nlisten: {{ outbound: {outbound}, explicit: off, admin: {admin} }}\n\
             cache: {{ memory: {}MiB }}\nupstreams:\n  - upstream: shop\n    endpoints: [\"{origin}\"]\n    cache: {{}}\n",
            BUDGET >> 20
        ),
    )?;
    let child = Command::new(binary)
        .arg("run")
        .arg(&policy)
        .env("OUTRIDER_WORKERS", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = Running(child?);
    ready(&mut child.0)?;
    let admin = SocketAddr::from(([127, 0, 0, 1], admin));
    std::fs::remove_file(&policy)?;
    let outbound = SocketAddr::from(([127, 0, 0, 1], outbound));
    let idle = resident(child.0.id())?;
    let mut peak = idle;
    for look in 0..LOOKS {
        // Each look stands for a part of the requests, so that the traffic need not be timed.
        let part = requests / LOOKS / CLIENTS;
        std::thread::scope(|scope| {
            let each = |client: usize| {
                let seed = Dice(seed ^ (look * CLIENTS + client) as u64).next();
                scope.spawn(move || ask(outbound, part, seed))
            };
            let clients: Vec<_> = (0..CLIENTS).map(each).collect();
            clients.into_iter().try_for_each(|client| {
                let done = client.join();
                done.unwrap_or_else(|_| Err(std::io::Error::other("a client panicked")))
            })
        })?;
        peak = peak.max(resident(child.0.id())?);
    }
    let sent = (requests / LOOKS / CLIENTS * CLIENTS * LOOKS) as f64;
    Ok(Memory {
        idle,
        peak,
        hits: 1.0 - asked.load(Ordering::Relaxed) as f64 / sent,
        weight: weight(admin)?,
    })
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Answers each key with a body of its size.
fn origin(asked: Arc<AtomicU64>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let asked = Arc::clone(&asked);
            std::thread::spawn(move || answer(stream, &asked));
        }
    });
    Ok(address)
}

fn answer(stream: TcpStream, asked: &AtomicU64) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let (mut line, mut key) = (String::new(), 0);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("GET /things/") {
            let digits = rest.split(' ').next().unwrap_or_default();
            key = digits.parse().map_err(std::io::Error::other)?;
        }
        if line == "\r\n" {
            asked.fetch_add(1, Ordering::Relaxed);
            let body = size(key);
            let mut all = format!(
                "HTTP/1.1 200 OK\r\ndate: Tue, 24 Nov 2026 10:00:00 GMT\r\ncontent-type: application/json\r\n\
                 cache-control: s-maxage=86400\r\nage: 0\r\ncontent-length: {body}\r\n\r\n"
            )
            .into_bytes();
            all.resize(all.len() + body, b'x');
            writer.write_all(&all)?;
        }
    }
}

/// One client's share of the requests.
fn ask(to: SocketAddr, requests: usize, seed: u64) -> std::io::Result<()> {
    let mut traffic = Traffic::new(1.0, seed);
    let mut writer = TcpStream::connect(to)?;
    writer.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(64 << 10, writer.try_clone()?);
    for _ in 0..requests {
        let ask = traffic.next();
        // Scans of different clients are of different things.
        let key = if ask.key < crate::traffic::KEYS as u64 {
            ask.key
        } else {
            ask.key ^ (seed >> 8)
        };
        write!(
            writer,
            "GET /things/{key:010} HTTP/1.1\r\nhost: shop\r\n\r\n"
        )?;
        let (status, length) = head(&mut reader)?;
        let read = std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink())?;
        if status != 200 || read != size(key) as u64 {
            return Err(std::io::Error::other(format!(
                "status {status}, {read} bytes for key {key}"
            )));
        }
    }
    Ok(())
}

fn head(reader: &mut impl BufRead) -> std::io::Result<(u16, u64)> {
    let (mut line, mut status, mut length) = (String::new(), 0, 0);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            status = rest
                .get(..3)
                .and_then(|digits| digits.parse().ok())
                .unwrap_or(0);
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
        if line == "\r\n" {
            return Ok((status, length));
        }
    }
}

/// Waits for the line that says so, and lets nobody wait for whoever reads the lines after it.
fn ready(child: &mut Child) -> std::io::Result<()> {
    let said = child.stderr.take().map(BufReader::new);
    let mut said = said.ok_or_else(|| std::io::Error::other("outrider has no standard error"))?;
    let mut line = String::new();
    while !line.contains(r#""message":"ready""#) {
        line.clear();
        if said.read_line(&mut line)? == 0 {
            return Err(std::io::Error::other("outrider ended before it was ready"));
        }
    }
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    Ok(())
}

fn get(from: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(from)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// What the metrics say that the cache takes.
fn weight(admin: SocketAddr) -> std::io::Result<u64> {
    let metrics = get(admin, "/metrics")?;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("outrider_cache_bytes "));
    line.and_then(|value| value.parse().ok())
        .ok_or_else(|| std::io::Error::other("no outrider_cache_bytes among the metrics"))
}

fn resident(pid: u32) -> std::io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<u64> =
        line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| std::io::Error::other("no VmRSS"))
}
