//! Upgrades (WebSocket and the like) and CONNECT: after the switch, bytes are copied in both directions until both
//! sides are done.

use http::{Method, Request, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

/// Requested protocol switch: the client's end is taken from the request before it is forwarded, the server's end from
/// the response.
#[derive(Debug)]
pub struct Upgrade {
    client: OnUpgrade,
    is_connect: bool,
}

impl Upgrade {
    /// Takes the client's end out of a request that asks for an upgrade.
    pub fn from_request<B>(request: &mut Request<B>) -> Self {
        Self {
            is_connect: request.method() == Method::CONNECT,
            client: hyper::upgrade::on(request),
        }
    }

    /// Takes the server's end out of the response, if it accepts the switch.
    pub fn accepted<B>(self, response: &mut Response<B>) -> Option<AcceptedUpgrade> {
        let connected = self.is_connect && response.status().is_success();
        if !connected && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return None;
        }
        Some(AcceptedUpgrade {
            client: self.client,
            server: hyper::upgrade::on(response),
            is_connect: connected,
        })
    }
}

/// Upgrade that both sides accepted.
#[derive(Debug)]
pub struct AcceptedUpgrade {
    client: OnUpgrade,
    server: OnUpgrade,
    /// The upgrade is a CONNECT, whose response must not carry a length.
    pub is_connect: bool,
}

/// Error of an upgraded connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One side did not switch protocols.
    #[error("protocol switch failed: {0}")]
    Switch(#[from] hyper::Error),
    /// One side's connection failed.
    #[error("upgraded connection failed: {0}")]
    Broken(#[from] proxy_transport::copy::CopyError),
}

impl AcceptedUpgrade {
    /// Waits for both sides to switch; the client's does only once it has its response.
    pub async fn switched(self) -> Result<(TokioIo<Upgraded>, TokioIo<Upgraded>), Error> {
        let (client, server) = futures_util::try_join!(self.client, self.server)?;
        Ok((TokioIo::new(client), TokioIo::new(server)))
    }

    /// Copies bytes in both directions until both sides have closed, or one failed. Await this after the HTTP/1 server
    /// has answered and ended, so that a drain waits for it too; inside the service it would wait for itself.
    pub async fn run(self) -> Result<(), Error> {
        let (mut client, mut server) = self.switched().await?;
        proxy_transport::copy::bidirectional(&mut client, &mut server, &()).await?;
        Ok(())
    }
}
