//! Cable between the two namespaces, by netlink.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

/// Address of the client.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Address of the server.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

fn netlink() -> Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection().context("cannot open netlink")?;
    tokio::spawn(connection);
    Ok(handle)
}

/// Creates a cable whose ends, both called `eth0`, are in the namespaces of two processes.
pub(crate) async fn lay(pids: [u32; 2]) -> Result<()> {
    let handle = netlink()?;
    let names = ["bench0", "bench1"];
    handle
        .link()
        .add(LinkVeth::new(names[0], names[1]).build())
        .execute()
        .await
        .context("cannot make a veth pair")?;
    for (name, pid) in names.into_iter().zip(pids) {
        let moved = LinkUnspec::new_with_index(index_of(&handle, name).await?)
            .name("eth0".to_owned())
            .setns_by_pid(pid)
            .build();
        handle
            .link()
            .change(moved)
            .execute()
            .await
            .context("cannot move an end of the veth pair")?;
    }
    Ok(())
}

/// Brings up loopback and `eth0`, the default route.
pub(crate) async fn up(address: Ipv4Addr) -> Result<()> {
    let handle = netlink()?;
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
        .add(eth0, IpAddr::V4(address), 24)
        .execute()
        .await
        .context("cannot set the address")?;
    let default = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(eth0).build();
    handle
        .route()
        .add(default)
        .execute()
        .await
        .context("cannot set the route")?;
    Ok(())
}

async fn index_of(handle: &Handle, name: &str) -> Result<u32> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let link = links
        .try_next()
        .await?
        .with_context(|| format!("there is no interface {name}"))?;
    Ok(link.header.index)
}
