//! A response made of a kept answer.

use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;

use crate::http::Outcome;
use crate::http::ResponseBody;
use crate::policy::cache::layer::entry::Entry;
use crate::policy::cache::layer::entry::Fields;
use crate::policy::cache::layer::entry::Head;
use crate::policy::cache::machine::part::Gives;
use crate::policy::cache::machine::range;
use crate::policy::cache::machine::range::Part;
use crate::policy::cache::machine::status::Told;
use crate::policy::cache::machine::validate;

/// RFC 9211.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What is known of the one who asks.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The request's own fields.
    pub request: &'a HeaderMap,
    /// It wants no body.
    pub head: bool,
    /// It names a copy of its own.
    pub conditional: bool,
    /// It wants a part.
    pub range: bool,
    /// The time.
    pub now: Instant,
    /// The same by the wall clock, in seconds since 1970.
    pub now_unix: u64,
}

/// The value of `Cache-Status`.
#[must_use]
pub fn status(told: &Told) -> HeaderValue {
    let mut text = Vec::with_capacity(64);
    told.write(&mut text);
    HeaderValue::from_maybe_shared(Bytes::from(text))
        .expect("words and numbers are visible ASCII, which every value may hold")
}

/// Says in an outcome what the cache had to do with it.
pub fn tell(outcome: &mut Outcome, told: &Told) {
    match outcome {
        Ok(response) => {
            response.headers_mut().append(CACHE_STATUS, status(told));
        }
        Err(fault) => fault.fields.push((CACHE_STATUS, status(told))),
    }
}

/// The answer to `wish` out of `entry`: all of it, a part, or word that the client's own copy is still good.
#[must_use]
pub fn answer(entry: &Entry, wish: &Wish<'_>, told: &Told) -> Response<ResponseBody> {
    let (head, request) = (&*entry.head, Fields(wish.request));
    if wish.conditional && validate::not_modified(&request, &head.facts, wish.now_unix) {
        return without_body(head, StatusCode::NOT_MODIFIED, wish.now, told);
    }
    let length = entry.body.len() as u64;
    let part = if wish.range && !wish.head {
        range::part(&request, &head.facts, length, wish.now_unix)
    } else {
        Part::Whole
    };
    match part {
        Part::Whole if wish.head => {
            let mut response = whole(head, ResponseBody::empty(), wish.now, told);
            let fields = response.headers_mut();
            if !fields.contains_key(header::CONTENT_LENGTH) && head.status != StatusCode::NO_CONTENT
            {
                fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
            response
        }
        Part::Whole => whole(head, ResponseBody::full(entry.body.clone()), wish.now, told),
        Part::Bytes(first, last) => {
            let bytes = entry.body.slice(first as usize..=last as usize);
            let length = bytes.len();
            let mut response = whole(head, ResponseBody::full(bytes), wish.now, told);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let fields = response.headers_mut();
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            content_range(fields, part, entry.body.len());
            response
        }
        Part::Unsatisfiable => {
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            let mut response = without_body(head, status, wish.now, told);
            let fields = response.headers_mut();
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
            content_range(fields, part, entry.body.len());
            response
        }
    }
}

/// What a stored part gives. Nothing else is stored, so that there is nothing whole to give instead.
#[must_use]
pub fn of_part(
    entry: &Entry,
    gives: Gives,
    wish: &Wish<'_>,
    told: &Told,
) -> Response<ResponseBody> {
    let (head, request) = (&*entry.head, Fields(wish.request));
    if wish.conditional && validate::not_modified(&request, &head.facts, wish.now_unix) {
        return without_body(head, StatusCode::NOT_MODIFIED, wish.now, told);
    }
    let (Gives::Bytes(first, last), Some(span)) = (gives, &head.facts.part) else {
        return whole(head, ResponseBody::full(entry.body.clone()), wish.now, told);
    };
    let [from, to] = [first, last].map(|at| (at - span.first) as usize);
    let bytes = entry.body.slice(from..=to);
    let length = bytes.len();
    let mut response = whole(head, ResponseBody::full(bytes), wish.now, told);
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Ok(value) = HeaderValue::try_from(span.content_range(first, last)) {
        fields.insert(header::CONTENT_RANGE, value);
    }
    response
}

fn content_range(fields: &mut HeaderMap, part: Part, length: usize) {
    let text = range::content_range(part, length as u64);
    let value = text.and_then(|text| HeaderValue::try_from(text).ok());
    if let Some(value) = value {
        fields.insert(header::CONTENT_RANGE, value);
    }
}

/// A kept head with this body.
#[must_use]
pub fn whole(head: &Head, body: ResponseBody, now: Instant, told: &Told) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.fields.clone();
    sign(&mut response, head, now, told);
    response
}

fn without_body(
    head: &Head,
    status: StatusCode,
    now: Instant,
    told: &Told,
) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = status;
    let kept = head.fields.iter();
    let kept = kept.filter(|(name, _)| validate::in_not_modified(name.as_str()));
    *response.headers_mut() = kept
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    sign(&mut response, head, now, told);
    response
}

fn sign(response: &mut Response<ResponseBody>, head: &Head, now: Instant, told: &Told) {
    let fields = response.headers_mut();
    let age = head.facts.age(now).as_secs();
    fields.insert(header::AGE, HeaderValue::from(age));
    fields.append(CACHE_STATUS, status(told));
}
