//! The supervisor's side of the pod network: one interface per pod, a route to its address, forwarding between them.

use std::{collections::BTreeSet, fs, net::Ipv4Addr};

use anyhow::{Context, Result};
use netlink_packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use crate::pod::{GATEWAY, index_of};

/// The supervisor's address, the source of probes.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 1);
/// First pod address, and number of addresses: the rest of 10.42.0.0/16.
const FIRST_POD: u32 = u32::from_be_bytes([10, 42, 0, 2]);
const PODS: u32 = 65_000;

/// The supervisor's network namespace.
#[derive(Clone)]
pub(super) struct Network {
    handle: Handle,
}

impl Network {
    /// Sets up the namespace: loopback, address, forwarding.
    pub(super) async fn open() -> Result<Self> {
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
    pub(super) async fn attach(&self, peer: &str, address: Ipv4Addr) -> Result<()> {
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

/// Allocator of pod addresses. A released address is reused as late as possible, so that a client that still uses the
/// address of the old pod does not reach a new one.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    next: u32,
    used: BTreeSet<Ipv4Addr>,
}

impl Addresses {
    /// Takes a free address; `None` if all are in use.
    pub(super) fn take(&mut self) -> Option<Ipv4Addr> {
        for _ in 0..PODS {
            let address = Ipv4Addr::from(FIRST_POD + self.next % PODS);
            self.next = self.next.wrapping_add(1);
            if self.used.insert(address) {
                return Some(address);
            }
        }
        None
    }

    /// Releases an address.
    pub(super) fn release(&mut self, address: Ipv4Addr) {
        self.used.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_addresses_are_reused_last() {
        let mut addresses = Addresses::default();
        let first = addresses.take().expect("free");
        addresses.release(first);
        let second = addresses.take().expect("free");
        assert_ne!(first, second);
        assert_eq!(
            (first, second),
            (Ipv4Addr::new(10, 42, 0, 2), Ipv4Addr::new(10, 42, 0, 3))
        );
    }
}
