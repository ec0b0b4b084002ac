//! Keeps a token up to date: asked for before the one in use ends, one request at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use http::Uri;
use tokio::sync::watch;
use tokio::time::timeout;

use super::ask;
use super::source;
use super::source::Next;
use super::source::Shared;
use super::source::Wiped;
use crate::clock;
use crate::endpoint::discover::Resolver;
use crate::endpoint::discover::Update;
use crate::endpoint::discover::WatchHandle;
use crate::policy::credential::config::Grant;
use crate::policy::credential::machine;
use crate::policy::credential::machine::Trouble;
use crate::policy::credential::machine::token;
use crate::rng;

/// The longest that one request for a token may take, name and connection and answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A failure to get a token: its kind, and what is safe to log of it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) trouble: Trouble,
    pub(super) why: String,
}

impl Failure {
    pub(super) fn new(trouble: Trouble, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { trouble, why }
    }
}

/// A token as it came.
pub(super) struct Token {
    pub(super) secret: Wiped,
    /// `None`: its server does not say.
    pub(super) lifetime: Option<Duration>,
}

/// A client of one token endpoint.
pub(super) struct Client {
    pub(super) grant: Grant,
    pub(super) url: Uri,
    /// `None` until the first lookup has ended.
    addresses: watch::Receiver<Option<Vec<SocketAddr>>>,
    lookups: WatchHandle,
}

impl Client {
    pub(super) fn new(grant: &Grant, resolver: &Resolver) -> Self {
        // Checked where the policy was read.
        let url: Uri = grant.token_url.parse().unwrap_or_default();
        let (tell, addresses) = watch::channel(None);
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        let lookups = resolver.watch(host, port(&url), move |update| match update {
            Update::Endpoints(found) => {
                tell.send_replace(Some(found));
            }
            Update::Failed(failure) if failure.kept == 0 => {
                tell.send_replace(Some(Vec::new()));
            }
            Update::Gone => {
                tell.send_replace(Some(Vec::new()));
            }
            Update::Failed(_) | Update::Confirmed => {}
        });
        Self {
            grant: grant.clone(),
            url,
            addresses,
            lookups,
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        self.url.scheme_str() == Some("https")
    }

    /// Where the token endpoint is. Without TLS only on this host, unless the policy says otherwise: the name may have been
    /// made to lead elsewhere.
    async fn found(&self) -> Result<Vec<SocketAddr>, Failure> {
        let mut addresses = self.addresses.clone();
        let known = addresses.wait_for(Option::is_some).await;
        let mut found = known
            .ok()
            .and_then(|known| known.clone())
            .unwrap_or_default();
        if found.is_empty() {
            self.lookups.refresh();
            return Err(Failure::new(Trouble::Unresolved, "its name has no address"));
        }
        if !self.is_tls() && !self.grant.insecure {
            found.retain(|address| address.ip().is_loopback());
            if found.is_empty() {
                let why = "plain http leads off this host, and `insecure` does not allow that";
                return Err(Failure::new(Trouble::Unresolved, why));
            }
        }
        Ok(found)
    }

    /// Asks once.
    async fn ask(&self) -> Result<Token, Failure> {
        let secret = self.secret().await?;
        let addresses = self.found().await?;
        ask::token(self, &addresses, &secret).await
    }

    /// The client's own secret, read anew for each token.
    async fn secret(&self) -> Result<Wiped, Failure> {
        let Some(place) = self.grant.client_secret.clone() else {
            return Err(Failure::new(
                Trouble::ClientSecret,
                "there is no place for it",
            ));
        };
        let name = place.to_string();
        let read = tokio::task::spawn_blocking(move || source::read(&place)).await;
        let failed = |trouble: Trouble| {
            Failure::new(Trouble::ClientSecret, format!("{name}: {}", trouble.word()))
        };
        let text = read
            .map_err(|_| failed(Trouble::Unreadable))?
            .map_err(failed)?;
        machine::secret(&text)
            .map(|secret| Wiped::new(secret.to_vec()))
            .map_err(failed)
    }
}

/// The port of a URL.
pub(super) fn port(url: &Uri) -> u16 {
    let usual = if url.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    url.port_u16().unwrap_or(usual)
}

/// Gets one token after the other, for ever.
pub(super) async fn keep(client: Client, shared: Arc<Shared>) {
    let mut failures = 0;
    loop {
        shared.await_next(Next::Asked, None);
        let began = clock::now();
        let asked = timeout(PATIENCE, client.ask()).await;
        let asked = asked.unwrap_or_else(|_| Err(Failure::new(Trouble::Timeout, "no answer")));
        let taken = asked.and_then(|token| take(&shared, &token));
        let wait = match taken {
            Ok(wait) => {
                failures = 0;
                wait
            }
            Err(failure) => {
                failures += 1;
                let wait = token::again_in(failures, rng::draw());
                shared.fail(failure.trouble, Next::At(clock::now() + wait));
                tracing::warn!(
                    credential = %shared.name,
                    error = failure.trouble.word(),
                    why = %failure.why,
                    again_in_ms = wait.as_millis() as u64,
                    "no token"
                );
                wait
            }
        };
        rest(&shared, began, clock::now() + wait, failures == 0).await;
    }
}

fn take(shared: &Shared, token: &Token) -> Result<Duration, Failure> {
    let lifetime = token.lifetime.unwrap_or(token::LIFETIME);
    let plan = token::plan(lifetime, rng::draw());
    let secret = machine::secret(&token.secret);
    secret
        .and_then(|secret| shared.take(secret, Some((plan.usable_for, lifetime))))
        .map_err(|_| Failure::new(Trouble::Answer, "the token cannot stand in a header"))?;
    Ok(plan.renew_in)
}

/// Waits until `until`, or until an upstream refuses the token.
async fn rest(shared: &Shared, began: Instant, until: Instant, may_be_nudged: bool) {
    let mut waiting = std::pin::pin!(tokio::time::sleep_until(until.into()));
    loop {
        tokio::select! {
            () = &mut waiting => return,
            () = shared.nudged.notified(), if may_be_nudged => {
                let since = clock::now().saturating_duration_since(began);
                if token::may_nudge(since) {
                    return;
                }
            }
        }
    }
}
