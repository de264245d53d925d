//! Credentials issued by the identity service, and the trust anchors that verify them.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use proxy_model::Id;
use rustls::{
    RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime},
    server::ParsedCertificate,
};
use zeroize::Zeroizing;

use crate::{Error, config::provider, verify::leaf_ids};

/// Root certificates that every chain must end at.
#[derive(Clone, Debug)]
pub struct Anchors(pub(crate) Arc<RootCertStore>);

impl Anchors {
    /// Parses certificates from PEM text; at least one is required.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let blocks = pem::parse_many(text).map_err(|error| Error::Anchors(format!("invalid PEM: {error}")))?;
        let mut store = RootCertStore::empty();
        for (i, block) in blocks.iter().filter(|block| block.tag() == "CERTIFICATE").enumerate() {
            let certificate = CertificateDer::from(block.contents().to_vec());
            store
                .add(certificate)
                .map_err(|error| Error::Anchors(format!("certificate {}: {error}", i + 1)))?;
        }
        if store.is_empty() {
            return Err(Error::Anchors("no certificate found".into()));
        }
        Ok(Self(Arc::new(store)))
    }
}

/// Leaf certificate with its chain and private key.
pub struct Credentials {
    /// Leaf first, then intermediates.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key_pkcs8: Zeroizing<Vec<u8>>,
    /// Expiry reported by the identity service.
    pub(crate) valid_until: SystemTime,
}

impl fmt::Debug for Credentials {
    /// Omits the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("valid_until", &self.valid_until)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Combines DER-encoded parts.
    pub fn new(leaf: Vec<u8>, intermediates: Vec<Vec<u8>>, key_pkcs8: Vec<u8>, valid_until: SystemTime) -> Self {
        let chain = std::iter::once(leaf)
            .chain(intermediates)
            .map(CertificateDer::from)
            .collect();
        Self {
            chain,
            key_pkcs8: Zeroizing::new(key_pkcs8),
            valid_until,
        }
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key_pkcs8.to_vec()))
    }

    /// Verifies that a peer would accept these credentials now, and that they name this workload.
    pub(crate) fn verify(&self, local_id: &Id, anchors: &Anchors, now: SystemTime) -> Result<(), Error> {
        let (leaf, intermediates) = self.chain.split_first().expect("a leaf comes first");
        let refused =
            |error: rustls::Error| Error::Credentials(format!("certificate chain verification failed: {error}"));
        let parsed = ParsedCertificate::try_from(leaf).map_err(refused)?;
        let now_unix = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO));
        let algorithms = provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &anchors.0, intermediates, now_unix, algorithms)
            .map_err(refused)?;
        if self.valid_until <= now {
            return Err(Error::Credentials("already expired".into()));
        }
        let ids = leaf_ids(leaf).map_err(Error::Credentials)?;
        if !ids.contains(local_id) {
            let found = ids.iter().map(Id::as_str).collect::<Vec<_>>().join(", ");
            return Err(Error::Credentials(format!("the leaf names {found:?}, not {local_id}")));
        }
        Ok(())
    }
}
