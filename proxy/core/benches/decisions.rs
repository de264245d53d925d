//! Cost of single decisions on the request path: `cargo bench -p proxy-core`. Each takes some tens of nanoseconds of a
//! request that takes tens of microseconds; look for figures that have grown tenfold.

use std::{
    hint::black_box,
    net::IpAddr,
    time::{Duration, Instant},
};

use divan::Bencher;
use http::{HeaderMap, Method, Uri};
use proxy_core::{
    authorize::{self, ClientTls},
    balance::{self, PeakEwma},
    budget::RetryBudget,
    detect, distribute,
    select::{self, Head},
};
use proxy_model::{
    Authentication, Authorization, Meta, NetworkMatch,
    profile::RetryBudget as Params,
    route::{HttpMatch, PathMatch, Route, Rule},
};

fn main() {
    divan::main();
}

/// Picks among endpoints that all have an estimate.
#[divan::bench(args = [2, 10, 1000])]
fn balance(bencher: Bencher<'_, '_>, endpoints: usize) {
    let now = Instant::now();
    let all: Vec<PeakEwma> = (0..endpoints).map(|_| PeakEwma::new(balance::DEFAULT, now)).collect();
    for (at, one) in all.iter().enumerate() {
        one.record(Duration::from_micros(500 + at as u64), now);
    }
    let mut rng = fastrand::Rng::with_seed(1);
    bencher.bench_local(|| {
        let chosen = balance::p2c(all.len(), &mut rng, |at| Some(all[at].cost(now)));
        let one = &all[chosen.expect("all are ready")];
        one.begin();
        one.record(Duration::from_micros(600), now);
        one.end();
    });
}

/// Selects the last of several routes.
#[divan::bench(args = [1, 10, 100])]
fn select(bencher: Bencher<'_, '_>, routes: usize) {
    let routes: Vec<Route<HttpMatch, usize>> = (0..routes).map(route).collect();
    let uri: Uri = format!("http://web.shop.svc.cluster.local/api/{}/carts", routes.len() - 1)
        .parse()
        .expect("a URI");
    let headers = HeaderMap::new();
    bencher.bench_local(|| {
        let head = Head::new(&Method::GET, black_box(&uri), &headers);
        select::http(&routes, &head).expect("one matches").rule.action
    });
}

fn route(at: usize) -> Route<HttpMatch, usize> {
    let path = PathMatch::Prefix(format!("/api/{at}"));
    let matches = vec![HttpMatch {
        path: Some(path),
        ..HttpMatch::default()
    }];
    Route {
        meta: Meta::default_named("route"),
        hosts: Vec::new(),
        rules: vec![Rule {
            matches,
            filters: Vec::new(),
            action: at,
        }],
        authorizations: Vec::new(),
    }
}

/// Picks a backend by weight.
#[divan::bench(args = [2, 10])]
fn split(bencher: Bencher<'_, '_>, backends: usize) {
    let mut rng = fastrand::Rng::with_seed(1);
    bencher.bench_local(|| distribute::weighted(black_box(backends), |at| 1 + at as u32, &mut rng, |_| true));
}

/// Authorizes a client by the last of several authorizations.
#[divan::bench(args = [1, 20])]
fn authorize(bencher: Bencher<'_, '_>, authorizations: usize) {
    let all: Vec<Authorization> = (0..authorizations).map(authorization).collect();
    let client: IpAddr = "10.1.2.3".parse().expect("an address");
    let name = format!(
        "client-{}.shop.serviceaccount.identity.linkerd.cluster.local",
        all.len() - 1
    );
    let tls = ClientTls::Mesh {
        client_id: Some(name.parse().expect("an identity")),
    };
    bencher.bench_local(|| authorize::allows(black_box(&all), client, &tls).is_some());
}

fn authorization(at: usize) -> Authorization {
    let identity = format!("client-{at}.shop.serviceaccount.identity.linkerd.cluster.local");
    Authorization {
        networks: vec![NetworkMatch {
            net: "10.0.0.0/8".parse().expect("a network"),
            except: Vec::new(),
        }],
        authentication: Authentication::TlsAuthenticated {
            identities: vec![identity.parse().expect("an identity")],
            suffixes: Vec::new(),
        },
        labels: Default::default(),
        meta: None,
    }
}

/// Deposits for each request and withdraws for each tenth.
#[divan::bench]
fn budget(bencher: Bencher<'_, '_>) {
    let params = Params {
        ratio: 0.2,
        min_per_second: 10,
        ttl: Some(Duration::from_secs(10)),
    };
    let begun = Instant::now();
    let mut budget = RetryBudget::new(&params, begun).expect("in range");
    let mut requests = 0_u64;
    bencher.bench_local(|| {
        requests += 1;
        let now = begun + Duration::from_micros(20 * requests);
        budget.deposit(now);
        requests.is_multiple_of(10) && budget.withdraw(now)
    });
}

/// Detects the protocol from the first bytes.
#[divan::bench]
fn detect_http1() -> detect::Detected {
    detect::http(black_box(b"GET /api/carts HTTP/1.1\r\nhost: web.shop\r\n\r\n"))
}
