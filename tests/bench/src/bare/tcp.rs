//! Bytes: each connection has a TLS connection of its own.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_tls::Tls;
use tokio::{io::copy_bidirectional, net::TcpListener, task::spawn_local};

/// The client side, on a listener.
pub(super) async fn outbound(listener: TcpListener, target: SocketAddr, tls: Tls) -> Result<()> {
    loop {
        let (mut socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let tls = tls.clone();
        spawn_local(async move {
            // The load sees whether its bytes come back.
            if let Ok(mut server) = super::secure(target, &tls).await {
                let _ = copy_bidirectional(&mut socket, &mut server).await;
            }
        });
    }
}

/// The server side, on a listener.
pub(super) async fn inbound(listener: TcpListener, target: SocketAddr, tls: Tls) -> Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let tls = tls.clone();
        spawn_local(async move {
            if let Ok(mut accepted) = super::accept(socket, &tls).await
                && let Ok(mut application) = super::connect(target).await
            {
                let _ = copy_bidirectional(&mut accepted, &mut application).await;
            }
        });
    }
}
