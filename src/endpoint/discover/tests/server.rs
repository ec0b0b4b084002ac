//! A name server on loopback that builds its answers by hand.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::UdpSocket;

/// How the name server answers one question.
#[derive(Clone, Debug)]
pub enum Reply {
    Addresses(Vec<IpAddr>, u32),
    /// One CNAME, then addresses.
    Through(&'static str, Vec<IpAddr>, u32),
    /// Cut off over UDP, whole over TCP.
    Truncated(Vec<IpAddr>, u32),
    Code(u8),
    Silence,
}

pub const A: u16 = 1;
pub const AAAA: u16 = 28;
pub const NO_DATA: Reply = Reply::Code(0);
pub const SERVFAIL: Reply = Reply::Code(2);
pub const NXDOMAIN: Reply = Reply::Code(3);
pub const REFUSED: Reply = Reply::Code(5);

/// A name server on loopback that says what the test wants. What it was not told about does not exist.
#[derive(Clone, Default)]
pub struct Server {
    replies: Arc<Mutex<HashMap<(String, u16), Reply>>>,
    asked: Arc<Mutex<Vec<(String, u16)>>>,
}

impl Server {
    pub async fn start() -> (Self, SocketAddr) {
        let server = Self::default();
        // TCP first: its port is more likely to be taken for UDP's than the other way round.
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = tcp.local_addr().expect("bound");
        let udp = UdpSocket::bind(address).await.expect("the same port");
        tokio::spawn(server.clone().serve_udp(udp));
        tokio::spawn(server.clone().serve_tcp(tcp));
        (server, address)
    }

    pub fn say(&self, name: &str, kind: u16, reply: Reply) {
        self.replies.lock().insert((name.to_owned(), kind), reply);
    }

    /// A as given, AAAA alike where that makes sense.
    pub fn say_both(&self, name: &str, reply: Reply) {
        self.say(name, A, reply.clone());
        self.say(name, AAAA, reply);
    }

    pub fn asked(&self) -> Vec<(String, u16)> {
        self.asked.lock().clone()
    }

    async fn serve_udp(self, socket: UdpSocket) {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            if let Some(reply) = self.reply(&buffer[..length], false) {
                socket.send_to(&reply, from).await.expect("loopback");
            }
        }
    }

    async fn serve_tcp(self, listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let server = self.clone();
            tokio::spawn(async move {
                while let Ok(length) = stream.read_u16().await {
                    let mut query = vec![0; usize::from(length)];
                    stream.read_exact(&mut query).await.expect("a whole query");
                    if let Some(reply) = server.reply(&query, true) {
                        let mut framed = u16::try_from(reply.len())
                            .expect("short")
                            .to_be_bytes()
                            .to_vec();
                        framed.extend(reply);
                        stream.write_all(&framed).await.expect("still open");
                    }
                }
            });
        }
    }

    fn reply(&self, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let (name, end) = read_name(query, 12);
        let kind = u16::from_be_bytes([query[end], query[end + 1]]);
        self.asked.lock().push((name.clone(), kind));
        let reply = self
            .replies
            .lock()
            .get(&(name, kind))
            .cloned()
            .unwrap_or(NXDOMAIN);
        let (code, truncated, answers) = match reply {
            Reply::Silence => return None,
            Reply::Code(code) => (code, false, vec![]),
            Reply::Truncated(..) if !tcp => (0, true, vec![]),
            Reply::Addresses(all, ttl) | Reply::Truncated(all, ttl) => (
                0,
                false,
                all.iter().map(|ip| record(&[0xc0, 12], ip, ttl)).collect(),
            ),
            Reply::Through(target, all, ttl) => {
                let target = write_name(target);
                let mut alias = vec![0xc0, 12, 0, 5, 0, 1];
                alias.extend(ttl.to_be_bytes());
                alias.extend(u16::try_from(target.len()).expect("short").to_be_bytes());
                alias.extend(&target);
                let addresses = all.iter().map(|ip| record(&target, ip, 3600));
                (0, false, std::iter::once(alias).chain(addresses).collect())
            }
        };
        let mut message = query[..2].to_vec();
        message.extend([
            0x81 | if truncated { 2 } else { 0 },
            0x80 | code,
            0,
            1,
            0,
            answers.len() as u8,
            0,
            0,
            0,
            0,
        ]);
        message.extend(&query[12..end + 4]);
        message.extend(answers.concat());
        Some(message)
    }
}

fn read_name(message: &[u8], mut at: usize) -> (String, usize) {
    let mut name = String::new();
    while message[at] != 0 {
        let length = usize::from(message[at]);
        name.push_str(std::str::from_utf8(&message[at + 1..=at + length]).expect("ASCII"));
        name.push('.');
        at += length + 1;
    }
    (name.to_ascii_lowercase(), at + 1)
}

fn write_name(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> = labels
        .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat())
        .collect();
    bytes.push(0);
    bytes
}

fn record(name: &[u8], ip: &IpAddr, ttl: u32) -> Vec<u8> {
    let (kind, data) = match ip {
        IpAddr::V4(ip) => (A, ip.octets().to_vec()),
        IpAddr::V6(ip) => (AAAA, ip.octets().to_vec()),
    };
    let mut bytes = name.to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(ttl.to_be_bytes());
    bytes.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
    bytes.extend(data);
    bytes
}
