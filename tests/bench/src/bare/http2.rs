//! HTTP/2 all the way, and the HTTP/2 connection between the two.

use std::{net::SocketAddr, rc::Rc};

use anyhow::Result;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http2::{self as client, SendRequest},
    server::conn::http2 as server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use proxy_model::limits;
use proxy_tls::Tls;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::OnceCell,
    task::spawn_local,
};

use super::Accepts;
use crate::backend::Local;

/// Client connection with the windows of the mesh.
pub(super) async fn connect<I>(io: I) -> Result<SendRequest<Incoming>>
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (sender, connection) = client::Builder::new(Local)
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW.value)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW.value)
        .handshake(TokioIo::new(io))
        .await?;
    spawn_local(connection);
    Ok(sender)
}

/// Server with the windows of the mesh.
pub(super) fn server() -> server::Builder<Local> {
    let mut builder = server::Builder::new(Local);
    builder
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW.value)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW.value)
        .max_concurrent_streams(limits::HTTP2_STREAMS.value);
    builder
}

/// The client side, on one thread.
pub(crate) async fn outbound(mut accepts: Accepts, target: SocketAddr, tls: Tls) -> Result<()> {
    let sender = connect(super::secure(target, &tls).await?).await?;
    loop {
        let socket = accepts.accept().await?;
        let sender = sender.clone();
        spawn_local(async move {
            let service = service_fn(move |request| send(sender.clone(), request));
            // A client that goes away is the client's affair.
            let _ = server().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

/// The server side, on one thread.
pub(crate) async fn inbound(mut accepts: Accepts, target: SocketAddr, tls: Tls) -> Result<()> {
    let application = Rc::new(OnceCell::new());
    loop {
        let socket = accepts.accept().await?;
        let (tls, application) = (tls.clone(), application.clone());
        spawn_local(async move {
            let Ok(accepted) = super::accept(socket, &tls).await else {
                return;
            };
            let connected = application.get_or_try_init(async || connect(super::connect(target).await?).await);
            let Ok(sender) = connected.await.cloned() else {
                return; // The load sees that its answers are missing.
            };
            let service = service_fn(move |request| send(sender.clone(), request));
            let _ = server().serve_connection(TokioIo::new(accepted), service).await;
        });
    }
}

async fn send(
    mut sender: SendRequest<Incoming>,
    request: Request<Incoming>,
) -> Result<Response<Incoming>, hyper::Error> {
    sender.send_request(request).await
}
