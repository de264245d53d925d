//! `mesh-init`: its flags, as Linkerd's charts and our injector write them, become [`Rules`], and the kernel gets those.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Parser;
use injector_redirect::Rules;
use injector_redirect::nft;
use ipnet::IpNet;
use proxy_model::ports::PortSet;

/// Where the kernel keeps how long it remembers a half-closed connection.
const CLOSE_WAIT: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait";

/// Redirects this network namespace's TCP traffic to the sidecar.
#[derive(Debug, Parser)]
#[command(name = "mesh-init", version)]
pub struct Args {
    /// Redirect IPv6 too
    #[arg(long, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    ipv6: bool,
    /// Port of the sidecar for inbound traffic
    #[arg(long, short = 'p', default_value_t = 4143)]
    incoming_proxy_port: u16,
    /// Port of the sidecar for outbound traffic
    #[arg(long, short = 'o', default_value_t = 4140)]
    outgoing_proxy_port: u16,
    /// User of the sidecar; not above 0 means none
    #[arg(long, short = 'u', default_value_t = -1, allow_negative_numbers = true)]
    proxy_uid: i64,
    /// Group of the sidecar; not above 0 means none
    #[arg(long, short = 'g', default_value_t = -1, allow_negative_numbers = true)]
    proxy_gid: i64,
    /// Inbound ports and ranges that bypass the sidecar
    #[arg(long, value_delimiter = ',')]
    inbound_ports_to_ignore: Vec<String>,
    /// Outbound ports and ranges that bypass the sidecar
    #[arg(long, value_delimiter = ',')]
    outbound_ports_to_ignore: Vec<String>,
    /// The only inbound ports to redirect; all if not given
    #[arg(long, short = 'r', value_delimiter = ',')]
    ports_to_redirect: Vec<String>,
    /// Networks whose clients bypass the sidecar
    #[arg(long, value_delimiter = ',')]
    subnets_to_ignore: Vec<IpNet>,
    /// Seconds that the kernel keeps half-closed connections; 0 leaves it as it is
    #[arg(long, default_value_t = 0)]
    timeout_close_wait_secs: u32,
    /// Print the rules and change nothing
    #[arg(long)]
    simulate: bool,
    /// Not supported: the rules go into the namespace this program runs in
    #[arg(long)]
    netns: Option<PathBuf>,
    /// Taken for the charts' sake; there is no such program here
    #[arg(long)]
    firewall_bin_path: Option<String>,
    /// Taken for the charts' sake; there is no such program here
    #[arg(long)]
    firewall_save_bin_path: Option<String>,
    /// Taken for the charts' sake; nftables is the only mode
    #[arg(long, short = 'k')]
    iptables_mode: Option<String>,
    /// What is said: `error`, `warn` say only what went wrong
    #[arg(long, default_value = "info")]
    log_level: String,
    /// Taken for the charts' sake: one plain sentence per line
    #[arg(long, default_value = "plain")]
    log_format: String,
}

/// Why the rules are not in place.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag's value is none of its kind.
    #[error("--{flag}: {reason}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The kernel has no nftables.
    #[error(
        "this node's kernel has no nftables with NAT for inet tables (nf_tables, nft_redir, Linux 5.2 or later): \
         load these modules, or use the CNI plugin ({0})"
    )]
    NoNftables(nft::Error),
    /// The container may not change rules.
    #[error(
        "the kernel does not let this container change traffic rules: it needs the capability NET_ADMIN, \
         as root or from the file of the program ({0})"
    )]
    Denied(nft::Error),
    /// Another failure of nftables.
    #[error(transparent)]
    Nft(nft::Error),
    /// The close-wait timeout cannot be set.
    #[error("--timeout-close-wait-secs: cannot write {CLOSE_WAIT}, which needs a privileged container: {0}")]
    CloseWait(io::Error),
    /// The rules could not be printed.
    #[error("cannot print the rules: {0}")]
    Print(io::Error),
}

/// Does what the flags say; `out` gets what `--simulate` prints.
pub fn run(args: &Args, out: &mut impl Write) -> Result<(), Error> {
    let rules = args.rules()?;
    if args.simulate {
        return write!(out, "{}", rules.table()).map_err(Error::Print);
    }
    let talks = !matches!(
        args.log_level.as_str(),
        "error" | "warn" | "warning" | "fatal" | "panic"
    );
    let unused = [
        ("firewall-bin-path", &args.firewall_bin_path),
        ("firewall-save-bin-path", &args.firewall_save_bin_path),
        ("iptables-mode", &args.iptables_mode),
    ];
    for (flag, _) in unused.iter().filter(|(_, value)| talks && value.is_some()) {
        eprintln!("mesh-init: --{flag} is not used: rules are made by nftables without a program");
    }
    if args.timeout_close_wait_secs > 0 {
        std::fs::write(CLOSE_WAIT, args.timeout_close_wait_secs.to_string()).map_err(Error::CloseWait)?;
    }
    injector_redirect::apply(&rules).map_err(explain)?;
    if talks {
        let (inbound, outbound) = (rules.inbound_port, rules.outbound_port);
        eprintln!("mesh-init: inbound TCP goes to port {inbound}, outbound TCP to port {outbound}");
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
            inbound_skip: ports("inbound-ports-to-ignore", &self.inbound_ports_to_ignore)?,
            outbound_skip: ports("outbound-ports-to-ignore", &self.outbound_ports_to_ignore)?,
            inbound_skip_from: self.subnets_to_ignore.clone(),
            inbound_only: ports("ports-to-redirect", &self.ports_to_redirect)?,
            proxy_uid: id("proxy-uid", self.proxy_uid)?,
            proxy_gid: id("proxy-gid", self.proxy_gid)?,
            mark: None,
            ipv6: self.ipv6,
        })
    }
}

fn ports(flag: &'static str, list: &[String]) -> Result<PortSet, Error> {
    list.join(",").parse().map_err(|error| Error::Flag {
        flag,
        reason: format!("{error}"),
    })
}

fn id(flag: &'static str, value: i64) -> Result<Option<u32>, Error> {
    if value <= 0 {
        return Ok(None);
    }
    u32::try_from(value).map(Some).map_err(|_| Error::Flag {
        flag,
        reason: format!("{value} is larger than any user or group"),
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
    fn the_injectors_flags_become_rules() {
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
    fn bad_values_name_their_flag() {
        let said = |args: &[&str]| read(args).expect_err("refused").to_string();
        assert!(said(&["--outbound-ports-to-ignore", "x"]).starts_with("--outbound-ports-to-ignore: "));
        assert!(said(&["--netns", "/a"]).starts_with("--netns: not supported"));
    }

    #[test]
    fn a_kernel_without_nftables_is_said() {
        let error = explain(nft::Error::Socket(io::Error::from_raw_os_error(93)));
        assert!(error.to_string().contains("no nftables"), "{error}");
    }
}
