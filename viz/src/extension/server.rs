//! Connections of the aggregated API: TLS with the current certificate and CA of clients, then HTTP/1 or HTTP/2.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Extension, Router};
use destination_source::cluster::certificate::Credentials;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{ClientName, FrontProxy};

/// Concurrent connections: a few API servers, each with some taps on one.
const CONNECTIONS: usize = 64;
/// Concurrent requests on one connection.
const STREAMS: u32 = 64;
/// Time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Time for the head of a request.
const HEAD: Duration = Duration::from_secs(10);

/// Certificates for TLS; both may change at any time.
pub(crate) struct Certificates {
    /// Certificate of the API.
    pub(crate) own: watch::Receiver<Option<Arc<Credentials>>>,
    /// CA of clients.
    pub(crate) front: watch::Receiver<Arc<FrontProxy>>,
}

impl Certificates {
    /// Returns the current configuration; none while there is no certificate.
    fn config(&mut self) -> Option<Arc<ServerConfig>> {
        let own = self.own.borrow_and_update().clone()?;
        let front = self.front.borrow_and_update().clone();
        match config(&own, &front.ca_pem) {
            Ok(config) => Some(Arc::new(config)),
            Err(reason) => {
                tracing::warn!("cannot serve the tap API: {reason}");
                None
            }
        }
    }

    async fn changed(&mut self) {
        let _ = tokio::select! {
            changed = self.own.changed() => changed,
            changed = self.front.changed() => changed,
        };
    }
}

fn config(own: &Credentials, ca_pem: &str) -> Result<ServerConfig, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(own.cert_pem.as_bytes()).collect();
    let chain = chain.map_err(|error| format!("invalid certificate: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes());
    let key = key.map_err(|error| format!("invalid key: {error}"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?;
    let builder = match verifier(ca_pem, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let config = builder.with_single_cert(chain, key);
    let mut config = config.map_err(|error| format!("certificate and key do not match: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Verifier of client certificates, which are optional: discovery and health need none.
fn verifier(
    ca_pem: &str,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("invalid client CA of the API server: {error}"))?;
        let added = roots.add(certificate);
        added.map_err(|error| format!("cannot use the client CA of the API server: {error}"))?;
    }
    if roots.is_empty() {
        return Ok(None);
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated();
    let verifier = builder.build();
    verifier
        .map(Some)
        .map_err(|error| format!("cannot use the client CA of the API server: {error}"))
}

/// Serves until `stop`; then waits for what runs, which ends by the same `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    mut certificates: Certificates,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut config = certificates.config();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = certificates.changed() => {
                config = certificates.config();
                continue;
            }
            Some(_) = connections.join_next() => continue,
            () = stop.cancelled() => break,
        };
        let (Ok((socket, _)), Some(config)) = (accepted, config.clone()) else {
            // No certificate yet, or no descriptor left: the API server asks again.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let Ok(room) = Arc::clone(&room).try_acquire_owned() else {
            tracing::warn!("{CONNECTIONS} connections to the tap API are open; another one is refused");
            continue;
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            let _room = room;
            connection(socket, router, config, stop).await;
        });
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn connection(socket: TcpStream, router: Router, config: Arc<ServerConfig>, stop: CancellationToken) {
    let _ = socket.set_nodelay(true);
    let handshake = TlsAcceptor::from(config).accept(socket);
    let stream = match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "no handshake with the tap API"),
        Err(_) => return,
    };
    let router = router.layer(Extension(ClientName(name(&stream))));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS);
    let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the tap API broke");
    }
}

/// The common name in the certificate of the client, which the verifier has found good.
fn name(stream: &TlsStream<TcpStream>) -> Option<String> {
    let leaf = stream.get_ref().1.peer_certificates()?.first()?;
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}
