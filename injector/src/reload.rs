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

use destination_source::cluster::certificate;
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
    /// What reads the files, and goes on looking at them.
    pub(crate) fn looking(self, metrics: Metrics, sender: watch::Sender<Option<Arc<T>>>) -> Looking<T> {
        Looking {
            pair: self,
            metrics,
            sender,
            last: None,
        }
    }

    fn read(&self) -> Result<[String; 2], String> {
        let [a, b] = &self.files;
        Ok([read(a)?, read(b)?])
    }
}

/// A pair that is looked at.
pub(crate) struct Looking<T> {
    pair: Pair<T>,
    metrics: Metrics,
    sender: watch::Sender<Option<Arc<T>>>,
    last: Option<Result<[String; 2], String>>,
}

impl<T: Send + Sync + 'static> Looking<T> {
    fn look(&mut self) {
        let what = self.pair.what;
        let now = self.pair.read();
        if self.last.as_ref() == Some(&now) {
            return;
        }
        let made = now
            .as_ref()
            .map_err(String::clone)
            .and_then(|[a, b]| (self.pair.make)([a, b]));
        match made {
            Ok(value) => {
                tracing::info!(what, "read");
                self.sender.send_replace(Some(Arc::new(value)));
            }
            Err(reason) => {
                self.metrics.reload_refused(what);
                tracing::warn!(what, %reason, "not used; what was good before stays in force");
            }
        }
        self.last = Some(now);
    }

    /// Looks until it is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            self.look();
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

/// What is kept of our certificate, as it changes, in the form in which it is served.
pub(crate) async fn serve_kept(
    mut kept: certificate::Current,
    sender: watch::Sender<Option<Arc<ServerConfig>>>,
    metrics: Metrics,
) {
    loop {
        let now = kept.borrow_and_update().clone();
        match now.map(|kept| tls([&kept.cert_pem, &kept.key_pem])) {
            Some(Ok(config)) => {
                sender.send_replace(Some(Arc::new(config)));
            }
            Some(Err(reason)) => {
                metrics.reload_refused("certificate");
                tracing::warn!(%reason, "the certificate of the Secret is not used");
            }
            None => {}
        }
        if kept.changed().await.is_err() {
            return;
        }
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

/// What files do not say of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Namespace of the control plane.
    pub(crate) namespace: String,
    /// Whether it knows native sidecars.
    pub(crate) native_sidecars: bool,
}

/// Values and trust anchors.
pub(crate) fn injector([values, anchors]: [&str; 2], place: &Place) -> Result<Injector, String> {
    let values: serde_json::Value =
        serde_yaml_ng::from_str(values).map_err(|error| format!("the values are no YAML: {error}"))?;
    let mut config = Config::from_values(&values).map_err(|error| error.to_string())?;
    config.linkerd_namespace.clone_from(&place.namespace);
    config.no_native_sidecars = !place.native_sidecars;
    anchors.clone_into(&mut config.identity_trust_anchors_pem);
    Injector::new(config).map_err(|error| error.to_string())
}
