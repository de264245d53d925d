//! One dialable address of a service, and the set of them that a balancer works on.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU16, sync::Arc, time::Duration};

use crate::{Authority, Meta, TlsIdentity};

/// Metric labels, sorted by key so that they print in one order.
pub type Labels = Arc<BTreeMap<String, String>>;

/// What the endpoint's sidecar can take.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hint {
    /// Nothing is known: speak the client's own protocol.
    #[default]
    Unknown,
    /// HTTP/1 may ride in HTTP/2 (`l5d-orig-proto`).
    Http2,
    /// The port is opaque there.
    Opaque,
}

/// One dialable address of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address of the application's own port.
    pub addr: SocketAddr,
    /// Upstream's weight, 10,000 by default; a proxy of upstream's ignores it.
    pub weight: u32,
    /// Whom to expect; none means no TLS.
    pub identity: Option<TlsIdentity>,
    /// What the endpoint's sidecar can take.
    pub hint: Hint,
    /// Inbound port of the endpoint's sidecar, for the transport header.
    pub opaque_transport_port: Option<NonZeroU16>,
    /// Authority to send instead of the client's (gateways).
    pub authority_override: Option<Authority>,
    /// Labels of this endpoint, without the set's.
    pub labels: Labels,
    /// HTTP/2 parameters for connections to it.
    pub http2: Option<Http2Params>,
    /// Object behind it, as far as the control plane says.
    pub resource: Option<Meta>,
}

impl Endpoint {
    /// A bare address without identity, hint or labels.
    pub fn bare(addr: SocketAddr) -> Self {
        Self {
            addr,
            weight: 10_000,
            identity: None,
            hint: Hint::Unknown,
            opaque_transport_port: None,
            authority_override: None,
            labels: Labels::default(),
            http2: None,
            resource: None,
        }
    }
}

/// HTTP/2 parameters of a client connection; zero and `None` mean "not set".
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Http2Params {
    /// Windows, when the control plane sets them.
    pub flow_control: Option<FlowControl>,
    /// PINGs, when the control plane sets them.
    pub keep_alive: Option<KeepAlive>,
    /// Library internals, when the control plane sets them.
    pub internals: Option<Http2Internals>,
}

/// HTTP/2 windows, in bytes; 0 means "not set".
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowControl {
    /// Connection window.
    pub initial_connection_window_size: u32,
    /// Stream window.
    pub initial_stream_window_size: u32,
    /// Let the library adapt the windows.
    pub adaptive_flow_control: bool,
}

/// HTTP/2 PINGs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeepAlive {
    /// Time between PINGs.
    pub interval: Option<Duration>,
    /// Time to wait for the answer.
    pub timeout: Option<Duration>,
    /// PING although no stream is open.
    pub while_idle: bool,
}

/// Library internals of HTTP/2; 0 means "not set".
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Http2Internals {
    /// Locally reset streams to remember.
    pub max_concurrent_reset_streams: u32,
    /// Largest frame, in bytes.
    pub max_frame_size: u32,
    /// Send buffer of a stream, in bytes.
    pub max_send_buf_size: u32,
}

/// The endpoints of one `name:port`, as of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSet {
    /// Whether the service exists at all.
    pub exists: bool,
    /// Labels that hold for all of them.
    pub labels: Labels,
    /// Endpoints by address.
    pub endpoints: BTreeMap<SocketAddr, Arc<Endpoint>>,
}

/// One message about the endpoints of a `name:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointUpdate {
    /// These are there, or have changed.
    Add {
        /// Labels that hold for all of them.
        labels: Labels,
        /// The endpoints.
        endpoints: Vec<Endpoint>,
    },
    /// These are gone.
    Remove(Vec<SocketAddr>),
    /// There are none at all.
    NoEndpoints {
        /// Whether the service exists.
        exists: bool,
    },
}
