//! A name server of our own (UDP): answers what the test last told it.

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

const A: u16 = 1;
const AAAA: u16 = 28;
const NO_ERROR: u8 = 0;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;

/// What the server says of the one name it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Zone {
    /// These addresses, for so many seconds.
    Addresses {
        v4: Vec<Ipv4Addr>,
        v6: Vec<Ipv6Addr>,
        ttl: u32,
    },
    ServerFailure,
    NoSuchName,
    Silence,
}

impl Zone {
    pub fn v4(addresses: &[Ipv4Addr]) -> Self {
        Zone::Addresses {
            v4: addresses.to_vec(),
            v6: Vec::new(),
            ttl: 1,
        }
    }
}

/// A running name server.
pub struct Dns {
    pub addr: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    queries: Arc<AtomicUsize>,
    answering: JoinHandle<()>,
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

impl Dns {
    /// Knows `name` alone; every other name does not exist.
    pub async fn start(name: &str, zone: Zone) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("bind a name server");
        let addr = socket.local_addr().expect("bound");
        let zone = Arc::new(Mutex::new(zone));
        let queries = Arc::new(AtomicUsize::new(0));
        let answering = tokio::spawn(answer(
            socket,
            name.to_ascii_lowercase(),
            Arc::clone(&zone),
            Arc::clone(&queries),
        ));
        Dns {
            addr,
            zone,
            queries,
            answering,
        }
    }

    pub fn set(&self, zone: Zone) {
        *self.zone.lock() = zone;
    }

    /// Queries for the known name so far.
    pub fn queries(&self) -> usize {
        self.queries.load(Ordering::SeqCst)
    }
}

async fn answer(
    socket: UdpSocket,
    name: String,
    zone: Arc<Mutex<Zone>>,
    queries: Arc<AtomicUsize>,
) {
    let mut bytes = [0; 1500];
    loop {
        let Ok((count, from)) = socket.recv_from(&mut bytes).await else {
            continue;
        };
        let Some((asked, kind, end)) = question(&bytes[..count]) else {
            continue;
        };
        let known = asked == name;
        if known {
            queries.fetch_add(1, Ordering::SeqCst);
        }
        let zone = if known {
            zone.lock().clone()
        } else {
            Zone::NoSuchName
        };
        if let Some(reply) = reply(&bytes[..end], kind, &zone) {
            let _ = socket.send_to(&reply, from).await;
        }
    }
}

/// The name, the type and the end of the first question.
fn question(query: &[u8]) -> Option<(String, u16, usize)> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    query.get(at + 3)?;
    Some((labels.join("."), kind, at + 4))
}

fn reply(question: &[u8], kind: u16, zone: &Zone) -> Option<Vec<u8>> {
    let mut records: Vec<Vec<u8>> = Vec::new();
    let mut life = 0;
    let code = match zone {
        Zone::Silence => return None,
        Zone::ServerFailure => SERVER_FAILURE,
        Zone::NoSuchName => NO_SUCH_NAME,
        Zone::Addresses { v4, v6, ttl } => {
            life = *ttl;
            match kind {
                A => records.extend(v4.iter().map(|addr| addr.octets().to_vec())),
                AAAA => records.extend(v6.iter().map(|addr| addr.octets().to_vec())),
                _ => {}
            }
            NO_ERROR
        }
    };
    let count = u8::try_from(records.len()).expect("few addresses");
    let mut out = vec![
        question[0],
        question[1],
        0x84 | (question[2] & 1),
        0x80 | code,
        0,
        1,
        0,
        count,
        0,
        0,
        0,
        0,
    ];
    out.extend_from_slice(&question[12..]);
    for data in records {
        // The name is a pointer to the question at offset 12.
        out.extend_from_slice(&[0xc0, 0x0c]);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0, 1]);
        out.extend_from_slice(&life.to_be_bytes());
        out.extend_from_slice(&u16::try_from(data.len()).expect("4 or 16").to_be_bytes());
        out.extend_from_slice(&data);
    }
    Some(out)
}
