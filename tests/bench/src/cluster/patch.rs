//! Patches over a direct connection to the API server, to know the time of its response to the millisecond.

use std::{sync::Arc, time::SystemTime};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serde_json::Value;
use tests_cluster::Cluster;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Connection to the API server.
pub(super) struct Api {
    send: SendRequest<Full<Bytes>>,
    host: String,
    authorization: Option<String>,
}

impl Api {
    /// Connects by a kubeconfig whose user has a certificate or a token.
    pub(super) async fn connect(cluster: &Cluster) -> Result<Self> {
        let text = cluster.try_kubectl(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"]);
        let config: Value = serde_json::from_str(&text.map_err(anyhow::Error::msg)?)?;
        let (server, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
        let uri: Uri = server["server"].as_str().unwrap_or_default().parse()?;
        let host = uri.host().context("the kubeconfig's server has no host")?;
        let port = uri.port_u16().unwrap_or(443);
        let socket = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        socket.set_nodelay(true)?;
        let name = server["tls-server-name"]
            .as_str()
            .unwrap_or(host.trim_matches(['[', ']']));
        let connector = TlsConnector::from(Arc::new(tls(server, user)?));
        let stream = connector
            .connect(ServerName::try_from(name.to_owned())?, socket)
            .await?;
        let (send, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self {
            send,
            host: format!("{host}:{port}"),
            authorization: user["token"].as_str().map(|token| format!("Bearer {token}")),
        })
    }

    /// Applies a merge patch; returns the time of the response, in milliseconds of the clock.
    pub(super) async fn merge(&mut self, path: &str, patch: &Value) -> Result<f64> {
        let mut request = Request::patch(path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/merge-patch+json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        self.send.ready().await?;
        let response = self
            .send
            .send_request(request.body(Full::from(patch.to_string()))?)
            .await?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{path} is not patched: {status} {}", String::from_utf8_lossy(&body));
        }
        Ok(now.as_secs_f64() * 1e3)
    }
}

fn tls(server: &Value, user: &Value) -> Result<ClientConfig> {
    let pem = |value: &Value, what: &str| {
        let text = value
            .as_str()
            .with_context(|| format!("the kubeconfig has no {what}"))?;
        STANDARD
            .decode(text)
            .with_context(|| format!("invalid {what}: not base64"))
    };
    let mut roots = RootCertStore::empty();
    let anchors = pem(&server["certificate-authority-data"], "certificate-authority-data")?;
    for anchor in CertificateDer::pem_slice_iter(&anchors) {
        roots.add(anchor?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots);
    if user["client-certificate-data"].is_null() {
        return Ok(builder.with_no_client_auth());
    }
    let chain = pem(&user["client-certificate-data"], "client-certificate-data")?;
    let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(&pem(&user["client-key-data"], "client-key-data")?)?;
    Ok(builder.with_client_auth_cert(chain, key)?)
}
