//! The ports of the mesh, as Linkerd uses them, and sets of ports as its environment writes them.

use std::str::FromStr;

/// Where redirected traffic to the application reaches the proxy.
pub const INBOUND: u16 = 4143;
/// Where redirected traffic of the application reaches the proxy.
pub const OUTBOUND: u16 = 4140;
/// Tap.
pub const TAP: u16 = 4190;
/// Admin: `/metrics`, `/ready`, `/live`.
pub const ADMIN: u16 = 4191;
/// `Destination`.
pub const DESTINATION: u16 = 8086;
/// `InboundServerPolicies` and `OutboundPolicies`.
pub const POLICY: u16 = 8090;
/// `Identity`.
pub const IDENTITY: u16 = 8080;
/// mesh-viz: its HTTP API.
pub const VIZ: u16 = 8085;
/// Ports that are opaque unless something else is said.
pub const DEFAULT_OPAQUE: [u16; 8] = [25, 587, 3306, 4444, 5432, 6379, 9300, 11211];

/// A set of ports: single ports and inclusive ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Vec<(u16, u16)>);

/// Why a text is no [`PortSet`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a port from 1 to 65535 nor a range of such ports")]
pub struct InvalidPorts(pub String);

impl PortSet {
    /// Whether `port` is in the set.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&port))
    }

    /// The ranges, in the order they were written.
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }
}

impl FromIterator<u16> for PortSet {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> Self {
        Self(ports.into_iter().map(|p| (p, p)).collect())
    }
}

impl FromStr for PortSet {
    type Err = InvalidPorts;

    /// Reads `25,587,8000-8010`; blanks and empty items are tolerated.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let port = |t: &str| t.trim().parse::<u16>().ok().filter(|p| *p != 0);
        let item = |t: &str| {
            let (low, high) = t.split_once('-').unwrap_or((t, t));
            port(low)
                .zip(port(high))
                .filter(|(l, h)| l <= h)
                .ok_or_else(|| InvalidPorts(t.trim().to_owned()))
        };
        text.split(',')
            .filter(|t| !t.trim().is_empty())
            .map(item)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_sets_parse_or_name_the_item() {
        let set: PortSet = "25, 8000-8010,,".parse().expect("valid");
        assert!(set.contains(25) && set.contains(8005) && !set.contains(26));
        assert_eq!("1,70000".parse::<PortSet>(), Err(InvalidPorts("70000".into())));
        assert_eq!("9-8".parse::<PortSet>(), Err(InvalidPorts("9-8".into())));
    }
}
