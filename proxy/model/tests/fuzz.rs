//! Hostile text for the grammars of annotations, headers and the environment.

use std::{str::FromStr, time::Duration};

use proxy_model::{Authority, Id, duration, identity::ServiceAccount, policy::DefaultPolicy, ports::PortSet, retry};
use tests_fuzz::{Target, within};

#[test]
fn fuzz_grammars() {
    let seeds = [
        "1m30s",
        "1.5s",
        "250ms",
        "18446744073709551615d",
        "5xx,gateway-error,404,500-503",
        "cancelled,unavailable",
        "25,587,8000-8010",
        "web.emoji:80",
        "[::1]:8080",
        "web.ns.serviceaccount.identity.linkerd.cluster.local",
        "spiffe://root/ns/web",
        "all-unauthenticated",
        "cluster-authenticated",
    ];
    let target = Target {
        name: "fuzz_grammars",
        seeds: seeds.map(|text| text.as_bytes().to_vec()).into(),
        words: &[
            "ms",
            "h",
            "µs",
            "-",
            ",",
            ":",
            ".",
            "65535",
            "65536",
            "serviceaccount.identity.",
            "4294967296",
            "e9",
        ],
    };
    target.run(|bytes| {
        let text = &String::from_utf8_lossy(bytes);
        within(64 * text.len() + 4096, || {
            durations(text);
            ports(text);
            statuses(text);
            names(text);
        });
    });
}

fn durations(text: &str) {
    for parsed in [duration::go(text), duration::linkerd(text)].into_iter().flatten() {
        let nanos = format!("{}ns", parsed.as_nanos());
        // Longer ones than 31 years have no such form.
        let again = duration::go(&nanos).unwrap_or(parsed);
        assert!(
            parsed.abs_diff(again) <= parsed / 1_000_000_000 + Duration::from_nanos(1),
            "{text:?}"
        );
    }
}

fn ports(text: &str) {
    let Ok(set) = PortSet::from_str(text) else { return };
    assert!(set.ranges().iter().all(|(low, high)| *low > 0 && low <= high));
    let written: Vec<String> = set.ranges().iter().map(|(low, high)| format!("{low}-{high}")).collect();
    assert_eq!(written.join(",").parse(), Ok(set));
}

fn statuses(text: &str) {
    if let Some(ranges) = retry::statuses(text) {
        let is_status = |status: &u16| (100..600).contains(status);
        assert!(
            ranges
                .iter()
                .all(|(low, high)| is_status(low) && is_status(high) && low <= high)
        );
    }
    let _ = (retry::grpc_codes(text), DefaultPolicy::from_str(text));
}

fn names(text: &str) {
    if let Ok(id) = Id::from_str(text) {
        assert_eq!(id.as_str().parse(), Ok(id.clone()), "an identity is its own text");
        if let Id::Dns(name) = &id {
            assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'*') && !name.ends_with('.'));
        }
        if let Some(account) = ServiceAccount::parse(id.as_str()) {
            assert_eq!(
                account.mesh.service_account(account.name, account.namespace),
                id.as_str()
            );
        }
    }
    if let Ok(authority) = Authority::from_str(text) {
        assert_eq!(authority.to_string().parse(), Ok(authority), "{text:?}");
    }
}
