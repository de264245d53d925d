//! Requests: the workload that asks, and the target.

use linkerd2_proxy_api::{
    destination::GetDestination,
    inbound::PortSpec,
    outbound::{TrafficSpec, traffic_spec::Target},
};
use proxy_model::{Authority, OutboundTarget};

use crate::{
    Error, Result,
    net::{decode_addr, decode_u16, encode_addr},
};

/// Port of a name without one.
const DEFAULT_PORT: u16 = 80;

/// `OutboundPolicies.Watch`: workload and destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutboundRequest {
    /// Token that names the workload.
    pub workload: String,
    /// The destination.
    pub target: OutboundTarget,
}

/// `InboundServerPolicies.WatchPort`: workload and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InboundRequest {
    /// Token that names the workload.
    pub workload: String,
    /// The port; never 0.
    pub port: u16,
}

/// `Destination.Get` and `GetProfile`: workload and path. The path stays text, because servers differ in what they
/// accept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DestinationRequest {
    /// `name:port`, a name, or `ip:port`.
    pub path: String,
    /// Token that names the workload.
    pub context: String,
}

/// Decodes the request of `OutboundPolicies`.
pub fn decode_traffic_spec(wire: TrafficSpec) -> Result<OutboundRequest> {
    let target = match wire.target.ok_or_else(|| Error::missing("target"))? {
        Target::Addr(addr) => {
            let addr = decode_addr(addr)?;
            if addr.port() == 0 {
                return Err(Error::invalid("addr.port", "is 0"));
            }
            OutboundTarget::Addr(addr)
        }
        Target::Authority(text) => {
            let authority = Authority::parse_or_port(&text, DEFAULT_PORT);
            OutboundTarget::Authority(authority.map_err(|error| Error::invalid("authority", error))?)
        }
    };
    Ok(OutboundRequest {
        workload: wire.source_workload,
        target,
    })
}

/// Encodes the request of `OutboundPolicies`.
pub fn encode_traffic_spec(request: &OutboundRequest) -> TrafficSpec {
    let target = match &request.target {
        OutboundTarget::Addr(addr) => Target::Addr(encode_addr(*addr)),
        OutboundTarget::Authority(authority) => Target::Authority(authority.to_string()),
    };
    TrafficSpec {
        source_workload: request.workload.clone(),
        target: Some(target),
    }
}

/// Decodes the request of `InboundServerPolicies`.
pub fn decode_port_spec(wire: PortSpec) -> Result<InboundRequest> {
    let port = decode_u16("port", wire.port)?;
    if port == 0 {
        return Err(Error::invalid("port", "is 0"));
    }
    Ok(InboundRequest {
        workload: wire.workload,
        port,
    })
}

/// Encodes the request of `InboundServerPolicies`.
pub fn encode_port_spec(request: &InboundRequest) -> PortSpec {
    PortSpec {
        workload: request.workload.clone(),
        port: u32::from(request.port),
    }
}

/// Decodes the request of `Destination`; the scheme is not used.
pub fn decode_get_destination(wire: GetDestination) -> DestinationRequest {
    DestinationRequest {
        path: wire.path,
        context: wire.context_token,
    }
}

/// Encodes the request of `Destination`.
pub fn encode_get_destination(request: &DestinationRequest) -> GetDestination {
    GetDestination {
        scheme: String::new(),
        path: request.path.clone(),
        context_token: request.context.clone(),
    }
}
