//! Trust anchors: the certificates that every leaf must chain to.

use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::{CERTIFICATES_MAX, Error};

/// Set of trust anchors.
#[derive(Clone)]
pub struct Anchors {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
}

impl std::fmt::Debug for Anchors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Anchors").field("count", &self.anchors.len()).finish()
    }
}

impl Anchors {
    /// Parses one or more certificates in PEM.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let certificates = certificates_from_pem("trust anchors", text)?;
        let anchor = |der: &CertificateDer<'static>| {
            webpki::anchor_from_trusted_cert(der)
                .map(|anchor| anchor.to_owned())
                .map_err(|error| Error::NotX509 {
                    what: "trust anchors",
                    reason: error.to_string(),
                })
        };
        let anchors = certificates.iter().map(anchor).collect::<Result<_, _>>()?;
        Ok(Self { certificates, anchors })
    }

    /// Returns the certificates, DER.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Verifies that `leaf` chains to one of the anchors through `intermediates` at `now`.
    pub fn verify(&self, leaf: &[u8], intermediates: &[CertificateDer<'_>], now: SystemTime) -> Result<(), Error> {
        let untrusted = |error: webpki::Error| Error::IssuerNotTrusted(error.to_string());
        let leaf = CertificateDer::from(leaf);
        let leaf = EndEntityCert::try_from(&leaf).map_err(untrusted)?;
        let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &self.anchors,
            intermediates,
            UnixTime::since_unix_epoch(since_1970),
            KeyUsage::client_auth(),
            None,
            None,
        )
        .map(|_| ())
        .map_err(untrusted)
    }
}

/// Parses the certificates of a PEM text, in order; other sections are skipped.
pub(crate) fn certificates_from_pem(what: &'static str, text: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let not_pem = |reason: String| Error::NotPem { what, reason };
    let sections = pem::parse_many(text).map_err(|error| not_pem(error.to_string()))?;
    let certificates: Vec<_> = sections
        .into_iter()
        .filter(|section| section.tag() == "CERTIFICATE")
        .map(|section| CertificateDer::from(section.into_contents()))
        .collect();
    match certificates.len() {
        0 => Err(not_pem("the file has no certificate".to_owned())),
        1..=CERTIFICATES_MAX => Ok(certificates),
        more => Err(not_pem(format!(
            "the file has {more} certificates, the limit is {CERTIFICATES_MAX}"
        ))),
    }
}
