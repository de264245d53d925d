//! Hostile messages: mutants of those that round-trip.

use std::fmt::Debug;

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use prost::Message;
use proxy_api::{
    Certified, DestinationRequest, InboundRequest, Observation, OutboundRequest, TapDecoder, decode, encode,
    wire::{destination, identity, inbound, outbound, tap},
};
use tests_fuzz::{Target, within};

use super::*;

/// Longest message that a seed may have: mutants of huge ones are slow.
const SEED_BYTES: usize = 2_000;
/// Heap for each byte of a message: a decoded element has a dozen fields at most, and takes two bytes at least.
const HEAP_PER_BYTE: usize = 400;

/// Heap of compiled regular expressions: a few bytes may take as much as their budget allows.
const EXPRESSIONS: usize = 2 * 1024 * 1024;

/// Encoded values of a strategy, the same each time.
fn seeds<T: Debug>(strategy: impl Strategy<Value = T>, encode: impl Fn(&T) -> Vec<u8>) -> Vec<Vec<u8>> {
    let mut runner = TestRunner::deterministic();
    let mut value = || encode(&strategy.new_tree(&mut runner).expect("a value").current());
    let values = std::iter::repeat_with(&mut value).take(400);
    values.filter(|bytes| bytes.len() <= SEED_BYTES).take(40).collect()
}

/// Asserts that a decoded message means the same once encoded, and takes memory in proportion to its bytes.
fn check<W: Message + Default, T: PartialEq + Debug>(
    bytes: &[u8],
    decode: impl Fn(W) -> proxy_api::Result<T>,
    encode: impl Fn(&T) -> W,
) {
    let decoded = within(HEAP_PER_BYTE * bytes.len() + EXPRESSIONS, || {
        W::decode(bytes).map(&decode)
    });
    let Ok(Ok(value)) = decoded else { return };
    let again = W::decode(encode(&value).encode_to_vec().as_slice()).expect("what was encoded");
    assert_eq!(decode(again), Ok(value));
}

fn target(name: &'static str, seeds: Vec<Vec<u8>>) -> Target {
    let words = &[
        "\n",
        "\u{12}",
        "\u{1a}",
        "\"\0",
        "*.",
        "spiffe://",
        "default",
        "\u{8}\u{7f}",
    ];
    Target { name, seeds, words }
}

#[test]
fn fuzz_endpoint_update() {
    let seeds = seeds(update(), |update| encode::update(update).encode_to_vec());
    target("fuzz_endpoint_update", seeds)
        .run(|bytes| check::<destination::Update, _>(bytes, decode::update, encode::update));
}

#[test]
fn fuzz_profile() {
    let seeds = seeds(profile(), |profile| encode::profile(profile).encode_to_vec());
    target("fuzz_profile", seeds)
        .run(|bytes| check::<destination::DestinationProfile, _>(bytes, decode::profile, encode::profile));
}

#[test]
fn fuzz_client_policy() {
    let seeds = seeds(client_policy(&Filters::api()), |policy| {
        encode::client_policy(policy).encode_to_vec()
    });
    target("fuzz_client_policy", seeds)
        .run(|bytes| check::<outbound::OutboundPolicy, _>(bytes, decode::client_policy, encode::client_policy));
}

#[test]
fn fuzz_server_policy() {
    let seeds = seeds(server_policy(filters_of_the_api()), |policy| {
        encode::server_policy(policy).encode_to_vec()
    });
    target("fuzz_server_policy", seeds)
        .run(|bytes| check::<inbound::Server, _>(bytes, decode::server_policy, encode::server_policy));
}

#[test]
fn fuzz_observe_request() {
    let observation = (tap_match(), 1_u32.., any::<bool>());
    let observation = observation.prop_map(|(matches, limit, headers)| Observation {
        matches,
        limit,
        headers,
    });
    let seeds = seeds(observation, |observation| {
        encode::observe_request(observation).encode_to_vec()
    });
    target("fuzz_observe_request", seeds)
        .run(|bytes| check::<tap::ObserveRequest, _>(bytes, decode::observe_request, encode::observe_request));
}

#[test]
fn fuzz_tap_events() {
    let seeds = [
        &b"\n\x08\n\x06\n\x04\x7f\0\0\x01"[..],
        b"\x1a\x10\n\x0e\n\x02\x08\x01\x12\x08\n\x06method\x1a\x02/a",
    ];
    target("fuzz_tap_events", seeds.map(<[u8]>::to_vec).into()).run(|bytes| {
        // A stream of events: what is remembered of streams is bounded by the decoder.
        let mut decoder = TapDecoder::default();
        within(HEAP_PER_BYTE * bytes.len() + 16_384, || {
            for event in bytes.chunks(40) {
                let _ = tap::TapEvent::decode(event).map(|event| decoder.decode(event));
            }
        });
    });
}

#[test]
fn fuzz_requests() {
    let request = (text(), authority()).prop_map(|(workload, authority)| {
        let target = OutboundTarget::Authority(authority);
        encode::traffic_spec(&OutboundRequest { workload, target }).encode_to_vec()
    });
    let mut seeds = seeds(request, Clone::clone);
    let (workload, port) = ("{\"ns\":\"web\",\"pod\":\"web-1\"}".to_owned(), 8080);
    seeds.push(
        encode::port_spec(&InboundRequest {
            workload: workload.clone(),
            port,
        })
        .encode_to_vec(),
    );
    let request = DestinationRequest {
        path: "web.ns:80".to_owned(),
        context: workload,
    };
    seeds.push(encode::get_destination(&request).encode_to_vec());
    target("fuzz_requests", seeds).run(|bytes| {
        check::<outbound::TrafficSpec, _>(bytes, decode::traffic_spec, encode::traffic_spec);
        check::<inbound::PortSpec, _>(bytes, decode::port_spec, encode::port_spec);
        check::<destination::GetDestination, _>(
            bytes,
            |wire| Ok(decode::get_destination(wire)),
            encode::get_destination,
        );
    });
}

#[test]
fn fuzz_certificates() {
    let request = proxy_api::CertifyRequest {
        identity: "web.ns.serviceaccount.identity.linkerd.cluster.local".to_owned(),
        token: b"token".to_vec(),
        csr_der: b"csr".to_vec(),
    };
    let certified = Certified {
        leaf_der: b"leaf".to_vec(),
        intermediates_der: vec![b"issuer".to_vec()],
        valid_until: std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000),
    };
    let seeds = vec![
        encode::certify_request(request).encode_to_vec(),
        encode::certified(certified.clone()).encode_to_vec(),
        encode::certified_bytes(&certified),
    ];
    target("fuzz_certificates", seeds).run(|bytes| {
        check::<identity::CertifyRequest, _>(bytes, decode::certify_request, |request| {
            encode::certify_request(request.clone())
        });
        check::<identity::CertifyResponse, _>(bytes, decode::certified, |certified| {
            encode::certified(certified.clone())
        });
        if let Ok(certified) = decode::certified_bytes(bytes) {
            assert_eq!(
                decode::certified_bytes(&encode::certified_bytes(&certified)),
                Ok(certified)
            );
        }
    });
}

#[test]
fn fuzz_discovery_cache() {
    // One after the other: together the strategies overflow the stack of a test.
    let mut runner = TestRunner::deterministic();
    let mut seeds = Vec::new();
    while seeds.len() < 20 {
        let server = server_policy(all_filters())
            .new_tree(&mut runner)
            .expect("a value")
            .current();
        let policy = client_policy(&Filters::whole())
            .new_tree(&mut runner)
            .expect("a value")
            .current();
        let profile = profile().new_tree(&mut runner).expect("a value").current();
        let known = CachedOutbound {
            policy: policy.into(),
            profile: Some(profile.into()),
            is_synthesised: seeds.len() % 2 == 0,
        };
        let target = OutboundTarget::Authority("web.ns:80".parse().expect("valid"));
        let cache = DiscoveryCache {
            inbound: vec![(80, server.into())],
            outbound: vec![(target, known)],
            ..DiscoveryCache::default()
        };
        seeds.push(encode::cache(&cache, 1 << 20).0);
    }
    target("fuzz_discovery_cache", seeds).run(|bytes| {
        let decoded = within(HEAP_PER_BYTE * bytes.len() + EXPRESSIONS, || decode::cache(bytes));
        let Ok(cache) = decoded else { return };
        let (again, left_out) = encode::cache(&cache, usize::MAX);
        assert_eq!(left_out, 0);
        assert_eq!(decode::cache(&again), Ok(cache));
    });
}
