//! `internal pod`: the pause process, which creates and holds the namespaces of one pod.
//!
//! It configures the pod from inside: `eth0` with the pod's address and a default route, its peer in the supervisor's
//! namespace, redirection rules, its own hosts file. Then it prints `ready` and waits until its standard input closes.
//! The network is routed, not bridged, so that the supervisor's namespace sees both directions of every connection.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::Ipv4Addr,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use futures_util::TryStreamExt as _;
use injector_redirect::Rules;
use ipnet::IpNet;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use proxy_model::ports::PortSet;
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use serde::{Deserialize, Serialize};

/// Next hop of every pod: the supervisor's end of its interface pair, the same on each.
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Specification of a pod.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    /// Host name.
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    /// Name of the interface in the supervisor's namespace.
    pub(super) peer: String,
    /// File mounted over /etc/hosts.
    pub(super) hosts: PathBuf,
    /// File mounted over /etc/resolv.conf.
    pub(super) resolv: PathBuf,
    /// Redirection to the sidecar.
    pub(super) redirect: Option<Redirect>,
}

/// Redirection settings that differ between pods.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Redirect {
    mark: Option<u32>,
    inbound_port: u16,
    outbound_port: u16,
    inbound_skip: String,
    outbound_skip: String,
    inbound_skip_from: Vec<IpNet>,
}

impl Redirect {
    /// Rules in the form that passes through a command line.
    pub(super) fn from_rules(rules: &Rules) -> Self {
        let text = |ports: &PortSet| {
            let range = |(low, high): &(u16, u16)| format!("{low}-{high}");
            ports.ranges().iter().map(range).collect::<Vec<_>>().join(",")
        };
        Self {
            mark: rules.mark,
            inbound_port: rules.inbound_port,
            outbound_port: rules.outbound_port,
            inbound_skip: text(&rules.inbound_skip),
            outbound_skip: text(&rules.outbound_skip),
            inbound_skip_from: rules.inbound_skip_from.clone(),
        }
    }

    fn rules(&self) -> Result<Rules> {
        Ok(Rules {
            mark: self.mark,
            inbound_port: self.inbound_port,
            outbound_port: self.outbound_port,
            inbound_skip: self.inbound_skip.parse()?,
            outbound_skip: self.outbound_skip.parse()?,
            inbound_skip_from: self.inbound_skip_from.clone(),
            ..Rules::default()
        })
    }
}

/// Creates the pod's namespaces and holds them.
pub(super) fn run(spec: &str) -> Result<ExitCode> {
    let spec: Spec = serde_json::from_str(spec)?;
    let outside = File::open("/proc/self/ns/net").context("cannot open the network namespace")?;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
        .context("cannot create the pod's namespaces")?;
    let _ = nix::unistd::sethostname(&spec.name);
    bind_files(&spec)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(configure_network(&spec, &outside))?;
    drop(runtime);
    if let Some(redirect) = &spec.redirect {
        injector_redirect::apply(&redirect.rules()?)?;
    }
    let mut out = std::io::stdout();
    out.write_all(b"ready\n")?;
    out.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(ExitCode::SUCCESS)
}

/// Mounts the pod's own files over the machine's, for this pod alone.
fn bind_files(spec: &Spec) -> Result<()> {
    let none = None::<&Path>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).context("cannot make the pod's mounts private")?;
    for (source, target) in [(&spec.hosts, "/etc/hosts"), (&spec.resolv, "/etc/resolv.conf")] {
        // A machine without a resolv.conf has nothing to hide.
        if Path::new(target).exists() {
            mount(Some(source.as_path()), target, none, MsFlags::MS_BIND, none)
                .with_context(|| format!("cannot mount the pod's own file over {target}"))?;
        }
    }
    Ok(())
}

async fn configure_network(spec: &Spec, outside: &File) -> Result<()> {
    let (connection, handle, _) = rtnetlink::new_connection().context("cannot open netlink")?;
    tokio::spawn(connection);
    // The peer is created here and moved, so that two pods that start at once cannot clash.
    let pair = LinkVeth::new("eth0", &spec.peer).build();
    handle
        .link()
        .add(pair)
        .execute()
        .await
        .context("cannot create the pod's interface")?;
    let moved = LinkUnspec::new_with_name(&spec.peer)
        .setns_by_fd(outside.as_raw_fd())
        .build();
    handle
        .link()
        .change(moved)
        .execute()
        .await
        .context("cannot move the interface's other end")?;
    for name in ["lo", "eth0"] {
        handle
            .link()
            .change(LinkUnspec::new_with_name(name).up().build())
            .execute()
            .await?;
    }
    let eth0 = index_of(&handle, "eth0").await?;
    handle
        .address()
        .add(eth0, spec.address.into(), 32)
        .execute()
        .await
        .context("cannot set the pod's address")?;
    let default = RouteMessageBuilder::<Ipv4Addr>::new()
        .output_interface(eth0)
        .gateway(GATEWAY)
        .onlink()
        .build();
    handle
        .route()
        .add(default)
        .execute()
        .await
        .context("cannot set the pod's route")?;
    Ok(())
}

/// Index of an interface in this namespace.
pub(super) async fn index_of(handle: &Handle, name: &str) -> Result<u32> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let link = links
        .try_next()
        .await
        .with_context(|| format!("cannot find the interface {name}"))?;
    Ok(link.with_context(|| format!("no interface named {name}"))?.header.index)
}
