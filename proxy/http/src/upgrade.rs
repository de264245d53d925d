//! Upgrades (WebSocket and the like) and CONNECT: after the switch, bytes go both ways until both sides are done.

use http::{Method, Request, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

/// Both ends of a connection that may change its protocol: taken from the request before it is sent on, and from the
/// response before it is answered.
#[derive(Debug)]
pub struct Upgrade {
    client: OnUpgrade,
    is_connect: bool,
}

impl Upgrade {
    /// Takes the client's end out of a request that asks for an upgrade.
    pub fn of<B>(request: &mut Request<B>) -> Self {
        Self {
            is_connect: request.method() == Method::CONNECT,
            client: hyper::upgrade::on(request),
        }
    }

    /// Takes the server's end out of the response, if it agrees to the switch.
    pub fn agreed<B>(self, response: &mut Response<B>) -> Option<Agreed> {
        let connected = self.is_connect && response.status().is_success();
        if !connected && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return None;
        }
        Some(Agreed {
            client: self.client,
            server: hyper::upgrade::on(response),
            is_connect: connected,
        })
    }
}

/// An upgrade that both sides agreed to.
#[derive(Debug)]
pub struct Agreed {
    client: OnUpgrade,
    server: OnUpgrade,
    /// It is a CONNECT, whose response must not tell a length.
    pub is_connect: bool,
}

/// Why the bytes stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A side did not switch after all.
    #[error("the protocol switch failed: {0}")]
    Switch(#[from] hyper::Error),
    /// A side's connection broke.
    #[error("an upgraded connection failed: {0}")]
    Broken(#[from] proxy_transport::copy::Broken),
}

impl Agreed {
    /// Waits for both sides to switch; the client's only does once it has its response.
    pub async fn switched(self) -> Result<(TokioIo<Upgraded>, TokioIo<Upgraded>), Error> {
        let (client, server) = futures_util::try_join!(self.client, self.server)?;
        Ok((TokioIo::new(client), TokioIo::new(server)))
    }

    /// Carries bytes both ways until both sides have closed, or one failed. To be awaited after the HTTP/1 server has
    /// answered and ended, so that whoever drains waits for it too; inside the service it would wait for itself.
    pub async fn run(self) -> Result<(), Error> {
        let (mut client, mut server) = self.switched().await?;
        proxy_transport::copy::bidirectional(&mut client, &mut server, &()).await?;
        Ok(())
    }

    /// Carries bytes both ways in a task of its own, for which no drain waits.
    pub fn splice(self) {
        tokio::task::spawn_local(async move {
            if let Err(error) = self.run().await {
                tracing::debug!(%error, "an upgraded connection ended early");
            }
        });
    }
}
