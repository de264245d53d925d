//! A small nftables client: tables as data, installed in one transaction.
//!
//! Limited to the mesh's needs: IPv4 and IPv6 in one `inet` table, base chains, and rules that are lists of matches
//! followed by an action. `encode` writes a rule as netlink expressions (raw attributes for those that the packet crate
//! lacks), `transaction` sends the batch and waits for the kernel's verdict.

#[cfg(target_os = "linux")]
mod encode;
mod text;
#[cfg(target_os = "linux")]
mod transaction;

use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::IpNet;

/// Largest transaction, in bytes. It must fit the socket's send buffer, 208 KiB by default; room for about 500 rules.
pub const TRANSACTION_BYTES: usize = 200 * 1024;

/// Error of a transaction.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A failure of the netlink socket.
    #[error("cannot reach the kernel's nftables: {0}")]
    Socket(#[from] std::io::Error),
    /// A transaction that the kernel rejected.
    #[error("the kernel rejected the rules of table {table:?}: {source}")]
    Refused {
        /// Table.
        table: String,
        /// Cause, from the kernel.
        source: std::io::Error,
    },
    /// No answer from the kernel.
    #[error("no answer from the kernel's nftables")]
    NoAnswer,
    /// A transaction above the limit.
    #[error("the rules of table {table:?} take {bytes} bytes, more than the {TRANSACTION_BYTES} of one transaction")]
    TooLarge {
        /// Table.
        table: String,
        /// Size.
        bytes: usize,
    },
}

/// Table: replaced or removed as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Name.
    pub name: String,
    /// Address sets that rules refer to.
    pub sets: Vec<AddressSet>,
    /// Chains.
    pub chains: Vec<Chain>,
}

/// Named set of IPv4 addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSet {
    /// Name.
    pub name: String,
    /// Addresses.
    pub addresses: Vec<Ipv4Addr>,
}

/// Base chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Name.
    pub name: String,
    /// Hook.
    pub hook: Hook,
    /// Kind, which also orders chains of the same hook.
    pub kind: Kind,
    /// Rules, in order.
    pub rules: Vec<Rule>,
}

/// Matches followed by an action; a failed match ends the rule.
pub type Rule = Vec<Expr>;

/// Hook of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Incoming packets, before routing.
    PreRouting,
    /// Packets that this namespace sends.
    Output,
    /// Outgoing packets, after routing.
    PostRouting,
}

/// Kind of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Destination NAT; sees the first packet of a connection.
    DestinationNat,
    /// Source NAT; sees the first packet of a connection.
    SourceNat,
    /// Filter after destination NAT; sees every packet.
    Filter,
}

/// One match or action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Matches TCP.
    Tcp,
    /// Matches UDP.
    Udp,
    /// Matches the socket's mark.
    Mark(u32),
    /// Matches the socket's user ID.
    SocketUid(u32),
    /// Matches the socket's group ID.
    SocketGid(u32),
    /// Matches IPv4.
    Ipv4,
    /// Matches the source network, of either family.
    SourceNet(IpNet),
    /// Matches the outgoing interface.
    OutInterface(String),
    /// Matches an inclusive range of destination ports; follows [`Expr::Tcp`] or [`Expr::Udp`].
    DestinationPort(u16, u16),
    /// Matches the IPv4 source address.
    Source(Ipv4Addr),
    /// Matches the IPv4 destination address.
    Destination(Ipv4Addr),
    /// Matches the IPv4 destination network; the prefix is whole bytes (8, 16 or 24).
    DestinationNet(Ipv4Addr, u8),
    /// Matches IPv4 destinations outside a set, by its index in [`Table::sets`].
    DestinationNotIn(usize),
    /// Matches one of so many packets at random.
    OneOf(u32),
    /// Redirects to a local port.
    Redirect(u16),
    /// Rewrites the destination.
    DestinationNat(SocketAddrV4),
    /// Rewrites the source to an address of the outgoing interface.
    Masquerade,
    /// Rejects with a TCP reset.
    Reset,
    /// Ends the chain; the packet passes.
    Return,
}

/// Replaces a table in one transaction: no packet sees an intermediate state.
#[cfg(target_os = "linux")]
pub fn replace(table: &Table) -> Result<(), Error> {
    transaction::commit(&table.name, encode::replace(table))
}

/// Removes a table if it exists.
#[cfg(target_os = "linux")]
pub fn remove(name: &str) -> Result<(), Error> {
    transaction::commit(name, encode::remove(name))
}
