//! Values of the model survive the wire: encoded, to bytes, from bytes, decoded.
//!
//! The generators stay within the wire's types (a gRPC route cannot redirect, for example) and, in whole policies, the
//! extensions; everything else is encoded as a failure, which `refusals.rs` tests.

mod destination;
mod fuzz;
mod inbound;
mod outbound;
mod route;
mod tap;
mod values;

use std::net::SocketAddr;

use proptest::{collection::vec, prelude::*};
use prost::Message;
use proxy_api::{DestinationRequest, InboundRequest, Observation, OutboundRequest, decode, encode};
use proxy_model::{CachedOutbound, DiscoveryCache, OutboundTarget};

use crate::{
    destination::{profile, update},
    inbound::{all_filters, filters_of_the_api, server_policy},
    outbound::{Filters, client_policy},
    tap::tap_match,
    values::{addr, authority, text},
};

/// Encodes to bytes and decodes them.
fn over_the_wire<W: Message + Default>(wire: W) -> W {
    W::decode(wire.encode_to_vec().as_slice()).expect("what was encoded")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn endpoint_updates(update in update()) {
        prop_assert_eq!(decode::update(over_the_wire(encode::update(&update))), Ok(update));
    }

    #[test]
    fn profiles(profile in profile()) {
        prop_assert_eq!(decode::profile(over_the_wire(encode::profile(&profile))), Ok(profile));
    }

    #[test]
    fn client_policies(policy in client_policy(&Filters::api())) {
        prop_assert_eq!(decode::client_policy(over_the_wire(encode::client_policy(&policy))), Ok(policy));
    }

    #[test]
    fn server_policies(policy in server_policy(filters_of_the_api())) {
        prop_assert_eq!(decode::server_policy(over_the_wire(encode::server_policy(&policy))), Ok(policy));
    }

    #[test]
    fn whole_client_policies(policy in client_policy(&Filters::whole())) {
        let target = OutboundTarget::Authority("web.ns:80".parse().expect("valid"));
        let known = CachedOutbound { policy: policy.into(), profile: None, is_synthesised: false };
        let cache = DiscoveryCache { outbound: vec![(target, known)], ..DiscoveryCache::default() };
        prop_assert_eq!(decode::cache(&encode::cache(&cache, usize::MAX).0), Ok(cache));
    }

    #[test]
    fn whole_server_policies(server in server_policy(all_filters())) {
        let cache = DiscoveryCache { inbound: vec![(80, server.into())], ..DiscoveryCache::default() };
        prop_assert_eq!(decode::cache(&encode::cache(&cache, usize::MAX).0), Ok(cache));
    }

    #[test]
    fn observations(matches in tap_match(), limit in 1_u32.., headers: bool) {
        let observation = Observation { matches, limit, headers };
        let wire = over_the_wire(encode::observe_request(&observation));
        prop_assert_eq!(decode::observe_request(wire), Ok(observation));
    }

    #[test]
    fn requests(addr in addr(), authority in authority(), path in text(), port in 1_u16..) {
        let addr = SocketAddr::new(addr.ip(), port);
        for target in [OutboundTarget::Addr(addr), OutboundTarget::Authority(authority)] {
            let request = OutboundRequest { workload: path.clone(), target };
            prop_assert_eq!(decode::traffic_spec(over_the_wire(encode::traffic_spec(&request))), Ok(request));
        }
        let request = InboundRequest { workload: path.clone(), port };
        prop_assert_eq!(decode::port_spec(over_the_wire(encode::port_spec(&request))), Ok(request));
        let request = DestinationRequest { context: path.clone(), path };
        prop_assert_eq!(decode::get_destination(over_the_wire(encode::get_destination(&request))), request);
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in vec(any::<u8>(), 0..200)) {
        use proxy_api::wire::{destination, inbound, outbound, tap};
        let bytes = bytes.as_slice();
        let _ = destination::Update::decode(bytes).map(decode::update);
        let _ = destination::DestinationProfile::decode(bytes).map(decode::profile);
        let _ = outbound::OutboundPolicy::decode(bytes).map(decode::client_policy);
        let _ = inbound::Server::decode(bytes).map(decode::server_policy);
        let _ = tap::ObserveRequest::decode(bytes).map(decode::observe_request);
    }
}
