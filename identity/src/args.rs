//! The command line, and its texts as values.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Signs certificates for the workloads of the mesh.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "mesh-identity", version)]
pub(crate) struct Args {
    /// Where to serve the Identity API (gRPC).
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub(crate) addr: SocketAddr,

    /// Where to serve /metrics, /ready and /live.
    #[arg(long, default_value = "0.0.0.0:9990")]
    pub(crate) admin_addr: SocketAddr,

    /// The issuer's certificate, PEM; what stands between it and the trust anchor may follow it. Read again when it changes.
    #[arg(long, value_name = "FILE")]
    pub(crate) issuer_cert: PathBuf,

    /// The issuer's private key, PEM. Read again when it changes.
    #[arg(long, value_name = "FILE")]
    pub(crate) issuer_key: PathBuf,

    /// The trust anchors, PEM. Read again when they change.
    #[arg(long, value_name = "FILE")]
    pub(crate) trust_anchors: PathBuf,

    /// The keys that sign workload tokens, as a JSON Web Key Set. Read again when it changes.
    #[arg(long, value_name = "FILE", required_unless_present = "kubernetes")]
    pub(crate) jwks: Option<PathBuf>,

    /// Ask the API server of a Kubernetes cluster whose tokens are (TokenReview), instead of checking them with --jwks.
    #[arg(long, conflicts_with = "jwks")]
    pub(crate) kubernetes: bool,

    /// The kubeconfig that says where the cluster is; by default as kubectl finds it, in a pod the pod's own files.
    #[arg(long, value_name = "FILE", requires = "kubernetes", conflicts_with = "jwks")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig.
    #[arg(long, value_name = "NAME", requires = "kubernetes", conflicts_with = "jwks")]
    pub(crate) context: Option<String>,

    /// The namespace of the control plane; a part of every identity.
    #[arg(long, default_value = "linkerd", value_name = "NAME", value_parser = name)]
    pub(crate) control_plane_namespace: String,

    /// The suffix of every identity.
    #[arg(long, default_value = "cluster.local", value_name = "NAME", value_parser = name)]
    pub(crate) identity_trust_domain: String,

    /// How long a certificate is valid.
    #[arg(long, default_value = "24h", value_name = "DURATION", value_parser = duration)]
    pub(crate) issuance_lifetime: Duration,

    /// How far the clocks of workloads may differ from ours.
    #[arg(long, default_value = "20s", value_name = "DURATION", value_parser = duration)]
    pub(crate) clock_skew_allowance: Duration,
}

/// Reads a DNS name.
fn name(text: &str) -> Result<String, String> {
    match text.parse::<proxy_model::Id>() {
        Ok(proxy_model::Id::Dns(name)) => Ok(name.to_string()),
        _ => Err(format!("{text:?} is not a DNS name")),
    }
}

/// Reads a duration as Kubernetes and Linkerd write it: numbers with units, `24h`, `1h30m`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 24h, 1h30m, 20s or 500ms");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .filter(|at| *at > 0)
            .ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
        let part = match unit {
            "ms" => Some(Duration::from_millis(number)),
            "s" => seconds(1),
            "m" => seconds(60),
            "h" => seconds(60 * 60),
            _ => None,
        };
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = tail;
    }
    // A hundred years: more than that is a typing error, and would overflow a certificate's time.
    let longest = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    if total.is_zero() || total > longest {
        Err(wrong())
    } else {
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_kubernetes_writes_them() {
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("1s500ms"), Ok(Duration::from_millis(1_500)));
        for wrong in [
            "",
            "0s",
            "h",
            "10",
            "10x",
            "-1s",
            "1.5h",
            "99999999999999999999s",
            "9999999999h",
        ] {
            assert!(duration(wrong).is_err(), "{wrong:?} must be refused");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }
}
