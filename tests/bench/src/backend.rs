//! The application: answers every request with the same 128 bytes.

use std::{convert::Infallible, net::SocketAddr};

use anyhow::Result;
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// What it answers.
pub(crate) const BODY: &[u8; 128] = &[b'm'; 128];

/// Listens, and serves on a task of the running `LocalSet` from then on.
pub(crate) async fn start(addr: SocketAddr) -> Result<SocketAddr> {
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    tokio::task::spawn_local(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // Small answers wait for nobody.
            let _ = socket.set_nodelay(true);
            tokio::task::spawn_local(async move {
                let body = Bytes::from_static(BODY);
                let service =
                    service_fn(|_| std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(body.clone())))));
                // A client that goes away is the client's affair.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service)
                    .await;
            });
        }
    });
    Ok(addr)
}
