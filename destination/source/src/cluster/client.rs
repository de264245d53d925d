//! Connection to an API server, and the meaning of its errors.
//!
//! One HTTP/2 connection carries all watches: PINGs detect a dead server soon, and one set of buffers is enough. kube's
//! default client speaks only HTTP/1.1, with one connection per watch, and logs each failure itself.

use std::{error::Error as StdError, path::PathBuf, sync::Arc, time::Duration};

use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Config,
    client::{Body, ClientBuilder, ConfigExt},
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use serde::de::DeserializeOwned;
use tower::ServiceBuilder;

use crate::Error;

/// Time between PINGs, which detect a server that has silently gone.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Time for the response to a PING.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a call; an API server itself gives up after a minute.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Cluster and credentials; by default those of `kubectl`, or of the pod's service account.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// Kubeconfig, instead of `$KUBECONFIG` and `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig, instead of the current one.
    pub context: Option<String>,
    /// User to impersonate (`--as`).
    pub impersonate: Option<String>,
    /// Groups to impersonate (`--as-group`).
    pub impersonate_groups: Vec<String>,
    /// Supports upgraded streams (port-forward, exec), which need HTTP/1.1.
    pub upgrades: bool,
}

/// Client of an API server. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: kube::Client,
    url: Arc<str>,
    namespace: Arc<str>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Makes a client. Nothing is sent yet: the first call shows whether the cluster responds.
pub async fn client(options: &ClientOptions) -> Result<Client, Error> {
    let mut config = config(options).await?;
    config.auth_info.impersonate = options.impersonate.clone().or(config.auth_info.impersonate);
    if !options.impersonate_groups.is_empty() {
        config.auth_info.impersonate_groups = Some(options.impersonate_groups.clone());
    }
    let url: Arc<str> = config.cluster_url.to_string().trim_end_matches('/').into();
    let namespace: Arc<str> = config.default_namespace.as_str().into();
    let unusable =
        |error: kube::Error| Error::Config(format!("cannot connect to the cluster at {url}: {}", root(&error)));
    let inner = connect(config, options.upgrades).map_err(unusable)?;
    Ok(Client { inner, url, namespace })
}

async fn config(options: &ClientOptions) -> Result<Config, Error> {
    let from = KubeConfigOptions {
        context: options.context.clone(),
        ..KubeConfigOptions::default()
    };
    let chosen = options.kubeconfig.as_ref();
    let read = chosen.map_or_else(Kubeconfig::read, Kubeconfig::read_from);
    let named = || {
        chosen.map_or_else(
            || "the kubeconfig".to_owned(),
            |path| format!("the kubeconfig {}", path.display()),
        )
    };
    match read {
        Ok(kubeconfig) => {
            let contexts: Vec<_> = kubeconfig.contexts.iter().map(|c| c.name.clone()).collect();
            let made = Config::from_custom_kubeconfig(kubeconfig, &from).await;
            made.map_err(|error| Error::Config(wrong_kubeconfig(&named(), &error, &contexts)))
        }
        // A pod has no kubeconfig, but the files of its service account.
        Err(error) if chosen.is_none() && from.context.is_none() && is_missing(&error) => {
            Config::incluster().map_err(|_| {
                let place = match error {
                    KubeconfigError::ReadConfig(_, path) => path.display().to_string(),
                    _ => "~/.kube/config".to_owned(),
                };
                Error::Config(format!(
                    "no cluster is configured: there is no kubeconfig at {place}, and this is not a pod with a service account"
                ))
            })
        }
        Err(error) => Err(Error::Config(format!("cannot read {}: {}", named(), root(&error)))),
    }
}

fn is_missing(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(error, _) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

fn wrong_kubeconfig(named: &str, error: &KubeconfigError, contexts: &[String]) -> String {
    match error {
        _ if contexts.is_empty() => format!("{named} has no context"),
        KubeconfigError::CurrentContextNotSet => {
            format!("{named} has no current context; name one of {}", contexts.join(", "))
        }
        KubeconfigError::LoadContext(context) => {
            format!("{named} has no context {context:?}; it has {}", contexts.join(", "))
        }
        error => format!("{named} is not usable: {}", root(error)),
    }
}

fn connect(config: Config, upgrades: bool) -> Result<kube::Client, kube::Error> {
    // kube handles HTTP proxies, and rejects those that it was not built for.
    if upgrades || config.proxy_url.is_some() {
        return kube::Client::try_from(config);
    }
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let tls = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?);
    let mut tls = tls.https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = name.clone().try_into();
        let name = name.map_err(|error| kube::Error::Service(Box::new(error)))?;
        tls = tls.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name));
    }
    let connector = tls.enable_all_versions().wrap_connector(http);
    let hyper: legacy::Client<_, Body> = legacy::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_keep_alive_while_idle(true)
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(Into::<tower::BoxError>::into)
        .service(hyper);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

impl Client {
    /// Returns the underlying kube client.
    pub fn raw(&self) -> &kube::Client {
        &self.inner
    }

    /// Returns the URL of the API server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the namespace of the context, or of the pod this program runs in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Requests the API server's version, which checks connection and credentials.
    pub async fn version(&self) -> Result<String, Error> {
        let version = self.call("read the version", self.inner.apiserver_version()).await?;
        Ok(version.git_version)
    }

    /// Makes a client over any service.
    #[cfg(test)]
    pub(super) fn from_kube(inner: kube::Client) -> Self {
        Self {
            inner,
            url: "https://scripted".into(),
            namespace: "default".into(),
        }
    }

    /// Sends a request that kube has no type for.
    pub(super) async fn request<T: DeserializeOwned>(
        &self,
        what: &str,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, Error> {
        let request = request.map_err(kube::Error::BuildRequest);
        // kube would log an invalid response as a whole.
        let text = self
            .call(what, async { self.inner.request_text(request?).await })
            .await?;
        serde_json::from_str(&text).map_err(|error| self.blame(what, &kube::Error::SerdeError(error)))
    }

    /// Runs a call with a timeout; `what` names the action for errors ("list pods").
    pub(super) async fn call<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(answer) => answer.map_err(|error| self.blame(what, &error)),
            Err(_) => Err(Error::Unreachable {
                url: self.url.clone(),
                reason: format!("no answer in {} s", CALL_TIMEOUT.as_secs()),
            }),
        }
    }

    /// Classifies an error.
    pub(super) fn blame(&self, what: &str, error: &kube::Error) -> Error {
        let what = what.to_owned();
        match error {
            kube::Error::Api(status) => {
                let reason = match (status.message.trim(), status.reason.trim()) {
                    ("", "") => format!("{}", status.code),
                    ("", reason) => reason.to_owned(),
                    (message, _) => message.to_owned(),
                };
                match (status.code, status.reason.as_str()) {
                    (401, _) => Error::Unauthorized(self.url.clone()),
                    (403, _) => Error::Forbidden { what, reason },
                    (404, _) => Error::Absent { what },
                    (409, _) => Error::Conflict { what },
                    (code, _) => Error::Refused { what, code, reason },
                }
            }
            kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) | kube::Error::FromUtf8(_) => Error::Refused {
                what,
                code: 0,
                reason: format!("invalid response: {}", root(error)),
            },
            kube::Error::Auth(_) => Error::Config(format!(
                "cannot obtain credentials for the cluster at {}: {}",
                self.url,
                root(error)
            )),
            _ => Error::Unreachable {
                url: self.url.clone(),
                reason: root(error),
            },
        }
    }
}

/// Returns the innermost error's message, without the layers around it.
fn root(error: &dyn StdError) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    // Drop code excerpts on further lines, "(os error 111)" and links to documentation.
    let sentence = text.lines().next().unwrap_or_default();
    let end = [" (os error", ": https://docs.rs"]
        .iter()
        .filter_map(|more| sentence.find(more))
        .min();
    sentence[..end.unwrap_or(sentence.len())].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
        clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n\
        users: [{name: u, user: {token: t}}]\n\
        contexts: [{name: a, context: {cluster: c, user: u, namespace: here}}]\n";

    fn options(dir: &tempfile::TempDir, text: &str) -> ClientOptions {
        let path = dir.path().join("config");
        std::fs::write(&path, text).expect("written");
        ClientOptions {
            kubeconfig: Some(path),
            ..ClientOptions::default()
        }
    }

    #[tokio::test]
    async fn errors_are_one_sentence() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut there = options(&dir, KUBECONFIG);
        let made = client(&there).await.expect("usable");
        assert_eq!((made.url(), made.namespace()), ("http://127.0.0.1:1", "here"));
        assert_eq!(
            made.version().await.expect_err("connection refused").to_string(),
            "the cluster at http://127.0.0.1:1 does not answer: Connection refused"
        );
        there.context = Some("b".to_owned());
        let error = client(&there).await.expect_err("no such context").to_string();
        assert!(error.ends_with("config has no context \"b\"; it has a"), "{error}");
        there.kubeconfig = Some(dir.path().join("absent"));
        let error = client(&there).await.expect_err("no such file").to_string();
        assert!(error.ends_with("absent: No such file or directory"), "{error}");
        let broken = options(&dir, "a: [");
        let error = client(&broken).await.expect_err("no YAML").to_string();
        assert!(
            error.starts_with("cannot read the kubeconfig ") && !error.contains('\n'),
            "{error}"
        );
        assert!(error.contains("line 1"), "{error}");
    }

    #[tokio::test]
    async fn classifies_rejections_of_the_server() {
        let dir = tempfile::tempdir().expect("a directory");
        let client = client(&options(&dir, KUBECONFIG)).await.expect("usable");
        let message = |code: u16| {
            let status = kube::core::Status {
                code,
                message: "because".to_owned(),
                ..kube::core::Status::default()
            };
            client.blame("list pods", &kube::Error::Api(status.boxed())).to_string()
        };
        assert!(
            message(401).contains("does not accept the credentials"),
            "{}",
            message(401)
        );
        assert_eq!(message(403), "permission denied: cannot list pods: because");
        assert_eq!(message(404), "cannot list pods: not found on the cluster");
        assert_eq!(message(500), "cannot list pods: because");
    }
}
