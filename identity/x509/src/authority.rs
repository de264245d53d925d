//! Signers: the trust anchor with its key, and the issuer below it that signs the leaves.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    Anchors, Csr, Error, Validity, anchors::certificates_from_pem, csr::common_name, make_key_and_csr, validity::offset,
};

/// Trust anchor with its key, as `mesh local` and tests make one. It signs issuers, never leaves.
pub struct Anchor {
    signer: rcgen::Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Anchor {
    /// Makes a self-signed anchor that is valid from now for `lifetime`.
    pub fn generate(name: &str, lifetime: Duration) -> Result<Self, Error> {
        Self::generate_for(name, Validity::starting(SystemTime::now(), lifetime))
    }

    /// Does the same for any validity.
    pub fn generate_for(name: &str, validity: Validity) -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(Error::crypto)?;
        let params = authority_params(name, validity, BasicConstraints::Constrained(1))?;
        let certificate = params.self_signed(&key).map_err(Error::crypto)?;
        Ok(Self {
            signer: rcgen::Issuer::new(params, key),
            certificate: certificate.der().clone(),
        })
    }

    /// Parses certificate and key, in PEM.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Error> {
        let issuer = Issuer::from_pem(certificate, key)?;
        Ok(Self {
            certificate: issuer.chain[0].clone(),
            signer: issuer.signer,
        })
    }

    /// Returns the certificate as PEM, the value of `LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS`.
    pub fn certificate_pem(&self) -> String {
        certificate_to_pem(&self.certificate)
    }

    /// Returns the private key as PEM (PKCS#8).
    pub fn key_pem(&self) -> String {
        self.signer.key().serialize_pem()
    }
}

/// Lifetime of leaves and allowance for clock skew.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct LeafTimes {
    /// Lifetime of a leaf.
    pub lifetime: Duration,
    /// Added at both ends.
    pub skew: Duration,
}

impl LeafTimes {
    /// Upstream's defaults: a day, and 20 seconds of skew.
    pub const DEFAULT: Self = Self {
        lifetime: Duration::from_secs(24 * 60 * 60),
        skew: Duration::from_secs(20),
    };
}

/// A signed leaf.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Certificate, DER.
    pub der: Vec<u8>,
    /// Period of validity.
    pub validity: Validity,
}

/// Signer of leaves: a CA certificate, its key, and the intermediates up to the anchor.
pub struct Issuer {
    signer: rcgen::Issuer<'static, KeyPair>,
    /// The issuer's own certificate first.
    chain: Vec<CertificateDer<'static>>,
    /// Intersection over the chain.
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

    /// Does the same for any validity.
    pub fn generate_for(anchor: &Anchor, name: &str, validity: Validity) -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(Error::crypto)?;
        let params = authority_params(name, validity, BasicConstraints::Constrained(0))?;
        let certificate = params.signed_by(&key, &anchor.signer).map_err(Error::crypto)?;
        let chain = vec![certificate.der().clone()];
        Self::new(chain, key)
    }

    /// Parses certificate and key, in PEM; intermediates up to the anchor may follow the certificate.
    pub fn from_pem(certificates: &str, key: &str) -> Result<Self, Error> {
        let chain = certificates_from_pem("issuer certificate", certificates)?;
        let key = KeyPair::from_pem(&private_key(key)?).map_err(|error| Error::IssuerKey(error.to_string()))?;
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(Error::IssuerKey("the key is of another type".to_owned()));
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
            let own = Validity::from_certificate(&certificate);
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

    /// Checks that proxies with these anchors would accept this issuer's leaves at `now`, by signing a throw-away leaf
    /// and verifying it as proxies do.
    pub fn check(&self, anchors: &Anchors, now: SystemTime) -> Result<(), Error> {
        const CHECK_NAME: &str = "check.invalid";
        let csr = Csr::from_der(&make_key_and_csr(CHECK_NAME)?.csr_der)?;
        let leaf = self.sign(&csr, CHECK_NAME, LeafTimes::DEFAULT, now)?;
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
        let validity = Validity::from_der(&der)?;
        Ok(Leaf { der, validity })
    }

    /// Returns a leaf's intermediates: the issuer's certificate, then the rest of the chain below the anchor.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Returns the period in which the whole chain is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Returns the chain as PEM.
    pub fn certificate_pem(&self) -> String {
        self.chain.iter().map(certificate_to_pem).collect()
    }

    /// Returns the private key as PEM (PKCS#8).
    pub fn key_pem(&self) -> String {
        self.signer.key().serialize_pem()
    }
}

/// Finds the first private key of a PEM text: `openssl ecparam` puts parameters before it, others certificates.
fn private_key(text: &str) -> Result<String, Error> {
    let sections = pem::parse_many(text).map_err(|error| Error::IssuerKey(error.to_string()))?;
    let key = sections.iter().find(|section| section.tag().ends_with("PRIVATE KEY"));
    key.map(pem::encode)
        .ok_or_else(|| Error::IssuerKey("the file has no private key".to_owned()))
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

/// Makes a random serial number, unique per issuer even across restarts: 16 bytes with the highest bit clear, which is
/// a positive DER integer.
fn serial() -> Result<SerialNumber, Error> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Crypto("the system has no random bytes".to_owned()))?;
    bytes[0] = (bytes[0] & 0x7f) | 1;
    Ok(SerialNumber::from_slice(&bytes))
}
