//! One dialable address of a service, and the set of them that a balancer works on.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU16, sync::Arc, time::Duration};

use crate::{Authority, Meta, TlsIdentity};

/// Metric labels, sorted by key so that they print in one order.
pub type Labels = Arc<BTreeMap<String, String>>;

/// Protocol that the endpoint's sidecar accepts.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hint {
    /// Unknown: use the client's own protocol.
    #[default]
    Unknown,
    /// HTTP/1 may be carried in HTTP/2 (`l5d-orig-proto`).
    Http2,
    /// The port is opaque.
    Opaque,
}

/// One dialable address of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address of the application's own port.
    pub addr: SocketAddr,
    /// Weight, 10,000 by default; upstream's proxies ignore it.
    pub weight: u32,
    /// Identity to verify; none means no TLS.
    pub identity: Option<TlsIdentity>,
    /// Protocol that the endpoint's sidecar accepts.
    pub hint: Hint,
    /// Inbound port of the endpoint's sidecar, for the transport header.
    pub opaque_transport_port: Option<NonZeroU16>,
    /// Authority to send instead of the client's (gateways).
    pub authority_override: Option<Authority>,
    /// Labels of this endpoint, without the set's.
    pub labels: Labels,
    /// HTTP/2 parameters of connections to the endpoint.
    pub http2: Option<Http2Params>,
    /// Kubernetes object of the endpoint, if the control plane names it.
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

/// The current endpoints of one `name:port`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSet {
    /// The service exists.
    pub exists: bool,
    /// Labels of all endpoints.
    pub labels: Labels,
    /// Endpoints by address.
    pub endpoints: BTreeMap<SocketAddr, Arc<Endpoint>>,
}

/// One message about the endpoints of a `name:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointUpdate {
    /// Endpoints were added, or have changed.
    Add {
        /// Labels of all endpoints.
        labels: Labels,
        /// The endpoints.
        endpoints: Vec<Endpoint>,
    },
    /// Endpoints were removed.
    Remove(Vec<SocketAddr>),
    /// The service has no endpoints.
    NoEndpoints {
        /// The service exists.
        exists: bool,
    },
}
