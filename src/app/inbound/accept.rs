//! One inbound connection, from its first byte until it is known who is at the other end.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::app::inbound::Inbound;
use crate::app::inbound::handle::Handle;
use crate::app::worker::Worker;
use crate::clock;
use crate::detect;
use crate::detect::First;
use crate::detect::machine::Verdict;
use crate::http::Caller;
use crate::http::Reason;
use crate::identity::Flaw;
use crate::identity::verify;
use crate::listen;
use crate::listen::Drain;
use crate::listen::Prefixed;
use crate::listen::Settings;
use crate::listen::Way;
use crate::listen::inbound::Mode;
use crate::listen::inbound::Protocol;
use crate::redact;
use crate::rng;
use crate::telemetry::access_log::Kind;
use crate::telemetry::access_log::Line;
use crate::telemetry::access_log::Place;

/// How long a connection may outlive the identity, and the trust, that it was made with; less up to a fifth by chance, so
/// that callers do not all come back at once.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Serves one connection to its end.
pub async fn serve(
    worker: Rc<Worker>,
    mut stream: TcpStream,
    mut way: Way,
    settings: Rc<Settings>,
) {
    let Some(inbound) = worker.tree().inbound.clone() else {
        return;
    };
    // Kept apart from the way: what is HTTP here leads to the application, and only there.
    let original = way.original.take();
    let is_silent = inbound.settings.mode == Mode::Permissive
        && inbound
            .site(original)
            .is_some_and(|site| site.app.protocol == Protocol::Tcp);
    let patience = if is_silent {
        // Its server may be the one that speaks first.
        settings.limits.detect
    } else {
        settings.limits.head_read
    };
    let first = tokio::select! {
        first = detect::read_first(&mut stream, patience) => first,
        () = settings.drain.begun() => return,
    };
    // A connection that failed or closed before it said anything has nobody left to tell.
    let Ok(first) = first else { return };
    let arrival = Arrival {
        worker,
        inbound,
        original,
        settings,
    };
    match first.verdict {
        Some(Verdict::Tls) => arrival.encrypted(stream, first, way).await,
        None if !is_silent => arrival.refused(&way, Reason::HeadTimeout, None, &first),
        verdict => {
            let is_http = matches!(verdict, Some(Verdict::Http1 | Verdict::Http2));
            if arrival.inbound.settings.mode == Mode::Strict && !is_http {
                return arrival.refused(&way, Reason::MtlsRequired, None, &first);
            }
            // In strict mode each request is asked whether it is a probe.
            arrival.spoken(stream, first.bytes, way).await;
        }
    }
}

/// A connection that has said something.
struct Arrival {
    worker: Rc<Worker>,
    inbound: std::sync::Arc<Inbound>,
    original: Option<SocketAddr>,
    settings: Rc<Settings>,
}

impl Arrival {
    async fn spoken(&self, stream: TcpStream, first: Bytes, way: Way) {
        let handle = Handle::new(&self.worker, self.original);
        let stream = Prefixed::new(first, stream);
        listen::serve(stream, handle, Rc::new(way), Rc::clone(&self.settings)).await;
    }

    async fn encrypted(&self, stream: TcpStream, first: First, mut way: Way) {
        let shaken = tokio::select! {
            shaken = self.shake_hands(stream, &first) => shaken,
            () = self.settings.drain.begun() => return,
        };
        let met = match shaken {
            Ok(met) => met,
            Err(flaw) => {
                self.inbound.handshakes.inc(flaw.word());
                return self.refused(&way, flaw.reason(), Some(flaw), &first);
            }
        };
        self.inbound.handshakes.inc("ok");
        way.caller = Some(Rc::new(met.caller));
        let own = Drain::default();
        let settings = Rc::new(Settings {
            limits: self.settings.limits.clone(),
            drain: own.clone(),
            refuse: std::sync::Arc::clone(&self.settings.refuse),
        });
        let handle = Handle::new(&self.worker, self.original);
        let serving = listen::serve(*met.stream, handle, Rc::new(way), settings);
        let mut serving = pin!(serving);
        tokio::select! {
            () = serving.as_mut() => return,
            () = self.settings.drain.begun() => {}
            () = self.until_over(met.generation, met.ends_in) => {}
        }
        own.begin();
        serving.await;
    }

    async fn shake_hands(&self, stream: TcpStream, first: &First) -> Result<Met, Flaw> {
        let (config, generation) = self.worker.shared.server_tls.get()?;
        let stream = Prefixed::new(first.bytes.clone(), stream);
        let within = self.settings.limits.head_read;
        let accepting = TlsAcceptor::from(config).accept(stream);
        let stream = match tokio::time::timeout(within, accepting).await {
            Ok(accepted) => accepted.map_err(|error| Flaw::of_io(&error))?,
            Err(_elapsed) => return Err(Flaw::Timeout),
        };
        let shown = stream.get_ref().1.peer_certificates();
        let now = clock::unix();
        let (id, leaf) = verify::peer_of(shown, now)?;
        let der = shown
            .and_then(<[_]>::first)
            .ok_or(Flaw::NoCertificate)?
            .as_ref();
        let hash = digest::digest(&digest::SHA256, der);
        let own = self.worker.shared.identity.current().get();
        let by = own.as_ref().map_or("", |own| own.id.as_str());
        Ok(Met {
            caller: Caller::new(id.as_str(), by, hash.as_ref(), &leaf.subject),
            ends_in: Duration::from_secs(leaf.not_after).saturating_sub(now),
            generation,
            stream: Box::new(stream),
        })
    }

    /// Until the caller's certificate is over, or, some time after ours was renewed, this connection is old.
    async fn until_over(&self, generation: u64, ends_in: Duration) {
        let ends = clock::now() + ends_in.min(FAR);
        loop {
            let age = MAX_AGE.mul_f64(1.0 - rng::draw() / 5.0);
            let left = ends.saturating_duration_since(clock::now());
            tokio::time::sleep(age.min(left)).await;
            let is_renewed = self.worker.shared.identity.current().generation() != generation;
            if is_renewed || clock::now() >= ends {
                return;
            }
        }
    }

    /// Takes note of a connection on which nothing will be asked.
    fn refused(&self, way: &Way, reason: Reason, flaw: Option<Flaw>, first: &First) {
        let worker = &self.worker;
        worker.shared.telemetry.process.refused(reason);
        let tree = worker.tree();
        if !tree.policy.access_log {
            return;
        }
        let place = Place::inbound(&tree.policy.service, "");
        worker.log.line(&Line {
            source: Some(way.peer.address),
            reason: Some(reason),
            cause: flaw.map(Flaw::word),
            sni: first.sni.as_deref().map(|sni| redact::text(sni.as_bytes())),
            ..Line::new(Kind::Connection, clock::unix(), &place)
        });
    }
}

/// Longer than any connection lives, and short enough to be added to any time.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A caller that has proved who it is.
struct Met {
    stream: Box<TlsStream<Prefixed<TcpStream>>>,
    caller: Caller,
    generation: u64,
    ends_in: Duration,
}
