//! Tables as text, close to the output of `nft`; for display only.

use std::fmt::{Display, Formatter, Result};

use super::{Expr, Table};

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "table inet {} {{", self.name)?;
        for chain in &self.chains {
            writeln!(f, "  chain {} {{ # {:?} at {:?}", chain.name, chain.kind, chain.hook)?;
            for rule in &chain.rules {
                let words: Vec<_> = rule.iter().map(ToString::to_string).collect();
                writeln!(f, "    {}", words.join(" "))?;
            }
            writeln!(f, "  }}")?;
        }
        writeln!(f, "}}")
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Tcp => write!(f, "meta l4proto tcp"),
            Self::Udp => write!(f, "meta l4proto udp"),
            Self::Mark(mark) => write!(f, "meta mark {mark}"),
            Self::SocketUid(uid) => write!(f, "meta skuid {uid}"),
            Self::SocketGid(gid) => write!(f, "meta skgid {gid}"),
            Self::Ipv4 => write!(f, "meta nfproto ipv4"),
            Self::SourceNet(net) => write!(f, "ip saddr {net}"),
            Self::OutInterface(name) => write!(f, "oifname {name}"),
            Self::DestinationPort(low, high) if low == high => write!(f, "th dport {low}"),
            Self::DestinationPort(low, high) => write!(f, "th dport {low}-{high}"),
            Self::Source(address) => write!(f, "ip saddr {address}"),
            Self::Destination(address) => write!(f, "ip daddr {address}"),
            Self::DestinationNet(address, bits) => write!(f, "ip daddr {address}/{bits}"),
            Self::DestinationNotIn(set) => write!(f, "ip daddr != @{set}"),
            Self::OneOf(count) => write!(f, "numgen random mod {count} 0"),
            Self::Redirect(port) => write!(f, "redirect to :{port}"),
            Self::DestinationNat(to) => write!(f, "dnat to {to}"),
            Self::Masquerade => write!(f, "masquerade"),
            Self::Reset => write!(f, "reject with tcp reset"),
            Self::Return => write!(f, "return"),
        }
    }
}
