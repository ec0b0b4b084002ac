//! An HTTP/1.1 origin of our own, on raw sockets: every request is answered by a script, to the byte.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::STEP;
pub use super::answer::After;
pub use super::answer::Answer;
pub use super::answer::chunk;
pub use super::answer::pattern;
use super::wire::Body;
use super::wire::Fault;
use super::wire::Framing;
use super::wire::Head;
use super::wire::Wire;
use super::wire::latin1;

/// A door that a test opens when it wants a held answer to go on.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub fn new() -> Self {
        Gate(Arc::new(watch::channel(false).0))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub async fn passed(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// What the origin does with one request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Reads the whole request, then answers.
    Answer(Answer),
    /// Answers before the body of the request is read, then reads it.
    Early(Answer),
    /// Answers with JSON of the exact bytes it received.
    Echo,
    /// Waits for the gate, then acts.
    Hold(Gate, Box<Act>),
    /// Sends only so many bytes of the answer, then does the rest.
    Cut(Answer, usize, After),
    /// Sends the answer in pieces of so many bytes with a pause between.
    Drip(Answer, usize),
    /// Sends these bytes as they are.
    Raw(Vec<u8>, After),
    /// Never answers; ends when the peer does.
    Silence,
    /// Switches protocols and sends back whatever comes.
    Upgrade,
    /// Begins a chunked answer at once and returns each chunk of the request as it comes.
    Duplex,
    /// A body of so many bytes of [`pattern`], written as fast as the peer takes it and counted in `sent`.
    Flood(usize),
    /// Reads nothing of the body until the gate opens, then answers with its length.
    Unread(Gate),
}

/// One request as the script sees it, decided on its head.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Counted over the whole origin, from 0.
    pub n: usize,
    pub connection: usize,
    /// Counted on this connection, from 0.
    pub nth: usize,
    pub method: &'a str,
    pub target: &'a str,
    pub head: &'a Head,
}

/// One request as it was received.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub connection: usize,
    pub method: String,
    pub target: String,
    pub head: Head,
    pub body: Body,
    /// The body has been read to its end.
    pub whole: bool,
    /// The rule that the request broke for a strict reader.
    pub fault: Option<String>,
}

type Script = Arc<dyn Fn(&Asked<'_>) -> Act + Send + Sync>;

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicUsize,
    sent: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
}

/// A running origin; dropping it stops it and resets what is open.
pub struct Origin {
    pub addr: SocketAddr,
    counts: Arc<Counts>,
    accepting: JoinHandle<()>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Origin {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start(script: impl Fn(&Asked<'_>) -> Act + Send + Sync + 'static) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), script).await
    }

    /// The commonest origin: always this answer.
    pub async fn always(answer: Answer) -> Self {
        Self::start(move |_| Act::Answer(answer.clone())).await
    }

    /// Acts once in this order, and then the last one for ever.
    pub async fn sequence(acts: Vec<Act>) -> Self {
        let acts = Mutex::new(VecDeque::from(acts));
        Self::start(move |_| {
            let mut acts = acts.lock();
            if acts.len() > 1 {
                acts.pop_front()
            } else {
                acts.front().cloned()
            }
            .expect("a sequence has an act")
        })
        .await
    }

    pub async fn at(
        addr: SocketAddr,
        script: impl Fn(&Asked<'_>) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(addr)
            .await
            .expect("bind an origin on a free port");
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        let counts = Arc::new(Counts::default());
        let accepting = tokio::spawn(accept(listener, Arc::new(script), Arc::clone(&counts)));
        Origin {
            addr,
            counts,
            accepting,
        }
    }

    pub fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }

    /// Bytes of [`Act::Flood`] bodies that the peer has taken.
    pub fn sent(&self) -> usize {
        self.counts.sent.load(Ordering::SeqCst)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.counts.seen.lock().clone()
    }

    /// The only request so far.
    ///
    /// # Panics
    /// When there was not exactly one, or it broke a rule.
    pub fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "one request reaches the origin: {seen:#?}");
        let seen = seen.remove(0);
        assert!(
            seen.fault.is_none(),
            "what the proxy sent breaks a rule: {:?}\n{}",
            seen.fault,
            latin1(&seen.head.raw)
        );
        seen
    }
}

async fn accept(listener: TcpListener, script: Script, counts: Arc<Counts>) {
    let mut serving = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let connection = counts.connections.fetch_add(1, Ordering::SeqCst);
        counts.open.fetch_add(1, Ordering::SeqCst);
        let _ = stream.set_nodelay(true);
        let (script, counts) = (Arc::clone(&script), Arc::clone(&counts));
        serving.spawn(async move {
            let mut server = Server {
                wire: Wire::new(stream),
                counts: &counts,
                connection,
                nth: 0,
            };
            let _ = server.serve(&script).await;
            counts.open.fetch_sub(1, Ordering::SeqCst);
        });
        while serving.try_join_next().is_some() {}
    }
}

struct Server<'a> {
    wire: Wire<TcpStream>,
    counts: &'a Counts,
    connection: usize,
    nth: usize,
}

impl Server<'_> {
    fn note(&self, at: usize, change: impl FnOnce(&mut Seen)) {
        change(&mut self.counts.seen.lock()[at]);
    }

    async fn serve(&mut self, script: &Script) -> Result<(), Fault> {
        loop {
            let head = match self.wire.head().await {
                Ok(Some(head)) => head,
                Ok(None) => return Ok(()),
                Err(Fault::Rule(text)) => return self.object(&text).await,
                Err(other) => return Err(other),
            };
            let line = head
                .request_line()
                .map(|(method, target)| (method.to_owned(), target.to_owned()));
            let (framing, (method, target)) = match (head.request_framing(), line) {
                (Ok(framing), Ok(line)) => (framing, line),
                (Err(fault), _) | (_, Err(fault)) => return self.object(&fault.to_string()).await,
            };
            let n = self.counts.requests.fetch_add(1, Ordering::SeqCst);
            let at = {
                let mut seen = self.counts.seen.lock();
                let (method, target, connection) =
                    (method.clone(), target.clone(), self.connection);
                seen.push(Seen {
                    connection,
                    method,
                    target,
                    head: head.clone(),
                    ..Seen::default()
                });
                seen.len() - 1
            };
            let asked = Asked {
                n,
                connection: self.connection,
                nth: self.nth,
                method: &method,
                target: &target,
                head: &head,
            };
            let act = script(&asked);
            self.nth += 1;
            match self.act(act, at, &head, framing).await? {
                After::Keep => {}
                other => return self.end(other).await,
            }
        }
    }

    /// A request that a strict parser refuses is written down, answered 400 and ends the connection. What still comes is
    /// read, or a reset would overtake the answer (RFC 9112 section 9.6).
    async fn object(&mut self, text: &str) -> Result<(), Fault> {
        self.counts.requests.fetch_add(1, Ordering::SeqCst);
        let head = Head {
            raw: self.wire.ahead.clone(),
            ..Head::default()
        };
        let seen = Seen {
            connection: self.connection,
            head,
            fault: Some(text.to_owned()),
            ..Seen::default()
        };
        self.counts.seen.lock().push(seen);
        self.wire
            .send(&Answer::status(400).text(text).bytes(false))
            .await?;
        self.end(After::HalfClose).await
    }

    async fn read(&mut self, at: usize, head: &Head, framing: Framing) -> Result<(), Fault> {
        if head
            .get("expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
        {
            self.wire.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        match self.wire.body(framing).await {
            Ok(body) => self.note(at, |seen| (seen.body, seen.whole) = (body, true)),
            Err(Fault::Rule(text)) => {
                self.note(at, |seen| seen.fault = Some(text.clone()));
                return Err(Fault::Rule(text));
            }
            Err(other) => return Err(other),
        }
        Ok(())
    }

    async fn act(
        &mut self,
        act: Act,
        at: usize,
        head: &Head,
        framing: Framing,
    ) -> Result<After, Fault> {
        let bare = head.first.starts_with("HEAD ");
        match act {
            Act::Answer(answer) => {
                self.read(at, head, framing).await?;
                self.wire.send(&answer.bytes(bare)).await?;
                Ok(answer.after)
            }
            Act::Early(answer) => {
                self.wire.send(&answer.bytes(bare)).await?;
                let body = self.wire.body(framing).await?;
                self.note(at, |seen| (seen.body, seen.whole) = (body, true));
                Ok(answer.after)
            }
            Act::Echo => {
                self.read(at, head, framing).await?;
                let seen = self.counts.seen.lock()[at].clone();
                self.wire.send(&echo(&seen).bytes(bare)).await?;
                Ok(After::Keep)
            }
            Act::Hold(gate, then) => {
                gate.passed().await;
                Box::pin(self.act(*then, at, head, framing)).await
            }
            Act::Cut(answer, count, after) => {
                self.read(at, head, framing).await?;
                let bytes = answer.bytes(bare);
                self.wire.send(&bytes[..count.min(bytes.len())]).await?;
                Ok(after)
            }
            Act::Drip(answer, piece) => {
                self.read(at, head, framing).await?;
                self.drip(&answer.bytes(bare), piece).await?;
                Ok(answer.after)
            }
            Act::Raw(bytes, after) => {
                self.read(at, head, framing).await?;
                self.wire.send(&bytes).await?;
                Ok(after)
            }
            Act::Silence => {
                self.read(at, head, framing).await?;
                Ok(After::Stall)
            }
            Act::Upgrade => self.upgrade().await,
            Act::Duplex => self.duplex(at).await,
            Act::Flood(length) => self.flood(length).await,
            Act::Unread(gate) => {
                gate.passed().await;
                self.read(at, head, framing).await?;
                let length = self.counts.seen.lock()[at].body.content.len();
                self.wire
                    .send(&Answer::ok(length.to_string()).bytes(false))
                    .await?;
                Ok(After::Keep)
            }
        }
    }

    async fn drip(&mut self, bytes: &[u8], piece: usize) -> Result<(), Fault> {
        for piece in bytes.chunks(piece) {
            self.wire.send(piece).await?;
            tokio::time::sleep(STEP).await;
        }
        Ok(())
    }

    async fn upgrade(&mut self) -> Result<After, Fault> {
        self.wire
            .send(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
            )
            .await?;
        loop {
            let bytes = std::mem::take(&mut self.wire.ahead);
            self.wire.send(&bytes).await?;
            if !self.wire.more().await? {
                return Ok(After::Close);
            }
        }
    }

    async fn duplex(&mut self, at: usize) -> Result<After, Fault> {
        self.wire
            .send(b"HTTP/1.1 200 Scripted\r\ntransfer-encoding: chunked\r\n\r\n")
            .await?;
        let mut body = Body::default();
        loop {
            let start = body.content.len();
            let more = self.wire.chunk(&mut body).await?;
            if more {
                self.wire.send(&chunk(&body.content[start..])).await?;
            } else {
                self.wire.send(b"0\r\n\r\n").await?;
                self.note(at, |seen| (seen.body, seen.whole) = (body, true));
                return Ok(After::Keep);
            }
        }
    }

    async fn flood(&mut self, length: usize) -> Result<After, Fault> {
        self.wire
            .send(format!("HTTP/1.1 200 Scripted\r\ncontent-length: {length}\r\n\r\n").as_bytes())
            .await?;
        let body = pattern(length);
        let mut left = &body[..];
        while !left.is_empty() {
            let wrote = self
                .wire
                .io
                .write(&left[..left.len().min(64 << 10)])
                .await?;
            left = &left[wrote..];
            self.counts.sent.fetch_add(wrote, Ordering::SeqCst);
        }
        Ok(After::Keep)
    }

    async fn end(&mut self, after: After) -> Result<(), Fault> {
        match after {
            After::Keep => {}
            After::Close => self.wire.io.shutdown().await?,
            After::Reset => reset(&self.wire.io),
            After::HalfClose => {
                self.wire.io.shutdown().await?;
                self.drain().await?;
            }
            After::Stall => self.drain().await?,
            After::Race => {
                let mut one = [0];
                if self.wire.io.peek(&mut one).await? > 0 {
                    reset(&self.wire.io);
                }
            }
        }
        Ok(())
    }

    async fn drain(&mut self) -> Result<(), Fault> {
        let mut waste = [0; 4096];
        while self.wire.io.read(&mut waste).await? > 0 {}
        Ok(())
    }
}

/// The exact bytes that were received, as JSON.
fn echo(seen: &Seen) -> Answer {
    let text = serde_json::json!({
        "head": latin1(&seen.head.raw),
        "body": latin1(&seen.body.raw),
    });
    Answer::ok(text.to_string()).field("content-type", "application/json")
}

/// Makes the coming close of this socket an RST.
pub fn reset(stream: &TcpStream) {
    SockRef::from(stream)
        .set_linger(Some(Duration::ZERO))
        .expect("SO_LINGER on a connected socket");
}
