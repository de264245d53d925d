//! The certificate and the cluster's features, from files or a cluster.

use std::{sync::Arc, time::Duration};

use destination_source::cluster::{
    CaBundleOf, Client, States,
    certificate::{self, Keep},
};
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    args::Args,
    metrics::Metrics,
    reload::{self, Current, Pair},
};

/// Pause between attempts to read the cluster's version.
const VERSION_PAUSE: Duration = Duration::from_secs(1);

/// Returns the webhooks' certificate, from files or kept in a Secret, and the task that maintains it.
pub(crate) fn certificate(
    args: &Args,
    client: Option<&Client>,
    metrics: Metrics,
    stop: CancellationToken,
) -> (Current<ServerConfig>, impl Future<Output = ()> + Send + use<>) {
    let (sender, current) = watch::channel(None);
    let files = args.certificate();
    let kept = client.map(|client| certificate::keep(client, keep(args), stop));
    let task = async move {
        match (files, kept) {
            (Some(files), _) => {
                let pair = Pair {
                    what: "certificate",
                    files,
                    make: Box::new(reload::tls),
                };
                pair.poller(metrics, sender).run().await;
            }
            (None, Some((kept, keeping))) => {
                tokio::join!(keeping, reload::serve_kept(kept, sender, metrics));
            }
            (None, None) => {}
        }
    };
    (current, task)
}

fn keep(args: &Args) -> Keep {
    let namespace = &args.control_plane_namespace;
    let labels = [
        (destination_k8s::keys::CONTROL_PLANE_NS, namespace.as_str()),
        (destination_k8s::keys::CONTROL_PLANE_COMPONENT, "proxy-injector"),
    ];
    Keep {
        namespace: namespace.clone(),
        secret: "linkerd-proxy-injector-k8s-tls".to_owned(),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        dns_names: vec![format!("linkerd-proxy-injector.{namespace}.svc")],
        external: args.external_certificate,
        ca_bundle_of: vec![
            (CaBundleOf::Mutating, "linkerd-proxy-injector-webhook-config".to_owned()),
            (
                CaBundleOf::Validating,
                "linkerd-policy-validator-webhook-config".to_owned(),
            ),
        ],
    }
}

/// Returns true if the cluster supports native sidecars; retries until its version is known.
pub(crate) async fn native_sidecars(client: Option<&Client>) -> bool {
    let Some(client) = client else { return true };
    loop {
        match client.version().await {
            Ok(version) => {
                let supported = injector_patch::supports_native_sidecars(&version);
                tracing::info!(%version, native_sidecars = supported, "read the cluster's version");
                return supported;
            }
            Err(error) => {
                tracing::debug!(%error, "cannot read the cluster's version yet");
                tokio::time::sleep(VERSION_PAUSE).await;
            }
        }
    }
}

/// Renders the program's metrics and those of the watches.
pub(crate) fn render(metrics: &Metrics, states: Option<&States>) -> String {
    let own = metrics.render();
    // Each text ends with an EOF marker; the result must have one.
    states.map_or_else(
        || own.clone(),
        |states| format!("{}{}", own.trim_end_matches("# EOF\n"), states.render()),
    )
}

/// Waits until there is a value.
pub(crate) async fn some<T>(current: &mut watch::Receiver<Option<Arc<T>>>) -> bool {
    current.wait_for(Option::is_some).await.is_ok()
}
