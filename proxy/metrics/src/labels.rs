//! Label sets, each with its labels in the order in which upstream prints them.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use proxy_model::{Id, Meta, limits, tap::Direction};

use crate::names::label;

/// Value of a label in place of one that a client chose.
pub const OTHER: &str = "other";

/// Address of an application, as labels; parts that a client chose are `other`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Target {
    ip: Option<IpAddr>,
    port: Option<u16>,
}

impl Target {
    /// Address of which nothing is known.
    pub const UNKNOWN: Self = Self { ip: None, port: None };

    /// Address with a port only if the workload declares it.
    pub fn declared(addr: SocketAddr, is_declared: bool) -> Self {
        let port = is_declared.then_some(addr.port());
        Self {
            ip: Some(addr.ip()),
            port,
        }
    }

    /// Port, if the workload declares it.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl From<SocketAddr> for Target {
    fn from(addr: SocketAddr) -> Self {
        Self::declared(addr, true)
    }
}

/// Protection of a connection, as labels.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Tls<'a> {
    /// Mesh TLS to this server.
    Server(&'a Id),
    /// Mesh TLS from this client; none if it showed no leaf.
    Client(Option<&'a Id>),
    /// TLS of the application's own, with this SNI if the policy knows it.
    Opaque(Option<&'a str>),
    /// No TLS, for this reason.
    None(NoTls),
}

/// Reason for a connection without TLS.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NoTls {
    /// The peer is this workload itself.
    Loopback,
    /// Discovery gave no identity.
    NotProvidedByServiceDiscovery,
    /// The client does not use TLS.
    NoTlsFromRemote,
    /// TLS is not detected at this port.
    PortSkipped,
    /// An ingress sent the request to its original destination.
    IngressWithoutOverride,
}

impl NoTls {
    /// Value of the label `no_tls_reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::NotProvidedByServiceDiscovery => "not_provided_by_service_discovery",
            Self::NoTlsFromRemote => "no_tls_from_remote",
            Self::PortSkipped => "port_skipped",
            Self::IngressWithoutOverride => "ingress_without_override",
        }
    }
}

/// Labels of an outbound endpoint.
#[derive(Copy, Clone, Debug)]
pub struct OutboundLabels<'a> {
    /// `name` or `name:port` (port 80 left out); none for targets without a name.
    pub authority: Option<&'a str>,
    /// Endpoint and port of the application, never the sidecar's.
    pub target: SocketAddr,
    /// TLS.
    pub tls: Tls<'a>,
    /// Labels from discovery, without prefix.
    pub endpoint: &'a BTreeMap<String, String>,
}

/// Labels of a Server.
#[derive(Copy, Clone, Debug, Default)]
pub struct ServerLabels<'a> {
    /// Group.
    pub group: &'a str,
    /// Kind; `default` for a default.
    pub kind: &'a str,
    /// Name.
    pub name: &'a str,
    /// Port; none if the workload does not declare it.
    pub port: Option<u16>,
}

/// Group, kind and name of a route or an authorization.
#[derive(Copy, Clone, Debug, Default)]
pub struct ResourceLabels<'a> {
    /// Group.
    pub group: &'a str,
    /// Kind.
    pub kind: &'a str,
    /// Name.
    pub name: &'a str,
}

impl<'a> From<&'a Meta> for ResourceLabels<'a> {
    fn from(meta: &'a Meta) -> Self {
        Self {
            group: meta.group(),
            kind: meta.kind(),
            name: meta.name(),
        }
    }
}

/// Labels of an inbound HTTP request.
#[derive(Copy, Clone, Debug)]
pub struct InboundHttpLabels<'a> {
    /// Only where enabled: the client chooses the authority.
    pub authority: Option<&'a str>,
    /// Address and port of the application.
    pub target: Target,
    /// TLS.
    pub tls: Tls<'a>,
    /// The Server.
    pub server: ServerLabels<'a>,
    /// The route.
    pub route: ResourceLabels<'a>,
    /// The authorization; none where nothing is authorized yet.
    pub authz: Option<ResourceLabels<'a>>,
}

/// A list of labels, as printed between braces.
#[derive(Debug, Default)]
pub struct LabelText(String);

impl LabelText {
    /// Appends a label.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.push("", name, value);
        self
    }

    /// Appends a label whose value is `other` if there is none.
    pub(crate) fn or_other(self, name: &str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self.with(name, OTHER),
        }
    }

    fn push(&mut self, prefix: &str, name: &str, value: impl fmt::Display) {
        use fmt::Write as _;
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(prefix);
        self.0.extend(
            name.chars()
                .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }),
        );
        self.0.push_str("=\"");
        let room = limits::LABEL_BYTES.value;
        // A value that is cut ends the writing.
        let _ = write!(
            Escaped {
                text: &mut self.0,
                room
            },
            "{value}"
        );
        self.0.push('"');
    }

    pub(crate) fn direction(self, direction: Direction) -> Self {
        let direction = match direction {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        };
        self.with(label::DIRECTION, direction)
    }

    pub(crate) fn target(self, target: impl Into<Target>) -> Self {
        let Target { ip, port } = target.into();
        self.or_other(label::TARGET_ADDR, ip.zip(port).map(SocketAddr::from))
            .or_other(label::TARGET_IP, ip)
            .or_other(label::TARGET_PORT, port)
    }

    pub(crate) fn tls(self, tls: &Tls<'_>) -> Self {
        match tls {
            Tls::Server(id) => self.with(label::TLS, "true").with(label::SERVER_ID, id),
            Tls::Client(id) => self
                .with(label::TLS, "true")
                .with(label::CLIENT_ID, id.map(|id| id.as_str()).unwrap_or_default()),
            Tls::Opaque(sni) => self.with(label::TLS, "opaque").or_other("sni", *sni),
            Tls::None(why) => self
                .with(label::TLS, "no_identity")
                .with(label::NO_TLS_REASON, why.as_str()),
        }
    }

    pub(crate) fn server(self, server: &ServerLabels<'_>) -> Self {
        self.with(label::SRV_GROUP, server.group)
            .with(label::SRV_KIND, server.kind)
            .with(label::SRV_NAME, server.name)
            .or_other(label::SRV_PORT, server.port)
    }

    pub(crate) fn resource(mut self, prefix: &str, resource: &ResourceLabels<'_>) -> Self {
        self.push(prefix, "_group", resource.group);
        self.push(prefix, "_kind", resource.kind);
        self.push(prefix, "_name", resource.name);
        self
    }

    /// Group, kind, namespace, name, port and section of an object (registry families).
    pub(crate) fn meta(mut self, prefix: &str, meta: &Meta) -> Self {
        self.push(prefix, "_group", meta.group());
        self.push(prefix, "_kind", meta.kind());
        self.push(prefix, "_namespace", meta.namespace());
        self.push(prefix, "_name", meta.name());
        self
    }

    pub(crate) fn meta_port(mut self, prefix: &str, meta: &Meta) -> Self {
        match meta.port() {
            Some(port) => self.push(prefix, "_port", port),
            None => self.push(prefix, "_port", ""),
        }
        self.push(prefix, "_section_name", meta.section());
        self
    }

    pub(crate) fn prefixed(mut self, prefix: &str, labels: &BTreeMap<String, String>) -> Self {
        for (name, value) in labels {
            self.push(prefix, name, value);
        }
        self
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

impl From<&str> for LabelText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl OutboundLabels<'_> {
    pub(crate) fn text(&self, peer: Option<&str>) -> LabelText {
        let mut text = LabelText::default().direction(Direction::Outbound);
        if let Some(peer) = peer {
            text = text.with(label::PEER, peer);
        }
        if let Some(authority) = self.authority {
            text = text.with(label::AUTHORITY, authority);
        }
        text.target(self.target)
            .tls(&self.tls)
            .prefixed(label::DST_PREFIX, self.endpoint)
    }
}

impl InboundHttpLabels<'_> {
    pub(crate) fn text(&self) -> LabelText {
        let mut text = LabelText::default().direction(Direction::Inbound);
        if let Some(authority) = self.authority {
            text = text.with(label::AUTHORITY, authority);
        }
        text = text
            .target(self.target)
            .tls(&self.tls)
            .server(&self.server)
            .resource("route", &self.route);
        match &self.authz {
            Some(authz) => text.resource("authz", authz),
            None => text,
        }
    }
}

/// Escapes a label value, and cuts it.
struct Escaped<'a> {
    text: &'a mut String,
    room: usize,
}

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for c in s.chars() {
            self.room = self.room.checked_sub(c.len_utf8()).ok_or(fmt::Error)?;
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                c => self.text.push(c),
            }
        }
        Ok(())
    }
}

/// Value of a label from a fixed set of words; empty where there is none.
///
/// It is compared for every request, and is mostly empty. glibc compares zero bytes by a masked load, too: at an
/// address without memory, such as an empty literal's, that takes a CPU with AVX-512 up to a microsecond.
#[derive(Copy, Clone, Debug, Default)]
pub struct Word(pub(crate) &'static str);

impl From<&'static str> for Word {
    fn from(word: &'static str) -> Self {
        Self(word)
    }
}

impl PartialEq for Word {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
            || match (self.0.is_empty(), other.0.is_empty()) {
                (false, false) => self.0 == other.0,
                (one, two) => one == two,
            }
    }
}

impl Eq for Word {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_at_the_length_of_a_name() {
        let text = LabelText::default().with("a", format_args!("{}é{}", "x".repeat(252), "y"));
        assert_eq!(text.as_str(), format!("a=\"{}\"", "x".repeat(252)));
        let text = LabelText::default().with("a", "\"".repeat(1000));
        assert_eq!(text.as_str().len(), 2 * limits::LABEL_BYTES.value + 4);
    }

    #[test]
    fn words_are_the_same_wherever_they_are_written() {
        let (here, there) = ("there: i/o", "i/o");
        for (one, two, same) in [
            ("", "", true),
            ("", &here[..0], true),
            (&here[7..], there, true),
            ("", there, false),
            (there, "", false),
            ("closed", there, false),
        ] {
            assert_eq!(Word(one) == Word(two), same, "{one:?} {two:?}");
        }
    }
}
