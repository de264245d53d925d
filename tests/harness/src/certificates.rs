//! An anchor, an issuer, and leaves for any identity.

use std::{
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use identity_x509::{Anchor, Csr, Issuer, Leaf, LeafTimes, make_key_and_csr};

const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// File of the anchor and its key.
const ANCHOR: &str = "anchor.pem";
/// File of the issuer and its key.
const ISSUER: &str = "issuer.pem";

/// Anchor and issuer of a test.
pub struct Pki {
    anchor: Anchor,
    issuer: Issuer,
}

/// A workload's key, leaf and intermediates.
#[derive(Clone)]
pub struct Credentials {
    /// Private key, PKCS#8 DER.
    pub key_pkcs8_der: Vec<u8>,
    /// Leaf, DER.
    pub leaf_der: Vec<u8>,
    /// Intermediate certificates, DER.
    pub intermediates_der: Vec<Vec<u8>>,
    /// Expiry of the leaf.
    pub valid_until: SystemTime,
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Pki {
    /// Makes an anchor and an issuer that are valid for a day.
    pub fn new() -> Self {
        let anchor = Anchor::generate("root.linkerd.cluster.local", LIFETIME).expect("an anchor can be made");
        let issuer =
            Issuer::generate(&anchor, "identity.linkerd.cluster.local", LIFETIME).expect("an issuer can be made");
        Self { anchor, issuer }
    }

    /// The anchor, PEM: `LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS`.
    pub fn anchors_pem(&self) -> String {
        self.anchor.certificate_pem()
    }

    /// Writes anchor and issuer to a folder, for other processes of the same test.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        for (name, text) in [
            (ANCHOR, [self.anchor.certificate_pem(), self.anchor.key_pem()].concat()),
            (ISSUER, [self.issuer.certificate_pem(), self.issuer.key_pem()].concat()),
        ] {
            std::fs::write(folder.join(name), text)?;
        }
        Ok(())
    }

    /// Reads what [`Pki::save`] wrote.
    pub fn load(folder: &Path) -> io::Result<Self> {
        let read = |name| std::fs::read_to_string(folder.join(name));
        let (anchor, issuer) = (read(ANCHOR)?, read(ISSUER)?);
        Ok(Self {
            anchor: Anchor::from_pem(&anchor, &anchor).map_err(io::Error::other)?,
            issuer: Issuer::from_pem(&issuer, &issuer).map_err(io::Error::other)?,
        })
    }

    /// Makes a key and a leaf for `name`.
    pub fn credentials(&self, name: &str) -> Credentials {
        let made = make_key_and_csr(name).expect("a key can be made");
        let (leaf, intermediates_der) = self.sign(name, &made.csr_der).expect("our own CSR is for this name");
        Credentials {
            key_pkcs8_der: made.key_pkcs8_der,
            leaf_der: leaf.der,
            intermediates_der,
            valid_until: leaf.validity.not_after,
        }
    }

    /// Signs a CSR for `name`: leaf and intermediates.
    pub fn sign(&self, name: &str, csr_der: &[u8]) -> Result<(Leaf, Vec<Vec<u8>>), identity_x509::Error> {
        let csr = Csr::from_der(csr_der)?;
        let leaf = self.issuer.sign(&csr, name, LeafTimes::DEFAULT, SystemTime::now())?;
        Ok((leaf, self.issuer.chain().iter().map(|der| der.to_vec()).collect()))
    }
}

/// The identity of a ServiceAccount in the harness's trust domain.
pub fn identity(namespace: &str, service_account: &str) -> String {
    format!("{service_account}.{namespace}.serviceaccount.identity.linkerd.cluster.local")
}
