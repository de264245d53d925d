//! Connections of the aggregated API: TLS with the current certificate and CA of clients, then HTTP/1 or HTTP/2.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Extension, Router};
use destination_source::cluster::certificate::Credentials;
use hyper_util::service::TowerToHyperService;
use proxy_process::serve::{Acceptor, AnyIo, Client, Limits, Refusals, Server, accept_tls};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Sleep,
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{ClientName, FrontProxy};

proxy_model::limits! {
    /// Connections to the tap API open at a time: a few API servers, each with some taps on one.
    TAP_CONNECTIONS: usize = 64;
    /// Connections to the tap API of one client address, so that no client takes all room.
    TAP_CONNECTIONS_PER_CLIENT: usize = 16;
    /// Connections to the tap API without a client certificate.
    TAP_ANONYMOUS: usize = 8;
    /// Time of a connection to the tap API without a client certificate.
    TAP_ANONYMOUS_TIME: Duration = Duration::from_secs(5);
    /// Time for a TLS handshake with the tap API.
    TAP_HANDSHAKE: Duration = Duration::from_secs(5);
    /// Time for the head of a request to the tap API.
    TAP_HEAD: Duration = Duration::from_secs(10);
    /// Time that a connection to the tap API may be without a request; the API server closes its own after 90 s.
    TAP_IDLE: Duration = Duration::from_secs(120);
    /// Requests on one HTTP/2 connection to the tap API: an API server sends all of its taps on one.
    TAP_STREAMS: u32 = 64;
}

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
        let changed = tokio::select! {
            changed = self.own.changed() => changed,
            changed = self.front.changed() => changed,
        };
        if changed.is_err() {
            // A sender is gone: the program stops.
            std::future::pending::<()>().await;
        }
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

/// Parts of a listening server.
pub(crate) struct Listening {
    pub(crate) server: Server,
    pub(crate) listener: TcpListener,
    /// Counts connections over the limit of those without a client certificate.
    pub(crate) refusals: Refusals,
}

/// Serves until `stop`, with the certificates that are current when a connection is accepted.
pub(crate) async fn serve(
    listening: Listening,
    router: Router,
    mut certificates: Certificates,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let (sender, config) = watch::channel(certificates.config());
    let mut server = listening.server;
    server.limits = Limits {
        connections: TAP_CONNECTIONS,
        per_client: TAP_CONNECTIONS_PER_CLIENT,
        probes: None,
        handshake: TAP_HANDSHAKE,
        head: TAP_HEAD,
        idle: Some(TAP_IDLE),
        call: None,
        streams: TAP_STREAMS,
        ..server.limits
    };
    let acceptor = TapAcceptor {
        router,
        config,
        anonymous: Arc::new(Semaphore::new(TAP_ANONYMOUS.value)),
        refusals: listening.refusals,
    };
    let follow = async {
        loop {
            certificates.changed().await;
            sender.send_replace(certificates.config());
        }
    };
    tokio::select! {
        served = server.serve(listening.listener, acceptor, stop) => served,
        () = follow => Ok(()),
    }
}

/// Accepts TLS. A client without a certificate gets one of a few places, for a short time: discovery and health need no
/// certificate, and must not take the room of the API servers.
struct TapAcceptor {
    router: Router,
    config: watch::Receiver<Option<Arc<ServerConfig>>>,
    anonymous: Arc<Semaphore>,
    refusals: Refusals,
}

impl Acceptor for TapAcceptor {
    type Service = TowerToHyperService<Router>;

    async fn accept(&self, socket: TcpStream, _: Client) -> io::Result<(AnyIo, Self::Service)> {
        let _ = socket.set_nodelay(true);
        let stream = accept_tls(socket, &self.config).await?;
        let name = name(&stream);
        let io: AnyIo = if name.is_some() {
            Box::new(stream)
        } else {
            let place = Arc::clone(&self.anonymous).try_acquire_owned().map_err(|_| {
                self.refusals.count(TAP_ANONYMOUS.row());
                io::Error::other("too many connections without a client certificate")
            })?;
            Box::new(Anonymous::new(stream, place))
        };
        let router = self.router.clone().layer(Extension(ClientName(name)));
        Ok((io, TowerToHyperService::new(router)))
    }
}

/// Stream of a client without a certificate: it breaks after [`TAP_ANONYMOUS_TIME`].
struct Anonymous<I> {
    io: I,
    deadline: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl<I> Anonymous<I> {
    fn new(io: I, place: OwnedSemaphorePermit) -> Self {
        Self {
            io,
            deadline: Box::pin(tokio::time::sleep(TAP_ANONYMOUS_TIME.value)),
            _place: place,
        }
    }

    /// Fails after the deadline, which otherwise wakes the task.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Anonymous<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Anonymous<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Common name in the verified certificate of the client.
fn name(stream: &TlsStream<TcpStream>) -> Option<String> {
    let leaf = stream.get_ref().1.peer_certificates()?.first()?;
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn anonymous_connection_ends_and_releases_its_place() {
        let places = Arc::new(Semaphore::new(1));
        let (client, server) = tokio::io::duplex(16);
        let place = Arc::clone(&places).try_acquire_owned().expect("a place");
        let mut io = Anonymous::new(server, place);
        assert_eq!(places.available_permits(), 0);
        let error = io.read_u8().await.expect_err("the client is silent");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop((io, client));
        assert_eq!(places.available_permits(), 1);
    }

    /// Anonymous clients leave room for API servers.
    const _: () = assert!(TAP_ANONYMOUS.value < TAP_CONNECTIONS.value / 2);
    const _: () = assert!(TAP_CONNECTIONS_PER_CLIENT.value <= TAP_CONNECTIONS.value / 2);
}
