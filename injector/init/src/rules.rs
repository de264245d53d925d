//! `mesh-init`: turns flags, as Linkerd's charts and the injector write them, into [`Rules`] and installs them in the
//! kernel.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Parser;
use injector_redirect::Rules;
use injector_redirect::nft;
use ipnet::IpNet;
use proxy_model::ports::{self, InvalidPorts, PortSet};

/// Kernel setting of the time that half-closed connections are tracked.
const CLOSE_WAIT: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait";

/// Redirects this network namespace's TCP traffic to the sidecar.
#[derive(Debug, Parser)]
#[command(name = "mesh-init", version)]
pub struct Args {
    /// Redirect IPv6 too
    #[arg(long, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    ipv6: bool,
    /// Inbound port of the sidecar
    #[arg(long, short = 'p', default_value_t = ports::INBOUND)]
    incoming_proxy_port: u16,
    /// Outbound port of the sidecar
    #[arg(long, short = 'o', default_value_t = ports::OUTBOUND)]
    outgoing_proxy_port: u16,
    /// User ID of the sidecar; zero or less means none
    #[arg(long, short = 'u', default_value_t = -1, allow_negative_numbers = true)]
    proxy_uid: i64,
    /// Group ID of the sidecar; zero or less means none
    #[arg(long, short = 'g', default_value_t = -1, allow_negative_numbers = true)]
    proxy_gid: i64,
    /// Inbound ports and ranges that bypass the sidecar
    #[arg(long, value_delimiter = ',')]
    inbound_ports_to_ignore: Vec<String>,
    /// Outbound ports and ranges that bypass the sidecar
    #[arg(long, value_delimiter = ',')]
    outbound_ports_to_ignore: Vec<String>,
    /// The only inbound ports to redirect; all by default
    #[arg(long, short = 'r', value_delimiter = ',')]
    ports_to_redirect: Vec<String>,
    /// Client networks that bypass the sidecar
    #[arg(long, value_delimiter = ',')]
    subnets_to_ignore: Vec<IpNet>,
    /// Seconds that the kernel tracks half-closed connections; 0 keeps its setting
    #[arg(long, default_value_t = 0)]
    timeout_close_wait_secs: u32,
    /// Print the rules without installing them
    #[arg(long)]
    simulate: bool,
    /// Not supported: rules are installed in the current network namespace
    #[arg(long)]
    netns: Option<PathBuf>,
    /// Accepted for compatibility with the charts; no program is used
    #[arg(long)]
    firewall_bin_path: Option<String>,
    /// Accepted for compatibility with the charts; no program is used
    #[arg(long)]
    firewall_save_bin_path: Option<String>,
    /// Accepted for compatibility with the charts; nftables is the only mode
    #[arg(long, short = 'k')]
    iptables_mode: Option<String>,
    /// Log level; `error` and `warn` suppress messages
    #[arg(long, default_value = "info")]
    log_level: String,
    /// Accepted for compatibility with the charts; messages are plain lines
    #[arg(long, default_value = "plain")]
    log_format: String,
}

/// Error of an installation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An invalid value of a flag.
    #[error("invalid --{flag}: {reason}")]
    Flag {
        /// Flag.
        flag: &'static str,
        /// Reason.
        reason: String,
    },
    /// A kernel without nftables.
    #[error(
        "this node's kernel has no nftables with NAT for inet tables (nf_tables, nft_redir, Linux 5.2 or later): \
         load these modules, or use the CNI plugin ({0})"
    )]
    NoNftables(nft::Error),
    /// Missing privileges.
    #[error(
        "permission denied: cannot change traffic rules without the capability NET_ADMIN, as root or from the \
         program's file ({0})"
    )]
    Denied(nft::Error),
    /// Another failure of nftables.
    #[error(transparent)]
    Nft(nft::Error),
    /// A close-wait timeout that cannot be set.
    #[error("cannot set --timeout-close-wait-secs: {CLOSE_WAIT} requires a privileged container: {0}")]
    CloseWait(io::Error),
    /// Rules that cannot be printed.
    #[error("cannot print the rules: {0}")]
    Print(io::Error),
}

/// Runs the program; `out` receives the output of `--simulate`.
pub fn run(args: &Args, out: &mut impl Write) -> Result<(), Error> {
    let rules = args.rules()?;
    if args.simulate {
        return write!(out, "{}", rules.table()).map_err(Error::Print);
    }
    let is_verbose = !matches!(
        args.log_level.as_str(),
        "error" | "warn" | "warning" | "fatal" | "panic"
    );
    let unused = [
        ("firewall-bin-path", &args.firewall_bin_path),
        ("firewall-save-bin-path", &args.firewall_save_bin_path),
        ("iptables-mode", &args.iptables_mode),
    ];
    for (flag, _) in unused.iter().filter(|(_, value)| is_verbose && value.is_some()) {
        eprintln!("mesh-init: --{flag} has no effect: rules are installed by netlink");
    }
    if args.timeout_close_wait_secs > 0 {
        std::fs::write(CLOSE_WAIT, args.timeout_close_wait_secs.to_string()).map_err(Error::CloseWait)?;
    }
    injector_redirect::apply(&rules).map_err(explain)?;
    if is_verbose {
        let (inbound, outbound) = (rules.inbound_port, rules.outbound_port);
        eprintln!("mesh-init: redirected inbound TCP to port {inbound}, outbound TCP to port {outbound}");
    }
    Ok(())
}

impl Args {
    fn rules(&self) -> Result<Rules, Error> {
        if self.netns.is_some() {
            return Err(Error::Flag {
                flag: "netns",
                reason: "not supported: run mesh-init inside the network namespace".to_owned(),
            });
        }
        Ok(Rules {
            inbound_port: self.incoming_proxy_port,
            outbound_port: self.outgoing_proxy_port,
            inbound_skip: port_set("inbound-ports-to-ignore", &self.inbound_ports_to_ignore)?,
            outbound_skip: port_set("outbound-ports-to-ignore", &self.outbound_ports_to_ignore)?,
            inbound_skip_from: self.subnets_to_ignore.clone(),
            inbound_only: port_set("ports-to-redirect", &self.ports_to_redirect)?,
            proxy_uid: id("proxy-uid", self.proxy_uid)?,
            proxy_gid: id("proxy-gid", self.proxy_gid)?,
            mark: None,
            ipv6: self.ipv6,
        })
    }
}

fn port_set(flag: &'static str, list: &[String]) -> Result<PortSet, Error> {
    list.join(",").parse().map_err(|InvalidPorts(item)| Error::Flag {
        flag,
        reason: format!("{item:?} is not a port or a range of ports"),
    })
}

fn id(flag: &'static str, value: i64) -> Result<Option<u32>, Error> {
    if value <= 0 {
        return Ok(None);
    }
    u32::try_from(value).map(Some).map_err(|_| Error::Flag {
        flag,
        reason: format!("{value} exceeds the largest user or group ID"),
    })
}

fn explain(error: nft::Error) -> Error {
    // EPERM and EACCES; ENOENT, EAFNOSUPPORT, EOPNOTSUPP, EPROTONOSUPPORT.
    let code = match &error {
        nft::Error::Socket(source) | nft::Error::Refused { source, .. } => source.raw_os_error(),
        _ => None,
    };
    match code {
        Some(1 | 13) => Error::Denied(error),
        Some(2 | 93 | 95 | 97) => Error::NoNftables(error),
        _ => Error::Nft(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Rules, Error> {
        Args::parse_from([&["mesh-init"], args].concat()).rules()
    }

    #[test]
    fn parses_the_injectors_flags() {
        let rules = read(&[
            "--ipv6=false",
            "--proxy-uid",
            "2102",
            "--inbound-ports-to-ignore",
            "4190,4191,25-30",
            "--subnets-to-ignore",
            "10.0.0.0/8,fd00::/8",
        ])
        .expect("rules");
        assert_eq!(
            (rules.proxy_uid, rules.proxy_gid, rules.ipv6),
            (Some(2102), None, false)
        );
        assert!(rules.inbound_skip.contains(27));
        assert_eq!(rules.inbound_skip_from.len(), 2);
    }

    #[test]
    fn injected_arguments_yield_the_rules_of_the_sidecar() {
        use injector_sidecar::{Annotations, Config, Namespace, Pod, PodFacts, SidecarSpec};
        for annotations in [
            serde_json::json!({}),
            serde_json::json!({"config.linkerd.io/skip-inbound-ports": "22,8000-8010",
                "config.linkerd.io/skip-outbound-ports": "", "config.linkerd.io/skip-subnets": "10.0.0.0/8,fd00::/8",
                "config.linkerd.io/proxy-uid": "7", "config.linkerd.io/proxy-gid": "8",
                "config.linkerd.io/inbound-port": "5143", "config.linkerd.io/admin-port": "5191"}),
        ] {
            let pod = serde_json::json!({"metadata": {"annotations": annotations}, "spec": {"containers": []}});
            let (pod, namespace) = (Pod(&pod), Namespace::default());
            let annotations = Annotations::new(pod.metadata(), &namespace);
            let spec = SidecarSpec::resolve(&Config::default(), &annotations, &PodFacts::new(pod)).expect("valid");
            let args = spec.init_args();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            assert_eq!(read(&args).expect("rules"), spec.redirection.rules);
        }
    }

    #[test]
    fn invalid_values_name_their_flag() {
        let said = |args: &[&str]| read(args).expect_err("refused").to_string();
        assert!(said(&["--outbound-ports-to-ignore", "x"]).starts_with("invalid --outbound-ports-to-ignore: "));
        assert!(said(&["--netns", "/a"]).starts_with("invalid --netns: not supported"));
    }

    #[test]
    fn reports_a_kernel_without_nftables() {
        let error = explain(nft::Error::Socket(io::Error::from_raw_os_error(93)));
        assert!(error.to_string().contains("no nftables"), "{error}");
    }
}
