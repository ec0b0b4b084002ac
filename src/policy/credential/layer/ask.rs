//! One request for a token: the client-credentials grant (RFC 6749 section 4.4) over HTTP/1.1.
//!
//! A connection of its own each time: tokens are asked for once an hour, and no key should lie about in a connection's
//! buffers until then. Redirects are not followed. Nothing that the server sends is logged but a status and a word of a
//! closed list: what does not look like a token may be one.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::fetch::Client;
use super::fetch::Failure;
use super::fetch::Token;
use super::source::Wiped;
use crate::connect;
use crate::policy::credential::config::ClientAuth;
use crate::policy::credential::config::Grant;
use crate::policy::credential::machine::Trouble;
use crate::policy::credential::machine::form;

/// The longest that one address may take to accept a connection: there may be others.
const CONNECT: Duration = Duration::from_secs(3);
/// The largest answer that is read. Tokens are a few KiB.
const ANSWER_MAX: usize = 64 * 1024;

/// Asks at the first address that can be reached.
pub(super) async fn token(
    client: &Client,
    addresses: &[SocketAddr],
    secret: &[u8],
) -> Result<Token, Failure> {
    let request = request(client, secret)?;
    let stream = reach(addresses).await?;
    if client.is_tls() {
        let stream = secured(client, stream).await?;
        exchange(stream, request).await
    } else {
        exchange(stream, request).await
    }
}

async fn reach(addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
    let mut failure = Failure::new(Trouble::Connect, "no address");
    for address in addresses {
        match connect::tcp(*address, CONNECT).await {
            Ok(stream) => return Ok(stream),
            Err(fault) => failure = Failure::new(Trouble::Connect, format!("{address}: {fault}")),
        }
    }
    Err(failure)
}

async fn secured(
    client: &Client,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
    let failed = |why: String| Failure::new(Trouble::Tls, why);
    let host = client.url.host().unwrap_or_default();
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|_| failed("its name is no name of a server".to_owned()))?;
    let ca = client.grant.ca.clone();
    // Read each time, so that anchors can be changed while this runs.
    let roots = tokio::task::spawn_blocking(move || match ca {
        Some(path) => anchors(&path),
        None => Ok(system_anchors()),
    });
    let roots = roots
        .await
        .map_err(|_| failed("the trust anchors cannot be read".to_owned()))?
        .map_err(failed)?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    connector
        .connect(name, stream)
        .await
        .map_err(|error| failed(error.to_string()))
}

fn anchors(path: &std::path::Path) -> Result<RootCertStore, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        roots.add(certificate).map_err(|error| unreadable(&error))?;
    }
    if roots.is_empty() {
        return Err(unreadable(&"no certificate in it"));
    }
    Ok(roots)
}

fn system_anchors() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        // An image without a system has none.
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// The request of section 4.4.2, with the client's secret where the policy wants it.
fn request(client: &Client, secret: &[u8]) -> Result<Request<Full<Bytes>>, Failure> {
    let Client { grant, url, .. } = client;
    let unfit = |_| Failure::new(Trouble::ClientSecret, "it cannot be sent");
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::post(path)
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json")
        .body(Full::new(Bytes::from_owner(body(grant, secret))))
        .map_err(|_| Failure::new(Trouble::Connect, "the URL cannot be asked"))?;
    if grant.auth == ClientAuth::Basic {
        let mut value =
            HeaderValue::from_maybe_shared(Bytes::from_owner(basic(&grant.client_id, secret)))
                .map_err(unfit)?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    Ok(request)
}

fn body(grant: &Grant, secret: &[u8]) -> Wiped {
    let mut pairs: Vec<(&str, &[u8])> = vec![("grant_type", b"client_credentials")];
    for (name, value) in [("scope", &grant.scope), ("audience", &grant.audience)] {
        if let Some(value) = value {
            pairs.push((name, value.as_bytes()));
        }
    }
    if grant.auth == ClientAuth::Form {
        pairs.push(("client_id", grant.client_id.as_bytes()));
        pairs.push(("client_secret", secret));
    }
    let room = pairs
        .iter()
        .map(|(name, value)| form::room(name.len(), value.len()))
        .sum();
    let mut text = Wiped::new(Vec::with_capacity(room));
    for (name, value) in pairs {
        form::pair(name, value, &mut text);
    }
    text
}

/// `Basic`, with both halves written as a form has them first (section 2.3.1).
fn basic(id: &str, secret: &[u8]) -> Wiped {
    let mut pair = Wiped::new(Vec::with_capacity(3 * (id.len() + secret.len()) + 1));
    form::encode(id.as_bytes(), &mut pair);
    pair.push(b':');
    form::encode(secret, &mut pair);
    let mut text = Wiped::new(Vec::with_capacity(6 + pair.len().div_ceil(3) * 4));
    text.extend_from_slice(b"Basic ");
    form::base64(&pair, &mut text);
    text
}

async fn exchange<T>(stream: T, request: Request<Full<Bytes>>) -> Result<Token, Failure>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| Failure::new(Trouble::Answer, error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // Its own error is that of the request.
    let _driving = AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let body = whole(response).await?;
    if status == StatusCode::OK {
        return read(&body);
    }
    let why = match serde_json::from_slice::<Refusal<'_>>(&body) {
        Ok(refusal) => format!("{status}: {}", known(&refusal.error)),
        Err(_) => status.to_string(),
    };
    let trouble = if status.is_client_error() {
        Trouble::Refused
    } else {
        Trouble::Answer
    };
    Err(Failure::new(trouble, why))
}

async fn whole(response: Response<Incoming>) -> Result<Wiped, Failure> {
    let mut body = response.into_body();
    let mut text = Wiped::new(Vec::with_capacity(ANSWER_MAX));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::new(Trouble::Answer, error.to_string()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if text.len() + data.len() > ANSWER_MAX {
            return Err(Failure::new(Trouble::Answer, "the answer is too large"));
        }
        text.extend_from_slice(&data);
    }
    Ok(text)
}

/// The answer of section 5.1.
#[derive(Deserialize)]
struct Granted<'a> {
    #[serde(borrow)]
    access_token: Cow<'a, str>,
    #[serde(borrow)]
    token_type: Cow<'a, str>,
    #[serde(borrow, default)]
    expires_in: Option<Seconds<'a>>,
}

/// Some servers put the number in quotes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds<'a> {
    Number(f64),
    Text(#[serde(borrow)] Cow<'a, str>),
}

/// The answer of section 5.2.
#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(borrow)]
    error: Cow<'a, str>,
}

fn read(body: &[u8]) -> Result<Token, Failure> {
    // What the reader has to say of it may quote the token.
    let granted: Granted<'_> = serde_json::from_slice(body)
        .map_err(|_| Failure::new(Trouble::Answer, "200, and no token in it"))?;
    if !granted.token_type.eq_ignore_ascii_case("bearer") {
        // Section 7.1: a type that is not understood must not be used.
        let why = "200, and a token of a type that is not `bearer`";
        return Err(Failure::new(Trouble::Answer, why));
    }
    let seconds = match granted.expires_in {
        None => None,
        Some(Seconds::Number(seconds)) => Some(seconds),
        Some(Seconds::Text(text)) => text.trim().parse().ok(),
    };
    let lifetime = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Ok(Token {
        secret: Wiped::new(granted.access_token.as_bytes().to_vec()),
        lifetime,
    })
}

/// A word of section 5.2, or that it is none.
fn known(error: &str) -> &'static str {
    const WORDS: [&str; 6] = [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    ];
    WORDS
        .into_iter()
        .find(|word| *word == error)
        .unwrap_or("another error")
}
