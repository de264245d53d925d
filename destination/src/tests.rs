//! The whole program in one process: files in, gRPC out.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use clap::Parser as _;
use destination_source::Source;
use futures_util::{Stream, StreamExt};
use proxy_api::client;
use proxy_model::{EndpointUpdate, Profile};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::{args::Args, run};

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: a}
spec: {clusterIP: 10.9.0.1, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-1, namespace: a}
spec: {clusterIP: 10.9.0.2, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-2, namespace: a}
spec: {clusterIP: 10.9.0.3, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-x, namespace: a, labels: {app: web, linkerd.io/control-plane-ns: linkerd}}
spec: {serviceAccountName: web, containers: [{name: app, ports: [{containerPort: 8080}]}]}
status: {phase: Running, podIP: 10.9.1.1, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1-s, namespace: a, labels: {kubernetes.io/service-name: web-1}}
addressType: IPv4
endpoints:
- {addresses: [10.9.1.1], conditions: {ready: true}, targetRef: {kind: Pod, name: web-x, namespace: a}}
ports: [{port: 8080}]
";

fn split(one: u32, two: u32) -> String {
    format!(
        "apiVersion: split.smi-spec.io/v1alpha2\nkind: TrafficSplit\nmetadata: {{name: web, namespace: a}}\nspec:\n  \
         service: web\n  backends:\n  - {{service: web-1, weight: {one}}}\n  - {{service: web-2, weight: {two}}}\n"
    )
}

struct Program {
    destination: Channel,
    policy: Channel,
    admin: SocketAddr,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<Result<(), proxy_process::Error>>,
}

async fn program(dir: &Path) -> Program {
    let listen = || async { TcpListener::bind("127.0.0.1:0").await.expect("listens") };
    let listeners = run::Listeners {
        destination: listen().await,
        policy: listen().await,
        admin: listen().await,
    };
    let addr = |listener: &TcpListener| listener.local_addr().expect("an address");
    let channel = |addr: SocketAddr| {
        Endpoint::from_shared(format!("http://{addr}"))
            .expect("a URI")
            .connect_lazy()
    };
    let (destination, policy) = (channel(addr(&listeners.destination)), channel(addr(&listeners.policy)));
    let admin = addr(&listeners.admin);
    let stop = CancellationToken::new();
    let args = Args::parse_from(["mesh-destination", "--manifests", dir.to_str().expect("text")]);
    let source = Source::open(&args.manifests, None, &[]).await.expect("a source");
    let tasks = run::start(&args, source, listeners, stop.clone());
    let ended = tokio::spawn(tasks.finish(Duration::from_secs(5)));
    let program = Program {
        destination,
        policy,
        admin,
        stop,
        ended,
    };
    while !program.get("/ready").await.starts_with("HTTP/1.1 200") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    program
}

impl Program {
    async fn get(&self, path: &str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut io = tokio::net::TcpStream::connect(self.admin).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        io.write_all(request.as_bytes()).await.expect("writes");
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.expect("reads");
        answer
    }
}

async fn next<T>(stream: &mut (impl Stream<Item = proxy_api::Result<T>> + Unpin)) -> T {
    let message = tokio::time::timeout(Duration::from_secs(3), stream.next())
        .await
        .expect("in time");
    message.expect("open").expect("valid")
}

fn weights(profile: &Profile) -> Vec<(String, u32)> {
    profile
        .targets
        .iter()
        .map(|target| (target.authority.to_string(), target.weight))
        .collect()
}

#[tokio::test]
async fn serves_manifests_and_applies_a_changed_split_within_a_second() {
    let dir = tempfile::tempdir().expect("tempdir");
    fs::write(dir.path().join("services.yaml"), SERVICES).expect("written");
    fs::write(dir.path().join("split.yaml"), split(90, 10)).expect("written");
    fs::write(dir.path().join("bad.yaml"), "kind: [").expect("written");
    let program = program(dir.path()).await;

    let mut profile = client::get_profile(program.destination.clone(), "10.9.0.1:80", "ns:b")
        .await
        .expect("a stream");
    let first = next(&mut profile).await;
    assert_eq!(first.fully_qualified_name, "web.a.svc.cluster.local");
    let target = |name: &str, weight| (format!("{name}.a.svc.cluster.local:80"), weight);
    assert_eq!(weights(&first), [target("web-1", 900_000), target("web-2", 100_000)]);

    let start = Instant::now();
    fs::write(dir.path().join("split.yaml"), split(0, 100)).expect("written");
    let second = next(&mut profile).await;
    assert_eq!(weights(&second), [target("web-1", 0), target("web-2", 1_000_000)]);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());

    let mut endpoints = client::get(program.destination.clone(), &target("web-1", 0).0, "")
        .await
        .expect("a stream");
    let EndpointUpdate::Add { endpoints: added, .. } = next(&mut endpoints).await else {
        panic!("an add")
    };
    let identity = added[0].identity.as_ref().expect("meshed");
    assert_eq!(
        identity.server_id.as_str(),
        "web.a.serviceaccount.identity.linkerd.cluster.local"
    );

    let metrics = program.get("/metrics").await;
    assert!(
        metrics.contains("mesh_destination_streams{rpc=\"Destination.Get\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("mesh_destination_manifests_refused_total 1"),
        "{metrics}"
    );
    assert!(program.get("/streams").await.contains("\"target\":\"10.9.0.1:80\""));

    // A stop ends the streams, then the program.
    program.stop.cancel();
    assert!(endpoints.next().await.is_none_or(|ended| ended.is_err()));
    program.ended.await.expect("no panic").expect("no task ended early");
}

#[tokio::test]
async fn serves_policies_and_rejects_unknown_targets() {
    let dir = tempfile::tempdir().expect("tempdir");
    fs::write(dir.path().join("services.yaml"), SERVICES).expect("written");
    let program = program(dir.path()).await;
    let workload = "{\"ns\":\"a\",\"pod\":\"web-x\"}";

    let target = "10.9.0.1:80"
        .parse()
        .map(proxy_model::OutboundTarget::Addr)
        .expect("an address");
    let mut outbound = client::watch_outbound(program.policy.clone(), workload, &target)
        .await
        .expect("a stream");
    assert_eq!(next(&mut outbound).await.meta.name(), "web");
    let mut inbound = client::watch_inbound(program.policy.clone(), workload, 8080)
        .await
        .expect("a stream");
    assert_eq!(next(&mut inbound).await.labels["name"], "all-unauthenticated");

    let unknown_pod = client::watch_inbound(program.policy.clone(), "a:absent", 8080)
        .await
        .err()
        .expect("refused");
    assert_eq!(unknown_pod.kind(), proxy_api::Kind::NotFound);
    let unknown = client::get(program.destination.clone(), "x.a.svc.cluster.local:80", "")
        .await
        .err()
        .expect("refused");
    assert_eq!(unknown.kind(), proxy_api::Kind::NotFound);
    let short = client::get(program.destination.clone(), "web:80", "")
        .await
        .err()
        .expect("refused");
    assert_eq!(short.kind(), proxy_api::Kind::InvalidArgument);
    let metrics = program.get("/metrics").await;
    let refused = "mesh_destination_refused_total{rpc=\"Destination.Get\",code=\"NotFound\"} 1";
    assert!(metrics.contains(refused), "{metrics}");

    // Streams end at once, without an error.
    program.stop.cancel();
    assert!(outbound.next().await.is_none() && inbound.next().await.is_none());
    program.ended.await.expect("no panic").expect("in time");
}
