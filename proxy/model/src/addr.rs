//! Addresses whose meaning is in their type, so that a client's address is never taken for a server's.

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc};

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub SocketAddr);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

address! {
    /// The peer's address of an accepted connection.
    ClientAddr
}
address! {
    /// The address that the proxy connects to.
    ServerAddr
}
address! {
    /// The address that the client dialed, before redirection.
    OrigDstAddr
}

/// `host:port` as discovery names it. The host is lower case and without a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority {
    host: Arc<str>,
    port: u16,
}

/// Error for a text that is not an [`Authority`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAuthority {
    /// There is no host before the port.
    #[error("invalid authority {0:?}: missing host")]
    NoHost(String),
    /// The host has colons and is not in brackets, or has other brackets.
    #[error("invalid authority {0:?}: host must be a name or an address in brackets")]
    BadHost(String),
    /// The port is missing, 0 or not a number.
    #[error("invalid authority {0:?}: port must be from 1 to 65535")]
    BadPort(String),
}

impl Authority {
    /// Makes an authority from a host and a port; the host is normalised.
    pub fn new(host: &str, port: u16) -> Self {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        Self {
            host: host.into(),
            port,
        }
    }

    /// Parses `host[:port]`; a missing port is `default_port`.
    pub fn parse_or_port(text: &str, default_port: u16) -> Result<Self, InvalidAuthority> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') => (host, port.parse().ok().filter(|port| *port != 0)),
            _ => (text, Some(default_port)),
        };
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if bare.unwrap_or(host).contains(['[', ']']) || (bare.is_none() && host.contains(':')) {
            return Err(InvalidAuthority::BadHost(text.to_owned()));
        }
        let port = port.ok_or_else(|| InvalidAuthority::BadPort(text.to_owned()))?;
        if host.trim_end_matches('.').is_empty() {
            return Err(InvalidAuthority::NoHost(text.to_owned()));
        }
        Ok(Self::new(host, port))
    }

    /// The host, lower case, without a trailing dot.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for Authority {
    type Err = InvalidAuthority;

    /// Parses `host:port`; the port is required.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // No text spells 0: it stands for a missing port.
        let authority = Self::parse_or_port(text, 0)?;
        if authority.port == 0 {
            return Err(InvalidAuthority::BadPort(text.to_owned()));
        }
        Ok(authority)
    }
}

/// Name of an outbound lookup: the original destination, or an authority (ingress, gateway).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OutboundTarget {
    /// The original destination of a connection.
    Addr(SocketAddr),
    /// A name, as ingresses and gateways look it up.
    Authority(Authority),
}

impl fmt::Display for OutboundTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => addr.fmt(f),
            Self::Authority(authority) => authority.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_normalised_or_rejected_with_a_reason() {
        let a: Authority = "Web.NS.svc.cluster.local.:80".parse().expect("valid");
        assert_eq!((a.host(), a.port()), ("web.ns.svc.cluster.local", 80));
        assert_eq!(
            Authority::parse_or_port("web", 80).expect("valid").to_string(),
            "web:80"
        );
        assert!(matches!("web".parse::<Authority>(), Err(InvalidAuthority::BadPort(_))));
        assert!(matches!(
            "web:0".parse::<Authority>(),
            Err(InvalidAuthority::BadPort(_))
        ));
        assert!(matches!(":80".parse::<Authority>(), Err(InvalidAuthority::NoHost(_))));
        assert!(matches!(
            "[::1]".parse::<Authority>(),
            Err(InvalidAuthority::BadPort(_))
        ));
        for bad in ["::1:80", "p:80]:80", "[::1]:80]", "[[::1]]:80", "p]"] {
            let error = Authority::parse_or_port(bad, 80);
            assert!(matches!(error, Err(InvalidAuthority::BadHost(_))), "{bad}: {error:?}");
        }
        let literal: Authority = "[::1]:80".parse().expect("valid");
        assert_eq!((literal.host(), literal.port()), ("[::1]", 80));
    }
}
