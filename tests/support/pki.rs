//! Certificates of every kind, sound and not, made on the spot.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::SanType;
use rcgen::SubjectPublicKeyInfo;

const HOUR: i64 = 3600;

/// What is wrong with a certificate, and the word that a verifier has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Valid,
    Expired,
    NotYetValid,
    WrongTrustDomain,
    WrongId,
    NoUriSan,
    TwoUriSans,
    NotSpiffe,
    CaAsLeaf,
    SelfSigned,
    UnknownIssuer,
}

/// Every kind that is not valid.
pub const BAD: [(Kind, &str); 10] = [
    (Kind::Expired, "expired"),
    (Kind::NotYetValid, "not_yet_valid"),
    (Kind::WrongTrustDomain, "wrong_trust_domain"),
    (Kind::WrongId, "wrong_id"),
    (Kind::NoUriSan, "no_uri_san"),
    (Kind::TwoUriSans, "many_uri_sans"),
    (Kind::NotSpiffe, "not_spiffe"),
    (Kind::CaAsLeaf, "ca_as_leaf"),
    (Kind::SelfSigned, "self_signed"),
    (Kind::UnknownIssuer, "unknown_issuer"),
];

/// An authority.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Issued {
    pub cert: String,
    pub key: String,
}

/// Where an identity lies.
#[derive(Clone, Debug)]
pub struct Laid {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
}

impl Ca {
    /// A new authority with a key of its own.
    pub fn new(name: &str) -> Self {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A sound certificate for a workload, good for `localhost` and 127.0.0.1 too.
    pub fn workload(&self, id: &str) -> Issued {
        self.issue(Kind::Valid, id)
    }

    /// A certificate of this kind, in place of one for `id`.
    pub fn issue(&self, kind: Kind, id: &str) -> Issued {
        let mut params = params("workload");
        let uris: &[&str] = match kind {
            Kind::NoUriSan => &[],
            Kind::TwoUriSans => &[id, "spiffe://shop.test/ns/shop/sa/second"],
            Kind::WrongTrustDomain => &["spiffe://other.test/ns/shop/sa/pay"],
            Kind::WrongId => &["spiffe://shop.test/ns/evil/sa/pay"],
            Kind::NotSpiffe => &["https://shop.test/ns/shop"],
            _ => &[id],
        };
        let uri = |uri: &&str| SanType::URI((*uri).try_into().expect("ASCII"));
        params.subject_alt_names.extend(uris.iter().map(uri));
        match kind {
            Kind::Expired => valid(&mut params, -HOUR, -1),
            Kind::NotYetValid => valid(&mut params, HOUR, 2 * HOUR),
            Kind::CaAsLeaf => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            _ => {}
        }
        let key = KeyPair::generate().expect("a key");
        let cert = match kind {
            Kind::SelfSigned => params.self_signed(&key),
            Kind::UnknownIssuer => params.signed_by(&key, &Self::new("stranger").0),
            _ => params.signed_by(&key, &self.0),
        };
        Issued {
            cert: cert.expect("a certificate").pem(),
            key: key.serialize_pem(),
        }
    }

    /// A certificate for a server with this name, and for no workload.
    pub fn server(&self, name: &str) -> Issued {
        let mut params = params(name);
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().expect("ASCII"))];
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        Issued {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A sound certificate for a workload with somebody else's public key, PEM in and out.
    pub fn certify(&self, id: &str, public_key: &str) -> String {
        let mut params = params("workload");
        params
            .subject_alt_names
            .push(SanType::URI(id.try_into().expect("ASCII")));
        let key = SubjectPublicKeyInfo::from_pem(public_key).expect("a public key");
        params
            .signed_by(&key, &self.0)
            .expect("a certificate")
            .pem()
    }

    /// A sound identity for `id` in a folder: `tls.crt`, `tls.key`, `ca.crt`.
    pub fn lay(&self, folder: &Path, id: &str) -> Laid {
        self.workload(id).lay(folder, &self.pem())
    }
}

impl Issued {
    /// Writes it into a folder as cert-manager does, each file replaced at once.
    pub fn lay(&self, folder: &Path, authorities: &str) -> Laid {
        let put = |name: &str, text: &str| {
            let (path, fresh) = (folder.join(name), folder.join(format!(".{name}.new")));
            fs::write(&fresh, text).expect("a file");
            fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).expect("its mode");
            fs::rename(&fresh, &path).expect("its name");
            path
        };
        Laid {
            ca: put("ca.crt", authorities),
            key: put("tls.key", &self.key),
            cert: put("tls.crt", &self.cert),
        }
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params =
        CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
    params.distinguished_name.push(DnType::CommonName, name);
    valid(&mut params, -HOUR, HOUR);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // In words, as agents of the Workload API have it.
    params.is_ca = IsCa::ExplicitNoCa;
    params
}

/// Valid between these many seconds from now.
fn valid(params: &mut CertificateParams, from: i64, until: i64) {
    let start = || rcgen::date_time_ymd(1970, 1, 1);
    let now = now();
    let then = |seconds| Duration::from_secs(now.saturating_add_signed(seconds));
    params.not_before = start() + then(from);
    params.not_after = start() + then(until);
}

#[expect(
    clippy::disallowed_methods,
    reason = "certificates are made around the time that it is"
)]
fn now() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    since.map_or(0, |since| since.as_secs())
}
