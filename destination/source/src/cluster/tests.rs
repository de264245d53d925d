//! The whole watch against a scripted API server, with a jumping clock.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use destination_k8s::{Kind, Object};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{Client, Selection, Watch, watch};
use crate::Update;

const SERVICES: &str = "/api/v1/services";
const SPLITS: &str = "/apis/split.smi-spec.io/v1alpha2/trafficsplits";
/// Objects of one page: small, so that lists have several.
const PAGE: usize = 2;
/// Longer than any delay after a failure.
const LONG: Duration = Duration::from_secs(3600);

/// An API server in memory.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

type Frames = mpsc::Sender<Result<Frame<Bytes>, io::Error>>;

#[derive(Default)]
struct State {
    down: bool,
    forbidden: bool,
    /// Versions up to this are too old to watch from.
    compacted: u64,
    version: u64,
    lists: usize,
    /// Objects by path; a missing path is not served.
    objects: BTreeMap<&'static str, BTreeMap<String, Value>>,
    watches: Vec<(String, Frames)>,
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with it")
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { server.state().answer(&request) }
        });
        Client::from_kube(kube::Client::new(service, "default"))
    }

    fn serve(&self, path: &'static str) -> &Self {
        self.state().objects.entry(path).or_default();
        self
    }

    fn apply(&self, path: &'static str, name: &str, spec: Value) -> &Self {
        self.state().change(path, name, Some(spec));
        self
    }

    fn delete(&self, path: &'static str, name: &str) -> &Self {
        self.state().change(path, name, None);
        self
    }

    /// Cuts all watches, as a killed server does.
    fn cut(&self) {
        for (_, watch) in self.state().watches.drain(..) {
            let _ = watch.try_send(Err(io::ErrorKind::ConnectionReset.into()));
        }
    }
}

impl State {
    fn change(&mut self, path: &'static str, name: &str, spec: Option<Value>) {
        self.version += 1;
        let mut object = json!({"metadata": {"name": name, "namespace": "a", "managedFields": [],
            "resourceVersion": self.version.to_string()}});
        let of_path = self.objects.entry(path).or_default();
        let kind = match spec {
            Some(spec) => {
                object["spec"] = spec;
                let known = of_path.insert(name.to_owned(), object.clone()).is_some();
                if known { "MODIFIED" } else { "ADDED" }
            }
            None => {
                of_path.remove(name);
                "DELETED"
            }
        };
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        let frame = || Ok(Frame::data(Bytes::from(line.clone())));
        self.watches
            .retain(|(of, watch)| of != path || watch.try_send(frame()).is_ok());
    }

    fn answer(&mut self, request: &Request<Body>) -> Result<Response<StreamBody<ReceiverStream<Reply>>>, io::Error> {
        if self.down {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        if self.forbidden {
            return Ok(status(403, "not you"));
        }
        let path = request.uri().path();
        if path == "/apis" {
            let groups = if self.objects.contains_key(SPLITS) {
                json!([{"name": "split.smi-spec.io",
                "versions": [{"groupVersion": "split.smi-spec.io/v1alpha2", "version": "v1alpha2"}]}])
            } else {
                json!([])
            };
            return Ok(reply(
                200,
                &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}),
            ));
        }
        let Some(objects) = self.objects.get(path) else {
            return Ok(status(404, "not found"));
        };
        let query: BTreeMap<_, _> = request
            .uri()
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|p| p.split_once('='))
            .collect();
        if query.get("watch") != Some(&"true") {
            let from: usize = query.get("continue").map_or(0, |from| from.parse().expect("ours"));
            // As the real one does where metadata is asked for.
            let items = (!objects.is_empty()).then(|| objects.values().skip(from).take(PAGE).collect::<Vec<_>>());
            let next = if from + PAGE < objects.len() {
                (from + PAGE).to_string()
            } else {
                String::new()
            };
            let page =
                json!({"metadata": {"resourceVersion": self.version.to_string(), "continue": next}, "items": items});
            self.lists += 1;
            return Ok(reply(200, &page));
        }
        let from: u64 = query["resourceVersion"].parse().expect("ours");
        if from < self.compacted {
            return Ok(status(410, "too old resource version"));
        }
        let (frames, body) = mpsc::channel(16);
        for object in objects.values() {
            let version: u64 = object["metadata"]["resourceVersion"]
                .as_str()
                .expect("ours")
                .parse()
                .expect("ours");
            if version > from {
                let line = format!("{}\n", json!({"type": "MODIFIED", "object": object}));
                frames.try_send(Ok(Frame::data(Bytes::from(line)))).expect("room");
            }
        }
        self.watches.push((path.to_owned(), frames));
        Ok(Response::new(StreamBody::new(ReceiverStream::new(body))))
    }
}

type Reply = Result<Frame<Bytes>, io::Error>;

fn reply(code: u16, body: &Value) -> Response<StreamBody<ReceiverStream<Reply>>> {
    let (frames, stream) = mpsc::channel(1);
    frames
        .try_send(Ok(Frame::data(Bytes::from(body.to_string()))))
        .expect("room");
    let body = StreamBody::new(ReceiverStream::new(stream));
    Response::builder().status(code).body(body).expect("valid")
}

fn status(code: u16, message: &str) -> Response<StreamBody<ReceiverStream<Reply>>> {
    reply(
        code,
        &json!({"kind": "Status", "status": "Failure", "code": code, "message": message, "reason": ""}),
    )
}

fn port(port: u16) -> Value {
    json!({"ports": [{"port": port}]})
}

fn split(weight: &str) -> Value {
    json!({"service": "web", "backends": [{"service": "web-1", "weight": weight}]})
}

fn watching(server: &Server) -> Watch {
    watch(
        &server.client(),
        [Kind::Service, Kind::TrafficSplit].map(Selection::from),
    )
}

async fn next(watch: &mut Watch) -> Update {
    timeout(LONG, watch.updates.recv())
        .await
        .expect("in time")
        .expect("open")
}

async fn nothing_for(watch: &mut Watch, time: Duration) {
    let update = timeout(time, watch.updates.recv()).await;
    assert!(update.is_err(), "{update:?}");
}

fn names(objects: &[Object]) -> Vec<String> {
    objects.iter().map(|object| object.object_ref().to_string()).collect()
}

fn changed(update: Update) -> (Vec<String>, Vec<String>) {
    let Update::Changed { applied, deleted } = update else {
        panic!("{update:?}");
    };
    (names(&applied), deleted.iter().map(ToString::to_string).collect())
}

fn reset(update: Update) -> Vec<String> {
    let Update::Reset(objects) = update else {
        panic!("{update:?}");
    };
    names(&objects)
}

fn one(name: &str) -> Vec<String> {
    vec![name.to_owned()]
}

#[tokio::test(start_paused = true)]
async fn sends_a_reset_of_all_pages_and_then_changes() {
    let server = Server::default();
    for name in ["a", "b", "c", "d", "e"] {
        server.apply(SERVICES, name, port(80));
    }
    let mut watch = watching(&server);
    assert_eq!(reset(next(&mut watch).await).len(), 5);
    assert!(watch.states.is_synced());
    sleep(Duration::from_secs(1)).await;
    server.apply(SERVICES, "f", port(80));
    assert_eq!(changed(next(&mut watch).await), (one("Service a/f"), vec![]));
    server.delete(SERVICES, "a");
    assert_eq!(changed(next(&mut watch).await), (vec![], one("Service a/a")));
    let services = &watch.states.kinds()[0];
    assert_eq!((services.objects, services.version, services.lists), (5, Some("v1"), 1));
    assert!(services.connected && services.age().is_some_and(|age| age < LONG));
}

#[tokio::test(start_paused = true)]
async fn sends_only_differences_after_an_outage() {
    let server = Server::default();
    server
        .apply(SERVICES, "a", port(80))
        .apply(SERVICES, "b", port(80))
        .apply(SERVICES, "c", port(80));
    let mut watch = watching(&server);
    next(&mut watch).await;
    // Short: the watch resumes.
    sleep(Duration::from_secs(1)).await;
    let lists = server.state().lists;
    server.state().down = true;
    server.cut();
    server.apply(SERVICES, "a", port(81));
    nothing_for(&mut watch, Duration::from_secs(60)).await;
    assert!(watch.states.away().is_some_and(|away| away > Duration::from_secs(50)));
    server.state().down = false;
    let begun = Instant::now();
    assert_eq!(changed(next(&mut watch).await), (one("Service a/a"), vec![]));
    assert!(begun.elapsed() < Duration::from_secs(2) && watch.states.away().is_none());
    assert_eq!(server.state().lists, lists);
    // Long: versions are too old, and missed deletions are detected.
    server.state().down = true;
    server.cut();
    server
        .delete(SERVICES, "b")
        .apply(SERVICES, "d", port(80))
        .apply(SERVICES, "c", port(80));
    nothing_for(&mut watch, 24 * LONG).await;
    let version = server.state().version;
    server.state().compacted = version;
    server.state().down = false;
    assert_eq!(
        changed(next(&mut watch).await),
        (one("Service a/d"), one("Service a/b"))
    );
    assert!(server.state().lists > lists);
}

#[tokio::test(start_paused = true)]
async fn waits_for_a_crd_and_confirms_its_removal() {
    let server = Server::default();
    server.apply(SERVICES, "a", port(80));
    let mut watch = watching(&server);
    assert_eq!(reset(next(&mut watch).await), one("Service a/a"));
    nothing_for(&mut watch, LONG).await;
    server.serve(SPLITS).apply(SPLITS, "s", split("900m"));
    let begun = Instant::now();
    assert_eq!(changed(next(&mut watch).await), (one("TrafficSplit a/s"), vec![]));
    assert!(begun.elapsed() <= Duration::from_secs(3));
    assert_eq!(watch.states.kinds()[1].version, Some("split.smi-spec.io/v1alpha2"));
    // A server that starts up does not serve its CRDs at once.
    let taken = server.state().objects.remove(SPLITS).expect("there");
    server.cut();
    nothing_for(&mut watch, Duration::from_secs(8)).await;
    server.state().objects.insert(SPLITS, taken);
    nothing_for(&mut watch, LONG).await;
    server.state().objects.remove(SPLITS);
    server.cut();
    assert_eq!(changed(next(&mut watch).await), (vec![], one("TrafficSplit a/s")));
}

#[tokio::test(start_paused = true)]
async fn withholds_the_reset_while_permission_is_denied() {
    let server = Server::default();
    server.apply(SERVICES, "a", port(80)).state().forbidden = true;
    let mut watch = watching(&server);
    nothing_for(&mut watch, Duration::from_secs(60)).await;
    let services = watch.states.kinds().remove(0);
    assert_eq!(
        services.error.as_deref(),
        Some("permission denied: cannot list services: not you")
    );
    assert!(!watch.states.is_synced());
    server.state().forbidden = false;
    assert_eq!(reset(next(&mut watch).await), one("Service a/a"));
    assert_eq!(watch.states.kinds()[0].error, None);
}

#[tokio::test(start_paused = true)]
async fn rejects_invalid_objects_and_keeps_their_neighbors() {
    let server = Server::default();
    server
        .serve(SERVICES)
        .apply(SPLITS, "bad", split("much"))
        .apply(SPLITS, "good", split("1"));
    let mut watch = watching(&server);
    assert_eq!(reset(next(&mut watch).await), one("TrafficSplit a/good"));
    let Update::Refused(refused) = next(&mut watch).await else {
        panic!("refused");
    };
    assert!(refused[0].to_string().contains("TrafficSplit a/bad"), "{}", refused[0]);
    sleep(Duration::from_secs(1)).await;
    server.apply(SPLITS, "bad", split("2"));
    assert_eq!(changed(next(&mut watch).await), (one("TrafficSplit a/bad"), vec![]));
}

#[tokio::test(start_paused = true)]
async fn limits_lists_of_a_server_that_expires_every_watch() {
    let server = Server::default();
    server.serve(SERVICES).serve(SPLITS).state().compacted = u64::MAX;
    let mut watch = watching(&server);
    next(&mut watch).await;
    nothing_for(&mut watch, Duration::from_secs(60)).await;
    let lists = server.state().lists;
    assert!(lists < 50, "{lists} lists in a minute");
}

#[tokio::test(start_paused = true)]
async fn watches_end_with_their_reader() {
    let server = Server::default();
    server.serve(SERVICES).serve(SPLITS);
    let mut watch = watching(&server);
    next(&mut watch).await;
    sleep(Duration::from_secs(1)).await;
    drop(watch);
    sleep(Duration::from_secs(1)).await;
    assert!(server.state().watches.iter().all(|(_, frames)| frames.is_closed()));
}
