//! `mesh install-cni`: the CNI plugin's chart, rendered to stdout.

use std::process::ExitCode;

use mesh_charts::Chart;
use serde_json::Value;

use super::{given::ValueArgs, manifests};
use crate::output::{self, DocumentFormat};

/// Arguments of `mesh install-cni`.
#[derive(Debug, clap::Args)]
pub(crate) struct InstallCniArgs {
    /// Namespace of the plugin.
    #[arg(long, value_name = "NAME", default_value = "linkerd-cni")]
    cni_namespace: String,

    /// Output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: DocumentFormat,

    #[command(flatten)]
    values: ValueArgs,

    #[command(flatten)]
    named: CniNamedArgs,
}

/// Flags that each set one chart value, with Linkerd's names.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Values by name")]
struct CniNamedArgs {
    /// Registry of the image (for example registry.example.org/mesh).
    #[arg(long, value_name = "REGISTRY", env = "LINKERD_DOCKER_REGISTRY")]
    registry: Option<String>,

    /// Name of the image.
    #[arg(long, value_name = "IMAGE", conflicts_with = "registry")]
    cni_image: Option<String>,

    /// Tag of the image.
    #[arg(long, value_name = "TAG")]
    cni_image_version: Option<String>,

    /// Log filter.
    #[arg(long, value_name = "FILTER")]
    cni_log_level: Option<String>,

    /// Directory on the node for CNI plugins.
    #[arg(long, value_name = "DIR")]
    dest_cni_bin_dir: Option<String>,

    /// Directory on the node for CNI configurations.
    #[arg(long, value_name = "DIR")]
    dest_cni_net_dir: Option<String>,

    /// Priority class of the pods.
    #[arg(long, value_name = "NAME")]
    priority_class_name: Option<String>,

    /// User ID of the sidecars.
    #[arg(long, value_name = "UID")]
    proxy_uid: Option<i64>,

    /// Group ID of the sidecars.
    #[arg(long, value_name = "GID")]
    proxy_gid: Option<i64>,

    /// Inbound port of the sidecars.
    #[arg(long, value_name = "PORT")]
    inbound_port: Option<u16>,

    /// Outbound port of the sidecars.
    #[arg(long, value_name = "PORT")]
    outbound_port: Option<u16>,

    /// Tap port of the sidecars.
    #[arg(long, value_name = "PORT")]
    control_port: Option<u16>,

    /// Admin port of the sidecars (metrics and probes).
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,

    /// Inbound ports and ranges that bypass the sidecars.
    #[arg(long, value_name = "PORTS")]
    skip_inbound_ports: Option<String>,

    /// Outbound ports and ranges that bypass the sidecars.
    #[arg(long, value_name = "PORTS")]
    skip_outbound_ports: Option<String>,

    /// Redirect only these inbound ports.
    #[arg(long, value_name = "PORTS")]
    redirect_ports: Option<String>,

    /// Accepted for compatibility; nftables needs no lock.
    #[arg(long)]
    use_wait_flag: bool,
}

/// `mesh install-cni`
pub(crate) fn install(args: &InstallCniArgs) -> anyhow::Result<ExitCode> {
    if args.named.use_wait_flag {
        eprintln!("mesh: --use-wait-flag is ignored: nftables needs no lock");
    }
    let mut values = mesh_charts::parse("")?;
    args.named.apply_to(&mut values)?;
    args.values.apply_to(&mut values)?;
    let manifests = manifests::render(Chart::Cni, &args.cni_namespace, &values)?;
    output::print_manifests(&manifests::text(&manifests, args.output))?;
    Ok(ExitCode::SUCCESS)
}

impl CniNamedArgs {
    /// Sets the values of the given flags.
    fn apply_to(&self, values: &mut Value) -> anyhow::Result<()> {
        let texts = [
            ("imageRegistry", &self.registry),
            ("image.name", &self.cni_image),
            ("image.version", &self.cni_image_version),
            ("logLevel", &self.cni_log_level),
            ("destCNIBinDir", &self.dest_cni_bin_dir),
            ("destCNINetDir", &self.dest_cni_net_dir),
            ("priorityClassName", &self.priority_class_name),
            ("ignoreInboundPorts", &self.skip_inbound_ports),
            ("ignoreOutboundPorts", &self.skip_outbound_ports),
            ("portsToRedirect", &self.redirect_ports),
        ];
        for (path, text) in texts {
            if let Some(text) = text {
                mesh_charts::set_text(values, path, text.clone())?;
            }
        }
        let port = |port: Option<u16>| port.map(i64::from);
        let numbers = [
            ("proxyUID", self.proxy_uid),
            ("proxyGID", self.proxy_gid),
            ("inboundProxyPort", port(self.inbound_port)),
            ("outboundProxyPort", port(self.outbound_port)),
            ("proxyControlPort", port(self.control_port)),
            ("proxyAdminPort", port(self.admin_port)),
        ];
        for (path, number) in numbers {
            if let Some(number) = number {
                mesh_charts::set(values, &format!("{path}={number}"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: InstallCniArgs,
    }

    fn objects(line: &[&str]) -> Vec<Value> {
        let args = Line::parse_from([&["mesh"], line].concat()).args;
        let mut values = mesh_charts::parse("").expect("empty");
        args.named.apply_to(&mut values).expect("values");
        args.values.apply_to(&mut values).expect("values");
        let manifests = manifests::render(Chart::Cni, &args.cni_namespace, &values).expect("it renders");
        manifests.into_iter().map(|manifest| manifest.object).collect()
    }

    #[test]
    fn flags_set_values() {
        let all = objects(&[
            "--cni-namespace=net",
            "--registry=r.io/x/",
            "--cni-image-version=7",
            "--proxy-uid=5",
            "--skip-inbound-ports=25,8000-8010",
            "--dest-cni-net-dir=/var/net.d",
            "--set=repairController.enabled=false",
        ]);
        assert_eq!(
            (all[0]["kind"].as_str(), all[0]["metadata"]["name"].as_str()),
            (Some("Namespace"), Some("net"))
        );
        let kind = |kind: &str| all.iter().find(|object| object["kind"] == kind).expect("there is one");
        let config = kind("ConfigMap")["data"]["cni_network_config"].as_str().expect("text");
        let config: Value = serde_json::from_str(config).expect("JSON");
        assert_eq!(config["linkerd"]["proxy-uid"], 5);
        assert_eq!(config["linkerd"]["inbound-ports-to-ignore"][2], "25,8000-8010");
        let pod = &kind("DaemonSet")["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["image"], "r.io/x/mesh-cni:7");
        assert!(pod["volumes"].to_string().contains("/var/net.d"));
        assert!(!pod["containers"][0]["args"].to_string().contains("--repair"));
        assert!(
            !kind("ClusterRole")["rules"].to_string().contains("delete"),
            "no permission that is not needed"
        );
    }
}
