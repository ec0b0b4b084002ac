//! A strict reader of HTTP/1.1 messages: what it accepts can be read in one way only (RFC 9112).
//!
//! It stands for every strict parser a proxied request may meet next, so it forgives nothing: no bare LF, no folded
//! line, no second Host, no two framings.

use std::fmt;
use std::io;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Empty,
    Length(u64),
    Chunked,
    UntilClose,
}

/// Why a message could not be read.
#[derive(Debug)]
pub enum Fault {
    /// The bytes break a rule.
    Rule(String),
    /// The peer ended in the middle of a message.
    Short(String),
    /// The connection failed, as by a reset.
    Io(io::Error),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Rule(text) => write!(f, "broken rule: {text}"),
            Fault::Short(text) => write!(f, "cut short: {text}"),
            Fault::Io(error) => write!(f, "connection: {error}"),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Io(error)
    }
}

fn rule<T>(text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Rule(text.into()))
}

/// A start line and its fields; one `char` a byte, so that nothing is lost.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub first: String,
    pub fields: Vec<(String, String)>,
    pub raw: Vec<u8>,
}

/// Bytes to text without loss, one `char` a byte.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

impl Head {
    /// Reads a whole head, with the empty line that ends it.
    ///
    /// # Errors
    /// At the first byte that two parsers might read differently.
    pub fn parse(raw: &[u8]) -> Result<Head, Fault> {
        let Some(inner) = raw.strip_suffix(b"\r\n\r\n") else {
            return rule("a head ends with an empty line");
        };
        let text = latin1(inner);
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let mut fields = Vec::new();
        for line in lines {
            fields.push(field(line)?);
        }
        if let Some(odd) = first.chars().find(char::is_ascii_control) {
            return rule(format!("{odd:?} in the start line {first:?}"));
        }
        Ok(Head {
            first,
            fields,
            raw: raw.to_vec(),
        })
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
            .collect()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Method and target of a request line.
    ///
    /// # Errors
    /// When the line is not three parts divided by single spaces, or the version is not 1.x.
    pub fn request_line(&self) -> Result<(&str, &str), Fault> {
        let parts: Vec<&str> = self.first.split(' ').collect();
        let [method, target, version] = parts[..] else {
            return rule(format!("request line {:?}", self.first));
        };
        if !is_token(method) || target.is_empty() || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
            return rule(format!("request line {:?}", self.first));
        }
        Ok((method, target))
    }

    /// The status of a status line.
    ///
    /// # Errors
    /// When the line is not of RFC 9112 section 4.
    pub fn status(&self) -> Result<u16, Fault> {
        let (version, rest) = self.first.split_once(' ').unwrap_or_default();
        let code = rest.get(..3).unwrap_or_default();
        let good = matches!(version, "HTTP/1.1" | "HTTP/1.0")
            && matches!(rest.as_bytes().get(3), None | Some(b' '));
        match code.parse() {
            Ok(status @ 100..=999) if good && code.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(status)
            }
            _ => rule(format!("status line {:?}", self.first)),
        }
    }

    /// The one framing that the fields give.
    fn framing(&self) -> Result<Option<Framing>, Fault> {
        for (name, _) in &self.fields {
            let plain = name.replace('_', "-").to_ascii_lowercase();
            if name.contains('_')
                && matches!(
                    plain.as_str(),
                    "content-length" | "transfer-encoding" | "host"
                )
            {
                return rule(format!("{name} shadows {plain}"));
            }
        }
        let (lengths, codings) = (self.all("content-length"), self.all("transfer-encoding"));
        match (&lengths[..], &codings[..]) {
            ([], []) => Ok(None),
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Framing::Chunked)),
            ([length], []) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
                match length.parse() {
                    Ok(length) => Ok(Some(Framing::Length(length))),
                    Err(_) => rule(format!("content-length {length}")),
                }
            }
            _ => rule(format!(
                "framing told by lengths {lengths:?} and codings {codings:?}"
            )),
        }
    }

    /// The framing of a request, after checking that it has exactly one Host.
    ///
    /// # Errors
    /// When there is more than one way to read it.
    pub fn request_framing(&self) -> Result<Framing, Fault> {
        match self.all("host")[..] {
            [host] if !host.is_empty() && !host.contains([' ', '\t', ',', '@', '/']) => {}
            ref other => return rule(format!("host {other:?}")),
        }
        Ok(self.framing()?.unwrap_or(Framing::Empty))
    }

    /// The framing of a response to `method`.
    ///
    /// # Errors
    /// When there is more than one way to read it.
    pub fn response_framing(&self, method: &str) -> Result<Framing, Fault> {
        let told = self.framing()?;
        let status = self.status()?;
        if method == "HEAD" || matches!(status, 100..=199 | 204 | 304) {
            return Ok(Framing::Empty);
        }
        if method == "CONNECT" && matches!(status, 200..=299) {
            return Ok(Framing::Empty);
        }
        Ok(told.unwrap_or(Framing::UntilClose))
    }
}

fn field(line: &str) -> Result<(String, String), Fault> {
    if line.starts_with([' ', '\t']) {
        return rule(format!("folded line {line:?}"));
    }
    let Some((name, value)) = line.split_once(':') else {
        return rule(format!("no colon in {line:?}"));
    };
    if !is_token(name) {
        return rule(format!("field name {name:?}"));
    }
    if let Some(odd) = value
        .chars()
        .find(|c| matches!(c, '\0'..='\x08' | '\n'..='\x1f' | '\x7f'))
    {
        return rule(format!("{odd:?} in the value of {name}"));
    }
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

/// The content of a message, and the very bytes it came in.
#[derive(Clone, Debug, Default)]
pub struct Body {
    pub content: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    pub raw: Vec<u8>,
    pub pieces: usize,
}

/// A connection with the bytes read ahead of what was asked for.
#[derive(Debug)]
pub struct Wire<S> {
    pub io: S,
    pub ahead: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub fn new(io: S) -> Self {
        Wire {
            io,
            ahead: Vec::new(),
        }
    }

    /// Reads more bytes; false at the end of the stream.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn more(&mut self) -> Result<bool, Fault> {
        Ok(self.io.read_buf(&mut self.ahead).await? > 0)
    }

    /// Reads a head; `None` when the stream ends before its first byte.
    ///
    /// # Errors
    /// When the head breaks a rule or is cut short.
    pub async fn head(&mut self) -> Result<Option<Head>, Fault> {
        loop {
            // A bare LF must not hide as part of a longer line: it would be an end of line to a lenient reader.
            if let Some(end) = self.ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                let raw: Vec<u8> = self.ahead.drain(..end + 4).collect();
                return Head::parse(&raw).map(Some);
            }
            if self.ahead.len() > 4 << 20 {
                return rule("a head of more than 4 MiB");
            }
            if !self.more().await? {
                return if self.ahead.is_empty() {
                    Ok(None)
                } else {
                    Err(Fault::Short(latin1(&self.ahead)))
                };
            }
        }
    }

    async fn exactly(&mut self, count: usize, body: &mut Body) -> Result<(), Fault> {
        let start = body.raw.len();
        while body.raw.len() - start < count {
            if self.ahead.is_empty() && !self.more().await? {
                return Err(Fault::Short(format!(
                    "{} of {count} bytes",
                    body.raw.len() - start
                )));
            }
            let take = self.ahead.len().min(count - (body.raw.len() - start));
            body.raw.extend(self.ahead.drain(..take));
        }
        Ok(())
    }

    async fn line(&mut self, body: &mut Body) -> Result<String, Fault> {
        loop {
            if let Some(end) = self.ahead.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.ahead.drain(..=end).collect();
                body.raw.extend_from_slice(&line);
                let Some(line) = line.strip_suffix(b"\r\n") else {
                    return rule("a line ended by a bare LF");
                };
                return Ok(latin1(line));
            }
            if !self.more().await? {
                return Err(Fault::Short("in a chunk line".to_owned()));
            }
        }
    }

    /// Reads one chunk into `body`; false after the last one, its trailers read too.
    ///
    /// # Errors
    /// When the chunk breaks a rule (extensions count as one) or is cut short.
    pub async fn chunk(&mut self, body: &mut Body) -> Result<bool, Fault> {
        let size = self.line(body).await?;
        if size.is_empty() || size.len() > 16 || !size.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return rule(format!("chunk size {size:?}"));
        }
        let Ok(size) = usize::from_str_radix(&size, 16) else {
            return rule(format!("chunk size {size:?}"));
        };
        if size == 0 {
            loop {
                let line = self.line(body).await?;
                if line.is_empty() {
                    return Ok(false);
                }
                body.trailers.push(field(&line)?);
            }
        }
        let start = body.raw.len();
        self.exactly(size, body).await?;
        body.content.extend_from_slice(&body.raw[start..]);
        body.pieces += 1;
        let end = self.line(body).await?;
        if end.is_empty() {
            Ok(true)
        } else {
            rule(format!("{end:?} after a chunk"))
        }
    }

    /// Reads a whole body.
    ///
    /// # Errors
    /// When it breaks its framing or is cut short.
    pub async fn body(&mut self, framing: Framing) -> Result<Body, Fault> {
        let mut body = Body::default();
        match framing {
            Framing::Empty => {}
            Framing::Length(length) => {
                let length =
                    usize::try_from(length).map_err(|_| Fault::Rule(format!("length {length}")))?;
                self.exactly(length, &mut body).await?;
                body.content = body.raw.clone();
            }
            Framing::Chunked => while self.chunk(&mut body).await? {},
            Framing::UntilClose => {
                while self.more().await? {}
                body.raw = std::mem::take(&mut self.ahead);
                body.content = body.raw.clone();
            }
        }
        Ok(body)
    }

    /// Sends all the bytes.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.io.write_all(bytes).await?;
        Ok(self.io.flush().await?)
    }
}
