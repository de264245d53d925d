//! Extensions of the API between our control plane and our proxies: fields with numbers that the API does not use,
//! which other proxies skip. Protobuf allows fields of a message to be appended to it, which is how they are written.

use bytes::{Buf, Bytes};
use linkerd2_proxy_api::destination::{DestinationProfile, GetDestination, RetryBudget as WireBudget};
use prost::Message;
use proxy_model::Profile;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::{
    Error, Result,
    profile::{decode_budget, decode_profile, encode_budget, encode_profile},
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

/// The codec of `Destination.GetProfile` for a client.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct ProfileCodec;

impl Codec for ProfileCodec {
    type Encode = GetDestination;
    type Decode = WholeProfile;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for ProfileCodec {
    type Item = GetDestination;
    type Error = Status;

    fn encode(&mut self, item: GetDestination, into: &mut EncodeBuf<'_>) -> std::result::Result<(), Status> {
        item.encode(into).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for ProfileCodec {
    type Item = WholeProfile;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> std::result::Result<Option<WholeProfile>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        read_whole_profile(bytes)
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proxy_model::profile::{ProfileRoute, RetryBudget};

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
}
