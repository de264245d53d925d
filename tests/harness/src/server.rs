//! Servers for the other end of a connection: HTTP (1 and 2 by the client's first bytes) and TCP echo.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::Owned;

/// A server that ends, with its connections, when dropped.
#[derive(Debug)]
pub struct Server {
    /// Listen address.
    pub addr: SocketAddr,
    _task: Owned,
}

impl Server {
    /// Serves each connection by `serve`.
    pub async fn tcp<F, Fut>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let task = Owned::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((socket, _)) = listener.accept() => { connections.spawn(serve(socket)); }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self { addr, _task: task }
    }

    /// Echoes all bytes.
    pub async fn echo() -> Self {
        Self::tcp(|mut socket| async move {
            let (mut read, mut write) = socket.split();
            // A client may close the connection early.
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut write).await;
        })
        .await
    }

    /// Answers HTTP requests with `answer`; response bodies are complete.
    pub async fn http<F, Fut>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let answer = Arc::new(answer);
        Self::tcp(move |socket| {
            let answer = answer.clone();
            async move {
                // Send small responses at once.
                let _ = socket.set_nodelay(true);
                let service = service_fn(move |request| {
                    let response = answer(request);
                    async move { Ok::<_, Infallible>(response.await) }
                });
                let connection = auto::Builder::new(TokioExecutor::new());
                let _ = connection
                    .serve_connection_with_upgrades(TokioIo::new(socket), service)
                    .await;
            }
        })
        .await
    }

    /// Answers every request with 200 and `body`.
    pub async fn constant(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self::http(move |_| std::future::ready(Response::new(Full::new(body.clone())))).await
    }
}
