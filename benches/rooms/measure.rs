//! The harness: the same calls through a stack and past it, in turn, many short batches of each.

use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::time::Instant;

use http::HeaderValue;
use http::Request;
use http::Response;
use http::header;
use http::request::Parts;
use outrider::clock;
use outrider::http::Call;
use outrider::http::Fault;
use outrider::http::Outcome;
use outrider::http::RequestBody;
use outrider::http::ResponseBody;
use outrider::http::Trail;
use tower::Layer;
use tower::Service;
use tower::layer::util::Identity;

/// Calls of one batch: so few that most batches are not interrupted by the machine's other work.
const BATCH: u32 = 400;
/// Batches of each kind, after as many to warm up.
const BATCHES: usize = 301;

/// Nobody is there, and nobody is asked.
const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 80);

/// The cost of a layer, in nanoseconds a call.
pub struct Figure {
    /// Around a service that answers at once: what the layer itself does.
    pub ready: f64,
    /// Around one that has to be polled twice, as every real one: timers are registered then.
    pub waits: f64,
}

/// The end of the stack: notes the endpoint, as a balancer does, and answers.
#[derive(Clone)]
pub struct Leaf {
    pub endpoint: u64,
    pub waits: bool,
}

/// See [`Leaf`].
pub struct Answer {
    waits: bool,
}

impl Service<Call> for Leaf {
    type Response = Response<ResponseBody>;
    type Error = Fault;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Answer {
        call.trail.begin_try(self.endpoint, ADDRESS);
        Answer { waits: self.waits }
    }
}

impl Future for Answer {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        if std::mem::take(&mut self.waits) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut response = Response::new(ResponseBody::empty());
        let headers = response.headers_mut();
        // As every server's answer has them, so that no room is the first to make room for a field.
        headers.insert(
            header::DATE,
            HeaderValue::from_static("Tue, 24 Nov 2026 10:00:00 GMT"),
        );
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        Poll::Ready(Ok(response))
    }
}

/// A request as applications send it: six fields, none of which says anything to a room.
fn head() -> Parts {
    let request = Request::builder()
        .uri("http://payments.shop/charges/4711?expand=items")
        .header("host", "payments.shop")
        .header("user-agent", "checkout/2.31")
        .header("accept", "application/json")
        .header("accept-encoding", "gzip, br")
        .header("authorization", "Bearer 0123456789abcdef0123456789abcdef")
        .header("x-tenant", "acme")
        // Every head that reaches the rooms has it: the listener adds it.
        .header("via", "1.1 outrider");
    request.body(()).expect("a valid request").into_parts().0
}

/// What `layer` adds to a call; `prepare` may note on the trail what rooms outside would have.
pub fn cost<L>(layer: impl Fn() -> L, endpoint: u64, prepare: impl Fn(&Trail) + Copy) -> Figure
where
    L: Layer<Leaf>,
    L::Service: Service<Call, Response = Response<ResponseBody>, Error = Fault>,
{
    cost_beside(Identity::new, layer, endpoint, prepare)
}

/// What `layer` does to a call more than `beside`, for a room that cannot stand alone.
pub fn cost_beside<B, L>(
    beside: impl Fn() -> B,
    layer: impl Fn() -> L,
    endpoint: u64,
    prepare: impl Fn(&Trail) + Copy,
) -> Figure
where
    B: Layer<Leaf>,
    B::Service: Service<Call, Response = Response<ResponseBody>, Error = Fault>,
    L: Layer<Leaf>,
    L::Service: Service<Call, Response = Response<ResponseBody>, Error = Fault>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build_local(tokio::runtime::LocalOptions::default())
        .expect("a runtime");
    let measured = |waits: bool| {
        let leaf = Leaf { endpoint, waits };
        let mut bare = beside().layer(leaf.clone());
        let mut stack = layer().layer(leaf);
        runtime.block_on(async {
            let mut differences: Vec<f64> = Vec::with_capacity(BATCHES);
            for nth in 0..2 * BATCHES {
                let without = batch(&mut bare, prepare).await;
                let with = batch(&mut stack, prepare).await;
                if nth >= BATCHES {
                    differences.push(with - without);
                }
            }
            differences.sort_by(f64::total_cmp);
            differences[BATCHES / 2]
        })
    };
    Figure {
        ready: measured(false),
        waits: measured(true),
    }
}

/// Nanoseconds a call.
async fn batch<S>(stack: &mut S, prepare: impl Fn(&Trail)) -> f64
where
    S: Service<Call, Response = Response<ResponseBody>, Error = Fault>,
{
    thread_local!(static HEAD: Rc<Parts> = Rc::new(head()));
    let head = HEAD.with(Rc::clone);
    let answered = Cell::new(0);
    let began = Instant::now();
    for _ in 0..BATCH {
        let call = Call {
            head: Box::new((*head).clone()),
            body: RequestBody::Empty,
            trail: Rc::new(Trail::new(clock::now())),
        };
        prepare(&call.trail);
        let outcome = stack.call(call).await;
        answered.set(answered.get() + u32::from(outcome.is_ok()));
        drop(std::hint::black_box(outcome));
    }
    let took = began.elapsed();
    assert_eq!(
        answered.get(),
        BATCH,
        "a bench of the path on which nothing fails"
    );
    took.as_nanos() as f64 / f64::from(BATCH)
}
