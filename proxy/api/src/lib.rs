//! The wire: Linkerd's proxy API, decoded to model values and encoded from them. Beside the gRPC servers, the only
//! crate that names generated protobuf.
//!
//! Each file holds one part of the API, `decode_*` beside `encode_*`, so that each reads what the other writes;
//! [`decode`] and [`encode`] gather them under the names of the messages. [`client`] calls the services and yields
//! model values; a gRPC status becomes an [`Error`] here and goes no further.
//!
//! A message that breaks the API's rules is rejected whole, with the path of the field.

mod backend;
mod budget;
mod cache;
pub mod client;
mod destination;
mod error;
mod extension;
mod filter;
mod identity;
mod inbound;
mod meta;
mod net;
mod outbound;
mod profile;
mod request;
mod route;
mod tap;

/// Generated types, for servers of the API.
pub use linkerd2_proxy_api as wire;

pub use error::{Error, Kind, Result};
pub use identity::{Certified, CertifyRequest};
pub use request::{DestinationRequest, InboundRequest, OutboundRequest};
pub use tap::{Observation, TapDecoder};

/// Wire to model.
pub mod decode {
    pub use crate::{
        cache::{decode_cache as cache, decode_certified_bytes as certified_bytes},
        destination::{decode_endpoint as endpoint, decode_update as update},
        identity::{decode_certified as certified, decode_certify_request as certify_request},
        inbound::decode_server_policy as server_policy,
        meta::decode_meta as meta,
        outbound::decode_client_policy as client_policy,
        profile::decode_profile as profile,
        request::{
            decode_get_destination as get_destination, decode_port_spec as port_spec,
            decode_traffic_spec as traffic_spec,
        },
        tap::decode_observe_request as observe_request,
    };
}

/// Model to wire.
pub mod encode {
    pub use crate::{
        cache::{encode_cache as cache, encode_certified_bytes as certified_bytes},
        destination::{
            encode_add as add, encode_endpoint as endpoint, encode_no_endpoints as no_endpoints,
            encode_remove as remove, encode_update as update,
        },
        extension::{
            encode_whole_client_policy as whole_client_policy, encode_whole_profile as whole_profile,
            encode_whole_server_policy as whole_server_policy,
        },
        identity::{encode_certified as certified, encode_certify_request as certify_request},
        inbound::encode_server_policy as server_policy,
        meta::encode_meta as meta,
        outbound::encode_client_policy as client_policy,
        profile::encode_profile as profile,
        request::{
            encode_get_destination as get_destination, encode_port_spec as port_spec,
            encode_traffic_spec as traffic_spec,
        },
        tap::{encode_observe_request as observe_request, encode_tap_event as tap_event},
    };
}
