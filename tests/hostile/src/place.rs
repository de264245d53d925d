//! The network of a row: the pod's address, clients with any address of 10.77.0.0/16, and redirection. Everything is
//! on loopback of one namespace; a mark tells the kernel which connections come from outside the pod.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result};
use injector_redirect::{
    Rules, apply,
    nft::{self, Chain, Expr, Hook, Kind, Table},
};
use proxy_model::ports;
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tests_harness::sidecar::MARK;

/// Address of the pod.
pub const POD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Address of the attacker.
pub const ATTACKER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 66);
/// Address of a well-behaved client.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
/// Address of the kubelet.
pub const KUBELET: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 4);
/// Address of an endpoint outside of the pod.
pub const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 5);
/// Address of the Service that the pod's application calls.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Port of an application that an attack itself starts, and of the same Service.
pub const RECORDER_PORT: u16 = 9010;
/// Mark of sockets outside the pod.
pub const OUTSIDE: u32 = 77;

/// Brings up loopback in the namespace of the calling thread, which is all that the control plane needs.
pub async fn loopback() -> Result<()> {
    let lo = LinkUnspec::new_with_name("lo").up().build();
    netlink()?.link().change(lo).execute().await?;
    Ok(())
}

fn netlink() -> Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection().context("cannot open netlink")?;
    tokio::spawn(connection);
    Ok(handle)
}

/// Sets up the namespace of the calling thread for a pod.
pub async fn up() -> Result<()> {
    loopback().await?;
    let handle = netlink()?;
    let cable = LinkVeth::new("eth0", "eth1").build();
    handle.link().add(cable).execute().await?;
    for name in ["eth0", "eth1"] {
        let up = LinkUnspec::new_with_name(name).up().build();
        handle.link().change(up).execute().await?;
    }
    address_and_route(&handle).await?;
    let rules = Rules {
        mark: Some(MARK),
        ..Rules::default()
    };
    apply(&rules)?;
    nft::replace(&from_outside())?;
    // Short connections take many ports.
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "10240 65000").context("cannot set the range of ports")?;
    Ok(())
}

async fn address_and_route(handle: &Handle) -> Result<()> {
    const LO: u32 = 1;
    let own = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));
    handle.address().add(LO, own, 16).execute().await?;
    let eth0 = index(c"eth0")?;
    let default = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(eth0).build();
    handle.route().add(default).execute().await?;
    Ok(())
}

fn index(name: &std::ffi::CStr) -> Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

/// Redirects marked connections as those of other pods are.
fn from_outside() -> Table {
    let own = [ports::TAP, ports::ADMIN].map(|port| vec![Expr::Tcp, Expr::DestinationPort(port, port), Expr::Return]);
    let marked = vec![Expr::Mark(OUTSIDE), Expr::Tcp, Expr::Redirect(ports::INBOUND)];
    Table {
        name: "mesh-hostile".to_owned(),
        sets: Vec::new(),
        chains: vec![Chain {
            name: "outside".to_owned(),
            hook: Hook::Output,
            kind: Kind::DestinationNat,
            rules: own.into_iter().chain([marked]).collect(),
        }],
    }
}
