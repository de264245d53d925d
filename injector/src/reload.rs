//! Files that are reloaded on change: certificate, values, trust anchors. The last valid content stays in force.

use std::{path::PathBuf, sync::Arc};

use destination_source::cluster::certificate;
use injector_patch::{Config, Injector};
use proxy_process::files::{INTERVAL, PolledFiles};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::sync::watch;

use crate::metrics::Metrics;

/// Pair of files that one value is made from.
pub(crate) struct Pair<T> {
    /// Name of the value, for the log.
    pub(crate) what: &'static str,
    /// Files.
    pub(crate) files: [PathBuf; 2],
    /// Parser.
    pub(crate) make: Make<T>,
}

/// Makes a value from two texts.
pub(crate) type Make<T> = Box<dyn Fn([&str; 2]) -> Result<T, String> + Send>;

/// Current value; none until the first valid one.
pub(crate) type Current<T> = watch::Receiver<Option<Arc<T>>>;

impl<T: Send + Sync + 'static> Pair<T> {
    /// Returns the poller of the files.
    pub(crate) fn poller(self, metrics: Metrics, sender: watch::Sender<Option<Arc<T>>>) -> Poller<T> {
        Poller {
            files: PolledFiles::new(self.files.clone()),
            pair: self,
            metrics,
            sender,
        }
    }
}

/// Poller of a pair of files.
pub(crate) struct Poller<T> {
    pair: Pair<T>,
    files: PolledFiles<2>,
    metrics: Metrics,
    sender: watch::Sender<Option<Arc<T>>>,
}

impl<T: Send + Sync + 'static> Poller<T> {
    fn poll(&mut self) {
        let what = self.pair.what;
        let Some(texts) = self.files.changed() else { return };
        let made = texts
            .as_ref()
            .map_err(ToString::to_string)
            .and_then(|[a, b]| (self.pair.make)([a, b]));
        match made {
            Ok(value) => {
                tracing::info!(what, "loaded");
                self.sender.send_replace(Some(Arc::new(value)));
            }
            Err(reason) => {
                self.metrics.reload_refused(what);
                tracing::warn!(what, %reason, "cannot reload; keeping the last valid version");
            }
        }
    }

    /// Polls until it is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            self.poll();
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

/// Serves the certificate kept in the Secret as it changes.
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
                tracing::warn!(%reason, "cannot use the Secret's certificate");
            }
            None => {}
        }
        if kept.changed().await.is_err() {
            return;
        }
    }
}

/// Builds the server configuration of a certificate and its key.
pub(crate) fn tls([certificate, key]: [&str; 2]) -> Result<ServerConfig, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
    let chain = chain.map_err(|error| format!("invalid certificate: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| format!("invalid private key: {error}"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?;
    let config = builder.with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(|error| format!("certificate and private key do not match: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Properties of the cluster that the files do not contain.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Namespace of the control plane.
    pub(crate) namespace: String,
    /// The cluster supports native sidecars.
    pub(crate) native_sidecars: bool,
}

/// Builds the injector from values and trust anchors.
pub(crate) fn injector([values, anchors]: [&str; 2], place: &Place) -> Result<Injector, String> {
    let values = destination_yaml::one(values).map_err(|error| format!("invalid values: {error}"))?;
    let mut config = Config::from_values(&values).map_err(|error| error.to_string())?;
    config.linkerd_namespace.clone_from(&place.namespace);
    config.no_native_sidecars = !place.native_sidecars;
    anchors.clone_into(&mut config.identity_trust_anchors_pem);
    Injector::new(config).map_err(|error| error.to_string())
}
