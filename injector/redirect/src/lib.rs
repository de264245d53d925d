//! Traffic redirection: sends a pod's traffic through its sidecar.
//!
//! [`Rules`] describe the redirection in the mesh's terms; [`Rules::table`] turns them into an nftables table
//! ([`nft`]), and `apply` installs that table in the network namespace of the calling thread, by netlink, without any
//! program on the machine. The order of the rules is Linkerd's, so that skip ports and loopback mean the same. The
//! crate knows no pods and no Kubernetes; rules are data on every system, and only Linux can apply them.

pub mod nft;

use ipnet::IpNet;
use nft::{Chain, Expr, Hook, Kind, Table};
use proxy_model::ports::{self, PortSet};

pub use nft::Error;

/// Name of the nftables table.
pub const TABLE: &str = "mesh-redirect";

/// Redirection of a pod's traffic to its sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Inbound port of the sidecar.
    pub inbound_port: u16,
    /// Outbound port of the sidecar.
    pub outbound_port: u16,
    /// Inbound skip ports; the default ports of tap and admin always bypass.
    pub inbound_skip: PortSet,
    /// Outbound skip ports.
    pub outbound_skip: PortSet,
    /// Client networks that bypass the sidecar.
    pub inbound_skip_from: Vec<IpNet>,
    /// The only inbound ports to redirect; empty means all.
    pub inbound_only: PortSet,
    /// User ID of the sidecar, whose traffic is not redirected.
    pub proxy_uid: Option<u32>,
    /// Group ID of the sidecar, whose traffic is not redirected.
    pub proxy_gid: Option<u32>,
    /// Redirects IPv6 as well.
    pub ipv6: bool,
    /// Mark of the sidecar's sockets, whose traffic is not redirected; where the sidecar has no user of its own.
    pub mark: Option<u32>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            inbound_port: ports::INBOUND,
            outbound_port: ports::OUTBOUND,
            inbound_skip: PortSet::default(),
            outbound_skip: PortSet::default(),
            inbound_skip_from: Vec::new(),
            inbound_only: PortSet::default(),
            proxy_uid: None,
            proxy_gid: None,
            ipv6: true,
            mark: None,
        }
    }
}

impl Rules {
    /// Returns the rules as an nftables table, for IPv4 and IPv6.
    pub fn table(&self) -> Table {
        Table {
            name: TABLE.to_owned(),
            sets: Vec::new(),
            chains: vec![self.inbound(), self.outbound()],
        }
    }

    fn inbound(&self) -> Chain {
        let own = [(ports::TAP, ports::TAP), (ports::ADMIN, ports::ADMIN)];
        let mut rules = skips(own.iter().chain(self.inbound_skip.ranges()));
        let from = self.inbound_skip_from.iter();
        rules.extend(from.map(|net| vec![Expr::SourceNet(*net), Expr::Return]));
        let listed = self.inbound_only.ranges();
        rules.extend(listed.iter().map(|(low, high)| {
            let port = Expr::DestinationPort(*low, *high);
            self.redirect(vec![Expr::Tcp, port], self.inbound_port)
        }));
        if listed.is_empty() {
            rules.push(self.redirect(vec![Expr::Tcp], self.inbound_port));
        }
        Chain {
            name: "inbound".to_owned(),
            hook: Hook::PreRouting,
            kind: Kind::DestinationNat,
            rules,
        }
    }

    fn outbound(&self) -> Chain {
        let mut rules = Vec::new();
        rules.extend(self.mark.map(|mark| vec![Expr::Mark(mark), Expr::Return]));
        rules.extend(self.proxy_uid.map(|uid| vec![Expr::SocketUid(uid), Expr::Return]));
        rules.extend(self.proxy_gid.map(|gid| vec![Expr::SocketGid(gid), Expr::Return]));
        rules.push(vec![Expr::OutInterface("lo".to_owned()), Expr::Return]);
        rules.extend(skips(self.outbound_skip.ranges().iter()));
        rules.push(self.redirect(vec![Expr::Tcp], self.outbound_port));
        Chain {
            name: "outbound".to_owned(),
            hook: Hook::Output,
            kind: Kind::DestinationNat,
            rules,
        }
    }

    fn redirect(&self, mut matches: nft::Rule, port: u16) -> nft::Rule {
        if !self.ipv6 {
            matches.insert(0, Expr::Ipv4);
        }
        matches.push(Expr::Redirect(port));
        matches
    }
}

/// Installs the rules in the calling thread's network namespace; replaces earlier ones in one transaction.
#[cfg(target_os = "linux")]
pub fn apply(rules: &Rules) -> Result<(), Error> {
    nft::replace(&rules.table())
}

/// Removes the rules from the calling thread's network namespace, if there are any.
#[cfg(target_os = "linux")]
pub fn remove() -> Result<(), Error> {
    nft::remove(TABLE)
}

fn skips<'a>(ranges: impl Iterator<Item = &'a (u16, u16)>) -> Vec<nft::Rule> {
    ranges
        .map(|(low, high)| vec![Expr::Tcp, Expr::DestinationPort(*low, *high), Expr::Return])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inbound_skips_the_proxys_own_ports_first() {
        let rules = Rules {
            inbound_skip: "25,8000-8010".parse().expect("ports"),
            ..Rules::default()
        };
        let chain = &rules.table().chains[0];
        assert_eq!(chain.hook, Hook::PreRouting);
        let skipped: Vec<_> = chain.rules.iter().map(|rule| rule[1].clone()).collect();
        assert_eq!(
            skipped,
            [
                Expr::DestinationPort(4190, 4190),
                Expr::DestinationPort(4191, 4191),
                Expr::DestinationPort(25, 25),
                Expr::DestinationPort(8000, 8010),
                Expr::Redirect(4143),
            ]
        );
    }

    #[test]
    fn redirects_only_listed_ports_after_skipped_networks() {
        let rules = Rules {
            inbound_skip_from: vec!["10.0.0.0/9".parse().expect("network")],
            inbound_only: "80,90-91".parse().expect("ports"),
            proxy_gid: Some(5),
            ipv6: false,
            ..Rules::default()
        };
        let table = rules.table();
        let tail: Vec<_> = table.chains[0].rules[2..].to_vec();
        let redirect = |low, high| {
            let port = Expr::DestinationPort(low, high);
            vec![Expr::Ipv4, Expr::Tcp, port, Expr::Redirect(4143)]
        };
        let from = vec![Expr::SourceNet(rules.inbound_skip_from[0]), Expr::Return];
        assert_eq!(tail, [from, redirect(80, 80), redirect(90, 91)]);
        assert_eq!(table.chains[1].rules[0], [Expr::SocketGid(5), Expr::Return]);
    }

    #[test]
    fn outbound_exempts_the_proxy_then_loopback_then_skip_ports() {
        let rules = Rules {
            mark: Some(7),
            proxy_uid: Some(2102),
            outbound_skip: "4567".parse().expect("ports"),
            ..Rules::default()
        };
        let firsts: Vec<_> = rules.table().chains[1]
            .rules
            .iter()
            .map(|rule| rule[0].clone())
            .collect();
        let loopback = Expr::OutInterface("lo".into());
        assert_eq!(
            firsts,
            [Expr::Mark(7), Expr::SocketUid(2102), loopback, Expr::Tcp, Expr::Tcp]
        );
        assert_eq!(rules.table().chains[1].rules[4][1], Expr::Redirect(4140));
    }
}
