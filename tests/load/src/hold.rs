//! Idle open connections.

use std::net::SocketAddr;

use anyhow::Result;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::net::TcpStream;

use crate::{closed::echo, connect};

/// Connections opened concurrently: more would only wait for each other.
const AT_ONCE: usize = 32;

/// Open TCP connections, each used once.
pub struct Held {
    _sockets: Vec<TcpStream>,
}

impl Held {
    /// Opens `connections` connections.
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
