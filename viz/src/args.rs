//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;

/// Shortest time between two scrapes: a proxy needs some of it to print its metrics.
const SCRAPE_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Success rates, latencies, edges and live requests of a mesh, from its proxies' own metrics.
#[derive(Clone, Debug, Parser)]
#[command(name = "mesh-viz", version)]
pub(crate) struct Args {
    /// Address of the API, unless a listening socket is inherited (LISTEN_FDS).
    #[arg(long, default_value = "0.0.0.0:8085")]
    pub(crate) addr: SocketAddr,
    /// Address of /ready, /live and /metrics.
    #[arg(long, default_value = "0.0.0.0:9994")]
    pub(crate) admin_addr: SocketAddr,
    /// Directory of Kubernetes manifests; a later directory's object replaces an earlier one's.
    #[arg(long = "manifests", value_name = "DIR", required = true)]
    pub(crate) manifests: Vec<PathBuf>,
    /// Time between two scrapes of a proxy, for example 1s.
    #[arg(long, default_value = "1s", value_parser = interval)]
    pub(crate) scrape_interval: Duration,
    /// How long scrapes are kept, for example 10m.
    #[arg(long, default_value = "10m", value_parser = duration)]
    pub(crate) window: Duration,
    /// Namespace of the control plane; part of every identity.
    #[arg(long, default_value = "linkerd")]
    pub(crate) control_plane_namespace: String,
    /// Suffix of every identity.
    #[arg(long, default_value = "cluster.local")]
    pub(crate) identity_trust_domain: String,
}

fn duration(text: &str) -> Result<Duration, String> {
    destination_k8s::duration::go(text)
        .filter(|d| !d.is_zero())
        .ok_or_else(|| format!("{text:?} is no duration such as 500ms, 1s or 10m"))
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
    fn flags_are_read_or_refused_by_name() {
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
    }
}
