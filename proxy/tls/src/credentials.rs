//! What the identity service gives a workload, and the anchors that it is believed by.

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

use crate::{Error, config::provider, verify::leaf_ids};

/// The certificates that chains must end at.
#[derive(Clone, Debug)]
pub struct Anchors(pub(crate) Arc<RootCertStore>);

impl Anchors {
    /// Reads certificates from PEM text; there must be at least one.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let blocks = pem::parse_many(text).map_err(|error| Error::Anchors(format!("they are no PEM text: {error}")))?;
        let mut store = RootCertStore::empty();
        for (i, block) in blocks.iter().filter(|block| block.tag() == "CERTIFICATE").enumerate() {
            let certificate = CertificateDer::from(block.contents().to_vec());
            store
                .add(certificate)
                .map_err(|error| Error::Anchors(format!("certificate {}: {error}", i + 1)))?;
        }
        if store.is_empty() {
            return Err(Error::Anchors("the text holds no certificate".into()));
        }
        Ok(Self(Arc::new(store)))
    }
}

/// A leaf with the chain above it and its key.
pub struct Credentials {
    /// Leaf first, then intermediates.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key_pkcs8: Vec<u8>,
    /// The end that the identity service promises.
    pub(crate) valid_until: SystemTime,
}

impl fmt::Debug for Credentials {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("valid_until", &self.valid_until)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Puts them together; all is DER.
    pub fn new(leaf: Vec<u8>, intermediates: Vec<Vec<u8>>, key_pkcs8: Vec<u8>, valid_until: SystemTime) -> Self {
        let chain = std::iter::once(leaf)
            .chain(intermediates)
            .map(CertificateDer::from)
            .collect();
        Self {
            chain,
            key_pkcs8,
            valid_until,
        }
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key_pkcs8.clone()))
    }

    /// Whether a peer will believe them now, and that they name us.
    pub(crate) fn verify(&self, local_id: &Id, anchors: &Anchors, now: SystemTime) -> Result<(), Error> {
        let (leaf, intermediates) = self.chain.split_first().expect("a leaf comes first");
        let refused = |error: rustls::Error| Error::Credentials(format!("the chain is not believed: {error}"));
        let parsed = ParsedCertificate::try_from(leaf).map_err(refused)?;
        let now_unix = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO));
        let algorithms = provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &anchors.0, intermediates, now_unix, algorithms)
            .map_err(refused)?;
        if self.valid_until <= now {
            return Err(Error::Credentials("they have already ended".into()));
        }
        let ids = leaf_ids(leaf).map_err(Error::Credentials)?;
        if !ids.contains(local_id) {
            let found = ids.iter().map(Id::as_str).collect::<Vec<_>>().join(", ");
            return Err(Error::Credentials(format!(
                "the leaf is for {found:?}, not for {local_id}"
            )));
        }
        Ok(())
    }
}
