//! Certificates and keys in PEM files, read again when they change.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::identity::Current;
use crate::identity::Material;
use crate::identity::TrustDomain;
use crate::identity::leaf::Leaf;
use crate::identity::pem;
use crate::identity::source::Source;
use crate::identity::source::Trouble;
use crate::identity::source::look::Look;

/// Largest file that is read: certificates are a few kilobytes, bundles of authorities some hundred.
const FILE_MAX: u64 = 4 * 1024 * 1024;

/// Where the workload's own certificate and key are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Own {
    /// One file each, as cert-manager and its CSI driver write them.
    Apart {
        /// The chain, the workload's certificate first.
        cert: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// Key and chain in one file, as a `podCertificate` volume has them. Certificates in it that issued themselves are taken as
    /// authorities.
    Bundle(PathBuf),
}

/// An identity in files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Files {
    /// Certificate and key.
    pub own: Own,
    /// The authorities of the own trust domain.
    pub ca: Option<PathBuf>,
    /// Those of others.
    pub trust: BTreeMap<TrustDomain, PathBuf>,
}

impl Files {
    /// Reads all of them.
    ///
    /// # Errors
    /// What cannot be read; whether the parts belong together is found by [`Current::install`].
    pub fn read(&self) -> Result<Material, Trouble> {
        // Where Kubernetes wrote them, all are read below one target of its link, so that they are of one version.
        let mut roots = Roots::default();
        let (chain, key, mut own) = match &self.own {
            Own::Apart { cert, key } => {
                let chain = pem::certificates("cert", &roots.read(cert)?)?;
                (chain, pem::key("key", &roots.read(key)?)?, Vec::new())
            }
            Own::Bundle(path) => {
                let text = roots.read(path)?;
                let all = pem::certificates("bundle", &text)?;
                let is_root = |der: &[u8]| {
                    Leaf::read(der).is_ok_and(|leaf| leaf.is_self_issued && leaf.is_authority)
                };
                let (own, chain) = all.into_iter().partition(|der| is_root(der));
                (chain, pem::key("bundle", &text)?, own)
            }
        };
        if let Some(ca) = &self.ca {
            own.extend(pem::certificates("ca", &roots.read(ca)?)?);
        }
        let mut foreign = BTreeMap::new();
        for (domain, path) in &self.trust {
            foreign.insert(
                domain.clone(),
                pem::certificates("trust", &roots.read(path)?)?,
            );
        }
        Ok(Material {
            chain,
            key,
            own,
            foreign,
        })
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let own: Vec<&PathBuf> = match &self.own {
            Own::Apart { cert, key } => vec![cert, key],
            Own::Bundle(path) => vec![path],
        };
        let all = own.into_iter().chain(&self.ca).chain(self.trust.values());
        all.map(PathBuf::as_path)
    }

    fn look(&self, current: &Current) -> Result<bool, Trouble> {
        match self.read() {
            Ok(material) => current.install(material),
            Err(trouble) => {
                current.failed(&trouble);
                Err(trouble)
            }
        }
    }
}

impl Source for Files {
    fn describe(&self) -> String {
        match &self.own {
            Own::Apart { cert, .. } => format!("files:{}", cert.display()),
            Own::Bundle(path) => format!("bundle:{}", path.display()),
        }
    }

    fn begin(&self, current: &Current) {
        tell(&self.describe(), current, &self.look(current));
    }

    fn follow(self: Arc<Self>, current: Arc<Current>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let watch = Look::at(self.paths());
            let mut last = None;
            loop {
                // The first look comes at once, for a change before the watch began.
                let found = self.look(&current);
                let said = found.as_ref().err().map(ToString::to_string);
                // The same trouble every second is one line, though it is counted each time.
                if said.is_none() || said != last {
                    tell(&self.describe(), &current, &found);
                }
                last = said;
                watch.next(found.is_ok()).await;
            }
        })
    }
}

/// One line for what a look found, unless it found what was known.
pub(super) fn tell(from: &str, current: &Current, found: &Result<bool, Trouble>) {
    match (found, current.get()) {
        (Ok(true), Some(identity)) => tracing::info!(
            source = from,
            id = %identity.id,
            generation = identity.generation,
            not_after = identity.not_after,
            "identity in force"
        ),
        (Ok(_), _) => {}
        (Err(trouble), Some(identity)) => tracing::error!(
            source = from,
            error = trouble.word(),
            detail = %trouble,
            not_after = identity.not_after,
            "identity could not be renewed; the one before stays in force"
        ),
        (Err(trouble), None) => tracing::error!(
            source = from,
            error = trouble.word(),
            detail = %trouble,
            "no identity"
        ),
    }
}

/// Reads files, those of one Kubernetes volume all below the target that its link had at the first of them.
#[derive(Default)]
struct Roots(BTreeMap<PathBuf, PathBuf>);

impl Roots {
    fn read(&mut self, path: &Path) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        let path = self.resolve(path);
        let unreadable = |error| Trouble::Unreadable {
            path: path.clone(),
            error,
        };
        let size = std::fs::metadata(&path).map_err(unreadable)?.len();
        if size > FILE_MAX {
            return Err(unreadable(std::io::Error::other("too large")));
        }
        // Read into one place of the right size: growing would leave copies of a key behind in freed memory.
        let mut text = Zeroizing::new(Vec::with_capacity(size as usize + 1));
        let mut file = std::fs::File::open(&path).map_err(unreadable)?;
        std::io::Read::read_to_end(&mut file, &mut text).map_err(unreadable)?;
        Ok(text)
    }

    fn resolve(&mut self, path: &Path) -> PathBuf {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return path.to_path_buf();
        };
        let root = self.0.entry(folder.to_path_buf()).or_insert_with(|| {
            let link = folder.join("..data");
            std::fs::canonicalize(link).unwrap_or_else(|_error| folder.to_path_buf())
        });
        let inside = root.join(name);
        if inside.exists() {
            inside
        } else {
            path.to_path_buf()
        }
    }
}
