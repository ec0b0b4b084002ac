//! An authority of one's own, for trying things out: never for a network that anybody else is on.

use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::DnValue;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::SanType;

use crate::clock;
use crate::identity::SpiffeId;

/// How long the authority lasts.
const AUTHORITY: Duration = Duration::from_secs(365 * 24 * 3600);
/// Certificates begin a little before they are made, for clocks that are behind.
const BEFORE: Duration = Duration::from_secs(60);

/// Why nothing could be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The authority that is there cannot be used, or a certificate cannot be made.
    #[error("certificates cannot be made: {0}")]
    Certificates(#[from] rcgen::Error),
}

/// Where everything lies.
#[derive(Clone, Debug)]
pub struct Made {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The workload's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whether the authority is new too.
    pub is_new: bool,
}

/// Makes an authority in `folder` unless there is one, and a certificate of it for `id`, in a folder named after its path.
///
/// # Errors
/// What cannot be read, written or made.
pub fn make(folder: &Path, id: &SpiffeId, lasts: Duration) -> Result<Made, Error> {
    let (ca, ca_key) = (folder.join("ca.crt"), folder.join("ca.key"));
    let own = folder.join(id.path().trim_start_matches('/').replace('/', "-"));
    fs::create_dir_all(&own).map_err(|error| Error::File {
        path: own.clone(),
        error,
    })?;
    let is_new = !ca.exists() || !ca_key.exists();
    if is_new {
        let key = KeyPair::generate()?;
        let authority = authority(id.domain().as_str()).self_signed(&key)?;
        // The key first: half of it made is made again.
        put(&ca_key, &key.serialize_pem())?;
        put(&ca, &authority.pem())?;
    }
    let authority = read(&ca)?;
    let issuer = Issuer::from_ca_cert_pem(&authority, KeyPair::from_pem(&read(&ca_key)?)?)?;
    let key = KeyPair::generate()?;
    let cert = workload(id, lasts)?.signed_by(&key, &issuer)?;
    let made = Made {
        ca: own.join("ca.crt"),
        cert: own.join("tls.crt"),
        key: own.join("tls.key"),
        is_new,
    };
    put(&made.ca, &authority)?;
    put(&made.key, &key.serialize_pem())?;
    put(&made.cert, &cert.pem())?;
    Ok(made)
}

fn authority(domain: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(
        DnType::CommonName,
        DnValue::Utf8String(format!("outrider development authority of {domain}")),
    );
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    last(&mut params, AUTHORITY);
    params
}

fn workload(id: &SpiffeId, lasts: Duration) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, DnValue::Utf8String("workload".into()));
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    last(&mut params, lasts);
    Ok(params)
}

fn last(params: &mut CertificateParams, lasts: Duration) {
    let start = || rcgen::date_time_ymd(1970, 1, 1);
    // Whole seconds: certificates have no parts of one.
    let now = Duration::from_secs(clock::unix().as_secs());
    params.not_before = start() + now.saturating_sub(BEFORE);
    params.not_after = start() + now + lasts;
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|error| Error::File {
        path: path.to_owned(),
        error,
    })
}

/// Puts a text in place in one step, readable by its owner alone from the first byte on.
fn put(path: &Path, text: &str) -> Result<(), Error> {
    let fresh = path.with_extension("new");
    let write = || {
        if let Err(error) = fs::remove_file(&fresh)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut options = fs::OpenOptions::new();
        // Never through a link that somebody else put there.
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().map_err(|error| Error::File {
        path: path.to_owned(),
        error,
    })
}
