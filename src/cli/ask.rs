//! Orders to a proxy that runs, through its admin port.

use std::fmt::Write as _;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use zeroize::Zeroizing;

use crate::cli::out;

/// Longest wait for the admin port. It stands on this machine, and none of its answers takes long.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer that is read.
const ANSWER_BYTES: u64 = 16 << 20;

/// Where the proxy is, and how to print its answer.
#[derive(Clone, Debug, clap::Args)]
pub struct Admin {
    /// Address of the proxy's admin port; without a token, orders are taken over loopback only
    #[arg(
        long = "admin",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:4759"
    )]
    address: SocketAddr,

    /// File with the token that the policy's `admin` asks for; else it is taken from OUTRIDER_ADMIN_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

impl Admin {
    /// Asks, prints what `text` makes of the answer, and ends as all commands do: 0 done, 1 the proxy declined, 2 there is
    /// no proxy to ask.
    #[must_use]
    pub fn tell(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, Option<&str>)],
        text: impl FnOnce(&Value) -> String,
    ) -> ExitCode {
        match self.answer(method, path, query) {
            Err(code) => code,
            Ok(answer) if self.json => out::finish(&format!("{answer:#}\n"), 0),
            Ok(answer) => out::finish(&text(&answer), 0),
        }
    }

    /// Asks for a page; where there is none to show, says why and gives the exit code.
    pub fn ask(&self, path: &str, query: &[(&str, Option<&str>)]) -> Result<Value, ExitCode> {
        self.answer("GET", path, query)
    }

    /// Whether answers are wanted as JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    fn answer(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, Option<&str>)],
    ) -> Result<Value, ExitCode> {
        let target = target(path, query);
        let token = self.token().map_err(|why| out::refuse(&why))?;
        match exchange(self.address, method, &target, &token) {
            Err(error) => Err(out::refuse(&format!(
                "no answer from an admin port at {}: {error}; is outrider running, and is this its `listen.admin`?",
                self.address
            ))),
            Ok((200, answer)) => Ok(answer),
            Ok((_, answer)) if self.json => {
                Err(out::finish(&format!("{answer:#}\n"), out::FINDINGS))
            }
            Ok((status, answer)) => {
                out::say(&format!("outrider: {}", declined(status, &answer)));
                Err(ExitCode::from(out::FINDINGS))
            }
        }
    }
}

impl Admin {
    /// The token to show; empty is none. Never an argument, which every process on the machine could read.
    fn token(&self) -> Result<Zeroizing<String>, String> {
        let text = match &self.token_file {
            Some(path) => std::fs::read_to_string(path).map_err(|error| {
                format!("the token cannot be read from {}: {error}", path.display())
            })?,
            None => std::env::var("OUTRIDER_ADMIN_TOKEN").unwrap_or_default(),
        };
        let text = Zeroizing::new(text);
        let token = text.trim();
        if token.chars().any(|c| !c.is_ascii_graphic()) {
            return Err("the token has characters that no header can carry".to_owned());
        }
        Ok(Zeroizing::new(token.to_owned()))
    }
}

/// What an RFC 9457 answer says, with the names to choose from if it has them.
fn declined(status: u16, answer: &Value) -> String {
    let mut text = match answer["detail"].as_str() {
        Some(detail) => detail.to_owned(),
        None => format!("the proxy answered {status}"),
    };
    for list in ["upstreams", "routes"] {
        let names = answer[list].as_array().into_iter().flatten();
        let names: Vec<&str> = names.filter_map(Value::as_str).collect();
        if !names.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n  {list}: {}", names.join(", "));
        }
    }
    text
}

fn target(path: &str, query: &[(&str, Option<&str>)]) -> String {
    let mut target = path.to_owned();
    let given = query
        .iter()
        .filter_map(|(name, value)| Some((name, (*value)?)));
    for (at, (name, value)) in given.enumerate() {
        target.push(if at == 0 { '?' } else { '&' });
        target.push_str(name);
        target.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    target.push(char::from(byte));
                }
                _ => {
                    let _ = write!(target, "%{byte:02X}");
                }
            }
        }
    }
    target
}

fn exchange(
    admin: SocketAddr,
    method: &str,
    target: &str,
    token: &str,
) -> io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // HTTP/1.0 keeps the answer free of chunks, and ends it with the connection.
    let mut request = Zeroizing::new(format!(
        "{method} {target} HTTP/1.0\r\nHost: {admin}\r\nContent-Length: 0\r\n"
    ));
    if !token.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(request, "Authorization: Bearer {token}\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES).read_to_string(&mut answer)?;
    let foreign = || io::Error::other("what answers there is not outrider's admin port");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(foreign)?;
    let status = head
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1)?.parse().ok())
        .ok_or_else(foreign)?;
    let value = serde_json::from_str(body).map_err(|_| foreign())?;
    Ok((status, value))
}
