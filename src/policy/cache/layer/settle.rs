//! What becomes of an answer that was fetched, or of the want of one.

use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use http::Response;
use http::StatusCode;
use http::header;
use http::response::Parts;
use http_body::Body;

use crate::http::Outcome;
use crate::http::ResponseBody;
use crate::policy::cache::layer::Fetches;
use crate::policy::cache::layer::entry::Entry;
use crate::policy::cache::layer::entry::Fields;
use crate::policy::cache::layer::entry::Head;
use crate::policy::cache::layer::fetch::Fetch;
use crate::policy::cache::layer::fetch::For;
use crate::policy::cache::layer::fill::Lead;
use crate::policy::cache::layer::pump;
use crate::policy::cache::layer::pump::Pump;
use crate::policy::cache::layer::select;
use crate::policy::cache::layer::serve;
use crate::policy::cache::layer::tier::Pass;
use crate::policy::cache::layer::wish;
use crate::policy::cache::machine::Stored;
use crate::policy::cache::machine::Times;
use crate::policy::cache::machine::fresh;
use crate::policy::cache::machine::reuse;
use crate::policy::cache::machine::status::Told;
use crate::policy::cache::machine::store;
use crate::policy::cache::machine::validate;
use crate::policy::cache::machine::validate::HeadSays;
use crate::policy::cache::metrics::Refreshed;
use crate::policy::cache::metrics::Served;

impl<S: Fetches> Fetch<S> {
    /// RFC 5861 section 4: an error that is nothing to keep, or that what is kept can stand in for.
    pub fn is_failure(&self, response: &Response<ResponseBody>, times: Times) -> bool {
        let status = response.status().as_u16();
        if !matches!(status, 500 | 502 | 503 | 504) {
            return false;
        }
        let (asked, rules) = (&self.work.asked, &self.policy.guard.rules);
        let stands_in = self.work.entry.as_ref().is_some_and(|entry| {
            reuse::if_error(asked, &entry.head.facts, rules, times.received).is_some()
        });
        let (request, said) = (Fields(&self.request), Fields(response.headers()));
        stands_in || store::judge(asked, &request, status, &said, times, rules).is_err()
    }

    /// The upstream failed, or could not be asked.
    pub fn failed(&self, lead: Lead, outcome: Outcome) -> Outcome {
        let why = match &outcome {
            Ok(_) => "upstream_status",
            Err(fault) => fault.reason.word(),
        };
        if self.work.entry.is_some() {
            self.policy.guard.metrics.revalidation(Refreshed::Failed);
        }
        lead.fill.fail(why);
        drop(lead);
        let status = outcome.as_ref().ok().map(|answer| answer.status().as_u16());
        match self.stand_in(why, status) {
            Some(stale) => Ok(stale),
            None => self.pass(outcome, why),
        }
    }

    /// What is kept, in place of an upstream that failed: with `status`, if it came to an answer.
    pub fn stand_in(
        &self,
        why: &'static str,
        status: Option<u16>,
    ) -> Option<Response<ResponseBody>> {
        let guard = &*self.policy.guard;
        let entry = self.work.entry.as_ref()?;
        let now = self.trail.now();
        let asked = &self.work.asked;
        reuse::if_error(asked, &entry.head.facts, &guard.rules, now)?;
        match self.whom {
            For::Client => {}
            For::Shadow => {
                guard.metrics.would_serve(Served::StaleIfError);
                return None;
            }
            For::Later => return None,
        }
        self.policy
            .note(&self.trail, Served::StaleIfError, Some(why));
        self.know(&entry.head, true);
        guard.metrics.stale(why);
        // RFC 9211 section 2.1: a hit only where nothing was sent.
        let asked_upstream = self.trail.tries.get() > 0;
        let told = Told {
            hit: !asked_upstream,
            forward: asked_upstream.then_some(self.work.forward),
            forward_status: status,
            ttl: Some(entry.head.facts.ttl(now)),
            detail: Some(why),
            ..Told::default()
        };
        let wish = wish(asked, &self.request, &self.trail, now);
        Some(serve::answer(entry, &wish, &told))
    }

    /// An outcome that is for this client alone.
    fn pass(&self, mut outcome: Outcome, why: &'static str) -> Outcome {
        if self.whom != For::Client {
            return outcome;
        }
        self.policy.note(&self.trail, Served::Miss, Some(why));
        if let Ok(response) = &mut outcome {
            self.strip(response);
        }
        let told = Told {
            forward: Some(self.work.forward),
            detail: Some(why),
            ..Told::default()
        };
        serve::tell(&mut outcome, &told);
        outcome
    }

    /// Takes the tags off what a client gets, where policy says so.
    fn strip(&self, response: &mut Response<ResponseBody>) {
        let settings = &self.policy.guard.settings;
        if let (Some(name), true) = (&settings.tags, settings.strip_tags) {
            response.headers_mut().remove(name);
        }
    }

    /// The upstream says that what is kept still holds (RFC 9111 section 4.3.4). `None`: it does not mean what is kept.
    pub fn validated(
        &self,
        response: &Response<ResponseBody>,
        lead: &Lead,
        times: Times,
    ) -> Option<Outcome> {
        let guard = &*self.policy.guard;
        let old = self.work.entry.as_ref()?;
        let said = response.headers();
        if !validate::freshens(&Fields(said), &old.head.facts, true) {
            return None;
        }
        guard.metrics.revalidation(Refreshed::NotModified);
        let merged = merge(&old.head.fields, said);
        let anew = self.anew(old, &merged, times);
        let (entry, is_kept) = match anew {
            Ok(entry) => {
                let kept = self
                    .policy
                    .put(&self.work.key, lead.fill.stamp, &entry, &self.request);
                lead.fill.done(Arc::clone(&entry));
                if let Some(pass) = self.pass.as_ref().filter(|_| kept) {
                    pass.share(&entry, &self.request);
                }
                (entry, kept)
            }
            Err(why) => {
                guard.metrics.not_stored(why.word());
                if why.likely_again() {
                    self.policy.take_out(&self.work.key, lead.fill.stamp, old);
                }
                lead.fill.release();
                let facts = Stored {
                    received: times.received,
                    initial_age: fresh::initial_age(&Fields(&merged), times),
                    ..old.head.facts.clone()
                };
                let head = Head::keep(facts, old.head.status, &merged, &guard.settings);
                let body = old.body.clone();
                (Arc::new(Entry { head, body }), false)
            }
        };
        let now = times.received;
        if self.whom == For::Client {
            self.policy.note(&self.trail, Served::Revalidated, None);
            self.know(&entry.head, is_kept);
        }
        let told = Told {
            forward: Some(self.work.forward),
            forward_status: Some(304),
            ttl: Some(entry.head.facts.ttl(now)),
            stored: is_kept,
            ..Told::default()
        };
        let wish = wish(&self.work.asked, &self.request, &self.trail, now);
        Some(Ok(serve::answer(&entry, &wish, &told)))
    }

    fn anew(
        &self,
        old: &Entry,
        merged: &HeaderMap,
        times: Times,
    ) -> Result<Arc<Entry>, store::WhyNot> {
        let guard = &*self.policy.guard;
        let facts = validate::freshened(
            &old.head.facts,
            &self.work.asked,
            &Fields(&self.request),
            &Fields(merged),
            times,
            &guard.rules,
        )?;
        let mut head = Head::keep(facts, old.head.status, merged, &guard.settings);
        if head.tags.is_empty() && !old.head.tags.is_empty() {
            head = head.tagged(&old.head.tags);
        }
        Ok(Arc::new(Entry {
            head,
            body: old.body.clone(),
        }))
    }

    /// Keeps an answer, if it may be kept, and passes it on.
    pub async fn keep(
        mut self,
        lead: Lead,
        response: Response<ResponseBody>,
        times: Times,
    ) -> Outcome {
        let policy = Rc::clone(&self.policy);
        let guard = &*policy.guard;
        let status = response.status();
        let judged = store::judge(
            &self.work.asked,
            &Fields(&self.request),
            status.as_u16(),
            &Fields(response.headers()),
            times,
            &guard.rules,
        );
        if self.work.asked.head {
            self.head_says(&response, &lead, times);
        }
        let facts = match judged {
            Ok(facts) => facts,
            Err(why) => return self.not_kept(lead, response, why),
        };
        let length = exact(&response);
        if length.is_some_and(|length| length > self.policy.largest()) {
            return self.unfit(lead, response, "too_large");
        }
        let mut room = guard.store.room();
        if !room.take(length.unwrap_or_default()) {
            return self.unfit(lead, response, "no_room");
        }
        let head = Head::keep(facts, status, response.headers(), &guard.settings);
        let (parts, body) = response.into_parts();
        let pump = Pump {
            lead,
            policy: Rc::clone(&self.policy),
            key: self.work.key.clone(),
            pass: self.pass.take(),
            request: self.request.clone(),
            head,
            room,
            length,
        };
        let told = Arc::clone(&pump.head);
        let (body, is_kept) = pump::start(pump, body).await;
        self.know(&told, is_kept);
        Ok(self.stored(parts, body, is_kept))
    }

    /// The fetcher's own copy of an answer that is kept.
    fn stored(&self, parts: Parts, body: ResponseBody, is_kept: bool) -> Response<ResponseBody> {
        let mut response = Response::from_parts(parts, body);
        if self.whom == For::Client {
            self.policy.note(&self.trail, Served::Miss, None);
            self.strip(&mut response);
            let told = Told {
                forward: Some(self.work.forward),
                stored: is_kept,
                ..Told::default()
            };
            let status = serve::status(&told);
            response.headers_mut().append(serve::CACHE_STATUS, status);
        }
        response
    }

    fn not_kept(
        &self,
        lead: Lead,
        response: Response<ResponseBody>,
        why: store::WhyNot,
    ) -> Outcome {
        let guard = &*self.policy.guard;
        guard.metrics.not_stored(why.word());
        if why.likely_again() && !response.status().is_server_error() {
            guard.store.mark(self.work.key.hash(), self.trail.now());
            self.pass.iter().for_each(Pass::mark);
        }
        // What is kept was another answer, which this one took the place of. An error says nothing of it, unless it says that
        // it is gone.
        let status = response.status();
        let takes_its_place =
            status.as_u16() < 400 || matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
        if let Some(old) = &self.work.entry
            && why.likely_again()
            && takes_its_place
        {
            self.policy.take_out(&self.work.key, lead.fill.stamp, old);
        }
        lead.fill.release();
        drop(lead);
        self.pass(Ok(response), why.word())
    }

    fn unfit(&self, lead: Lead, response: Response<ResponseBody>, why: &'static str) -> Outcome {
        let guard = &*self.policy.guard;
        guard.metrics.not_stored(why);
        guard.store.mark(self.work.key.hash(), self.trail.now());
        self.pass.iter().for_each(Pass::mark);
        if let Some(old) = &self.work.entry {
            self.policy.take_out(&self.work.key, lead.fill.stamp, old);
        }
        lead.fill.release();
        drop(lead);
        self.pass(Ok(response), why)
    }

    /// What the answer to a HEAD says of what is kept (RFC 9111 section 4.3.5).
    fn head_says(&self, response: &Response<ResponseBody>, lead: &Lead, times: Times) {
        let policy = &*self.policy;
        let (key, stamp) = (&self.work.key, lead.fill.stamp);
        let Some(found) = policy.guard.store.get(&key.as_lookup()) else {
            return;
        };
        let Some(old) = select(&found, Fields(&self.request), &mut Vec::new()) else {
            return;
        };
        let said = response.headers();
        let (facts, length) = (&old.head.facts, old.body.len() as u64);
        let anew = match validate::head(response.status().as_u16(), &Fields(said), facts, length) {
            HeadSays::Nothing => return,
            HeadSays::Same => self.anew(old, &merge(&old.head.fields, said), times).ok(),
            HeadSays::Changed => None,
        };
        let anew = anew.unwrap_or_else(|| {
            Arc::new(Entry {
                head: old.head.but(facts.expired(times.received)),
                body: old.body.clone(),
            })
        });
        policy.put(key, stamp, &anew, &self.request);
    }
}

/// The kept fields with those of a 304 put in.
pub(super) fn merge(kept: &HeaderMap, said: &HeaderMap) -> HeaderMap {
    let mut merged = kept.clone();
    merged.remove(header::DATE);
    for name in said.keys() {
        let counts = validate::replaces(name.as_str()) || *name == header::AGE;
        if !counts {
            continue;
        }
        merged.remove(name);
        for value in said.get_all(name) {
            merged.append(name.clone(), value.clone());
        }
    }
    merged
}

/// The length of a body, where it is known.
fn exact(response: &Response<ResponseBody>) -> Option<u64> {
    response.body().size_hint().exact()
}
