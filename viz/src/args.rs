//! Command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;

/// Shortest time between two scrapes: a proxy needs part of it to print its metrics.
const SCRAPE_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Success rates, latencies, edges and live requests of a mesh, from its proxies' own metrics.
#[derive(Clone, Debug, Parser)]
#[command(name = "mesh-viz", version)]
pub(crate) struct Args {
    /// Address of the API, unless a listening socket is inherited (LISTEN_FDS)
    #[arg(long, default_value = "0.0.0.0:8085")]
    pub(crate) addr: SocketAddr,
    /// Address of /ready, /live and /metrics
    #[arg(long, default_value = "0.0.0.0:9994")]
    pub(crate) admin_addr: SocketAddr,
    /// File with a token that requests to the API must bear (for a mesh on one machine)
    #[arg(long, value_name = "FILE", conflicts_with = "kubernetes")]
    pub(crate) token_file: Option<PathBuf>,
    /// Directory of Kubernetes manifests; objects of later directories replace those of earlier ones
    #[arg(long = "manifests", value_name = "DIR", required_unless_present = "kubernetes")]
    pub(crate) manifests: Vec<PathBuf>,
    /// Time between two scrapes of a proxy (for example 1s); longer with many proxies
    #[arg(long, default_value = "1s", value_parser = interval)]
    pub(crate) scrape_interval: Duration,
    /// Longest time between two scrapes of a proxy, with any number of proxies
    #[arg(long, default_value = "10s", value_parser = interval)]
    pub(crate) scrape_interval_max: Duration,
    /// Time that scrapes are kept (for example 10m)
    #[arg(long, default_value = "10m", value_parser = duration)]
    pub(crate) window: Duration,
    /// Namespace of the control plane, part of every identity
    #[arg(long, default_value = "linkerd")]
    pub(crate) control_plane_namespace: String,
    /// Suffix of every identity
    #[arg(long, default_value = "cluster.local")]
    pub(crate) identity_trust_domain: String,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// Flags for a cluster.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ClusterArgs {
    /// Watch a Kubernetes cluster instead of --manifests, and serve tap as an aggregated API
    #[arg(long, conflicts_with = "manifests")]
    pub(crate) kubernetes: bool,
    /// Kubeconfig; defaults to that of kubectl, in a pod to its service account
    #[arg(long, value_name = "FILE", requires = "kubernetes")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME", requires = "kubernetes")]
    pub(crate) context: Option<String>,
    /// Namespace of mesh-viz and its Service `tap`; defaults to that of the pod it runs in
    #[arg(long, value_name = "NAME", requires = "kubernetes")]
    pub(crate) viz_namespace: Option<String>,
    /// Address of the aggregated API (HTTPS)
    #[arg(long, default_value = "0.0.0.0:8089")]
    pub(crate) tap_addr: SocketAddr,
    /// Wait for the Secret with the certificate of the aggregated API instead of writing it
    #[arg(long, requires = "kubernetes")]
    pub(crate) tap_external_secret: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    proxy_model::duration::go(text)
        .filter(|d| !d.is_zero())
        .ok_or_else(|| format!("invalid duration {text:?} (for example 500ms, 1s or 10m)"))
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < SCRAPE_INTERVAL_MIN {
        return Err(format!(
            "{text:?} is shorter than {} ms",
            SCRAPE_INTERVAL_MIN.as_millis()
        ));
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_flags_or_names_the_invalid_one() {
        let args = |extra: &[&str]| Args::try_parse_from(["mesh-viz", "--manifests", "/x"].iter().chain(extra));
        assert_eq!(
            args(&["--window", "90s"]).expect("valid").window,
            Duration::from_secs(90)
        );
        let error = args(&["--scrape-interval", "1ms"]).expect_err("too short").to_string();
        assert!(
            error.contains("--scrape-interval") && error.contains("100 ms"),
            "{error}"
        );
        assert!(args(&["--kubernetes"]).is_err(), "one source only");
        assert!(Args::try_parse_from(["mesh-viz", "--kubernetes"]).is_ok());
    }
}
