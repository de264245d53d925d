//! The Identity API as Linkerd's proxies call it.

use std::{convert::Infallible, time::SystemTime};

use axum::Router;
use linkerd2_proxy_api::identity::{CertifyRequest, CertifyResponse, identity_server};
use proxy_model::ClientAddr;
use proxy_process::serve::{Plain, Server};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, service::Routes};

use crate::{
    certify::{self, Certified, Certifier, Refusal},
    limits::{self, IDENTITY_REQUEST_BYTES},
    metrics::Metrics,
    review::Caller,
};

/// Header with the client's identity. The sidecar sets it, whatever the client has sent.
const CLIENT_ID: &str = "l5d-client-id";

/// Identity service.
pub(crate) struct Identity {
    pub(crate) certifier: Certifier,
    pub(crate) metrics: Metrics,
}

impl Identity {
    /// Serves calls until the stop.
    pub(crate) async fn serve(
        self,
        server: Server,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> Result<(), Infallible> {
        let service = identity_server::IdentityServer::new(self);
        let service = service.max_decoding_message_size(IDENTITY_REQUEST_BYTES.value as usize);
        let plain = Plain {
            service: Routes::new(service).into_axum_router(),
            probes: Router::new(),
        };
        limits::with_limits(server).serve(listener, plain, stop).await
    }
}

/// Returns the client of a request: a workload that renews its certificate has an identity, a new one only an address,
/// which behind the sidecar is the same for all.
fn caller<T>(request: &Request<T>) -> Caller {
    let id = request.metadata().get(CLIENT_ID).and_then(|id| id.to_str().ok());
    let addr = request.extensions().get::<ClientAddr>();
    let name = match (id, addr) {
        (Some(id), _) => format!("identity {id}"),
        (None, Some(addr)) => format!("address {}", addr.0.ip().to_canonical()),
        (None, None) => String::new(),
    };
    Caller(name.into())
}

#[tonic::async_trait]
impl identity_server::Identity for Identity {
    async fn certify(&self, request: Request<CertifyRequest>) -> Result<Response<CertifyResponse>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        let request = certify::Request {
            caller,
            identity: request.identity,
            token: request.token,
            csr_der: request.certificate_signing_request,
        };
        match self.certifier.certify(&request, SystemTime::now()).await {
            Ok(certified) => {
                self.metrics.issued();
                tracing::info!(identity = request.identity, "certificate issued");
                Ok(Response::new(encode(certified)))
            }
            Err(refusal) => {
                self.metrics.refused(refusal.reason());
                tracing::warn!(
                    identity = ?request.identity,
                    reason = refusal.reason().code(),
                    "certificate refused: {refusal}"
                );
                Err(status(&refusal))
            }
        }
    }
}

fn encode(Certified { leaf, authority }: Certified) -> CertifyResponse {
    CertifyResponse {
        valid_until: Some(leaf.validity.not_after.into()),
        leaf_certificate: leaf.der,
        intermediate_certificates: authority.issuer.chain().iter().map(|der| der.to_vec()).collect(),
    }
}

fn status(refusal: &Refusal) -> Status {
    let code = refusal
        .reason()
        .row()
        .grpc
        .map_or(Code::Internal, |code| Code::from(i32::from(code)));
    Status::new(code, refusal.to_string())
}
