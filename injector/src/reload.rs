//! Files whose current value is wanted: our certificate, the values, the trust anchors. Read again when their content changes;
//! what was good stays in force when something new is not.
//!
//! They are polled, not watched: a Kubernetes volume swaps a symbolic link, and a few small reads a second cost nothing.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use injector_patch::{Config, Injector};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::sync::watch;

use crate::metrics::Metrics;

/// How often files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// Largest file that is read; values and anchors together have some 100 KiB at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Two files that make one value.
pub(crate) struct Pair<T> {
    /// What they make, for the log.
    pub(crate) what: &'static str,
    /// The files.
    pub(crate) files: [PathBuf; 2],
    /// How.
    pub(crate) make: Make<T>,
}

/// Makes a value of two texts, or says what is wrong with them.
pub(crate) type Make<T> = Box<dyn Fn([&str; 2]) -> Result<T, String> + Send>;

/// The current value; none until there is a good one.
pub(crate) type Current<T> = watch::Receiver<Option<Arc<T>>>;

impl<T: Send + Sync + 'static> Pair<T> {
    /// Reads the files, and goes on looking at them in the task that is returned.
    pub(crate) fn follow(self, metrics: Metrics) -> (Current<T>, impl Future<Output = ()> + Send) {
        let (sender, receiver) = watch::channel(None);
        let mut last = None;
        let mut look = move || {
            let now = self.read();
            if last.as_ref() == Some(&now) {
                return;
            }
            let made = now
                .as_ref()
                .map_err(String::clone)
                .and_then(|[a, b]| (self.make)([a, b]));
            match made {
                Ok(value) => {
                    tracing::info!(what = self.what, "read");
                    sender.send_replace(Some(Arc::new(value)));
                }
                Err(reason) => {
                    metrics.reload_refused(self.what);
                    tracing::warn!(what = self.what, %reason, "not used; what was good before stays in force");
                }
            }
            last = Some(now);
        };
        look();
        let task = async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                look();
            }
        };
        (receiver, task)
    }

    fn read(&self) -> Result<[String; 2], String> {
        let [a, b] = &self.files;
        Ok([read(a)?, read(b)?])
    }
}

fn read(path: &Path) -> Result<String, String> {
    let text = || {
        let size = std::fs::metadata(path)?.len();
        if size > FILE_BYTES_MAX {
            return Err(io::Error::other(format!(
                "it is {size} bytes, more than the {FILE_BYTES_MAX} that are read"
            )));
        }
        std::fs::read_to_string(path)
    };
    text().map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Certificate and key.
pub(crate) fn tls([certificate, key]: [&str; 2]) -> Result<ServerConfig, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
    let chain = chain.map_err(|error| format!("the certificate is no PEM: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| format!("the key is no PEM: {error}"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?;
    let config = builder.with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(|error| format!("certificate and key do not fit: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Values and trust anchors.
pub(crate) fn injector([values, anchors]: [&str; 2], namespace: &str) -> Result<Injector, String> {
    let values: serde_json::Value =
        serde_yaml_ng::from_str(values).map_err(|error| format!("the values are no YAML: {error}"))?;
    let mut config = Config::from_values(&values).map_err(|error| error.to_string())?;
    namespace.clone_into(&mut config.linkerd_namespace);
    anchors.clone_into(&mut config.identity_trust_anchors_pem);
    Injector::new(config).map_err(|error| error.to_string())
}
