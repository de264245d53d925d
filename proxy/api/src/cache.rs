//! File format of the discovery cache. The answers are messages of the API itself, so that there is one encoding of
//! each, inside a message of our own.

use std::{net::SocketAddr, sync::Arc};

use linkerd2_proxy_api::{destination::Update, identity::CertifyResponse};
use prost::Message;
use proxy_model::{CachedOutbound, DiscoveryCache, EndpointSet, EndpointUpdate, OutboundTarget};

use crate::{
    Certified, Error, Result,
    destination::{decode_update, encode_add, encode_no_endpoints},
    error::each,
    extension::{
        decode_whole_client_policy, decode_whole_profile, decode_whole_server_policy, encode_whole_client_policy,
        encode_whole_profile, encode_whole_server_policy, read_whole_client_policy, read_whole_profile,
        read_whole_server_policy,
    },
    identity::{decode_certified, encode_certified},
};

/// Format version; raised when an older program would misread a newer file.
const FORMAT: u32 = 1;

#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(message, repeated, tag = "2")]
    inbound: Vec<Inbound>,
    #[prost(message, repeated, tag = "3")]
    outbound: Vec<Outbound>,
    #[prost(message, repeated, tag = "4")]
    endpoints: Vec<Endpoints>,
}

#[derive(Clone, PartialEq, Message)]
struct Inbound {
    #[prost(uint32, tag = "1")]
    port: u32,
    #[prost(bytes = "bytes", optional, tag = "2")]
    policy: Option<bytes::Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct Outbound {
    #[prost(string, tag = "1")]
    target: String,
    #[prost(bytes = "bytes", optional, tag = "2")]
    policy: Option<bytes::Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    profile: Option<bytes::Bytes>,
    #[prost(bool, tag = "4")]
    is_synthesised: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Endpoints {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(message, optional, tag = "2")]
    set: Option<Update>,
}

/// Encodes as many answers as fit into `limit` bytes, inbound policies first. Returns the number of omitted answers.
pub fn encode_cache(cache: &DiscoveryCache, limit: usize) -> (Vec<u8>, usize) {
    let mut file = File {
        format: FORMAT,
        ..File::default()
    };
    let (mut left, mut refused) = (limit, 0);
    let mut fits = |length: usize| {
        // Each has a tag and a length.
        let fits = length + 8 <= left;
        left -= if fits { length + 8 } else { 0 };
        refused += usize::from(!fits);
        fits
    };
    let inbound = cache.inbound.iter().map(|(port, policy)| Inbound {
        port: u32::from(*port),
        policy: Some(encode_whole_server_policy(policy).into()),
    });
    file.inbound = inbound.filter(|entry| fits(entry.encoded_len())).collect();
    let outbound = cache.outbound.iter().map(|(target, known)| Outbound {
        target: target.to_string(),
        policy: Some(encode_whole_client_policy(&known.policy).into()),
        profile: known
            .profile
            .as_deref()
            .map(|profile| encode_whole_profile(profile).into()),
        is_synthesised: known.is_synthesised,
    });
    file.outbound = outbound.filter(|entry| fits(entry.encoded_len())).collect();
    let endpoints = cache.endpoints.iter().map(|(path, set)| Endpoints {
        path: path.to_string(),
        set: Some(encode_set(set)),
    });
    file.endpoints = endpoints.filter(|entry| fits(entry.encoded_len())).collect();
    (file.encode_to_vec(), refused)
}

/// Decodes the output of [`encode_cache`].
pub fn decode_cache(bytes: &[u8]) -> Result<DiscoveryCache> {
    let file = File::decode(bytes).map_err(|error| Error::invalid("file", error))?;
    if file.format != FORMAT {
        return Err(Error::invalid(
            "format",
            format_args!("is {}, not {FORMAT}", file.format),
        ));
    }
    Ok(DiscoveryCache {
        inbound: each("inbound", file.inbound, decode_inbound)?,
        outbound: each("outbound", file.outbound, decode_outbound)?,
        endpoints: each("endpoints", file.endpoints, decode_endpoints)?,
    })
}

/// Encodes a leaf as the bytes of a file.
pub fn encode_certified_bytes(certified: &Certified) -> Vec<u8> {
    encode_certified(certified.clone()).encode_to_vec()
}

/// Decodes the output of [`encode_certified_bytes`].
pub fn decode_certified_bytes(bytes: &[u8]) -> Result<Certified> {
    let wire = CertifyResponse::decode(bytes).map_err(|error| Error::invalid("file", error))?;
    decode_certified(wire)
}

fn decode_inbound(entry: Inbound) -> Result<(u16, Arc<proxy_model::ServerPolicy>)> {
    let port = u16::try_from(entry.port).map_err(|error| Error::invalid("port", error))?;
    let policy = entry.policy.ok_or_else(|| Error::missing("policy"))?;
    let policy = read_whole_server_policy(policy).map_err(|error| Error::invalid("policy", error))?;
    Ok((port, Arc::new(decode_whole_server_policy(policy)?)))
}

fn decode_outbound(entry: Outbound) -> Result<(OutboundTarget, CachedOutbound)> {
    let target = match entry.target.parse::<SocketAddr>() {
        Ok(addr) => OutboundTarget::Addr(addr),
        Err(_) => {
            let authority = entry.target.parse().map_err(|error| Error::invalid("target", error))?;
            OutboundTarget::Authority(authority)
        }
    };
    let profile = entry.profile.map(|bytes| {
        let whole = read_whole_profile(bytes).map_err(|error| Error::invalid("profile", error))?;
        decode_whole_profile(whole).map(Arc::new)
    });
    let policy = entry.policy.ok_or_else(|| Error::missing("policy"))?;
    let policy = read_whole_client_policy(policy).map_err(|error| Error::invalid("policy", error))?;
    let known = CachedOutbound {
        policy: Arc::new(decode_whole_client_policy(policy)?),
        profile: profile.transpose()?,
        is_synthesised: entry.is_synthesised,
    };
    Ok((target, known))
}

fn encode_set(set: &EndpointSet) -> Update {
    if set.endpoints.is_empty() {
        encode_no_endpoints(set.exists)
    } else {
        encode_add(&set.labels, set.endpoints.values().map(AsRef::as_ref))
    }
}

fn decode_endpoints(entry: Endpoints) -> Result<(Arc<str>, Arc<EndpointSet>)> {
    let set = match decode_update(entry.set.ok_or_else(|| Error::missing("set"))?)? {
        EndpointUpdate::Add { labels, endpoints } => EndpointSet {
            exists: true,
            labels,
            endpoints: endpoints.into_iter().map(|e| (e.addr, Arc::new(e))).collect(),
        },
        EndpointUpdate::NoEndpoints { exists } => EndpointSet {
            exists,
            ..EndpointSet::default()
        },
        EndpointUpdate::Remove(_) => return Err(Error::invalid("set", "is a removal")),
    };
    Ok((entry.path.into(), Arc::new(set)))
}

#[cfg(test)]
mod tests {
    use proxy_model::Endpoint;

    use super::*;

    fn cache() -> DiscoveryCache {
        let endpoint = Endpoint::bare("10.0.0.1:8080".parse().expect("an address"));
        let set = EndpointSet {
            exists: true,
            endpoints: [(endpoint.addr, Arc::new(endpoint))].into(),
            ..EndpointSet::default()
        };
        DiscoveryCache {
            endpoints: vec![
                ("web.ns.svc.cluster.local:80".into(), Arc::new(set)),
                ("none.ns.svc.cluster.local:80".into(), Arc::new(EndpointSet::default())),
            ],
            ..DiscoveryCache::default()
        }
    }

    #[test]
    fn round_trips_and_counts_answers_that_do_not_fit() {
        let (bytes, refused) = encode_cache(&cache(), 4096);
        assert_eq!((decode_cache(&bytes), refused), (Ok(cache()), 0));
        let (bytes, refused) = encode_cache(&cache(), 64);
        assert!(bytes.len() <= 64 && refused == 1, "{} bytes", bytes.len());
        assert_eq!(decode_cache(&bytes).expect("whole").len(), 1);
        assert!(decode_cache(b"\xff\xff").is_err());
        let newer = File {
            format: FORMAT + 1,
            ..File::default()
        };
        assert!(decode_cache(&newer.encode_to_vec()).is_err());
    }
}
