//! Traffic redirection: how a pod's traffic comes to pass through its sidecar.
//!
//! [`Rules`] say in the mesh's words what is redirected; [`Rules::table`] writes them as an nftables table ([`nft`]), and
//! [`apply`] puts that table into the network namespace of the calling thread, by netlink, without any program on the
//! machine. The order of the rules is Linkerd's, so that skip ports and loopback mean the same.

pub mod nft;

use ipnet::IpNet;
use nft::{Chain, Expr, Hook, Kind, Table};
use proxy_model::ports::{self, PortSet};

pub use nft::Error;

/// Name of the table that [`apply`] makes and [`remove`] takes away.
pub const TABLE: &str = "mesh-redirect";

/// What is redirected to the sidecar, and what is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Where the sidecar accepts what comes to the pod.
    pub inbound_port: u16,
    /// Where the sidecar accepts what the application sends.
    pub outbound_port: u16,
    /// Ports of the pod that bypass the sidecar; the sidecar's own (tap, admin) always do.
    pub inbound_skip: PortSet,
    /// Ports elsewhere that the application reaches without the sidecar.
    pub outbound_skip: PortSet,
    /// Networks whose clients reach the application without the sidecar.
    pub inbound_skip_from: Vec<IpNet>,
    /// The only ports of the pod that are redirected; all if none are listed.
    pub inbound_only: PortSet,
    /// The user that the sidecar runs as; what it sends is left alone.
    pub proxy_uid: Option<u32>,
    /// The group that the sidecar runs as; what it sends is left alone.
    pub proxy_gid: Option<u32>,
    /// Whether IPv6 is redirected too.
    pub ipv6: bool,
    /// The mark on the sidecar's sockets; what it sends is left alone. For places where it has no user of its own.
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
    /// The rules as an nftables table, for IPv4 and IPv6.
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

/// Puts the rules into the calling thread's network namespace. Applying again replaces what was there, in one transaction.
#[cfg(target_os = "linux")]
pub fn apply(rules: &Rules) -> Result<(), Error> {
    nft::replace(&rules.table())
}

/// Takes the rules out of the calling thread's network namespace; it is no fault if there are none.
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
    fn inbound_skips_the_proxys_own_ports_before_anything_is_redirected() {
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
    fn listed_ports_are_the_only_ones_and_networks_are_passed_first() {
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
