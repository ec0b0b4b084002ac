//! The pages: a request line in, a response out. No I/O.

use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use bytes::Bytes;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use http_body_util::Full;
use serde_json::Value;
use serde_json::json;

use super::AdminState;
use super::Readiness;
use super::explain;
use super::orders;
use super::orders::Asked;
use super::orders::ORDERS;
use crate::redact;
use crate::redact::Clean;
use crate::telemetry::CONTENT_TYPE as METRICS_TYPE;

const JSON_TYPE: &str = "application/json";
const PROBLEM_TYPE: &str = "application/problem+json";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// Every page and what it is for, in the order of the index.
const PAGES: [(&str, &str); 11] = [
    ("/live", "200 while the process runs"),
    ("/ready", "200 while requests are served, else 503 and why"),
    ("/metrics", "metrics in the OpenMetrics text format"),
    ("/config", "the effective policy, secrets masked"),
    ("/upstreams", "breakers and endpoints as they stand now"),
    ("/faults", "faults injected on purpose, and until when"),
    ("/cache", "what is kept, and how often it answered"),
    (
        "/explain",
        "calls that failed, were slow or were drawn: [?id=] [&upstream=] [&reason=] [&failed] [&after=] [&limit=]",
    ),
    ("/inbound", "who may call the application, and over what"),
    ("/shared", "the Redis that pods share, and its nodes"),
    ("/", "this list"),
];

type Page = Response<Full<Bytes>>;

/// Answer a request. Bodies of requests are not read, and HEAD answers as GET does: the server leaves the body out.
pub(super) fn answer(state: &AdminState, asked: &Asked<'_>) -> Page {
    let path = asked.uri.path();
    let is_order = orders::is_order(path);
    if !is_order && !PAGES.iter().any(|(known, _)| *known == path) {
        let paths: Vec<&str> = PAGES.iter().map(|(path, _)| *path).collect();
        let orders: Vec<&str> = ORDERS.iter().map(|(path, _)| *path).collect();
        return problem(
            StatusCode::NOT_FOUND,
            "There is no such page.",
            json!({ "pages": paths, "orders": orders }),
        );
    }
    let (allowed, why) = if is_order {
        ("POST", "An order is given by POST.")
    } else {
        ("GET, HEAD", "This page can only be read.")
    };
    if !allowed
        .split(", ")
        .any(|allowed| asked.method.as_str() == allowed)
    {
        let mut page = problem(StatusCode::METHOD_NOT_ALLOWED, why, json!({}));
        page.headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static(allowed));
        return page;
    }
    // What makes a page belongs to others; a bug there must not take the probes down.
    catch_unwind(AssertUnwindSafe(|| {
        if is_order {
            obey(state, asked)
        } else {
            page(state, asked)
        }
    }))
    .unwrap_or_else(|_| {
        state.telemetry.process.panicked();
        problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The page could not be made.",
            json!({}),
        )
    })
}

fn obey(state: &AdminState, asked: &Asked<'_>) -> Page {
    let token = (state.sources.token)();
    let allowed = orders::may_order(asked, token.as_ref());
    if let Err(declined) = &allowed {
        state.tell_refused(asked, declined);
    }
    match allowed
        .and_then(|()| orders::read(asked))
        .and_then(|order| (state.sources.obey)(order, asked.peer))
    {
        Ok(done) => json_page(StatusCode::OK, done),
        Err(declined) => {
            let mut page = problem(declined.status, &declined.detail, declined.more);
            if declined.status == StatusCode::UNAUTHORIZED {
                let scheme = HeaderValue::from_static("Bearer realm=\"outrider\"");
                page.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
            }
            page
        }
    }
}

fn page(state: &AdminState, asked: &Asked<'_>) -> Page {
    match asked.uri.path() {
        "/live" => json_page(StatusCode::OK, json!({ "live": true })),
        "/ready" => match state.readiness() {
            Readiness::Ready => json_page(StatusCode::OK, json!({ "ready": true })),
            Readiness::Starting => not_ready("starting"),
            Readiness::Draining => not_ready("draining"),
        },
        "/metrics" => {
            // Labels are names in the policy and words of ours.
            let text = state.telemetry.encode().into_bytes();
            respond(StatusCode::OK, METRICS_TYPE, Clean::vetted(text))
        }
        "/config" => {
            let mut config = (state.sources.config)();
            redact::always(&mut config);
            json_page(StatusCode::OK, config)
        }
        "/faults" => json_page(StatusCode::OK, (state.sources.faults)()),
        "/upstreams" => json_page(StatusCode::OK, (state.sources.upstreams)()),
        "/explain" => match explain::read(asked.uri.query()) {
            Ok(ask) => json_page(StatusCode::OK, state.telemetry.stories.page(&ask)),
            Err(declined) => problem(declined.status, &declined.detail, declined.more),
        },
        "/inbound" => json_page(StatusCode::OK, (state.sources.inbound)()),
        "/cache" => json_page(StatusCode::OK, (state.sources.cache)()),
        "/shared" => json_page(StatusCode::OK, (state.sources.shared)()),
        _ => respond(
            StatusCode::OK,
            TEXT_TYPE,
            Clean::vetted(index().into_bytes()),
        ),
    }
}

fn not_ready(reason: &str) -> Page {
    json_page(
        StatusCode::SERVICE_UNAVAILABLE,
        json!({ "ready": false, "reason": reason }),
    )
}

fn index() -> String {
    let mut text = "outrider admin\n\n".to_owned();
    for (path, what) in PAGES {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{path:<17}{what}");
    }
    text.push_str("\nBy POST, from this machine or with the token of `admin`:\n\n");
    for (path, what) in ORDERS {
        let _ = writeln!(text, "{path:<17}{what}");
    }
    text
}

fn json_page(status: StatusCode, value: Value) -> Page {
    respond(status, JSON_TYPE, redact::page(value))
}

/// RFC 9457, with `more` as extension members.
fn problem(status: StatusCode, detail: &str, mut more: Value) -> Page {
    more["type"] = "about:blank".into();
    more["title"] = status.canonical_reason().unwrap_or_default().into();
    more["status"] = status.as_u16().into();
    more["detail"] = detail.into();
    respond(status, PROBLEM_TYPE, redact::page(more))
}

fn respond(status: StatusCode, content_type: &'static str, body: Clean<'static>) -> Page {
    let mut page = Response::new(Full::from(body.into_bytes()));
    *page.status_mut() = status;
    let headers = page.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    page
}
