//! Bytes: each connection in a TLS connection of its own.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_tls::Tls;
use tokio::{io::copy_bidirectional, task::spawn_local};

use super::Accepts;

/// The client side, on one thread.
pub(super) async fn outbound(mut accepts: Accepts, target: SocketAddr, tls: Tls) -> Result<()> {
    loop {
        let mut socket = accepts.accept().await?;
        let tls = tls.clone();
        spawn_local(async move {
            // The load sees whether its bytes come back.
            if let Ok(mut server) = super::secure(target, &tls).await {
                let _ = copy_bidirectional(&mut socket, &mut server).await;
            }
        });
    }
}

/// The server side, on one thread.
pub(super) async fn inbound(mut accepts: Accepts, target: SocketAddr, tls: Tls) -> Result<()> {
    loop {
        let socket = accepts.accept().await?;
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
