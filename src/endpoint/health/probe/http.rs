//! `GET path` over HTTP/1.1.

use std::pin::pin;

use ::http::Request;
use ::http::header;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::Failure;
use super::USER_AGENT;
use super::says;
use crate::connect::tls::Wire;
use crate::endpoint::health::config::Statuses;

/// The largest head. A body that comes with it is not read.
const MOST: usize = 16 * 1024;

pub(super) async fn ask(
    stream: Wire,
    host: &str,
    path: &str,
    expect: &[Statuses],
) -> Result<(), Failure> {
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|_| Failure::Says("the request cannot be written".into()))?;
    let shaken = http1::Builder::new()
        .max_buf_size(MOST)
        .handshake(TokioIo::new(stream))
        .await;
    let (mut sender, connection) = shaken.map_err(failure)?;
    let (mut answer, connection) = (pin!(sender.send_request(request)), pin!(connection));
    let answered = tokio::select! {
        biased;
        answered = &mut answer => answered,
        // It may have brought the answer with its end; if not, it knows best why.
        ended = connection => match (answer.await, ended) {
            (Err(_), Err(why)) => Err(why),
            (answered, _) => answered,
        },
    };
    let status = answered.map_err(failure)?.status().as_u16();
    if expect.iter().any(|statuses| statuses.has(status)) {
        Ok(())
    } else {
        Err(Failure::Status(status))
    }
}

fn failure(error: hyper::Error) -> Failure {
    // Whoever speaks first, before it has read the request, speaks something else.
    let is_early = says(&error, "unexpected message");
    if is_early || error.is_parse() || error.is_parse_too_large() {
        Failure::Foreign("HTTP/1.1")
    } else {
        Failure::Closed
    }
}
