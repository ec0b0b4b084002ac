//! A story as JSON: what `/explain` shows, and what the command line and the page draw their timelines from.

use std::time::Duration;

use http::HeaderValue;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Story;
use crate::http::Reason;
use crate::http::Sent;
use crate::http::note::End;
use crate::http::note::Note;
use crate::http::note::Noted;
use crate::http::note::Try;
use crate::telemetry::hex;

impl Story {
    /// Whether this is its request ID or trace ID.
    #[must_use]
    pub fn has_id(&self, id: &str) -> bool {
        let is_request = self.request_id.as_ref().is_some_and(|own| own == id);
        is_request || (id.len() == 32 && self.trace_id().as_deref() == Some(id))
    }

    fn trace_id(&self) -> Option<String> {
        self.trace
            .map(|mark| String::from_utf8_lossy(&hex(mark.trace_id)).into_owned())
    }

    /// All of it.
    #[must_use]
    pub fn json(&self) -> Value {
        let notes: Vec<Value> = self.notes.iter().map(noted).collect();
        let mut told = json!({
            "number": self.number,
            "kind": self.kind.word(),
            "request_id": self.request_id.as_ref().map(text),
            "trace_id": self.trace_id(),
            "began": jiff::Timestamp::from_nanosecond(self.began.as_nanos().cast_signed())
                .map(|at| format!("{at:.3}"))
                .unwrap_or_default(),
            "client": self.peer.map(|peer| peer.to_string()),
            "method": self.method.as_str(),
            "host": self.host.as_ref().map(text),
            "path": self.path,
            "protocol": self.protocol,
            "upstream": &*self.names.upstream,
            "route": &*self.names.route,
            "policy": &*self.names.revision,
            "status": self.status,
            "reason": self.reason.map(Reason::word),
            "duration_ms": ms(self.took),
            "head_ms": self.head.map(ms),
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "tries": self.tries,
            "endpoint": self.endpoint.map(|endpoint| endpoint.to_string()),
            "steps": notes,
        });
        if let Some(reason) = self.reason {
            told["title"] = reason.title().into();
        }
        if let Some(kept) = self.kept {
            // A digest, told apart from a number so that no reader rounds it.
            told["cached"] = json!({
                "digest": format!("{:016x}", kept.key),
                "age_s": kept.age.as_secs_f64(),
                "lifetime_s": kept.lifetime.as_secs_f64(),
                "lifetime_from": kept.source,
                "fresh": kept.is_fresh(),
                "stored": kept.stored,
            });
        }
        if self.lost > 0 {
            told["steps_lost"] = self.lost.into();
        }
        told
    }
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// Milliseconds to the microsecond.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn noted(noted: &Noted) -> Value {
    let mut told = Map::new();
    told.insert("at_ms".into(), ms(noted.at).into());
    told.insert("room".into(), noted.note.room().into());
    told.insert("text".into(), noted.note.to_string().into());
    if noted.copy > 0 {
        told.insert("copy".into(), noted.copy.into());
    }
    if let Value::Object(numbers) = numbers(&noted.note) {
        let has = |value: &Value| !value.is_null();
        told.extend(numbers.into_iter().filter(|(_, value)| has(value)));
    }
    Value::Object(told)
}

fn numbers(note: &Note) -> Value {
    match note {
        Note::Overload(fate) => json!({ "fate": fate.word() }),
        Note::Fault { what } => json!({ "what": what }),
        Note::Cache { did, why } => json!({ "cache": did, "why": why }),
        Note::Deadline { total, from_caller } => {
            json!({ "total_ms": ms(*total), "from_caller": from_caller })
        }
        Note::Limit {
            fate,
            left,
            more_in,
        } => json!({ "fate": fate.word(), "left": left, "more_in_ms": ms(*more_in) }),
        Note::Bulkhead {
            fate,
            in_flight,
            max,
            waited,
        } => json!({
            "fate": fate.word(), "in_flight": in_flight, "max": max, "waited_ms": ms(*waited),
        }),
        Note::Idempotency { made } => json!({ "made": made }),
        Note::Hedge { fate, after } => json!({ "fate": fate, "after_ms": ms(*after) }),
        Note::Retry {
            again_in,
            why,
            budget,
        } => json!({ "again_in_ms": again_in.map(ms), "why": why, "budget": budget }),
        Note::Credential { did } => json!({ "did": did }),
        Note::Breaker {
            fate,
            state,
            more_in,
            by_hand,
        } => json!({
            "fate": fate.word(), "state": state, "more_in_ms": ms(*more_in), "by_hand": by_hand,
        }),
        Note::Try(tried) => of_try(tried),
    }
}

fn of_try(tried: &Try) -> Value {
    let (status, reason, sent) = match tried.end {
        End::Open => (None, None, None),
        End::Answered(status) => (Some(status), None, None),
        End::Failed(reason, sent) => (None, Some(reason.word()), Some(sent == Sent::Maybe)),
    };
    json!({
        "span_id": format!("{:016x}", tried.span),
        "endpoint": tried.endpoint.map(|endpoint| endpoint.to_string()),
        "connection": tried.endpoint.map(|_| if tried.reused { "kept" } else { "new" }),
        "took_ms": tried.took.map(ms),
        "status": status,
        "reason": reason,
        "maybe_sent": sent,
    })
}
