//! Grammars of values.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;
use proxy_model::{Id, duration, ports::PortSet};

/// A service's address: a name or an IP, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    /// As written; with a trailing dot, the resolver's search list is not used.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl HostPort {
    /// Returns true for this host, which needs neither TLS nor a resolver.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host.trim_end_matches('.');
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is not HOST:PORT");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

pub(crate) fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

pub(crate) fn path(text: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(text))
}

/// A file that can be read and is not empty.
pub(crate) fn token_file(text: &str) -> Result<PathBuf, String> {
    match std::fs::read(text) {
        Ok(bytes) if bytes.is_empty() => Err(format!("the file {text} is empty")),
        Ok(_) => Ok(PathBuf::from(text)),
        Err(error) => Err(format!("cannot read {text}: {error}")),
    }
}

pub(crate) fn id(text: &str) -> Result<Id, String> {
    text.trim().parse::<Id>().map_err(|error| error.to_string())
}

pub(crate) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("{text:?} is not a number, or is out of range"))
}

pub(crate) fn ratio(text: &str) -> Result<f64, String> {
    number(text).and_then(|ratio: f64| {
        if ratio > 0.0 {
            Ok(ratio)
        } else {
            Err(format!("{text:?} is not above 0"))
        }
    })
}

pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// An unsigned integer and one of ms, s, m, h, d; only 0 needs no unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    duration::linkerd(text).ok_or_else(|| format!("{text:?} is not a duration such as 100ms, 3s, 5m, 1h or 1d"))
}

pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is not IP:PORT"))
}

/// One or two addresses.
pub(crate) fn addresses(text: &str) -> Result<Vec<SocketAddr>, String> {
    let all: Vec<_> = list(text, address)?;
    if all.is_empty() || all.len() > 2 {
        return Err(format!("{text:?} is not one or two addresses"));
    }
    Ok(all)
}

pub(crate) fn ips(text: &str) -> Result<Vec<IpAddr>, String> {
    list(text, |item| {
        item.parse().map_err(|_| format!("{item:?} is not an IP address"))
    })
}

pub(crate) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    list(text, |item| {
        item.parse()
            .map_err(|_| format!("{item:?} is not a network such as 10.0.0.0/8"))
    })
}

pub(crate) fn ports(text: &str) -> Result<PortSet, String> {
    text.parse::<PortSet>().map_err(|error| error.to_string())
}

fn list<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(parse)
        .collect()
}
