//! What is put in force, what is not, and what a renewal takes with it.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use crate::identity::Current;
use crate::identity::Flaw;
use crate::identity::PeerPattern;
use crate::identity::Trouble;
use crate::identity::source::Files;
use crate::identity::source::Own;
use crate::identity::source::Source as _;
use crate::identity::tests::matrix::ID;
use crate::identity::tests::matrix::material;
use crate::identity::tests::pki::Ca;
use crate::identity::tests::pki::Kind;
use crate::identity::tests::pki::Laid;
use crate::identity::tls;
use crate::identity::tls::Following;
use crate::identity::trust::End;
use crate::identity::trust::Shown;
use crate::identity::verify::Verifier;

fn files(laid: &Laid) -> Files {
    Files {
        own: Own::Apart {
            cert: laid.cert.clone(),
            key: laid.key.clone(),
        },
        ca: Some(laid.ca.clone()),
        trust: BTreeMap::default(),
    }
}

#[test]
fn what_is_read_twice_is_one_generation() {
    let (ca, current) = (Ca::new("shop"), Current::new(None));
    let issued = ca.workload(ID);
    assert!(current.install(material(&issued, &ca.pem())).unwrap());
    assert!(!current.install(material(&issued, &ca.pem())).unwrap());
    assert_eq!(current.generation(), 1);
    assert!(
        current
            .install(material(&ca.workload(ID), &ca.pem()))
            .unwrap()
    );
    assert_eq!(current.get().unwrap().generation, 2);
}

#[test]
fn another_key_than_the_certificates_is_refused_and_the_old_one_stays() {
    let (ca, current) = (Ca::new("shop"), Current::new(None));
    current
        .install(material(&ca.workload(ID), &ca.pem()))
        .unwrap();
    let mut mixed = ca.workload(ID);
    mixed.key = ca.workload(ID).key;
    let refused = current.install(material(&mixed, &ca.pem()));
    assert!(matches!(refused, Err(Trouble::KeyMismatch)), "{refused:?}");
    assert_eq!(current.generation(), 1);
}

#[test]
fn an_identity_that_nobody_would_accept_is_refused() {
    let (ca, current) = (Ca::new("shop"), Current::new(None));
    for kind in [
        Kind::Expired,
        Kind::NoUriSan,
        Kind::TwoUriSans,
        Kind::CaAsLeaf,
    ] {
        let refused = current.install(material(&ca.issue(kind, ID), &ca.pem()));
        assert!(
            matches!(refused, Err(Trouble::Flawed(_))),
            "{kind:?} {refused:?}"
        );
    }
    assert!(current.get().is_none());
}

#[test]
fn a_half_written_key_keeps_the_old_identity() {
    let (ca, current) = (Ca::new("shop"), Current::new(None));
    let folder = tempfile::tempdir().unwrap();
    let laid = ca.lay(folder.path(), ID);
    let files = files(&laid);
    files.begin(&current);
    let whole = fs::read(&laid.key).unwrap();
    for cut in [0, 10, whole.len() / 2, whole.len() - 30] {
        fs::write(&laid.key, &whole[..cut]).unwrap();
        files.begin(&current);
        assert_eq!(current.generation(), 1, "{cut}");
    }
    ca.lay(folder.path(), ID);
    files.begin(&current);
    assert_eq!(current.generation(), 2);
}

#[test]
fn files_of_one_volume_are_read_of_one_version() {
    let (ca, folder) = (Ca::new("shop"), tempfile::tempdir().unwrap());
    let version = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        ca.lay(&path, ID);
    };
    version("..v1");
    std::os::unix::fs::symlink("..v1", folder.path().join("..data")).unwrap();
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        let target = format!("..data/{name}");
        std::os::unix::fs::symlink(target, folder.path().join(name)).unwrap();
    }
    let at = |name: &str| folder.path().join(name);
    let files = files(&Laid {
        cert: at("tls.crt"),
        key: at("tls.key"),
        ca: at("ca.crt"),
    });
    let current = Current::new(None);
    files.begin(&current);
    version("..v2");
    std::os::unix::fs::symlink("..v2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    files.begin(&current);
    assert_eq!(current.generation(), 2);
}

#[test]
fn a_bundle_has_key_chain_and_authority_in_one_file() {
    let (ca, folder) = (Ca::new("shop"), tempfile::tempdir().unwrap());
    let issued = ca.workload(ID);
    let path = folder.path().join("bundle.pem");
    fs::write(&path, format!("{}{}{}", issued.key, issued.cert, ca.pem())).unwrap();
    let files = Files {
        own: Own::Bundle(path),
        ca: None,
        trust: BTreeMap::default(),
    };
    let current = Current::new(None);
    files.begin(&current);
    let identity = current.get().unwrap();
    assert_eq!(identity.id.as_str(), ID);
    assert_eq!(identity.trust.authorities().count(), 1);
}

#[test]
fn an_authority_taken_out_by_a_renewal_has_a_word_of_its_own() {
    let (old, new, current) = (Ca::new("old"), Ca::new("new"), Current::new(None));
    let both = format!("{}{}", old.pem(), new.pem());
    let judge = |issued: &super::pki::Issued| {
        let identity = current.get().unwrap();
        let verifier = Verifier::new(identity.trust.clone(), Arc::new([]));
        let shown = material(issued, &both);
        let shown = Shown {
            leaf: &shown.chain[0],
            between: &[],
            now: rustls::pki_types::UnixTime::since_unix_epoch(crate::clock::unix()),
        };
        verifier.check(shown, End::Server).map(|_id| ())
    };
    let peer = old.workload(ID);
    current
        .install(material(&old.workload(ID), &old.pem()))
        .unwrap();
    assert_eq!(judge(&peer), Ok(()));
    current.install(material(&old.workload(ID), &both)).unwrap();
    assert_eq!(judge(&peer), Ok(()));
    current
        .install(material(&new.workload(ID), &new.pem()))
        .unwrap();
    assert_eq!(judge(&peer), Err(Flaw::RetiredIssuer));
    assert_eq!(judge(&Ca::new("x").workload(ID)), Err(Flaw::UnknownIssuer));
    assert_eq!(judge(&new.workload(ID)), Ok(()));
}

#[test]
fn a_configuration_is_made_once_a_generation() {
    let (ca, current) = (Ca::new("shop"), Current::new(None));
    let peers: Arc<[PeerPattern]> = Arc::new([]);
    let following = Following::new(Arc::clone(&current), move |identity| {
        tls::client_config(identity, &peers, &[])
    });
    assert_eq!(following.get().unwrap_err(), Flaw::NoIdentity);
    current
        .install(material(&ca.workload(ID), &ca.pem()))
        .unwrap();
    let (first, generation) = following.get().unwrap();
    assert_eq!(generation, 1);
    assert!(Arc::ptr_eq(&first, &following.get().unwrap().0));
    current
        .install(material(&ca.workload(ID), &ca.pem()))
        .unwrap();
    let (second, generation) = following.get().unwrap();
    assert_eq!(generation, 2);
    assert!(!Arc::ptr_eq(&first, &second));
}
