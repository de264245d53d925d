//! Tests of the whole crate: chains are made, parsed, used for signing, and reject invalid requests.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, SanType};

use crate::{Anchor, Anchors, Blame, Csr, Error, Issuer, LeafTimes, Validity, make_key_and_csr};

const NAME: &str = "web.emoji.serviceaccount.identity.linkerd.cluster.local";
const DAY: Duration = Duration::from_secs(86_400);

fn authority() -> (Anchors, Issuer) {
    let anchor = Anchor::generate("root.linkerd.cluster.local", DAY * 365).unwrap();
    let issuer = Issuer::generate(&anchor, "identity.linkerd.cluster.local", DAY * 30).unwrap();
    (Anchors::from_pem(&anchor.certificate_pem()).unwrap(), issuer)
}

/// A request with these SANs and this common name.
fn csr_with(sans: Vec<SanType>, common_name: Option<&str>) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = sans;
    params.distinguished_name = common_name.map(crate::csr::common_name).unwrap_or_default();
    params
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap()
        .der()
        .to_vec()
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

#[test]
fn leaf_chains_to_the_anchor_with_the_requested_times() {
    let (anchors, issuer) = authority();
    let now = SystemTime::now();
    let csr = Csr::from_der(&make_key_and_csr(NAME).unwrap().csr_der).unwrap();
    let leaf = issuer.sign(&csr, NAME, LeafTimes::DEFAULT, now).unwrap();
    anchors.verify(&leaf.der, issuer.chain(), now).unwrap();
    let skew = Duration::from_secs(20);
    assert!(now.duration_since(leaf.validity.not_before).unwrap() < skew + Duration::from_secs(1));
    assert!(leaf.validity.remaining(now) > DAY + Duration::from_secs(19));
    assert!(leaf.validity.remaining(now) <= DAY + skew);
    let (_, parsed) = x509_parser::parse_x509_certificate(&leaf.der).unwrap();
    assert_eq!(parsed.subject().to_string(), format!("CN={NAME}"));
    assert!(!parsed.is_ca());
    let other = issuer.sign(&csr, NAME, LeafTimes::DEFAULT, now).unwrap();
    let (_, other) = x509_parser::parse_x509_certificate(&other.der).unwrap();
    assert_ne!(parsed.serial, other.serial);
}

#[test]
fn leaf_never_outlives_the_issuer() {
    let (_, issuer) = authority();
    let end = issuer.validity().not_after;
    let csr = Csr::from_der(&make_key_and_csr(NAME).unwrap().csr_der).unwrap();
    let leaf = issuer
        .sign(&csr, NAME, LeafTimes::DEFAULT, end - Duration::from_secs(3600))
        .unwrap();
    assert_eq!(leaf.validity.not_after, end);
    let after = issuer.sign(&csr, NAME, LeafTimes::DEFAULT, end).unwrap_err();
    assert_eq!(after, Error::IssuerExpired(end));
    assert_eq!(after.blame(), Blame::Issuer);
    let before = issuer
        .sign(&csr, NAME, LeafTimes::DEFAULT, SystemTime::UNIX_EPOCH + DAY)
        .unwrap_err();
    assert!(matches!(before, Error::IssuerNotYetValid(_)));
}

#[test]
fn issuer_round_trips_through_pem_and_is_checked_against_anchors() {
    let (anchors, issuer) = authority();
    let now = SystemTime::now();
    let read = Issuer::from_pem(&issuer.certificate_pem(), &issuer.key_pem()).unwrap();
    assert_eq!((read.chain(), read.validity()), (issuer.chain(), issuer.validity()));
    read.check(&anchors, now).unwrap();
    let (other_anchors, other) = authority();
    assert!(matches!(
        read.check(&other_anchors, now),
        Err(Error::IssuerNotTrusted(_))
    ));
    let mixed = Issuer::from_pem(&issuer.certificate_pem(), &other.key_pem()).unwrap_err();
    assert_eq!(mixed, Error::IssuerKeyMismatch);
    assert!(matches!(
        Issuer::from_pem("nonsense", &issuer.key_pem()),
        Err(Error::NotPem { .. })
    ));
    assert!(matches!(
        Issuer::from_pem(&issuer.certificate_pem(), "nonsense"),
        Err(Error::IssuerKey(_))
    ));
    let over = Issuer::from_pem(&issuer.certificate_pem(), &issuer.key_pem()).unwrap();
    assert!(matches!(
        over.check(&anchors, now + DAY * 40),
        Err(Error::IssuerExpired(_))
    ));
}

#[test]
fn finds_the_key_behind_other_sections() {
    let (_, issuer) = authority();
    let (certificate, key) = (issuer.certificate_pem(), issuer.key_pem());
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    Issuer::from_pem(&certificate, &[parameters, &key].concat()).unwrap();
    let both = [certificate, key].concat();
    Issuer::from_pem(&both, &both).unwrap();
    assert!(matches!(Issuer::from_pem(&both, parameters), Err(Error::IssuerKey(_))));
}

#[test]
fn rejects_a_leaf_as_issuer() {
    let (_, issuer) = authority();
    let made = make_key_and_csr(NAME).unwrap();
    let csr = Csr::from_der(&made.csr_der).unwrap();
    let leaf = issuer.sign(&csr, NAME, LeafTimes::DEFAULT, SystemTime::now()).unwrap();
    let certificate = pem::encode(&pem::Pem::new("CERTIFICATE", leaf.der));
    let key = pem::encode(&pem::Pem::new("PRIVATE KEY", made.key_pkcs8_der));
    assert_eq!(Issuer::from_pem(&certificate, &key).unwrap_err(), Error::IssuerNotCa);
}

#[test]
fn self_signed_anchor_can_be_its_own_issuer() {
    // The installation that Linkerd's CLI makes by default has one certificate as both.
    let anchor = Anchor::generate("identity.linkerd.cluster.local", DAY).unwrap();
    let anchors = Anchors::from_pem(&anchor.certificate_pem()).unwrap();
    let issuer = Issuer::from_pem(&anchor.certificate_pem(), &anchor.key_pem()).unwrap();
    issuer.check(&anchors, SystemTime::now()).unwrap();
}

#[test]
fn rejects_names_other_than_the_identity() {
    let uri = SanType::URI("spiffe://a/b".try_into().unwrap());
    let ip = SanType::IpAddress([10, 0, 0, 1].into());
    let mail = SanType::Rfc822Name("a@b".try_into().unwrap());
    let refused = |sans, common_name| {
        Csr::from_der(&csr_with(sans, common_name))
            .unwrap()
            .check(NAME)
            .unwrap_err()
    };
    assert_eq!(refused(vec![], Some(NAME)), Error::CsrDnsNames(0));
    assert_eq!(refused(vec![dns(NAME), dns("other")], None), Error::CsrDnsNames(2));
    assert_eq!(refused(vec![dns(NAME), uri], None), Error::CsrOtherName("URI"));
    assert_eq!(refused(vec![dns(NAME), ip], None), Error::CsrOtherName("IP address"));
    assert_eq!(
        refused(vec![dns(NAME), mail], None),
        Error::CsrOtherName("e-mail address")
    );
    let san = refused(vec![dns("other")], None);
    assert_eq!(
        san.to_string(),
        format!("the CSR's DNS name is \"other\", but the requested identity is {NAME:?}")
    );
    assert_eq!(san.blame(), Blame::RefusedRequest);
    assert!(matches!(
        refused(vec![dns(NAME)], Some("other")),
        Error::CsrNameDiffers {
            field: "common name",
            ..
        }
    ));
    for common_name in [None, Some(""), Some(NAME)] {
        Csr::from_der(&csr_with(vec![dns(NAME)], common_name))
            .unwrap()
            .check(NAME)
            .unwrap();
    }
}

#[test]
fn rejects_other_keys_and_forged_signatures() {
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let params = CertificateParams::new([NAME.to_owned()]).unwrap();
    let der = params.serialize_request(&p384).unwrap().der().to_vec();
    assert_eq!(Csr::from_der(&der).unwrap_err(), Error::CsrNotP256);
    let mut der = make_key_and_csr(NAME).unwrap().csr_der;
    let at = der.windows(3).position(|w| w == b"web").unwrap();
    der[at] = b'x';
    assert_eq!(Csr::from_der(&der).unwrap_err(), Error::CsrBadSignature);
    let large = Csr::from_der(&vec![0; crate::CSR_BYTES_MAX + 1]).unwrap_err();
    assert_eq!(large.blame(), Blame::MalformedRequest);
}

#[test]
fn parses_validity_from_der() {
    let (_, issuer) = authority();
    let validity = Validity::from_der(&issuer.chain()[0]).unwrap();
    assert_eq!(validity, issuer.validity());
    assert!(validity.contains(SystemTime::now()));
    assert_eq!(validity.remaining(SystemTime::now() + DAY * 31), Duration::ZERO);
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Csr::from_der(&bytes).is_err());
        prop_assert!(Validity::from_der(&bytes).is_err());
        let text = String::from_utf8_lossy(&bytes).into_owned();
        prop_assert!(Anchors::from_pem(&text).is_err());
        prop_assert!(Issuer::from_pem(&text, &text).is_err());
    }

    #[test]
    fn flipped_bits_never_change_the_name(at in 0usize..340, bit in 0u8..8) {
        let mut der = make_key_and_csr(NAME).unwrap().csr_der;
        let at = at % der.len();
        der[at] ^= 1 << bit;
        // The signature covers all that is parsed, so any change shows, except in bits that DER ignores.
        if let Ok(csr) = Csr::from_der(&der) {
            prop_assert!(csr.check(NAME).is_ok());
        }
    }

    #[test]
    fn rejects_truncated_requests(cut in 0usize..300) {
        let der = make_key_and_csr(NAME).unwrap().csr_der;
        prop_assert!(Csr::from_der(&der[..cut.min(der.len() - 1)]).is_err());
    }
}
