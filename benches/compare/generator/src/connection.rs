//! One connection, and the answer that is awaited on it.

use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::Duration;
use std::time::Instant;

use rustix::event::epoll;
use rustix::fd::OwnedFd;

/// The longest head that is understood.
const HEAD_MAX: usize = 16 << 10;

/// What reading came to.
pub enum Progress {
    /// More is to come.
    Waits,
    /// An answer is here, all of it.
    Answered {
        status: u16,
        bytes: u64,
        intended: Instant,
    },
    /// The other side closed it, or said something that is no answer.
    Lost { idle: bool },
}

/// Where in an answer it is.
enum State {
    Idle,
    Head(Instant),
    Body {
        status: u16,
        left: u64,
        length: u64,
        intended: Instant,
    },
}

/// See the module.
pub struct Connection {
    stream: TcpStream,
    state: State,
    head: Vec<u8>,
    buffer: Box<[u8]>,
}

impl Connection {
    /// Connects, and asks for the tunnel if there is to be one.
    pub fn open(to: SocketAddr, tunnel: Option<&str>) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        if let Some(target) = tunnel {
            write!(
                stream,
                "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"
            )?;
            let mut answer = Vec::new();
            let mut byte = [0];
            // Byte by byte: what follows the head is the tunnel's.
            while !answer.ends_with(b"\r\n\r\n") && answer.len() < HEAD_MAX {
                stream.read_exact(&mut byte)?;
                answer.push(byte[0]);
            }
            if status(&answer) != Some(200) {
                let first = String::from_utf8_lossy(&answer);
                let first = first.lines().next().unwrap_or_default();
                return Err(std::io::Error::other(format!("no tunnel: {first}")));
            }
        }
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            state: State::Idle,
            head: Vec::with_capacity(1024),
            buffer: vec![0; 64 << 10].into(),
        })
    }

    /// Has `poller` say `key` when something comes.
    pub fn watch(&self, poller: &OwnedFd, key: usize) -> std::io::Result<()> {
        let data = epoll::EventData::new_u64(key as u64);
        Ok(epoll::add(
            poller,
            &self.stream,
            data,
            epoll::EventFlags::IN,
        )?)
    }

    /// Undoes that.
    pub fn leave(&self, poller: &OwnedFd) {
        // It fails where it was not watched, and then there is nothing to undo.
        let _ = epoll::delete(poller, &self.stream);
    }

    /// Sends a request; a free connection's buffer holds one at least.
    pub fn send(&mut self, request: &[u8], intended: Instant) -> std::io::Result<()> {
        self.state = State::Head(intended);
        match self.stream.write_all(request) {
            // That it was closed is seen when it is read.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            done => done,
        }
    }

    /// Reads once.
    pub fn receive(&mut self) -> Progress {
        let lost = Progress::Lost {
            idle: matches!(self.state, State::Idle),
        };
        let read = match self.stream.read(&mut self.buffer) {
            Ok(0) => return lost,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Waits,
            Err(_) => return lost,
        };
        match self.state {
            State::Idle => return lost,
            State::Head(intended) => {
                self.head.extend_from_slice(&self.buffer[..read]);
                let Some(end) = end_of_head(&self.head) else {
                    return if self.head.len() > HEAD_MAX {
                        lost
                    } else {
                        Progress::Waits
                    };
                };
                let head = &self.head[..end];
                let (Some(status), Some(length)) = (status(head), length(head)) else {
                    return lost;
                };
                let more = (self.head.len() - end) as u64;
                self.head.clear();
                let Some(left) = length.checked_sub(more) else {
                    return lost;
                };
                self.state = State::Body {
                    status,
                    left,
                    length,
                    intended,
                };
            }
            State::Body { ref mut left, .. } => match left.checked_sub(read as u64) {
                Some(rest) => *left = rest,
                None => return lost,
            },
        }
        let State::Body {
            status,
            left: 0,
            length,
            intended,
        } = self.state
        else {
            return Progress::Waits;
        };
        self.state = State::Idle;
        Progress::Answered {
            status,
            bytes: length,
            intended,
        }
    }
}

fn end_of_head(text: &[u8]) -> Option<usize> {
    let at = text.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(at + 4)
}

fn status(head: &[u8]) -> Option<u16> {
    std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
}

/// Only answers that say how long they are: those of the origin do, and nobody on the way has a reason to change it.
fn length(head: &[u8]) -> Option<u64> {
    let mut lines = std::str::from_utf8(head).ok()?.lines();
    lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse().ok())?
    })
}
