//! Ports of the mesh's programs, as Linkerd has them, and sets of ports, as its environment spells them.

use std::str::FromStr;

/// Proxy: the application's traffic, redirected.
pub const OUTBOUND: u16 = 4140;
/// Proxy: traffic to the application, redirected.
pub const INBOUND: u16 = 4143;
/// Proxy: tap.
pub const TAP: u16 = 4190;
/// Proxy: admin.
pub const ADMIN: u16 = 4191;
/// mesh-identity: `Identity`.
pub const IDENTITY: u16 = 8080;
/// mesh-viz: HTTP API.
pub const VIZ: u16 = 8085;
/// mesh-destination: `Destination`.
pub const DESTINATION: u16 = 8086;
/// mesh-viz: aggregated API `tap.linkerd.io`.
pub const VIZ_EXTENSION: u16 = 8089;
/// mesh-destination: `InboundServerPolicies` and `OutboundPolicies`.
pub const POLICY: u16 = 8090;
/// mesh-injector: webhooks.
pub const INJECTOR: u16 = 8443;
/// mesh-identity: admin.
pub const IDENTITY_ADMIN: u16 = 9990;
/// mesh-cni, on the node's network: admin.
pub const CNI_ADMIN: u16 = 9990;
/// mesh-viz: admin.
pub const VIZ_ADMIN: u16 = 9994;
/// mesh-injector: admin.
pub const INJECTOR_ADMIN: u16 = 9995;
/// mesh-destination: admin.
pub const DESTINATION_ADMIN: u16 = 9996;

/// All ports that programs of the mesh listen on, with the program and its purpose, by number.
pub const ALL: [(u16, &str, &str); 15] = [
    (OUTBOUND, "mesh-proxy", "outbound"),
    (INBOUND, "mesh-proxy", "inbound"),
    (TAP, "mesh-proxy", "tap"),
    (ADMIN, "mesh-proxy", "admin"),
    (IDENTITY, "mesh-identity", "identity"),
    (VIZ, "mesh-viz", "api"),
    (DESTINATION, "mesh-destination", "destination"),
    (VIZ_EXTENSION, "mesh-viz", "aggregated API"),
    (POLICY, "mesh-destination", "policy"),
    (INJECTOR, "mesh-injector", "webhooks"),
    (CNI_ADMIN, "mesh-cni", "admin"),
    (IDENTITY_ADMIN, "mesh-identity", "admin"),
    (VIZ_ADMIN, "mesh-viz", "admin"),
    (INJECTOR_ADMIN, "mesh-injector", "admin"),
    (DESTINATION_ADMIN, "mesh-destination", "admin"),
];

/// Ports that are opaque by default: protocols in which the server speaks first.
pub const DEFAULT_OPAQUE: [u16; 8] = [25, 587, 3306, 4444, 5432, 6379, 9300, 11211];
/// [`DEFAULT_OPAQUE`], as flags and annotations spell it.
pub const DEFAULT_OPAQUE_TEXT: &str = "25,587,3306,4444,5432,6379,9300,11211";
/// Ports that redirection leaves alone in both directions by default.
pub const DEFAULT_SKIPPED: &str = "4567,4568";

/// A set of ports: single ports and inclusive ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Vec<(u16, u16)>);

/// Error for a text that is not a [`PortSet`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid ports {0:?}: must be a port from 1 to 65535 or a range of such ports")]
pub struct InvalidPorts(pub String);

impl PortSet {
    /// Returns true if `port` is in the set.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&port))
    }

    /// Ranges, in the order of the text.
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }
}

impl FromIterator<u16> for PortSet {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> Self {
        Self(ports.into_iter().map(|p| (p, p)).collect())
    }
}

impl FromIterator<(u16, u16)> for PortSet {
    fn from_iter<I: IntoIterator<Item = (u16, u16)>>(ranges: I) -> Self {
        Self(ranges.into_iter().collect())
    }
}

impl FromStr for PortSet {
    type Err = InvalidPorts;

    /// Parses `25,587,8000-8010`; blanks and empty items are ignored.
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
    fn ports_are_listed_once_each_and_in_order() {
        assert!(ALL.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1)));
    }

    #[test]
    fn opaque_ports_read_as_they_are_written() {
        let set: PortSet = DEFAULT_OPAQUE_TEXT.parse().expect("valid");
        assert_eq!(set, DEFAULT_OPAQUE.into_iter().collect());
    }

    #[test]
    fn port_sets_parse_or_name_the_item() {
        let set: PortSet = "25, 8000-8010,,".parse().expect("valid");
        assert!(set.contains(25) && set.contains(8005) && !set.contains(26));
        assert_eq!("1,70000".parse::<PortSet>(), Err(InvalidPorts("70000".into())));
        assert_eq!("9-8".parse::<PortSet>(), Err(InvalidPorts("9-8".into())));
    }
}
