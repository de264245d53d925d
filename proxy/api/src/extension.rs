//! Extensions of the API between our control plane and our proxies: fields with numbers that the API does not use,
//! which other proxies skip. Protobuf allows fields of a message to be appended to it, which is how they are written.

mod filters;

use std::marker::PhantomData;

use bytes::{Buf, Bytes};
use linkerd2_proxy_api::{
    destination::{DestinationProfile, RetryBudget as WireBudget, WeightedDst},
    inbound::Server,
    outbound::OutboundPolicy,
};
use prost::Message;
use proxy_model::{ClientPolicy, Profile, ServerPolicy, limits::RULE_TARGETS, outbound::Targets};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::{
    Error, Result,
    error::{Within, each},
    inbound::{decode_server_policy, encode_server_policy},
    outbound::{decode_client_policy, encode_client_policy},
    profile::{decode_budget, decode_profile, decode_target, encode_budget, encode_profile, encode_target},
};

/// Budgets of single routes, which the API lacks.
#[derive(Clone, PartialEq, Message)]
struct ProfileExtension {
    #[prost(message, repeated, tag = "1001")]
    route_budgets: Vec<RouteBudget>,
}

#[derive(Clone, PartialEq, Message)]
struct RouteBudget {
    /// Index into `routes`.
    #[prost(uint32, tag = "1")]
    route: u32,
    #[prost(message, optional, tag = "2")]
    budget: Option<WireBudget>,
}

/// Encodes one message of `Destination.GetProfile` with budgets of single routes; as bytes on the wire.
pub fn encode_whole_profile(profile: &Profile) -> Vec<u8> {
    let budgets = profile.routes.iter().enumerate().filter_map(|(index, route)| {
        let budget = Some(encode_budget(route.retry_budget.as_ref()?));
        let route = u32::try_from(index).ok()?;
        Some(RouteBudget { route, budget })
    });
    let extension = ProfileExtension {
        route_budgets: budgets.collect(),
    };
    let mut bytes = encode_profile(profile).encode_to_vec();
    bytes.extend(extension.encode_to_vec());
    bytes
}

/// A message of `Destination.GetProfile` as received.
#[derive(Debug)]
pub(crate) struct WholeProfile {
    profile: DestinationProfile,
    extension: ProfileExtension,
}

/// Decodes one message of `Destination.GetProfile` with budgets of single routes.
pub(crate) fn decode_whole_profile(wire: WholeProfile) -> Result<Profile> {
    let mut profile = decode_profile(wire.profile)?;
    for found in wire.extension.route_budgets {
        let route = profile.routes.get_mut(found.route as usize);
        let route = route.ok_or_else(|| Error::invalid("route_budgets.route", "is not the number of a route"))?;
        route.retry_budget = found.budget.map(decode_budget).transpose()?;
    }
    Ok(profile)
}

/// Decodes both halves of a message.
pub(crate) fn read_whole_profile(bytes: Bytes) -> std::result::Result<WholeProfile, prost::DecodeError> {
    let profile = DestinationProfile::decode(bytes.clone())?;
    let extension = ProfileExtension::decode(bytes)?;
    Ok(WholeProfile { profile, extension })
}

/// Settings of a client policy that the API lacks.
#[derive(Clone, PartialEq, Message)]
struct PolicyExtension {
    /// Largest share of the endpoints that failure accrual ejects at a time.
    #[prost(uint32, optional, tag = "1001")]
    max_ejected_percent: Option<u32>,
    /// Filters that their kind of route lacks.
    #[prost(message, repeated, tag = "1002")]
    filters: Vec<filters::ExtraFilter>,
    /// Targets of the profile. Present, if only empty, unless the profile replaces the routes.
    #[prost(message, optional, tag = "1003")]
    targets: Option<AllTargets>,
}

#[derive(Clone, PartialEq, Message)]
struct AllTargets {
    #[prost(message, repeated, tag = "1")]
    services: Vec<ServiceTargets>,
}

/// Targets that take the place of a Service.
#[derive(Clone, PartialEq, Message)]
struct ServiceTargets {
    /// `name:port` of the Service.
    #[prost(string, tag = "1")]
    path: String,
    #[prost(message, repeated, tag = "2")]
    targets: Vec<WeightedDst>,
}

fn encode_targets(all: &Targets) -> AllTargets {
    let services = all.iter().map(|(path, targets)| ServiceTargets {
        path: path.to_string(),
        targets: targets.iter().map(encode_target).collect(),
    });
    AllTargets {
        services: services.collect(),
    }
}

fn decode_targets(wire: AllTargets) -> Result<Targets> {
    let service = |wire: ServiceTargets| {
        let (count, most) = (wire.targets.len(), RULE_TARGETS.value);
        if count > most {
            return Err(Error::invalid("targets", format_args!("{count} are more than {most}")));
        }
        Ok((wire.path.into(), each("targets", wire.targets, decode_target)?))
    };
    wire.services.into_iter().map(service).collect()
}

/// Encodes one message of `OutboundPolicies.Watch` with what the API lacks; as bytes on the wire.
pub fn encode_whole_client_policy(policy: &ClientPolicy) -> Vec<u8> {
    let mut accruals = policy.protocol.failure_accruals();
    let extension = PolicyExtension {
        max_ejected_percent: accruals.find_map(|accrual| accrual.ejection().max_percent),
        filters: filters::encode(policy),
        targets: policy.targets.as_ref().map(encode_targets),
    };
    let mut bytes = encode_client_policy(policy).encode_to_vec();
    bytes.extend(extension.encode_to_vec());
    bytes
}

/// A message of `OutboundPolicies.Watch` as received.
#[derive(Debug)]
pub(crate) struct WholePolicy {
    policy: OutboundPolicy,
    extension: PolicyExtension,
}

/// Decodes one message of `OutboundPolicies.Watch` with what the API lacks.
pub(crate) fn decode_whole_client_policy(wire: WholePolicy) -> Result<ClientPolicy> {
    let mut policy = decode_client_policy(wire.policy)?;
    policy.targets = wire.extension.targets.map(decode_targets).transpose()?;
    if let Some(percent) = wire.extension.max_ejected_percent {
        let found = format_args!("{percent} is not from 0 to 100");
        if percent > 100 {
            return Err(Error::invalid("max_ejected_percent", found));
        }
        let accruals = policy.protocol.failure_accruals_mut();
        accruals.for_each(|accrual| accrual.ejection_mut().max_percent = Some(percent));
    }
    filters::decode(wire.extension.filters, &mut policy).within("filters")?;
    Ok(policy)
}

/// Decodes both halves of a message.
pub(crate) fn read_whole_client_policy(bytes: Bytes) -> std::result::Result<WholePolicy, prost::DecodeError> {
    let policy = OutboundPolicy::decode(bytes.clone())?;
    let extension = PolicyExtension::decode(bytes)?;
    Ok(WholePolicy { policy, extension })
}

/// Settings of a server policy that the API lacks.
#[derive(Clone, PartialEq, Message)]
struct ServerExtension {
    /// Filters that their kind of route lacks.
    #[prost(message, repeated, tag = "1001")]
    filters: Vec<filters::ExtraFilter>,
}

/// Encodes one message of `InboundServerPolicies.WatchPort` with what the API lacks; as bytes on the wire.
pub fn encode_whole_server_policy(policy: &ServerPolicy) -> Vec<u8> {
    let extension = ServerExtension {
        filters: filters::encode(policy),
    };
    let mut bytes = encode_server_policy(policy).encode_to_vec();
    bytes.extend(extension.encode_to_vec());
    bytes
}

/// A message of `InboundServerPolicies.WatchPort` as received.
#[derive(Debug)]
pub(crate) struct WholeServer {
    policy: Server,
    extension: ServerExtension,
}

/// Decodes one message of `InboundServerPolicies.WatchPort` with what the API lacks.
pub(crate) fn decode_whole_server_policy(wire: WholeServer) -> Result<ServerPolicy> {
    let mut policy = decode_server_policy(wire.policy)?;
    filters::decode(wire.extension.filters, &mut policy).within("filters")?;
    Ok(policy)
}

/// Decodes both halves of a message.
pub(crate) fn read_whole_server_policy(bytes: Bytes) -> std::result::Result<WholeServer, prost::DecodeError> {
    let policy = Server::decode(bytes.clone())?;
    let extension = ServerExtension::decode(bytes)?;
    Ok(WholeServer { policy, extension })
}

type Read<R> = fn(Bytes) -> std::result::Result<R, prost::DecodeError>;

/// Codec of a client for calls whose answers are extended: requests `Q`, answers `R`.
#[derive(Debug)]
pub(crate) struct WholeCodec<Q, R> {
    read: Read<R>,
    request: PhantomData<fn(Q)>,
}

impl<Q, R> WholeCodec<Q, R> {
    pub(crate) fn new(read: Read<R>) -> Self {
        Self {
            read,
            request: PhantomData,
        }
    }
}

impl<Q: Message + 'static, R: Send + 'static> Codec for WholeCodec<Q, R> {
    type Encode = Q;
    type Decode = R;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::new(self.read)
    }

    fn decoder(&mut self) -> Self {
        Self::new(self.read)
    }
}

impl<Q: Message, R> Encoder for WholeCodec<Q, R> {
    type Item = Q;
    type Error = Status;

    fn encode(&mut self, item: Q, into: &mut EncodeBuf<'_>) -> std::result::Result<(), Status> {
        item.encode(into).map_err(|error| Status::internal(error.to_string()))
    }
}

impl<Q, R> Decoder for WholeCodec<Q, R> {
    type Item = R;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> std::result::Result<Option<R>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        (self.read)(bytes)
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proxy_model::{
        ClientProtocol, Meta,
        outbound::{Ejection, FailureAccrual, Http, Opaque},
        profile::{ProfileRoute, RetryBudget, Target},
    };

    use super::*;

    #[test]
    fn budgets_of_routes_survive_and_another_proxy_does_not_see_them() {
        let route = |budget: Option<RetryBudget>| ProfileRoute {
            condition: None,
            response_classes: vec![],
            labels: Default::default(),
            is_retryable: true,
            timeout: None,
            retry_budget: budget,
        };
        let own = RetryBudget {
            ratio: 0.5,
            min_per_second: 3,
            ttl: Some(Duration::from_secs(7)),
        };
        let profile = Profile {
            routes: vec![route(None), route(Some(own))],
            ..Profile::default()
        };
        let bytes = encode_whole_profile(&profile);
        let whole = read_whole_profile(bytes.clone().into()).expect("protobuf");
        assert_eq!(decode_whole_profile(whole), Ok(profile.clone()));
        let theirs = DestinationProfile::decode(bytes.as_slice()).expect("protobuf");
        assert_eq!(theirs, encode_profile(&profile));

        let beyond = ProfileExtension {
            route_budgets: vec![RouteBudget { route: 9, budget: None }],
        };
        let wire = WholeProfile {
            profile: encode_profile(&profile),
            extension: beyond,
        };
        assert!(decode_whole_profile(wire).is_err());
    }

    fn policy(max_percent: Option<u32>, targets: Option<Targets>) -> ClientPolicy {
        let accrual = FailureAccrual::None {
            ejection: Ejection {
                min_ready: Some(2),
                max_percent,
            },
        };
        let http = Http {
            routes: vec![],
            failure_accrual: Some(accrual),
        };
        let protocol = ClientProtocol::Detect {
            timeout: Duration::from_secs(10),
            http1: http.clone(),
            http2: http,
            opaque: Opaque::default(),
        };
        ClientPolicy {
            meta: Meta::default_named("web"),
            protocol,
            targets,
        }
    }

    fn split(count: usize) -> Targets {
        let target = |weight| Target {
            authority: "web-1.ns.svc.cluster.local:80".parse().expect("valid"),
            weight,
            backend: Some(Meta::resource("core", "Service", "ns", "web-1").with_port(80)),
        };
        let targets = (1..).take(count).map(target).collect();
        [("web.ns.svc.cluster.local:80".into(), targets)].into()
    }

    #[test]
    fn extensions_of_a_policy_survive_and_another_proxy_does_not_see_them() {
        for policy in [
            policy(None, None),
            policy(None, Some(Targets::new())),
            policy(Some(0), Some(split(2))),
            policy(Some(40), None),
        ] {
            let bytes = encode_whole_client_policy(&policy);
            let whole = read_whole_client_policy(bytes.clone().into()).expect("protobuf");
            assert_eq!(decode_whole_client_policy(whole), Ok(policy));
            let theirs = OutboundPolicy::decode(bytes.as_slice()).expect("protobuf");
            assert_eq!(decode_client_policy(theirs), Ok(self::policy(None, None)));
        }
        for beyond in [
            policy(Some(101), None),
            policy(None, Some(split(RULE_TARGETS.value + 1))),
        ] {
            let bytes = encode_whole_client_policy(&beyond);
            let whole = read_whole_client_policy(bytes.into()).expect("protobuf");
            assert!(decode_whole_client_policy(whole).is_err());
        }
    }
}
