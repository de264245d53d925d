//! Credentials of one run of the mesh: anchor and issuer for mesh-identity, and the key that signs workload tokens.
//!
//! They are generated at each start; the anchor's key is never written to disk.

use std::{
    fs,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use identity_x509::{Anchor, Issuer};
use injector_sidecar::names::TOKEN_AUDIENCE;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use crate::plan::{builtin::IdentityFiles, model::PodPlan};

/// Lifetime of anchor and issuer: longer than a local mesh runs.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// Lifetime of a workload token; Kubernetes' value.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Interval of token rotation, well within their lifetime.
pub(crate) const ROTATION: Duration = Duration::from_secs(12 * 3600);
/// Issuer of the tokens.
const TOKEN_ISSUER: &str = "mesh-local";
/// ID of the signing key.
const KEY_ID: &str = "mesh-local-1";

/// Token signer, and files of mesh-identity.
pub(crate) struct Credentials {
    /// Trust anchors, PEM.
    pub(crate) anchors: String,
    pub(crate) files: IdentityFiles,
    signing: EncodingKey,
}

impl Credentials {
    /// Generates the credentials and writes the files of mesh-identity.
    pub(crate) fn generate(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let anchor = Anchor::generate("root.linkerd.cluster.local", LIFETIME)?;
        let issuer = Issuer::generate(&anchor, "identity.linkerd.cluster.local", LIFETIME)?;
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let this = Self {
            anchors: anchor.certificate_pem(),
            files: IdentityFiles {
                anchors: dir.join("ca.crt"),
                issuer_cert: dir.join("issuer.crt"),
                issuer_key: dir.join("issuer.key"),
                jwks: dir.join("jwks.json"),
            },
            signing: EncodingKey::from_ec_der(&key.serialize_der()),
        };
        write_private(&this.files.anchors, &this.anchors)?;
        write_private(&this.files.issuer_cert, &issuer.certificate_pem())?;
        write_private(&this.files.issuer_key, &issuer.key_pem())?;
        write_private(&this.files.jwks, &jwks(key.public_key_raw()))?;
        Ok(this)
    }

    /// Writes the token of a pod atomically.
    pub(crate) fn write_token(&self, pod: &PodPlan, path: &Path) -> Result<()> {
        let token = self.token(pod, SystemTime::now()).context("cannot sign a token")?;
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        write_private(&new, &token)?;
        fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
    }

    fn token(&self, pod: &PodPlan, now: SystemTime) -> Result<String, jsonwebtoken::errors::Error> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (namespace, account) = (&pod.namespace, &pod.service_account);
        let claims = json!({
            "iss": TOKEN_ISSUER,
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "aud": [TOKEN_AUDIENCE],
            "iat": now,
            "exp": now + TOKEN_LIFETIME.as_secs(),
            "kubernetes.io": {
                "namespace": namespace, "serviceaccount": { "name": account }, "pod": { "name": pod.name },
            },
        });
        let header = Header {
            kid: Some(KEY_ID.to_owned()),
            ..Header::new(Algorithm::ES256)
        };
        encode(&header, &claims, &self.signing)
    }
}

/// The public key as a JSON Web Key Set; a point is the byte 4, then two coordinates of 32 bytes.
fn jwks(point: &[u8]) -> String {
    let coordinate = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
    let key = json!({
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KEY_ID,
        "x": coordinate(1..33), "y": coordinate(33..65),
    });
    json!({ "keys": [key] }).to_string()
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_verify_with_the_key_set() {
        let dir = tempfile::tempdir().expect("a folder");
        let credentials = Credentials::generate(dir.path()).expect("generated");
        let plan = PodPlan {
            namespace: "shop".into(),
            name: "web-1".into(),
            address: std::net::Ipv4Addr::LOCALHOST,
            service_account: "web".into(),
            grace: Duration::ZERO,
            init: Vec::new(),
            containers: Vec::new(),
            sidecar: None,
        };
        let token = credentials.token(&plan, SystemTime::now()).expect("signed");
        let set = fs::read_to_string(&credentials.files.jwks).expect("written");
        let set: jsonwebtoken::jwk::JwkSet = serde_json::from_str(&set).expect("a key set");
        let key = jsonwebtoken::DecodingKey::from_jwk(set.find(KEY_ID).expect("the key")).expect("usable");
        let mut validation = jsonwebtoken::Validation::new(Algorithm::ES256);
        validation.set_audience(&[TOKEN_AUDIENCE]);
        let data = jsonwebtoken::decode::<serde_json::Value>(&token, &key, &validation).expect("valid");
        assert_eq!(data.claims["sub"], "system:serviceaccount:shop:web");
        assert_eq!(data.claims["kubernetes.io"]["pod"]["name"], "web-1");
    }
}
