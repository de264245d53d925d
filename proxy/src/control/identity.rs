//! The workload's identity: key and request on the first start, then a leaf from the identity service, again and again.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use proxy_metrics::{CertMetrics, ControlSlot};
use proxy_tls::{Credentials, Tls};

use super::{Channel, Connector};
use crate::env;

/// Files of the identity directory: those of upstream's helper, and the leaf, for a process that starts without the
/// identity service.
const KEY: &str = "key.p8";
const CSR: &str = "csr.der";
const LEAF: &str = "leaf.pb";
/// Share of a leaf's lifetime after which it is renewed; upstream's figure.
const REFRESH_AT: f64 = 0.7;
/// Pauses without a valid leaf: nothing works until then, so they are short.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Time for one attempt, connection included.
const ATTEMPT: Duration = Duration::from_secs(10);

/// CertifyError of a request for a leaf.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertifyError {
    #[error("cannot {action} {path}: {source}")]
    File {
        path: PathBuf,
        action: &'static str,
        source: io::Error,
    },
    #[error("cannot make a key: {0}")]
    Key(#[from] identity_x509::Error),
    #[error("{0}")]
    Control(#[from] super::Error),
    #[error("the identity service rejects the request: {0}")]
    Refused(#[from] proxy_api::Error),
    #[error("the issued certificate was discarded: {0}")]
    Discarded(#[from] proxy_tls::Error),
    #[error("no answer in {ATTEMPT:?}")]
    Silent,
}

/// Key and CSR, as the helper of upstream's image writes them to the identity directory. Never printed.
struct KeyAndRequest {
    key_pkcs8: Vec<u8>,
    csr: Vec<u8>,
}

/// Client of the identity service.
pub(crate) struct Certifier {
    config: env::Identity,
    files: KeyAndRequest,
    tls: Tls,
    connector: Connector,
    metrics: CertMetrics,
    calls: ControlSlot,
}

/// Connection and metrics of a [`Certifier`].
#[derive(Debug)]
pub(crate) struct CertifierParts {
    pub(crate) tls: Tls,
    pub(crate) connector: Connector,
    pub(crate) metrics: CertMetrics,
    pub(crate) calls: ControlSlot,
}

impl Certifier {
    /// Reads key and CSR, or makes them.
    pub(crate) fn new(config: env::Identity, parts: CertifierParts) -> Result<Self, CertifyError> {
        let files = key_and_request(&config.dir, config.local_id.as_str())?;
        let CertifierParts {
            tls,
            connector,
            metrics,
            calls,
        } = parts;
        Ok(Self {
            config,
            files,
            tls,
            connector,
            metrics,
            calls,
        })
    }

    /// Requests a leaf, and renews it in time. Never ends.
    pub(crate) async fn run(self) {
        let mut wait = BACKOFF_MIN;
        loop {
            let attempt = tokio::time::timeout(ATTEMPT, self.certify()).await;
            let pause = match attempt.unwrap_or(Err(CertifyError::Silent)) {
                Ok(valid_until) => {
                    wait = BACKOFF_MIN;
                    self.metrics.refreshed(valid_until);
                    tracing::info!(id = %self.tls.local_id(), "Certified identity");
                    self.refresh_in(valid_until, SystemTime::now())
                }
                Err(error) => {
                    self.metrics.failed();
                    tracing::warn!(%error, "cannot renew the certificate; retrying");
                    let pause = self.retry_in(wait, SystemTime::now());
                    wait = (wait * 2).min(BACKOFF_MAX);
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn refresh_in(&self, valid_until: SystemTime, now: SystemTime) -> Duration {
        let left = valid_until.duration_since(now).unwrap_or(Duration::ZERO);
        left.mul_f64(REFRESH_AT)
            .clamp(self.config.min_refresh, self.config.max_refresh)
    }

    /// Pause before a retry: long while the leaf is valid, but not beyond its expiry.
    fn retry_in(&self, backoff: Duration, now: SystemTime) -> Duration {
        let left = self.tls.valid_until().and_then(|until| until.duration_since(now).ok());
        backoff.max(left.map_or(Duration::ZERO, |left| (left / 2).min(self.config.min_refresh)))
    }

    async fn certify(&self) -> Result<SystemTime, CertifyError> {
        let path = &self.config.token_file;
        // Kubernetes renews the token in place.
        let token = tokio::fs::read(path).await;
        let token = token.map_err(|source| CertifyError::File {
            path: path.clone(),
            action: "read",
            source,
        })?;
        // A new connection each time, with the current leaf; the first has none, which the service allows.
        let connected = self.connector.connect(None).await?;
        let (channel, driver) = Channel::over(connected, &self.connector, self.calls.clone());
        let call = proxy_api::client::certify(channel, self.tls.local_id().as_str(), token, self.files.csr.clone());
        let certified = tokio::select! {
            certified = call => certified?,
            () = driver => return Err(super::Error::Closed.into()),
        };
        let kept = proxy_api::encode::certified_bytes(&certified);
        let (leaf, intermediates, key) = (
            certified.leaf_der,
            certified.intermediates_der,
            self.files.key_pkcs8.clone(),
        );
        let valid_until = certified.valid_until;
        self.tls
            .publish(&Credentials::new(leaf, intermediates, key, valid_until))?;
        if let Err(error) = write(&self.config.dir.join(LEAF), &kept) {
            tracing::warn!(%error, "cannot persist the certificate");
        }
        Ok(valid_until)
    }
}

/// Restores the leaf of an earlier process, if peers still accept it; returns true if so.
pub(crate) fn restore(dir: &Path, tls: &Tls) -> bool {
    let restored = || -> Result<Option<SystemTime>, CertifyError> {
        let (Some(key), Some(leaf)) = (read(&dir.join(KEY))?, read(&dir.join(LEAF))?) else {
            return Ok(None);
        };
        let certified = proxy_api::decode::certified_bytes(&leaf)?;
        let (leaf, intermediates) = (certified.leaf_der, certified.intermediates_der);
        tls.publish(&Credentials::new(leaf, intermediates, key, certified.valid_until))?;
        Ok(Some(certified.valid_until))
    };
    match restored() {
        Ok(Some(valid_until)) => {
            let left = valid_until.duration_since(SystemTime::now()).unwrap_or_default();
            tracing::info!(id = %tls.local_id(), valid_seconds = left.as_secs(), "restored certificate");
            true
        }
        Ok(None) => false,
        Err(error) => {
            tracing::info!(%error, "cannot restore the certificate");
            false
        }
    }
}

/// Reads `key.p8` and `csr.der`, both DER; makes both if one is missing.
fn key_and_request(dir: &Path, name: &str) -> Result<KeyAndRequest, CertifyError> {
    let (key_path, csr_path) = (dir.join(KEY), dir.join(CSR));
    if let (Some(key_pkcs8), Some(csr)) = (read(&key_path)?, read(&csr_path)?) {
        return Ok(KeyAndRequest { key_pkcs8, csr });
    }
    fs::create_dir_all(dir).map_err(|source| CertifyError::File {
        path: dir.to_owned(),
        action: "create",
        source,
    })?;
    // A leaf is useless without its key.
    let _ = fs::remove_file(dir.join(LEAF));
    let made = identity_x509::make_key_and_csr(name)?;
    write(&key_path, &made.key_pkcs8_der)?;
    write(&csr_path, &made.csr_der)?;
    Ok(KeyAndRequest {
        key_pkcs8: made.key_pkcs8_der,
        csr: made.csr_der,
    })
}

pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, CertifyError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes).filter(|bytes| !bytes.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CertifyError::File {
            path: path.to_owned(),
            action: "read",
            source,
        }),
    }
}

/// Writes a file that only its owner can read; moved into place, so that it is never read half-written.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), CertifyError> {
    let beside = path.with_extension("new");
    let written = || {
        let _ = fs::remove_file(&beside);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        io::Write::write_all(&mut file, bytes)?;
        fs::rename(&beside, path)
    };
    written().map_err(|source| CertifyError::File {
        path: path.to_owned(),
        action: "write",
        source,
    })
}

#[cfg(test)]
mod tests;
