//! `grpc.health.v1.Health/Check` (the gRPC Health Checking Protocol) over HTTP/2 with prior knowledge.
//!
//! Its two messages have one field each, so they are written and read here by hand.

use std::pin::pin;
use std::sync::Arc;

use ::http::HeaderMap;
use ::http::HeaderValue;
use ::http::Request;
use ::http::header;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use http_body_util::LengthLimitError;
use http_body_util::Limited;
use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::Failure;
use super::USER_AGENT;
use super::says;
use crate::connect::tls::Wire;

/// The largest answer.
const MOST: usize = 4 * 1024;
const PATH: &str = "/grpc.health.v1.Health/Check";

const OK: u16 = 0;
const NOT_FOUND: u16 = 5;
const UNIMPLEMENTED: u16 = 12;

pub(super) async fn ask(stream: Wire, host: &str, service: &str) -> Result<(), Failure> {
    let request = Request::post(format!("http://{host}{PATH}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, USER_AGENT)
        .body(Full::new(Bytes::from(question(service))));
    let request = request.map_err(|_| Failure::Says("the request cannot be written".into()))?;
    let leash = Leash::default();
    let shaken = http2::Builder::new(Runner(Arc::clone(&leash.0)))
        .initial_stream_window_size(64 * 1024)
        .max_header_list_size(16 * 1024)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) = shaken.map_err(|_| Failure::Closed)?;
    let mut asking = pin!(exchange(sender, request));
    tokio::select! {
        biased;
        done = &mut asking => done,
        ended = connection => match (asking.await, ended) {
            // The request knows that the connection ended, the connection why.
            (Err(Failure::Closed), Err(error)) => Err(failure(error)),
            (done, _) => done,
        },
    }
}

async fn exchange(
    mut sender: http2::SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<(), Failure> {
    let response = sender.send_request(request).await.map_err(failure)?;
    let (head, body) = response.into_parts();
    if head.status != 200 {
        return Err(Failure::Status(head.status.as_u16()));
    }
    if let Some(status) = status(&head.headers) {
        return verdict(Some(status), &said(&head.headers), &[]);
    }
    let whole = Limited::new(body, MOST).collect().await;
    let whole = whole.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Failure::Foreign("gRPC")
        } else {
            Failure::Closed
        }
    })?;
    let trailers = whole.trailers().cloned().unwrap_or_default();
    verdict(status(&trailers), &said(&trailers), &whole.to_bytes())
}

/// HTTP/2 ends in an error of its own where the peer speaks something else.
fn failure(error: hyper::Error) -> Failure {
    if says(&error, "connection error detected") {
        Failure::Foreign("HTTP/2")
    } else {
        Failure::Closed
    }
}

fn status(fields: &HeaderMap) -> Option<u16> {
    fields.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn said(fields: &HeaderMap) -> String {
    let message = fields.get("grpc-message").map(HeaderValue::as_bytes);
    String::from_utf8_lossy(message.unwrap_or_default()).into_owned()
}

/// HealthCheckRequest { service = 1 } in its gRPC frame.
fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(service.len() + 4);
    if !service.is_empty() {
        message.push(0x0a);
        varint(&mut message, service.len());
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = vec![0];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&message);
    frame
}

fn varint(into: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        into.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// What the status of a call and its frame mean. `said` is `grpc-message`.
pub fn verdict(status: Option<u16>, said: &str, frame: &[u8]) -> Result<(), Failure> {
    match status {
        Some(OK) => {}
        Some(UNIMPLEMENTED) => {
            let words =
                "it has no grpc.health.v1.Health; add it to the server, or probe with `tcp`";
            return Err(Failure::Says(words.into()));
        }
        Some(NOT_FOUND) => {
            return Err(Failure::Says(
                "it does not know the service asked for".into(),
            ));
        }
        Some(other) => return Err(Failure::says(&format!("grpc status {other} {said}"))),
        None => return Err(Failure::Foreign("gRPC")),
    }
    match serving_status(frame) {
        Some(1) => Ok(()),
        Some(0) => Err(Failure::Says("UNKNOWN".into())),
        Some(2) => Err(Failure::Says("NOT_SERVING".into())),
        Some(3) => Err(Failure::Says("SERVICE_UNKNOWN".into())),
        Some(other) => Err(Failure::says(&format!("serving status {other}"))),
        None => Err(Failure::Foreign("gRPC")),
    }
}

/// The `status` of a HealthCheckResponse in its frame; 0 where the field is absent, as Protocol Buffers have it.
fn serving_status(frame: &[u8]) -> Option<u64> {
    let (head, mut rest) = frame.split_at_checked(5)?;
    let length = u32::from_be_bytes(head.get(1..5)?.try_into().ok()?);
    // Compressed messages are not ours to open: no encoding was offered.
    if head.first() != Some(&0) || usize::try_from(length) != Ok(rest.len()) {
        return None;
    }
    let mut status = 0;
    while !rest.is_empty() {
        let tag = take_varint(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = take_varint(&mut rest)?,
            (_, 0) => {
                take_varint(&mut rest)?;
            }
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = take_varint(&mut rest)?;
                rest = rest.get(usize::try_from(length).ok()?..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The tasks of a connection, ended with the probe: a peer that takes nothing any more would otherwise keep its socket
/// for as long as it likes.
#[derive(Default)]
struct Leash(Arc<Mutex<Vec<AbortHandle>>>);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.lock().iter().for_each(AbortHandle::abort);
    }
}

/// Puts tasks on a leash. It lives inside of them, so it must not be what ends them.
#[derive(Clone)]
struct Runner(Arc<Mutex<Vec<AbortHandle>>>);

impl<F> Executor<F> for Runner
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.0.lock().push(tokio::spawn(future).abort_handle());
    }
}
