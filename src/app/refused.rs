//! Calls that no upstream and no application gets: answered here, and told and correlated like any other.

use std::rc::Rc;

use http::Request;
use http::Response;
use http::request::Parts;
use tower::Service;

use crate::app::worker::Worker;
use crate::clock;
use crate::http::Call;
use crate::http::Fault;
use crate::http::Reason;
use crate::http::RequestBody;
use crate::http::Trail;
use crate::stack::RefusingStack;
use crate::telemetry::layer::Observed;

/// What a refusal ends with.
pub type Refused = <RefusingStack as Service<Call>>::Future;

/// Sends a call through the stack that answers by itself: with the fault on its trail, or, for a CONNECT without one, with
/// 200.
pub fn refuse(mut stack: RefusingStack, mut head: Box<Parts>, trail: Rc<Trail>) -> Refused {
    // An upgrade that waits for its answer must not keep the connection.
    head.extensions.clear();
    stack.call(Call {
        head,
        body: RequestBody::Empty,
        trail,
    })
}

/// The answer to a call whose handling panicked.
pub async fn after_panic(worker: &Worker, stack: RefusingStack) -> Response<Observed> {
    worker.shared.telemetry.process.panicked();
    let (head, ()) = Request::new(()).into_parts();
    let trail = Rc::new(Trail::new(clock::now()));
    *trail.refusal.borrow_mut() = Some(Fault::maybe_sent(Reason::Panic));
    match refuse(stack, Box::new(head), trail).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
