//! Cost of a change of the cluster to the index, with many open answers: `cargo bench -p destination-index`.

use std::sync::Arc;

use destination_index::{Config, Context, Index, Object};
use divan::Bencher;
use proxy_model::EndpointSet;
use serde_json::json;
use tokio::sync::watch;

fn main() {
    divan::main();
}

/// Services, each with a slice of ten endpoints and a subscriber.
const SERVICES: [usize; 2] = [100, 1000];

fn object(value: serde_json::Value) -> Object {
    Object::from_value(value).expect("an object")
}

fn name(at: usize) -> String {
    format!("web-{at}")
}

fn service(at: usize) -> Object {
    let address = format!("10.200.{}.{}", at / 250, at % 250 + 1);
    object(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name(at), "namespace": "shop"},
        "spec": {"clusterIP": address, "selector": {"app": name(at)}, "ports": [{"port": 80, "targetPort": 8080}]}}),
    )
}

fn slice(at: usize, ready: bool) -> Object {
    let endpoints: Vec<_> = (0..10)
        .map(|n| {
            let address = format!("10.{}.{}.{}", 100 + at / 250, at % 250, n + 1);
            json!({"addresses": [address], "conditions": {"ready": ready || n > 0}})
        })
        .collect();
    object(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name(at), "namespace": "shop", "labels": {"kubernetes.io/service-name": name(at)}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"port": 8080}]}))
}

fn objects(services: usize) -> Vec<Object> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    let mut all = vec![object(namespace)];
    all.extend((0..services).flat_map(|at| [service(at), slice(at, true)]));
    all
}

fn path(at: usize) -> String {
    format!("{}.shop.svc.cluster.local:80", name(at))
}

/// An index of `services` Services, with a subscriber to the endpoints of each.
fn followed(services: usize) -> (Index, Vec<watch::Receiver<Arc<EndpointSet>>>) {
    let mut index = Index::new(Config::default());
    index.apply(objects(services));
    let context = Context::default();
    let readers = (0..services).map(|at| index.endpoints(&path(at), &context).expect("a Service"));
    let readers = readers.collect();
    (index, readers)
}

/// One endpoint becomes unready, and its only subscriber is notified.
#[divan::bench(args = SERVICES)]
fn endpoint(bencher: Bencher<'_, '_>, services: usize) {
    let (mut index, readers) = followed(services);
    let mut ready = true;
    bencher.bench_local(|| {
        ready = !ready;
        index.apply([slice(0, ready)]);
        readers[0].borrow().endpoints.len()
    });
}

/// All objects again, as after an outage of the API server: nothing has changed.
#[divan::bench(args = SERVICES)]
fn relist(bencher: Bencher<'_, '_>, services: usize) {
    let (mut index, readers) = followed(services);
    bencher.with_inputs(|| objects(services)).bench_local_values(|all| {
        index.reset(all);
        readers.len()
    });
}

/// Expressions of one tenant, by number of ServiceProfiles: one with more than its budget, or many within theirs.
const EXPRESSIONS: [(usize, usize); 2] = [(1, 20_000), (80, 250)];

/// One endpoint becomes unready while another tenant's expressions are stored; the search for problems included.
#[divan::bench(args = EXPRESSIONS)]
fn endpoint_beside_expressions(bencher: Bencher<'_, '_>, (profiles, expressions): (usize, usize)) {
    let (mut index, readers) = followed(100);
    let profile = |at: usize| {
        let route = |n: usize| json!({"name": "r", "condition": {"pathRegex": format!("/{n}/[a-z]{{8}}")}});
        let name = format!("{}.shop.svc.cluster.local", name(at));
        object(json!({"apiVersion": "linkerd.io/v1alpha2", "kind": "ServiceProfile",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"routes": (0..expressions).map(route).collect::<Vec<_>>()}}))
    };
    index.apply((0..profiles).map(profile));
    let mut ready = true;
    bencher.bench_local(|| {
        ready = !ready;
        index.apply([slice(0, ready)]);
        (readers[0].borrow().endpoints.len(), index.problems().len())
    });
}
