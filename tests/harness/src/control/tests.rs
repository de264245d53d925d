//! The scripted control plane, asked as a proxy asks it.

use futures_util::{Stream, StreamExt as _};
use proxy_api::{Kind, Result, client};
use proxy_model::{EndpointUpdate, OutboundTarget};
use tonic::transport::Channel;

use crate::{Call, ControlPlane, Pki, certificates::identity, client::Client, server::Server, values};

const PATH: &str = "web.emoji.svc.cluster.local:80";

async fn channel(control: &ControlPlane) -> Channel {
    let uri = format!("http://{}", control.addr()).parse().unwrap();
    Channel::builder(uri).connect().await.unwrap()
}

async fn next<T>(stream: &mut (impl Stream<Item = Result<T>> + Unpin)) -> Result<T> {
    let next = tokio::time::timeout(std::time::Duration::from_secs(5), stream.next()).await;
    next.expect("an answer within five seconds")
        .expect("the stream goes on")
}

#[tokio::test]
async fn watches_deliver_policies_and_their_changes() {
    let control = ControlPlane::start().await;
    let channel = channel(&control).await;
    let target = OutboundTarget::Addr("10.0.0.1:80".parse().unwrap());
    let unknown = client::watch_outbound(channel.clone(), "w", &target)
        .await
        .err()
        .unwrap();
    assert_eq!(unknown.kind(), Kind::NotFound);
    let policy = values::service("emoji", "web", 80);
    control.set_outbound(&target, Some(policy.clone()));
    let mut outbound = client::watch_outbound(channel.clone(), "w", &target).await.unwrap();
    assert_eq!(next(&mut outbound).await.unwrap(), policy);
    let other = values::service("emoji", "other", 80);
    control.set_outbound(&target, Some(other.clone()));
    assert_eq!(next(&mut outbound).await.unwrap(), other);
    let mut inbound = client::watch_inbound(channel.clone(), "w", 8080).await.unwrap();
    assert_eq!(next(&mut inbound).await.unwrap(), values::all_unauthenticated());
    let mut profile = client::get_profile(channel, "10.0.0.1:80", "c").await.unwrap();
    assert_eq!(next(&mut profile).await.unwrap().targets, []);
    assert!(control.asked(|call| *call == Call::Inbound("w".into(), 8080)).await);
}

#[tokio::test]
async fn endpoint_updates_are_differences() {
    let control = ControlPlane::start().await;
    let [a, b] =
        ["10.0.0.2:80", "10.0.0.3:80"].map(|addr| values::meshed(addr.parse().unwrap(), &identity("emoji", "web")));
    control.set_endpoints(PATH, Some(values::endpoints([a.clone()])));
    let mut updates = client::get(channel(&control).await, PATH, "c").await.unwrap();
    let added = |endpoints| EndpointUpdate::Add {
        labels: std::sync::Arc::default(),
        endpoints,
    };
    assert_eq!(next(&mut updates).await.unwrap(), added(vec![a.clone()]));
    control.set_endpoints(PATH, Some(values::endpoints([b.clone()])));
    assert_eq!(next(&mut updates).await.unwrap(), added(vec![b]));
    assert_eq!(next(&mut updates).await.unwrap(), EndpointUpdate::Remove(vec![a.addr]));
    control.set_endpoints(PATH, Some(values::endpoints([])));
    assert_eq!(
        next(&mut updates).await.unwrap(),
        EndpointUpdate::NoEndpoints { exists: true }
    );
}

#[tokio::test]
async fn an_outage_breaks_streams_and_ends_at_the_same_address() {
    let mut control = ControlPlane::start().await;
    let first = channel(&control).await;
    let mut inbound = client::watch_inbound(first.clone(), "w", 8080).await.unwrap();
    next(&mut inbound).await.unwrap();
    control.stop();
    assert_eq!(next(&mut inbound).await.unwrap_err().kind(), Kind::Unavailable);
    control.restart().await;
    let mut again = client::watch_inbound(channel(&control).await, "w", 8080).await.unwrap();
    next(&mut again).await.unwrap();
}

#[tokio::test]
async fn identities_are_signed_for_whoever_asks() {
    let control = ControlPlane::start().await;
    let name = identity("emoji", "web");
    let made = identity_x509::make_key_and_csr(&name).unwrap();
    let certified = client::certify(channel(&control).await, &name, b"token".to_vec(), made.csr_der)
        .await
        .unwrap();
    let anchors = identity_x509::Anchors::from_pem(&control.pki().anchors_pem()).unwrap();
    let intermediates: Vec<_> = certified.intermediates_der.into_iter().map(Into::into).collect();
    anchors
        .verify(&certified.leaf_der, &intermediates, std::time::SystemTime::now())
        .unwrap();
}

#[tokio::test]
async fn servers_answer_clients() {
    let server = Server::constant("hello").await;
    for mut client in [
        Client::http1(server.addr, "web.test").await.unwrap(),
        Client::http2(server.addr, "web.test").await.unwrap(),
    ] {
        assert_eq!(client.get("/").await.unwrap().body, "hello");
        assert_eq!(client.post("/", "x").await.unwrap().status, 200);
    }
}

#[test]
fn certificates_survive_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::new();
    pki.save(folder.path()).unwrap();
    let read = Pki::load(folder.path()).unwrap();
    assert_eq!(read.anchors_pem(), pki.anchors_pem());
    let anchors = identity_x509::Anchors::from_pem(&pki.anchors_pem()).unwrap();
    let made = read.credentials("a.test");
    let intermediates: Vec<_> = made.intermediates_der.into_iter().map(Into::into).collect();
    anchors
        .verify(&made.leaf_der, &intermediates, std::time::SystemTime::now())
        .unwrap();
}
