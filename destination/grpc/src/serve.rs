//! Connections: plaintext HTTP/2, as the sidecar of this pod handles TLS.

use std::{convert::Infallible, future::Future, io, pin::Pin};

use http::{Request, Response};
use hyper::body::Incoming;
use proxy_process::serve::{Acceptor, AnyIo, Client, Protocol, Server};
use tokio::{
    net::{TcpListener, TcpStream},
    time::interval,
};
use tonic::Status;

use crate::{Service, body::ResponseBody, clients::Caller, limits, rpc::Rpc};

/// Service of each connection.
#[derive(Clone)]
struct Calls(Service);

impl Acceptor for Calls {
    type Service = Self;

    async fn accept(&self, socket: TcpStream, _: Client) -> io::Result<(AnyIo, Self)> {
        Ok((Box::new(socket), self.clone()))
    }
}

impl hyper::service::Service<Request<Incoming>> for Calls {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Box::pin(self.0.clone().respond(request))
    }
}

impl Service {
    /// Serves all calls on `listener` until the service's `stop`; then each stream ends, and each connection. This
    /// crate's limits replace those of `server`.
    pub async fn serve(self, server: Server, listener: TcpListener) -> Result<(), Infallible> {
        let server = Server {
            protocol: Protocol::Http2,
            limits: limits::connections(),
            ..server
        };
        let service = Self {
            refused: server.refused.clone(),
            ..self
        };
        let upkeep = service.clone().keep();
        let stop = service.stop.clone();
        let (served, ()) = tokio::join!(server.serve(listener, Calls(service), stop), upkeep);
        served
    }

    /// Sweeps the caches until the stop, then closes the index, which ends all streams.
    async fn keep(self) {
        let mut sweep = interval(limits::SHARED_FOR.value);
        loop {
            tokio::select! {
                _ = sweep.tick() => self.caches.sweep(),
                () = self.stop.cancelled() => break,
            }
        }
        self.index().close();
    }

    async fn respond(self, request: Request<Incoming>) -> Result<Response<ResponseBody>, Infallible> {
        let Some(rpc) = Rpc::from_path(request.uri().path()) else {
            return Ok(Status::unimplemented("unknown method").into_http());
        };
        let admitted = self.clients.admit(Caller::from_headers(request.headers()));
        // Only the body is kept while it is read.
        let body = request.into_body();
        let result = match admitted {
            Ok(share) => self.call(rpc, body, share).await,
            Err(limit) => {
                (self.refused)(limit.row());
                let reason = format!("too many streams of this client (limit {})", limit.name);
                Err(Status::resource_exhausted(reason))
            }
        };
        let result = match result {
            // The index has been or will be closed, which this stream might miss.
            Ok(_) if self.stop.is_cancelled() => Err(Status::unavailable("the control plane is stopping")),
            result => result,
        };
        Ok(match result {
            Ok(body) => body.into_response(),
            Err(status) => {
                self.metrics.refused(rpc, &status);
                status.into_http()
            }
        })
    }
}
