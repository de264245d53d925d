//! Who signs: the trust anchor with its key, and the issuer below it that signs the leaves.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    Anchors, Csr, Error, Validity, anchors::certificates_of_pem, csr::common_name, make_key_and_csr, validity::offset,
};

/// A trust anchor with its key, as `mesh local` and tests make one. It signs issuers, never leaves.
pub struct Anchor {
    signer: rcgen::Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Anchor {
    /// Makes a self-signed anchor that is valid from now for `lifetime`.
    pub fn generate(name: &str, lifetime: Duration) -> Result<Self, Error> {
        Self::generate_for(name, Validity::starting(SystemTime::now(), lifetime))
    }

    /// The same, for any time.
    pub fn generate_for(name: &str, validity: Validity) -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(Error::crypto)?;
        let params = authority_params(name, validity, BasicConstraints::Constrained(1))?;
        let certificate = params.self_signed(&key).map_err(Error::crypto)?;
        Ok(Self {
            signer: rcgen::Issuer::new(params, key),
            certificate: certificate.der().clone(),
        })
    }

    /// Reads certificate and key, in PEM.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Error> {
        let issuer = Issuer::from_pem(certificate, key)?;
        Ok(Self {
            certificate: issuer.chain[0].clone(),
            signer: issuer.signer,
        })
    }

    /// The certificate, PEM: what every proxy is given as `LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS`.
    pub fn certificate_pem(&self) -> String {
        certificate_to_pem(&self.certificate)
    }

    /// The private key, PEM (PKCS#8).
    pub fn key_pem(&self) -> String {
        self.signer.key().serialize_pem()
    }
}

/// How long a leaf is valid, and how far clocks may differ.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct LeafTimes {
    /// Lifetime of a leaf.
    pub lifetime: Duration,
    /// Added at both ends.
    pub skew: Duration,
}

impl LeafTimes {
    /// Upstream's: a day, and 20 seconds of skew.
    pub const DEFAULT: Self = Self {
        lifetime: Duration::from_secs(24 * 60 * 60),
        skew: Duration::from_secs(20),
    };
}

/// A leaf as it was signed.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The certificate.
    pub der: Vec<u8>,
    /// From when until when.
    pub validity: Validity,
}

/// What signs leaves: a CA certificate, its key, and what stands between it and the anchor.
pub struct Issuer {
    signer: rcgen::Issuer<'static, KeyPair>,
    /// The issuer's own certificate first.
    chain: Vec<CertificateDer<'static>>,
    /// The shortest of the chain.
    validity: Validity,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer")
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

impl Issuer {
    /// Makes an issuer signed by `anchor`, valid from now for `lifetime`.
    pub fn generate(anchor: &Anchor, name: &str, lifetime: Duration) -> Result<Self, Error> {
        Self::generate_for(anchor, name, Validity::starting(SystemTime::now(), lifetime))
    }

    /// The same, for any time.
    pub fn generate_for(anchor: &Anchor, name: &str, validity: Validity) -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(Error::crypto)?;
        let params = authority_params(name, validity, BasicConstraints::Constrained(0))?;
        let certificate = params.signed_by(&key, &anchor.signer).map_err(Error::crypto)?;
        let chain = vec![certificate.der().clone()];
        Self::new(chain, key)
    }

    /// Reads certificate (then, if any, what stands between it and the anchor) and key, in PEM.
    pub fn from_pem(certificates: &str, key: &str) -> Result<Self, Error> {
        let chain = certificates_of_pem("issuer certificate", certificates)?;
        let key = KeyPair::from_pem(&private_key(key)?).map_err(|error| Error::IssuerKey(error.to_string()))?;
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(Error::IssuerKey("it is of another type".to_owned()));
        }
        Self::new(chain, key)
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: KeyPair) -> Result<Self, Error> {
        let mut validity: Option<Validity> = None;
        for (index, der) in chain.iter().enumerate() {
            let (_, certificate) = X509Certificate::from_der(der).map_err(|error| Error::NotX509 {
                what: "issuer certificate",
                reason: error.to_string(),
            })?;
            if index == 0 && certificate.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
                return Err(Error::IssuerKeyMismatch);
            }
            if !certificate.is_ca() {
                return Err(Error::IssuerNotCa);
            }
            let own = Validity::of(&certificate);
            validity = Some(validity.map_or(own, |v| Validity {
                not_before: v.not_before.max(own.not_before),
                not_after: v.not_after.min(own.not_after),
            }));
        }
        let validity = validity.ok_or(Error::IssuerNotCa)?;
        let signer = rcgen::Issuer::from_ca_cert_der(&chain[0], key).map_err(Error::crypto)?;
        Ok(Self {
            signer,
            chain,
            validity,
        })
    }

    /// Checks at `now` that proxies with these anchors would believe what this issuer signs: it signs a leaf for
    /// nobody and verifies that, which is the very thing that proxies will do.
    pub fn check(&self, anchors: &Anchors, now: SystemTime) -> Result<(), Error> {
        const NOBODY: &str = "check.invalid";
        let csr = Csr::from_der(&make_key_and_csr(NOBODY)?.csr_der)?;
        let leaf = self.sign(&csr, NOBODY, LeafTimes::DEFAULT, now)?;
        anchors.verify(&leaf.der, &self.chain, now)
    }

    /// Checks that `csr` is for `identity` and signs a leaf: valid from `now` − skew to `now` + lifetime + skew, but
    /// never past the end of the issuer.
    pub fn sign(&self, csr: &Csr, identity: &str, times: LeafTimes, now: SystemTime) -> Result<Leaf, Error> {
        if now < self.validity.not_before {
            return Err(Error::IssuerNotYetValid(self.validity.not_before));
        }
        if now >= self.validity.not_after {
            return Err(Error::IssuerExpired(self.validity.not_after));
        }
        csr.check(identity)?;
        let not_after = (now + times.lifetime + times.skew).min(self.validity.not_after);
        let mut params = CertificateParams::default();
        params.not_before = offset(now - times.skew);
        params.not_after = offset(not_after);
        params.serial_number = Some(serial()?);
        params.subject_alt_names = vec![SanType::DnsName(identity.try_into().map_err(Error::crypto)?)];
        params.distinguished_name = common_name(identity);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&csr.key, &self.signer).map_err(Error::crypto)?;
        let der = leaf.der().to_vec();
        let validity = Validity::of_der(&der)?;
        Ok(Leaf { der, validity })
    }

    /// The issuer's certificate first, then what stands between it and the anchor: a leaf's intermediates.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The shortest validity of the chain.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The chain, PEM.
    pub fn certificate_pem(&self) -> String {
        self.chain.iter().map(certificate_to_pem).collect()
    }

    /// The private key, PEM (PKCS#8).
    pub fn key_pem(&self) -> String {
        self.signer.key().serialize_pem()
    }
}

/// The first private key of a PEM text: `openssl ecparam` puts parameters before it, others certificates.
fn private_key(text: &str) -> Result<String, Error> {
    let sections = pem::parse_many(text).map_err(|error| Error::IssuerKey(error.to_string()))?;
    let key = sections.iter().find(|section| section.tag().ends_with("PRIVATE KEY"));
    key.map(pem::encode)
        .ok_or_else(|| Error::IssuerKey("there is none".to_owned()))
}

fn certificate_to_pem(der: &CertificateDer<'static>) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", der.to_vec()))
}

fn authority_params(name: &str, validity: Validity, constraints: BasicConstraints) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.not_before = offset(validity.not_before);
    params.not_after = offset(validity.not_after);
    params.serial_number = Some(serial()?);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Random, so that no two certificates of an issuer share one, also after a restart. 16 bytes with the highest bit
/// clear: a DER integer that is positive.
fn serial() -> Result<SerialNumber, Error> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Crypto("the system gave no random bytes".to_owned()))?;
    bytes[0] = (bytes[0] & 0x7f) | 1;
    Ok(SerialNumber::from_slice(&bytes))
}
