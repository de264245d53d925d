//! Tokens that prove a workload's service account, and their validation offline, with the keys of a JSON Web Key Set.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use tokio::sync::watch;

use proxy_process::files::{INTERVAL, PolledFiles, ReadError};

/// Required audience of workload tokens.
pub(crate) const AUDIENCE: &str = "identity.l5d.io";
/// Largest token that is parsed; Kubernetes' are about 1.2 KiB.
pub(crate) const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Most keys in a set: each may be tried for a token without a key id.
const KEYS_MAX: usize = 16;
/// Prefix of the claim `sub`.
pub(crate) const SUBJECT_PREFIX: &str = "system:serviceaccount:";

/// Reason for which a token is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("the token is {0} bytes, the limit is {TOKEN_BYTES_MAX}")]
    TooLarge(usize),
    #[error("the token is not valid: {0}")]
    Invalid(String),
    #[error("the token's subject {0:?} is not of the form {SUBJECT_PREFIX}NAMESPACE:NAME")]
    NotServiceAccount(String),
    #[error("no keys to validate tokens: {0}")]
    NotReady(KeysError),
    #[error("cannot review the token: {0}")]
    NotReviewed(String),
    #[error("too many tokens to review (limit {0})")]
    TooMany(&'static str),
}

/// Reason for which there are no keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeysError {
    #[error("the file has not been read yet")]
    NotRead,
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("invalid JWKS file: {0}")]
    Invalid(String),
    #[error("the JWKS file has no key for ES256 or RS256")]
    None,
    #[error("the JWKS file has {0} keys, the limit is {KEYS_MAX}")]
    TooMany(usize),
}

/// Keys of a JSON Web Key Set that can sign tokens.
#[derive(Clone, Debug)]
pub(crate) struct Jwks {
    keys: watch::Receiver<Result<Arc<Vec<Key>>, KeysError>>,
    leeway: Duration,
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

#[derive(serde::Deserialize)]
struct Claims {
    sub: String,
}

impl Jwks {
    /// Returns the token's subject, after validating signature, audience and times.
    pub(crate) fn subject(&self, token: &[u8]) -> Result<String, Error> {
        let invalid = |error: jsonwebtoken::errors::Error| Error::Invalid(error.to_string());
        let header = jsonwebtoken::decode_header(token).map_err(invalid)?;
        let keys = self.keys.borrow().clone().map_err(Error::NotReady)?;
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = self.leeway.as_secs();
        let named = |key: &Key| header.kid.is_none() || key.id.is_none() || key.id == header.kid;
        let mut error = Error::Invalid("no known key matches its algorithm and key id".to_owned());
        for key in keys.iter().filter(|key| key.algorithm == header.alg && named(key)) {
            match jsonwebtoken::decode::<Claims>(token, &key.key, &validation) {
                Ok(data) => return Ok(data.claims.sub),
                Err(e) => error = invalid(e),
            }
        }
        Err(error)
    }
}

/// Keeps the keys in sync with their file.
pub(crate) struct Reload {
    files: PolledFiles<1>,
    current: watch::Sender<Result<Arc<Vec<Key>>, KeysError>>,
}

impl Reload {
    /// Reads the file for the first time. Errors are logged, as the file may become valid later.
    pub(crate) fn new(path: PathBuf, leeway: Duration) -> (Self, Jwks) {
        let (current, keys) = watch::channel(Err(KeysError::NotRead));
        let mut reload = Self {
            files: PolledFiles::new([path]),
            current,
        };
        reload.poll();
        (reload, Jwks { keys, leeway })
    }

    /// Polls the file periodically; never returns.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.poll();
        }
    }

    /// Adopts the content of the file if it has changed and is valid; otherwise keeps the current keys.
    pub(crate) fn poll(&mut self) {
        let Some(text) = self.files.changed() else { return };
        let keys = match text {
            Ok([text]) => read_keys(text),
            Err(error) => Err(error.clone().into()),
        };
        match keys {
            Ok(keys) => {
                tracing::info!(keys = keys.len(), "token keys loaded");
                self.current.send_modify(|current| *current = Ok(Arc::new(keys)));
            }
            Err(reason) if self.current.borrow().is_ok() => {
                tracing::warn!("rejected new token keys, keeping the old ones: {reason}");
            }
            Err(reason) => {
                tracing::error!("no token keys loaded, cannot validate tokens: {reason}");
                self.current.send_modify(|current| *current = Err(reason));
            }
        }
    }
}

/// Parses a key set and returns its keys for ES256 or RS256, which Kubernetes' API server uses; others are skipped.
fn read_keys(text: &str) -> Result<Vec<Key>, KeysError> {
    let set: JwkSet = serde_json::from_str(text).map_err(|error| KeysError::Invalid(error.to_string()))?;
    let mut keys = Vec::new();
    for jwk in &set.keys {
        let Ok(key) = DecodingKey::from_jwk(jwk) else { continue };
        let algorithm = match &jwk.algorithm {
            jsonwebtoken::jwk::AlgorithmParameters::EllipticCurve(ec)
                if ec.curve == jsonwebtoken::jwk::EllipticCurve::P256 =>
            {
                Algorithm::ES256
            }
            jsonwebtoken::jwk::AlgorithmParameters::RSA(_) => Algorithm::RS256,
            _ => continue,
        };
        keys.push(Key {
            id: jwk.common.key_id.clone(),
            algorithm,
            key,
        });
    }
    match keys.len() {
        0 => Err(KeysError::None),
        1..=KEYS_MAX => Ok(keys),
        more => Err(KeysError::TooMany(more)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_key_sets_without_usable_keys() {
        assert!(matches!(read_keys("{"), Err(KeysError::Invalid(_))));
        assert!(matches!(read_keys(r#"{"keys":[]}"#), Err(KeysError::None)));
        let secret = r#"{"keys":[{"kty":"oct","k":"c2VjcmV0","alg":"HS256"}]}"#;
        assert!(matches!(read_keys(secret), Err(KeysError::None)));
    }

    #[test]
    fn fuzz_jwks() {
        let ec = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
        let rsa = r#"{"keys":[{"kty":"RSA","alg":"RS256","kid":"b","n":"sXchDaQebHnPiGvyDOAT4saGEUetSyo9MKLOoWFsueri","e":"AQAB"}]}"#;
        let target = tests_fuzz::Target {
            name: "fuzz_jwks",
            seeds: [ec, rsa].map(|text| text.as_bytes().to_vec()).into(),
            words: &[
                "{\"kty\":\"oct\"},",
                "\"alg\":\"HS256\"",
                "null",
                "[]",
                "P-384",
                "RSA",
                "\"n\":\"\"",
                "\\u0000",
            ],
        };
        target.run(|bytes| {
            let text = &String::from_utf8_lossy(bytes);
            let keys = tests_fuzz::within(64 * text.len() + 16_384, || read_keys(text));
            for key in keys.iter().flatten() {
                assert!(
                    [Algorithm::ES256, Algorithm::RS256].contains(&key.algorithm),
                    "a key that anybody may have"
                );
            }
            assert!(keys.is_err() || (1..=KEYS_MAX).contains(&keys.map_or(0, |keys| keys.len())));
        });
    }
}
