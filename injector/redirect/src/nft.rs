//! A small nftables: tables as data, put into the kernel in one transaction.
//!
//! Only what the mesh needs: IPv4 and IPv6 in one `inet` table, base chains, and rules that are lists of matches ended by
//! what to do. [`encode`] writes a rule as netlink expressions (the packet crate lacks some: they are written as raw
//! attributes there), [`transaction`] sends the batch and waits for the kernel's verdict.

#[cfg(target_os = "linux")]
mod encode;
mod text;
#[cfg(target_os = "linux")]
mod transaction;

use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::IpNet;

/// Largest transaction, in bytes. The kernel takes one in a single message that must fit the socket's send buffer, whose
/// default is 208 KiB; this is room for about 500 rules.
pub const TRANSACTION_BYTES: usize = 200 * 1024;

/// Why a table could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The netlink socket failed.
    #[error("cannot talk to the kernel's nftables: {0}")]
    Socket(#[from] std::io::Error),
    /// The kernel refused the transaction.
    #[error("the kernel refused the traffic rules of table {table:?}: {source}")]
    Refused {
        /// The table that was to be changed.
        table: String,
        /// The kernel's reason.
        source: std::io::Error,
    },
    /// The kernel said nothing.
    #[error("the kernel's nftables gave no answer")]
    NoAnswer,
    /// The transaction is larger than the kernel takes.
    #[error(
        "the traffic rules of table {table:?} take {bytes} bytes, more than the {TRANSACTION_BYTES} of one transaction"
    )]
    TooLarge {
        /// The table that was to be changed.
        table: String,
        /// What it takes.
        bytes: usize,
    },
}

/// A table: what is replaced or removed as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Sets of addresses that rules look into.
    pub sets: Vec<AddressSet>,
    /// Its chains.
    pub chains: Vec<Chain>,
}

/// A named set of IPv4 addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSet {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub addresses: Vec<Ipv4Addr>,
}

/// A chain that the kernel enters by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where packets enter it.
    pub hook: Hook,
    /// What it may do, and so its order among others of the same hook.
    pub kind: Kind,
    /// Its rules, first match first.
    pub rules: Vec<Rule>,
}

/// Matches, then what to do; a match that fails ends the rule.
pub type Rule = Vec<Expr>;

/// Where packets enter a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Everything that comes in, before it is routed.
    PreRouting,
    /// What this namespace sends.
    Output,
    /// Everything that goes out, after it is routed.
    PostRouting,
}

/// What a chain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Changes destinations; sees the first packet of a connection.
    DestinationNat,
    /// Changes sources; sees the first packet of a connection.
    SourceNat,
    /// Lets pass or refuses, after destinations were changed; sees every packet.
    Filter,
}

/// One match or one thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// It is TCP.
    Tcp,
    /// It is UDP.
    Udp,
    /// Its socket carries this mark.
    Mark(u32),
    /// Its socket belongs to this user.
    SocketUid(u32),
    /// Its socket belongs to this group.
    SocketGid(u32),
    /// It is IPv4.
    Ipv4,
    /// It comes from this network, of either family.
    SourceNet(IpNet),
    /// It leaves by this interface.
    OutInterface(String),
    /// Its destination port is in this inclusive range; follows [`Expr::Tcp`] or [`Expr::Udp`].
    DestinationPort(u16, u16),
    /// It is IPv4 and comes from this address.
    Source(Ipv4Addr),
    /// It is IPv4 and goes to this address.
    Destination(Ipv4Addr),
    /// It is IPv4 and goes into this network, whose prefix is whole bytes (8, 16 or 24).
    DestinationNet(Ipv4Addr, u8),
    /// It is IPv4 and its destination is not in this set of the same table; the set's place in [`Table::sets`].
    DestinationNotIn(usize),
    /// Passes one of so many packets, at random.
    OneOf(u32),
    /// Its destination becomes this port of this machine.
    Redirect(u16),
    /// Its destination becomes this.
    DestinationNat(SocketAddrV4),
    /// Its source becomes an address of the interface it leaves by.
    Masquerade,
    /// It is refused with a TCP reset.
    Reset,
    /// The chain ends here, and the packet passes.
    Return,
}

/// Replaces a table with this one, in one transaction: no packet sees a state between.
#[cfg(target_os = "linux")]
pub fn replace(table: &Table) -> Result<(), Error> {
    transaction::commit(&table.name, encode::replace(table))
}

/// Removes a table if it is there.
#[cfg(target_os = "linux")]
pub fn remove(name: &str) -> Result<(), Error> {
    transaction::commit(name, encode::remove(name))
}
