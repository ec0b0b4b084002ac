//! Every kind of certificate, shown from either side, in a handshake without a socket.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::Error;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::pki_types::CertificateDer;

use crate::clock;
use crate::identity::Flaw;
use crate::identity::Identity;
use crate::identity::Material;
use crate::identity::PeerPattern;
use crate::identity::SpiffeId;
use crate::identity::leaf::Leaf;
use crate::identity::pem;
use crate::identity::tests::pki::BAD;
use crate::identity::tests::pki::Ca;
use crate::identity::tests::pki::Issued;
use crate::identity::tests::pki::Kind;
use crate::identity::tls;
use crate::identity::verify::peer_of;

pub const ID: &str = "spiffe://shop.test/ns/shop/sa/pay";

pub fn material(issued: &Issued, authorities: &str) -> Material {
    Material {
        chain: pem::certificates("cert", issued.cert.as_bytes()).unwrap(),
        key: pem::key("key", issued.key.as_bytes()).unwrap(),
        own: pem::certificates("ca", authorities.as_bytes()).unwrap(),
        foreign: BTreeMap::default(),
    }
}

fn peers() -> Arc<[PeerPattern]> {
    [PeerPattern::parse("spiffe://shop.test/ns/shop/*").unwrap()].into()
}

fn identity(ca: &Ca) -> Identity {
    Identity::new(material(&ca.workload(ID), &ca.pem()), &[], 1).unwrap()
}

/// A handshake to its end, or what each side says of its failure.
fn shake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> (
    Result<ClientConnection, Error>,
    Result<ServerConnection, Error>,
) {
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let (mut of_client, mut of_server) = (None, None);
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            of_server = of_server.or(server.process_new_packets().err());
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            of_client = of_client.or(client.process_new_packets().err());
        }
    }
    (
        of_client.map_or(Ok(client), Err),
        of_server.map_or(Ok(server), Err),
    )
}

/// A configuration that shows what it should not: built past every check.
fn rogue(issued: &Issued) -> Arc<rustls::sign::SingleCertAndKey> {
    let chain = pem::certificates("cert", issued.cert.as_bytes()).unwrap();
    let key = pem::key("key", issued.key.as_bytes()).unwrap();
    let key = tls::provider().key_provider.load_private_key(key).unwrap();
    Arc::new(rustls::sign::CertifiedKey::new(chain, key).into())
}

fn rogue_server(issued: &Issued) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(rogue(issued));
    Arc::new(config)
}

fn rogue_client(ca: &Ca, issued: Option<&Issued>) -> Arc<ClientConfig> {
    let honest = tls::client_config(&identity(ca), &peers(), &[]).unwrap();
    let mut config = ClientConfig::clone(&honest);
    config.client_auth_cert_resolver = match issued {
        Some(issued) => rogue(issued),
        None => Arc::new(Nobody),
    };
    Arc::new(config)
}

/// Shows no certificate.
#[derive(Debug)]
struct Nobody;

impl rustls::client::ResolvesClientCert for Nobody {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn two_workloads_of_one_authority_meet_over_tls_1_3_with_a_hybrid_group() {
    let ca = Ca::new("shop");
    let identity = identity(&ca);
    let client = tls::client_config(&identity, &peers(), &[tls::HTTP1]).unwrap();
    let server = tls::server_config(&identity, &peers(), &[tls::H2, tls::HTTP1]).unwrap();
    let (client, server) = shake(client, server);
    let (client, server) = (client.unwrap(), server.unwrap());
    assert_eq!(
        client.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
    let group = client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(server.alpn_protocol(), Some(tls::HTTP1));
    let (id, _) = peer_of(server.peer_certificates(), clock::unix()).unwrap();
    assert_eq!(id.as_str(), ID);
}

#[test]
fn a_server_of_any_bad_kind_is_refused_with_its_own_word() {
    let ca = Ca::new("shop");
    let identity = identity(&ca);
    for (kind, word) in BAD {
        let client = tls::client_config(&identity, &peers(), &[]).unwrap();
        let (client, server) = shake(client, rogue_server(&ca.issue(kind, ID)));
        assert_eq!(Flaw::of(&client.unwrap_err()).word(), word, "{kind:?}");
        // The other side learns that it is not liked, not more than that.
        assert!(server.is_err(), "{kind:?}");
    }
}

#[test]
fn a_client_of_any_bad_kind_is_refused_with_its_own_word() {
    let ca = Ca::new("shop");
    let identity = identity(&ca);
    for (kind, word) in BAD {
        let server = tls::server_config(&identity, &peers(), &[]).unwrap();
        let (client, server) = shake(rogue_client(&ca, Some(&ca.issue(kind, ID))), server);
        assert_eq!(Flaw::of(&server.unwrap_err()).word(), word, "{kind:?}");
        assert!(Flaw::of(&client.unwrap_err()).word().starts_with("found_"));
    }
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let ca = Ca::new("shop");
    let server = tls::server_config(&identity(&ca), &peers(), &[]).unwrap();
    let (client, server) = shake(rogue_client(&ca, None), server);
    assert_eq!(Flaw::of(&server.unwrap_err()), Flaw::NoCertificate);
    assert_eq!(Flaw::of(&client.unwrap_err()), Flaw::WantsCertificate);
}

#[test]
fn the_valid_kind_passes_the_rogue_sides_too() {
    // Else the tests above could pass because those sides are broken.
    let ca = Ca::new("shop");
    let identity = identity(&ca);
    let valid = ca.issue(Kind::Valid, ID);
    let client = tls::client_config(&identity, &peers(), &[]).unwrap();
    shake(client, rogue_server(&valid)).0.unwrap();
    let server = tls::server_config(&identity, &peers(), &[]).unwrap();
    shake(rogue_client(&ca, Some(&valid)), server).1.unwrap();
}

#[test]
fn a_short_rsa_key_is_weak() {
    let ca = Ca::new("shop");
    // DER of a public key: a modulus of so many bits and the exponent 65537.
    let pem = |bits: usize| {
        let mut modulus = vec![0x55; bits / 8];
        modulus[0] = 0xc5;
        let integer = der(2, &[&[0], modulus.as_slice()].concat());
        let pair = der(0x30, &[integer, der(2, &[1, 0, 1])].concat());
        let rsa = [0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
        let key = der(3, &[vec![0], pair].concat());
        let spki = der(0x30, &[der(0x30, &rsa), key].concat());
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            base64(&spki)
        )
    };
    let read = |bits: usize| {
        let cert = ca.certify(ID, &pem(bits));
        let cert: CertificateDer<'_> = pem::certificates("cert", cert.as_bytes())
            .unwrap()
            .remove(0);
        Leaf::read(&cert).unwrap().workload()
    };
    assert_eq!(read(1024), Err(Flaw::WeakKey));
    assert_eq!(read(2048), Ok(SpiffeId::parse(ID).unwrap()));
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    if length < 128 {
        out.push(length as u8);
    } else {
        out.extend([0x82, (length >> 8) as u8, length as u8]);
    }
    out.extend(content);
    out
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let sign = ALPHABET[(word >> (18 - 6 * at)) as usize & 63];
            out.push(if at <= chunk.len() { sign as char } else { '=' });
        }
    }
    out
}
