//! Requests built to the byte, and what is asked of every response.

use std::net::SocketAddr;

use serde_json::Value;

use super::client::Raw;
use super::names;
use super::wire::Body;
use super::wire::Head;
use super::wire::latin1;

/// The host that most tests call; the policies of the tests name it.
pub const HOST: &str = "shop.test";

/// A request to send; unless told otherwise it is good HTTP/1.1 to [`HOST`].
#[derive(Clone, Debug)]
pub struct Call {
    pub method: String,
    pub target: String,
    pub host: String,
    pub fields: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
}

impl Call {
    pub fn new(method: &str, target: &str) -> Self {
        Call {
            method: method.to_owned(),
            target: target.to_owned(),
            host: HOST.to_owned(),
            fields: Vec::new(),
            body: None,
        }
    }

    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Call {
            body: Some(body.into()),
            ..Self::new("POST", target)
        }
    }

    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The head alone, without a framing for the body.
    pub fn head(&self) -> String {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            self.method, self.target, self.host
        );
        for (name, value) in &self.fields {
            head = head + name + ": " + value + "\r\n";
        }
        head
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head().into_bytes();
        if let Some(body) = &self.body {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// Sends it on a connection of its own and reads the response.
    pub async fn to(&self, addr: SocketAddr) -> Reply {
        Raw::connect(addr).await.call(self).await
    }
}

/// A response, read strictly.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub head: Head,
    pub body: Body,
    /// Statuses of the interim responses before it.
    pub interim: Vec<u16>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body.content).into_owned()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }

    /// The reason word, when outrider made this response itself.
    pub fn reason(&self) -> Option<&str> {
        let status = self.get(names::PROXY_STATUS)?;
        status
            .strip_prefix("outrider; error=")
            .map(|word| word.split(';').next().unwrap_or(word).trim())
    }

    /// The response is the upstream's, with this status.
    ///
    /// # Panics
    /// When it is not.
    pub fn is(&self, status: u16) -> &Self {
        assert!(
            self.status == status && self.reason().is_none(),
            "expected the upstream's {status}, got {} {:?}:\n{}{}",
            self.status,
            self.reason(),
            latin1(&self.head.raw),
            self.text()
        );
        assert!(
            self.head.has(names::REQUEST_ID),
            "x-request-id is on every response:\n{}",
            latin1(&self.head.raw)
        );
        self
    }

    /// The response is outrider's own, with this status and one of these reason words, in all the places it must be.
    ///
    /// # Panics
    /// When it is not.
    pub fn is_own(&self, status: u16, reasons: &[&str]) -> &Self {
        let shown = format!("{}{}", latin1(&self.head.raw), self.text());
        let reason = self.reason().unwrap_or("(none)");
        assert!(
            self.status == status && reasons.contains(&reason),
            "expected outrider's own {status} {reasons:?}, got {} {reason}:\n{shown}",
            self.status
        );
        assert!(
            self.head.has(names::REQUEST_ID),
            "x-request-id is on every response:\n{shown}"
        );
        let media = self.get("content-type").unwrap_or_default();
        assert!(
            media.starts_with("application/problem+json"),
            "RFC 9457 body:\n{shown}"
        );
        let problem: Value =
            serde_json::from_slice(&self.body.content).expect("the problem is JSON");
        assert_eq!(
            problem["reason"], reason,
            "the same word in the body:\n{shown}"
        );
        assert_eq!(
            problem["status"], status,
            "the same status in the body:\n{shown}"
        );
        assert!(problem["title"].is_string(), "a title:\n{shown}");
        self
    }
}
