//! The supervisor's side of the pod network: one interface per pod, a route to its address, forwarding between them.

use std::{fs, net::Ipv4Addr};

use anyhow::{Context, Result};
use netlink_packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use crate::{
    plan::names::HOST,
    pod::{GATEWAY, index_of},
};

/// The supervisor's network namespace.
#[derive(Clone)]
pub(crate) struct Network {
    handle: Handle,
}

impl Network {
    /// Sets up the namespace: loopback, address, forwarding.
    pub(crate) async fn open() -> Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection().context("cannot open netlink")?;
        tokio::spawn(connection);
        let up = LinkUnspec::new_with_name("lo").up().build();
        handle
            .link()
            .change(up)
            .execute()
            .await
            .context("cannot bring loopback up")?;
        let lo = index_of(&handle, "lo").await?;
        handle
            .address()
            .add(lo, HOST.into(), 32)
            .execute()
            .await
            .context("cannot set the supervisor's address")?;
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot enable packet forwarding")?;
        Ok(Self { handle })
    }

    /// Connects a pod whose end of the interface pair is set up.
    pub(crate) async fn attach(&self, peer: &str, address: Ipv4Addr) -> Result<()> {
        let up = LinkUnspec::new_with_name(peer).up().build();
        self.handle
            .link()
            .change(up)
            .execute()
            .await
            .with_context(|| format!("cannot bring {peer} up"))?;
        let index = index_of(&self.handle, peer).await?;
        let gateway = self.handle.address().add(index, GATEWAY.into(), 32).execute().await;
        gateway.with_context(|| format!("cannot set the gateway on {peer}"))?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(address, 32)
            .output_interface(index)
            .pref_source(HOST)
            .scope(RouteScope::Link)
            .build();
        self.handle
            .route()
            .add(route)
            .execute()
            .await
            .with_context(|| format!("cannot set a route to {address}"))
    }
}
