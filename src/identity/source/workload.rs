//! The SPIFFE Workload API: an agent on the same host tells this process who it is, and tells again before that ends.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::PrivatePkcs8KeyDer;
use spiffe::WorkloadApiClient;
use spiffe::X509Context;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::identity::Current;
use crate::identity::Material;
use crate::identity::TrustDomain;
use crate::identity::source::Source;
use crate::identity::source::Trouble;
use crate::identity::source::files::tell;
use crate::rng;

/// How long to wait before asking again, at first and at most; each time with half of it by chance, so that the workloads of a
/// node do not all come back to an agent in one step.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How long an agent may take to open its stream.
const OPEN: Duration = Duration::from_secs(10);

/// An identity from the Workload API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    socket: PathBuf,
}

impl Workload {
    /// The agent behind this socket.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Takes what the agent says until the stream ends; whether it said anything that is sound.
    async fn listen(&self, current: &Current) -> (bool, Trouble) {
        let opened = timeout(OPEN, async {
            let address = format!("unix://{}", self.socket.display());
            let client = WorkloadApiClient::connect_to(address).await?;
            client.stream_x509_contexts().await
        });
        let mut contexts = match opened.await {
            Ok(Ok(contexts)) => Box::pin(contexts),
            Ok(Err(error)) => return (false, Trouble::Workload(error.to_string())),
            Err(_elapsed) => return (false, Trouble::Workload("no answer in time".into())),
        };
        let mut said = false;
        while let Some(context) = contexts.next().await {
            match context {
                Ok(context) => {
                    let found = material(&context).and_then(|material| current.install(material));
                    said |= found.is_ok();
                    tell(&self.describe(), current, &found);
                }
                Err(error) => return (said, Trouble::Workload(error.to_string())),
            }
        }
        (
            said,
            Trouble::Workload("the agent closed the stream".into()),
        )
    }
}

impl Source for Workload {
    fn describe(&self) -> String {
        format!("spiffe:{}", self.socket.display())
    }

    fn begin(&self, _current: &Current) {
        // An agent may take its time; calls that need an identity say so until then.
    }

    fn follow(self: Arc<Self>, current: Arc<Current>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let (least, most) = AGAIN;
            let mut wait = least;
            let mut last = None;
            loop {
                let (said, trouble) = self.listen(&current).await;
                current.failed(&trouble);
                let words = Some(trouble.to_string());
                // The same trouble at each attempt is one line, though it is counted each time.
                if said || words != last {
                    tell(&self.describe(), &current, &Err(trouble));
                }
                last = words;
                wait = if said { least } else { (wait * 2).min(most) };
                sleep(wait.mul_f64(0.5 + rng::draw() / 2.0)).await;
            }
        })
    }
}

/// What the agent says: the default identity, and the authorities of its own trust domain and of those that it federates with.
fn material(context: &X509Context) -> Result<Material, Trouble> {
    let svid = context
        .default_svid()
        .ok_or_else(|| Trouble::Workload("no identity is issued to this workload".into()))?;
    let der = |bytes: &[u8]| CertificateDer::from(bytes.to_vec());
    let mut foreign = BTreeMap::new();
    for (domain, bundle) in context.bundle_set().iter() {
        let Some(domain) = TrustDomain::parse(domain.as_ref()) else {
            continue;
        };
        let authorities = bundle.authorities().iter();
        foreign.insert(domain, authorities.map(|one| der(one.as_bytes())).collect());
    }
    let key = PrivatePkcs8KeyDer::from(svid.private_key().as_bytes().to_vec());
    Ok(Material {
        chain: svid
            .cert_chain()
            .iter()
            .map(|one| der(one.as_bytes()))
            .collect(),
        key: PrivateKeyDer::Pkcs8(key),
        // They are among the bundles.
        own: Vec::new(),
        foreign,
    })
}
