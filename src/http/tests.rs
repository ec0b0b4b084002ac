mod hops;

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Response;
use http_body_util::BodyExt;

use crate::http::Ended;
use crate::http::Fault;
use crate::http::Health;
use crate::http::Outcome;
use crate::http::Reason;
use crate::http::ResponseBody;
use crate::http::Trail;
use crate::http::answer;
use crate::http::is_grpc;

fn header<'a>(response: &'a Response<ResponseBody>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

async fn body(response: Response<ResponseBody>) -> Bytes {
    let collected = response.into_body().collect().await;
    collected.expect("our own bodies do not fail").to_bytes()
}

#[test]
fn every_reason_has_a_word_of_its_own_and_a_status_that_exists() {
    let words: HashSet<_> = Reason::ALL.iter().map(|reason| reason.word()).collect();
    assert_eq!(words.len(), Reason::ALL.len());
    for reason in Reason::ALL {
        assert!(
            http::StatusCode::from_u16(reason.status()).is_ok(),
            "{reason}"
        );
        assert!(reason.title().ends_with('.'), "{reason}");
        assert_eq!(Reason::ALL[*reason as usize], *reason);
    }
}

#[test]
fn what_was_refused_as_too_much_is_not_to_be_sent_again() {
    let forbidding = Reason::ALL.iter().filter(|reason| reason.forbids_retry());
    let words: HashSet<_> = forbidding.map(|reason| reason.word()).collect();
    for word in [
        "breaker_open",
        "deadline",
        "try_timeout",
        "pool_timeout",
        "bulkhead_full",
        "bulkhead_timeout",
    ] {
        assert!(words.contains(word), "{word}");
    }
    // A hop before us has other endpoints to try, or will be told the same.
    for reason in [
        Reason::ConnectRefused,
        Reason::Reset,
        Reason::Refused,
        Reason::NoEndpoint,
        Reason::DnsFailed,
        Reason::Unmatched,
        Reason::ConnectionLimit,
    ] {
        assert!(!reason.forbids_retry(), "{reason}");
    }
    // The page tells every word that is sent.
    let page = include_str!("../../docs/hops.md");
    for word in words {
        assert!(page.contains(&format!("`{word}`")), "{word}");
    }
}

#[tokio::test]
async fn an_answer_says_the_reason_in_three_places_and_keeps_the_id() {
    let id = HeaderValue::from_static("order-42");
    let fault = Fault::unsent(Reason::BreakerOpen).after(Duration::from_millis(1200));
    let response = answer(&fault, Some(&id), false);
    assert_eq!(response.status(), 503);
    assert_eq!(
        header(&response, "proxy-status"),
        Some("outrider; error=breaker_open")
    );
    assert_eq!(header(&response, "x-request-id"), Some("order-42"));
    assert_eq!(header(&response, "retry-after"), Some("2"), "rounded up");
    assert_eq!(
        header(&response, "content-type"),
        Some("application/problem+json")
    );
    assert_eq!(header(&response, "connection"), None);
    let length = header(&response, "content-length").map(str::to_owned);
    let body = body(response).await;
    assert_eq!(length, Some(body.len().to_string()));
    let problem: serde_json::Value = serde_json::from_slice(&body).expect("it is JSON");
    assert_eq!(problem["reason"], "breaker_open");
    assert_eq!(problem["status"], 503);
    assert_eq!(problem["request_id"], "order-42");
}

#[test]
fn a_client_that_cannot_be_read_is_told_that_the_connection_ends() {
    for reason in [
        Reason::InvalidBody,
        Reason::BodyTooLarge,
        Reason::InvalidFraming,
    ] {
        let response = answer(&Fault::unsent(reason), None, false);
        assert_eq!(header(&response, "connection"), Some("close"), "{reason}");
    }
}

#[test]
fn grpc_gets_a_status_and_no_body() {
    for (reason, code) in [
        (Reason::BreakerOpen, "14"),
        (Reason::ConnectRefused, "14"),
        (Reason::Deadline, "4"),
        (Reason::Unmatched, "7"),
        (Reason::BodyTooLarge, "8"),
        (Reason::Panic, "13"),
    ] {
        let response = answer(&Fault::unsent(reason), None, true);
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "grpc-status"), Some(code), "{reason}");
        assert_eq!(
            header(&response, "grpc-message"),
            Some(format!("outrider: {reason}").as_str())
        );
    }
}

#[test]
fn grpc_is_told_by_its_content_type() {
    for (value, expected) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc;charset=utf-8", true),
        ("application/grpc-web", false),
        ("application/json", false),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(value));
        assert_eq!(is_grpc(&headers), expected, "{value}");
    }
}

fn answered(status: u16, grpc: Option<&'static str>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a test's status is valid");
    if let Some(code) = grpc {
        let headers = response.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        if !code.is_empty() {
            headers.insert("grpc-status", HeaderValue::from_static(code));
        }
    }
    response
}

#[test]
fn health_is_about_the_upstream_and_nobody_else() {
    let fault = |reason| Err(Fault::unsent(reason));
    let late = |reason, hurried| {
        Err(Fault {
            hurried,
            ..Fault::maybe_sent(reason)
        })
    };
    let answered = |status, grpc| Outcome::Ok(answered(status, grpc));
    for (outcome, expected) in [
        (answered(200, None), Some(Health::Good)),
        (answered(404, None), Some(Health::Good)),
        (answered(429, None), Some(Health::Good)),
        (answered(500, None), Some(Health::Bad)),
        (answered(200, Some("0")), Some(Health::Good)),
        (answered(200, Some("7")), Some(Health::Good)),
        (answered(200, Some("14")), Some(Health::Bad)),
        (answered(200, Some("")), None),
        (fault(Reason::ConnectRefused), Some(Health::Bad)),
        (fault(Reason::TryTimeout), Some(Health::Bad)),
        (fault(Reason::BreakerOpen), Some(Health::Neutral)),
        (fault(Reason::PoolTimeout), Some(Health::Neutral)),
        (fault(Reason::InvalidBody), Some(Health::Neutral)),
        (fault(Reason::DnsFailed), Some(Health::Neutral)),
        // Never begun, so nobody was late.
        (fault(Reason::Deadline), Some(Health::Neutral)),
        (late(Reason::Deadline, false), Some(Health::Bad)),
        (late(Reason::Deadline, true), Some(Health::Neutral)),
        (late(Reason::TryTimeout, true), Some(Health::Neutral)),
    ] {
        assert_eq!(Health::of(&outcome), expected, "{:?}", outcome.err());
    }
    let hurried = |status, grpc| {
        let mut response = self::answered(status, grpc);
        response.body_mut().hurry();
        Health::of(&Ok(response))
    };
    assert_eq!(hurried(504, None), Some(Health::Neutral));
    assert_eq!(hurried(200, Some("4")), Some(Health::Neutral));
    assert_eq!(hurried(503, None), Some(Health::Bad));
    assert_eq!(hurried(200, Some("14")), Some(Health::Bad));
    assert_eq!(hurried(200, None), Some(Health::Good));
    let of_end = |grpc_status| Health::of_end(Ended::Complete { grpc_status });
    assert_eq!(of_end(Some(0)), Health::Good);
    assert_eq!(of_end(Some(13)), Health::Bad);
    assert_eq!(of_end(None), Health::Bad, "no status is a broken answer");
    assert_eq!(Health::of_end(Ended::Dropped), Health::Neutral);
    assert_eq!(Health::of_end(Ended::Hurried), Health::Neutral);
}

#[tokio::test]
async fn a_server_that_was_hurried_may_say_that_its_time_is_up() {
    for (status, hurried, expected) in [
        (4, true, Ended::Hurried),
        (
            4,
            false,
            Ended::Complete {
                grpc_status: Some(4),
            },
        ),
        (
            14,
            true,
            Ended::Complete {
                grpc_status: Some(14),
            },
        ),
    ] {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(status));
        let stream = http_body_util::Empty::<Bytes>::new()
            .with_trailers(std::future::ready(Some(Ok(trailers))))
            .map_err(|never| match never {});
        let (mut body, ends) = noted(ResponseBody::driven(stream));
        if hurried {
            body.hurry();
        }
        body.collect().await.expect("it is whole");
        assert_eq!(*ends.borrow(), [expected]);
    }
}

/// A body that notes how it ended.
fn noted(mut body: ResponseBody) -> (ResponseBody, Rc<RefCell<Vec<Ended>>>) {
    let ends = Rc::new(RefCell::new(Vec::new()));
    let note = Rc::clone(&ends);
    body.on_end(move |ended| note.borrow_mut().push(ended));
    (body, ends)
}

#[tokio::test]
async fn a_body_ends_once() {
    const WHOLE: Ended = Ended::Complete { grpc_status: None };
    let (body, ends) = noted(ResponseBody::full(Bytes::from_static(b"abc")));
    assert_eq!(body.collect().await.expect("it is whole").to_bytes(), "abc");
    assert_eq!(*ends.borrow(), [WHOLE]);

    let (body, ends) = noted(ResponseBody::full(Bytes::from_static(b"abc")));
    drop(body);
    assert_eq!(*ends.borrow(), [Ended::Dropped]);

    let (body, ends) = noted(ResponseBody::empty());
    drop(body);
    assert_eq!(*ends.borrow(), [WHOLE], "there was nothing to read");
}

#[tokio::test]
async fn trailers_tell_a_grpc_status_and_a_look_ahead_loses_nothing() {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("14"));
    let stream = http_body_util::Empty::<Bytes>::new()
        .with_trailers(std::future::ready(Some(Ok(trailers))))
        .map_err(|never| match never {});
    let (mut body, ends) = noted(ResponseBody::driven(stream));
    body.peek().await.expect("it does not fail");
    let code = body.peeked_trailers().and_then(crate::http::grpc_status_of);
    assert_eq!(code, Some(14));
    let collected = body.collect().await.expect("it is whole");
    assert!(collected.trailers().is_some());
    let expected = Ended::Complete {
        grpc_status: Some(14),
    };
    assert_eq!(*ends.borrow(), [expected]);
}

#[test]
fn a_copy_goes_its_own_way_and_its_tries_are_the_calls() {
    let now = crate::clock::now();
    let at = |port: u16| std::net::SocketAddr::from(([10, 0, 0, 1], port));
    let call = Rc::new(Trail::new(now));
    call.idempotent.set(true);
    call.deadline.set(Some(now + Duration::from_secs(1)));
    call.begin_try(1, at(1));
    let copy = call.branch(now + Duration::from_millis(5));
    assert!(copy.is_copy() && !call.is_copy());
    assert!(copy.idempotent.get());
    assert_eq!(copy.deadline.get(), call.deadline.get());
    assert_eq!((copy.tried.get()[0], copy.endpoint.get()), (0, None));
    assert!(copy.was_tried(1), "it goes elsewhere");

    copy.begin_try(2, at(2));
    copy.begin_try(3, at(3));
    assert_eq!((call.tries.get(), copy.tries.get()), (3, 2));
    assert_eq!(call.tried.get(), [1, 3, 2, 0], "the call is still at 1");
    assert_eq!(call.endpoint.get(), Some(at(1)));
    assert_eq!(copy.tried.get()[..3], [3, 2, 1]);
    let third = call.branch(now);
    assert!([1, 2, 3].iter().all(|id| third.was_tried(*id)));
    call.begin_try(4, at(4));
    assert_eq!(call.tried.get(), [4, 1, 3, 2]);

    copy.stamp(now + Duration::from_millis(9));
    copy.retry_skipped.set(Some("exhausted"));
    call.adopt(&copy);
    assert_eq!(call.endpoint.get(), Some(at(3)));
    assert_eq!(call.now(), now + Duration::from_millis(9));
    assert_eq!(call.retry_skipped.get(), Some("exhausted"));
    assert_eq!(call.tries.get(), 4, "counted once");
}
