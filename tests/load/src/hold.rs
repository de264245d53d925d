//! Connections that are open and do nothing.

use std::net::SocketAddr;

use anyhow::Result;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::net::TcpStream;

use crate::{closed::echo, connect};

/// Connections that are being made at a time: more would only wait for each other.
const AT_ONCE: usize = 32;

/// Connections for bytes, each used once.
pub struct Held {
    _sockets: Vec<TcpStream>,
}

impl Held {
    /// Opens so many.
    pub async fn open(addr: SocketAddr, connections: usize) -> Result<Self> {
        let open = |_| async move {
            let mut socket = connect(addr).await?;
            echo(&mut socket).await?;
            anyhow::Ok(socket)
        };
        let sockets = stream::iter(0..connections).map(open).buffer_unordered(AT_ONCE);
        Ok(Self {
            _sockets: sockets.try_collect().await?,
        })
    }
}
