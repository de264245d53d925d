//! Hostile leaves: what a peer presents is parsed for its names.

use rcgen::{CertificateParams, KeyPair, SanType};
use tests_fuzz::{Target, within};

use super::*;
use crate::leaf_ids;

/// A leaf with these names.
fn leaf(ca: &Ca, names: Vec<SanType>) -> (Vec<u8>, Vec<u8>) {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    let key = KeyPair::generate().expect("a key");
    let leaf = params.signed_by(&key, &ca.issuer).expect("a leaf");
    (leaf.der().to_vec(), key.serialize_der())
}

fn dns_name(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("ASCII"))
}

fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().expect("ASCII"))
}

#[test]
fn skips_names_that_cannot_be_identities() {
    let ca = Ca::new(Engine::default());
    let names = [
        uri("http://web"),
        uri("spiffe://a b"),
        uri("spiffe://a\n"),
        dns_name("*.ns"),
        dns_name("web\0.ns"),
        dns_name("spiffe://web"),
        uri(WEB),
        uri("spiffe://root/ns/web"),
        dns_name("WEB.ns."),
    ];
    let ids = leaf_ids(&leaf(&ca, names.into()).0).expect("a certificate");
    let ids: Vec<_> = ids.iter().map(Id::as_str).collect();
    assert_eq!(ids, ["spiffe://root/ns/web", "web.ns"]);
}

#[test]
fn fuzz_leaf() {
    let ca = Ca::new(Engine::default());
    let (der, key) = leaf(&ca, vec![dns_name(WEB)]);
    let seeds = vec![
        der.clone(),
        leaf(&ca, vec![uri("spiffe://root/ns/web"), dns_name(API)]).0,
        leaf(&ca, vec![]).0,
    ];
    let target = Target {
        name: "fuzz_leaf",
        seeds,
        words: &[
            "api",
            "web",
            "*",
            "\0",
            "\u{6}\u{3}\u{55}\u{1d}\u{11}",
            "\u{30}",
            "\u{4}",
            "spiffe://",
            "\u{1}\u{1}\u{7f}",
        ],
    };
    let (web, api) = (ca.without_leaf(WEB), ca.without_leaf(API));
    target.run(|bytes| {
        let ids = within(64 * bytes.len() + 16_384, || leaf_ids(bytes));
        for id in ids.iter().flatten() {
            assert_eq!(id.as_str().parse().as_ref(), Ok(id), "a name of another form");
        }
        // The issuer's signature covers the names: a change of one is never accepted.
        let presented = Credentials::new(bytes.to_vec(), Vec::new(), key.clone(), in_an_hour());
        assert!(api.publish(&presented).is_err(), "accepted for another name");
        if web.publish(&presented).is_ok() {
            assert_eq!(ids.expect("valid"), [WEB.parse().expect("valid")]);
        }
    });
}
