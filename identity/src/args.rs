//! Command line and parsers of its values.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use proxy_model::{defaults, ports};

/// Signs certificates for the workloads of the mesh.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "mesh-identity", version)]
pub(crate) struct Args {
    /// Listen address of the Identity API (gRPC)
    #[arg(long, default_value_t = any_address(ports::IDENTITY))]
    pub(crate) addr: SocketAddr,

    /// Listen address of /metrics, /ready and /live
    #[arg(long, default_value_t = any_address(ports::IDENTITY_ADMIN))]
    pub(crate) admin_addr: SocketAddr,

    /// Issuer certificate, PEM, optionally followed by its chain up to the trust anchor; reloaded on change
    #[arg(long, value_name = "FILE")]
    pub(crate) issuer_cert: PathBuf,

    /// Issuer private key, PEM; reloaded on change
    #[arg(long, value_name = "FILE")]
    pub(crate) issuer_key: PathBuf,

    /// Trust anchors, PEM; reloaded on change
    #[arg(long, value_name = "FILE")]
    pub(crate) trust_anchors: PathBuf,

    /// Keys that sign workload tokens, as a JSON Web Key Set; reloaded on change
    #[arg(long, value_name = "FILE", required_unless_present = "kubernetes")]
    pub(crate) jwks: Option<PathBuf>,

    /// Validate tokens by TokenReview at the API server of a cluster, instead of offline with --jwks
    #[arg(long, conflicts_with = "jwks")]
    pub(crate) kubernetes: bool,

    /// Accept tokens for the audience of the API server, too: those of pods without a projected token
    #[arg(long, requires = "kubernetes", conflicts_with = "jwks")]
    pub(crate) accept_api_server_tokens: bool,

    /// Kubeconfig of the cluster; by default the one kubectl uses, in a pod the pod's service account
    #[arg(long, value_name = "FILE", requires = "kubernetes", conflicts_with = "jwks")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME", requires = "kubernetes", conflicts_with = "jwks")]
    pub(crate) context: Option<String>,

    /// Namespace of the control plane; part of every identity
    #[arg(long, default_value = defaults::CONTROL_PLANE_NAMESPACE, value_name = "NAME", value_parser = name)]
    pub(crate) control_plane_namespace: String,

    /// Trust domain: suffix of every identity
    #[arg(long, default_value = defaults::TRUST_DOMAIN, value_name = "NAME", value_parser = name)]
    pub(crate) identity_trust_domain: String,

    /// Lifetime of certificates
    #[arg(long, default_value = "24h", value_name = "DURATION", value_parser = duration)]
    pub(crate) issuance_lifetime: Duration,

    /// Allowed clock skew of workloads
    #[arg(long, default_value = "20s", value_name = "DURATION", value_parser = duration)]
    pub(crate) clock_skew_allowance: Duration,
}

/// Returns the default listen address for a port.
fn any_address(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

/// Parses a DNS name.
fn name(text: &str) -> Result<String, String> {
    match text.parse::<proxy_model::Id>() {
        Ok(proxy_model::Id::Dns(name)) => Ok(name.to_string()),
        _ => Err(format!("{text:?} is not a DNS name")),
    }
}

/// Longest lifetime or skew, a hundred years: more is a typing error, and would overflow a certificate's time.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Parses a positive duration in Go's notation: `24h`, `1h30m`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    proxy_model::duration::go(text)
        .filter(|duration| !duration.is_zero() && *duration <= LONGEST)
        .ok_or_else(|| format!("{text:?} is not a duration such as 24h, 1h30m, 20s or 500ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_durations_as_kubernetes_writes_them() {
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("1s500ms"), Ok(Duration::from_millis(1_500)));
        for invalid in [
            "",
            "0s",
            "h",
            "10",
            "10x",
            "-1s",
            "99999999999999999999s",
            "9999999999h",
        ] {
            assert!(duration(invalid).is_err(), "{invalid:?}");
        }
    }

    #[test]
    fn command_line_is_valid() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }
}
