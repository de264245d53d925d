//! `Destination.Get`: updates of endpoints.

use std::{net::SocketAddr, sync::Arc};

use linkerd2_proxy_api::{
    destination::{
        AddrSet, AuthorityOverride, Http2ClientParams, NoEndpoints, ProtocolHint, TlsIdentity as WireIdentity, Update,
        WeightedAddr, WeightedAddrSet, http2_client_params as http2, protocol_hint as hint, tls_identity as tls,
        update,
    },
    net::TcpAddress,
};
use proxy_model::{
    Endpoint, EndpointUpdate, Hint, Http2Params, Id, Labels, TlsIdentity,
    endpoint::{FlowControl, Http2Internals, KeepAlive},
};

use crate::{
    Error, Result,
    error::{each, optional, required},
    meta::{decode_meta, encode_meta},
    net::{
        decode_addr, decode_duration, decode_labels, decode_port, encode_addr, encode_duration, encode_labels,
        encode_port,
    },
};

/// Decodes one message of `Destination.Get`.
pub fn decode_update(wire: Update) -> Result<EndpointUpdate> {
    match wire.update.ok_or_else(|| Error::missing("update"))? {
        update::Update::Add(set) => Ok(EndpointUpdate::Add {
            labels: Arc::new(decode_labels(set.metric_labels)),
            endpoints: each("add.addrs", set.addrs, decode_endpoint)?,
        }),
        update::Update::Remove(set) => Ok(EndpointUpdate::Remove(each("remove.addrs", set.addrs, decode_addr)?)),
        update::Update::NoEndpoints(none) => Ok(EndpointUpdate::NoEndpoints { exists: none.exists }),
    }
}

/// Encodes one message of `Destination.Get`.
pub fn encode_update(update: &EndpointUpdate) -> Update {
    match update {
        EndpointUpdate::Add { labels, endpoints } => encode_add(labels, endpoints),
        EndpointUpdate::Remove(addrs) => encode_remove(addrs.iter().copied()),
        EndpointUpdate::NoEndpoints { exists } => encode_no_endpoints(*exists),
    }
}

/// Encodes endpoints that were added, or have changed.
pub fn encode_add<'a>(labels: &Labels, endpoints: impl IntoIterator<Item = &'a Endpoint>) -> Update {
    let addrs = endpoints.into_iter().map(encode_endpoint).collect();
    let set = WeightedAddrSet {
        addrs,
        metric_labels: encode_labels(labels),
    };
    Update {
        update: Some(update::Update::Add(set)),
    }
}

/// Encodes endpoints that were removed.
pub fn encode_remove(addrs: impl IntoIterator<Item = SocketAddr>) -> Update {
    let addrs = addrs.into_iter().map(encode_addr).collect();
    Update {
        update: Some(update::Update::Remove(AddrSet { addrs })),
    }
}

/// Encodes that a service has no endpoints.
pub fn encode_no_endpoints(exists: bool) -> Update {
    Update {
        update: Some(update::Update::NoEndpoints(NoEndpoints { exists })),
    }
}

/// Decodes one endpoint.
pub fn decode_endpoint(wire: WeightedAddr) -> Result<Endpoint> {
    let (hint, opaque_transport_port) = decode_hint(wire.protocol_hint)?;
    let authority_override = optional("authority_override", wire.authority_override, |wire| {
        wire.authority_override
            .parse()
            .map_err(|error| Error::invalid("authority_override", error))
    })?;
    Ok(Endpoint {
        addr: required("addr", wire.addr, decode_addr)?,
        weight: wire.weight,
        identity: optional("tls_identity", wire.tls_identity, decode_identity)?,
        hint,
        opaque_transport_port,
        authority_override,
        labels: Arc::new(decode_labels(wire.metric_labels)),
        http2: optional("http2", wire.http2, decode_http2)?,
        resource: optional("resource_ref", wire.resource_ref, decode_meta)?,
    })
}

/// Encodes one endpoint.
pub fn encode_endpoint(endpoint: &Endpoint) -> WeightedAddr {
    let authority_override = endpoint.authority_override.as_ref();
    WeightedAddr {
        addr: Some(TcpAddress::from(endpoint.addr)),
        weight: endpoint.weight,
        metric_labels: encode_labels(&endpoint.labels),
        tls_identity: endpoint.identity.as_ref().map(encode_identity),
        protocol_hint: encode_hint(endpoint),
        authority_override: authority_override.map(|a| AuthorityOverride {
            authority_override: a.to_string(),
        }),
        http2: endpoint.http2.as_ref().map(encode_http2),
        resource_ref: endpoint.resource.as_ref().map(encode_meta),
    }
}

fn decode_hint(wire: Option<ProtocolHint>) -> Result<(Hint, Option<std::num::NonZeroU16>)> {
    let Some(wire) = wire else {
        return Ok((Hint::Unknown, None));
    };
    let hint = match wire.protocol {
        None => Hint::Unknown,
        Some(hint::Protocol::H2(_)) => Hint::Http2,
        Some(hint::Protocol::Opaque(_)) => Hint::Opaque,
    };
    let port = wire.opaque_transport.map_or(0, |transport| transport.inbound_port);
    Ok((hint, decode_port("protocol_hint.opaque_transport.inbound_port", port)?))
}

fn encode_hint(endpoint: &Endpoint) -> Option<ProtocolHint> {
    let protocol = match endpoint.hint {
        Hint::Unknown => None,
        Hint::Http2 => Some(hint::Protocol::H2(hint::H2 {})),
        Hint::Opaque => Some(hint::Protocol::Opaque(hint::Opaque {})),
    };
    let port = endpoint.opaque_transport_port;
    let opaque_transport = port.map(|_| hint::OpaqueTransport {
        inbound_port: encode_port(port),
    });
    (protocol.is_some() || opaque_transport.is_some()).then_some(ProtocolHint {
        protocol,
        opaque_transport,
    })
}

/// Decodes an identity. The SNI of a DNS identity defaults to its name; a URI identity needs one.
fn decode_identity(wire: WireIdentity) -> Result<TlsIdentity> {
    let name = wire.server_name.map(|name| name.name).filter(|name| !name.is_empty());
    let (server_id, name) = match wire.strategy.ok_or_else(|| Error::missing("strategy"))? {
        tls::Strategy::DnsLikeIdentity(id) => {
            let id: Id = id
                .name
                .parse()
                .map_err(|error| Error::invalid("dns_like_identity.name", error))?;
            let name = name.unwrap_or_else(|| id.as_str().to_owned());
            (id, name)
        }
        tls::Strategy::UriLikeIdentity(id) => {
            let id: Id = id
                .uri
                .parse()
                .map_err(|error| Error::invalid("uri_like_identity.uri", error))?;
            (id, name.ok_or_else(|| Error::missing("server_name"))?)
        }
    };
    match name.parse::<Id>() {
        Ok(Id::Dns(server_name)) => Ok(TlsIdentity { server_id, server_name }),
        _ => Err(Error::invalid(
            "server_name.name",
            format_args!("{name:?} is not a DNS name"),
        )),
    }
}

fn encode_identity(identity: &TlsIdentity) -> WireIdentity {
    let strategy = match &identity.server_id {
        Id::Dns(name) => tls::Strategy::DnsLikeIdentity(tls::DnsLikeIdentity { name: name.to_string() }),
        Id::Uri(uri) => tls::Strategy::UriLikeIdentity(tls::UriLikeIdentity { uri: uri.to_string() }),
    };
    let server_name = tls::DnsLikeIdentity {
        name: identity.server_name.to_string(),
    };
    WireIdentity {
        strategy: Some(strategy),
        server_name: Some(server_name),
    }
}

fn decode_http2(wire: Http2ClientParams) -> Result<Http2Params> {
    let keep_alive = |wire: http2::KeepAlive| {
        Ok(KeepAlive {
            interval: optional("interval", wire.interval, decode_duration)?,
            timeout: optional("timeout", wire.timeout, decode_duration)?,
            while_idle: wire.while_idle,
        })
    };
    Ok(Http2Params {
        flow_control: wire.flow_control.map(|wire| FlowControl {
            initial_connection_window_size: wire.initial_connection_window_size,
            initial_stream_window_size: wire.initial_stream_window_size,
            adaptive_flow_control: wire.adaptive_flow_control,
        }),
        keep_alive: optional("keep_alive", wire.keep_alive, keep_alive)?,
        internals: wire.internals.map(|wire| Http2Internals {
            max_concurrent_reset_streams: wire.max_concurrent_reset_streams,
            max_frame_size: wire.max_frame_size,
            max_send_buf_size: wire.max_send_buf_size,
        }),
    })
}

fn encode_http2(params: &Http2Params) -> Http2ClientParams {
    Http2ClientParams {
        flow_control: params.flow_control.as_ref().map(|flow| http2::FlowControl {
            initial_connection_window_size: flow.initial_connection_window_size,
            initial_stream_window_size: flow.initial_stream_window_size,
            adaptive_flow_control: flow.adaptive_flow_control,
        }),
        keep_alive: params.keep_alive.as_ref().map(|keep| http2::KeepAlive {
            interval: keep.interval.map(encode_duration),
            timeout: keep.timeout.map(encode_duration),
            while_idle: keep.while_idle,
        }),
        internals: params.internals.as_ref().map(|internals| http2::Internals {
            max_concurrent_reset_streams: internals.max_concurrent_reset_streams,
            max_frame_size: internals.max_frame_size,
            max_send_buf_size: internals.max_send_buf_size,
        }),
    }
}
