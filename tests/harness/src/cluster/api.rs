//! Scripted Kubernetes API server: lists, watches that stay open, and API groups.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

/// Path of token reviews.
const TOKEN_REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
/// Path of reviews of the program's own rights.
const ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
/// Token that proves the ServiceAccount `client` of the objects' namespace; every other one proves nothing.
pub const TOKEN: &str = "token";
/// Events buffered for one watch.
const EVENTS: usize = 64;

type Watches = BTreeMap<String, Vec<mpsc::Sender<Bytes>>>;
type Body = BoxBody<Bytes, Infallible>;

struct State {
    objects: BTreeMap<&'static str, Vec<Value>>,
    watches: Mutex<Watches>,
    version: AtomicU64,
}

/// Running server, stopped when dropped.
pub struct Api {
    /// Address.
    pub addr: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Api {
    /// Starts on loopback with objects by the path of their list.
    pub async fn start(objects: Vec<(&'static str, Vec<Value>)>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let state = Arc::new(State {
            objects: objects.into_iter().collect(),
            watches: Mutex::default(),
            version: AtomicU64::new(1),
        });
        let served = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                let _ = io.set_nodelay(true);
                let state = served.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let state = state.clone();
                    async move {
                        Ok::<_, Infallible>(match request.uri().path() {
                            TOKEN_REVIEWS => reviewed(request).await,
                            _ => state.answer(&request),
                        })
                    }
                });
                // Without TLS, HTTP/2 is not negotiated: each watch has a connection of its own.
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(io), service));
            }
        });
        Ok(Self { addr, state, task })
    }

    /// Writes a kubeconfig for this server.
    pub fn kubeconfig(&self, dir: &Path) -> Result<PathBuf> {
        let kubeconfig = dir.join("kubeconfig");
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
             clusters: [{{name: c, cluster: {{server: 'http://{}'}}}}], users: [{{name: u, user: {{}}}}]}}",
            self.addr
        );
        std::fs::write(&kubeconfig, text)?;
        Ok(kubeconfig)
    }

    /// Sends a changed object to the watches of a path; returns the time.
    pub fn change(&self, (path, object): (&'static str, Value)) -> Result<Instant> {
        let object = self.state.versioned(object);
        let mut line = serde_json::to_vec(&json!({"type": "MODIFIED", "object": object}))?;
        line.push(b'\n');
        let line = Bytes::from(line);
        let since = Instant::now();
        let watches = self.state.watches();
        let open = watches.get(path).into_iter().flatten();
        let watches = open.filter(|watch| watch.try_send(line.clone()).is_ok()).count();
        ensure!(watches > 0, "no watch of {path} is open");
        Ok(since)
    }
}

impl State {
    fn watches(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn versioned(&self, mut object: Value) -> Value {
        let version = self.version.fetch_add(1, Ordering::Relaxed);
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        object
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        if path == "/apis" {
            return whole(StatusCode::OK, &self.groups());
        }
        if path == ACCESS_REVIEWS {
            let review = json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
                "metadata": {}, "spec": {}, "status": {"allowed": true}});
            return whole(StatusCode::CREATED, &review);
        }
        if let Some(object) = self.one(path) {
            return whole(StatusCode::OK, &self.versioned(object));
        }
        let Some(objects) = self.objects.get(path) else {
            let custom = path.contains(".linkerd.io/") || path.contains("gateway") || path.contains("smi-spec");
            let code = if custom { StatusCode::NOT_FOUND } else { StatusCode::OK };
            let status = json!({"kind": "Status", "code": code.as_u16(), "status": "Failure", "message": "no",
                "reason": "NotFound", "metadata": {"resourceVersion": "1"}, "items": []});
            return whole(code, &status);
        };
        if query.contains("watch=true") {
            let (sender, events) = mpsc::channel::<Bytes>(EVENTS);
            self.watches().entry(path.to_owned()).or_default().push(sender);
            let frames = stream::unfold(events, |mut events| async move {
                let line = events.recv().await?;
                Some((Ok(Frame::data(line)), events))
            });
            return Response::new(StreamBody::new(frames).boxed());
        }
        let items: Vec<Value> = objects.iter().map(|object| self.versioned(object.clone())).collect();
        whole(
            StatusCode::OK,
            &json!({"metadata": {"resourceVersion": "1"}, "items": items}),
        )
    }

    /// Object at the path of one.
    fn one(&self, path: &str) -> Option<Value> {
        let (list, name) = path.rsplit_once('/')?;
        let named = |object: &&Value| object["metadata"]["name"] == name;
        self.objects.get(list)?.iter().find(named).cloned()
    }

    fn groups(&self) -> Value {
        let names = self.objects.keys().filter_map(|path| {
            let mut parts = path.strip_prefix("/apis/")?.split('/');
            Some((parts.next()?, parts.next()?))
        });
        let group = |(name, version): (&str, &str)| {
            let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
            json!({"name": name, "versions": [version], "preferredVersion": version})
        };
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": names.map(group).collect::<Vec<_>>()})
    }
}

/// Answer to a token review.
async fn reviewed(request: Request<Incoming>) -> Response<Body> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes());
    let review: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
    let user = format!("system:serviceaccount:{}:client", super::objects::NAMESPACE);
    let status = match review["spec"]["token"].as_str() {
        Some(TOKEN) => {
            json!({"authenticated": true, "user": {"username": user}, "audiences": review["spec"]["audiences"]})
        }
        _ => json!({"authenticated": false, "error": "unknown token"}),
    };
    let review = json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "spec": review["spec"], "status": status});
    whole(StatusCode::CREATED, &review)
}

fn whole(code: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())).boxed());
    *response.status_mut() = code;
    response
}
