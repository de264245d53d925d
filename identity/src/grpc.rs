//! The Identity API as Linkerd's proxies call it.

use std::time::SystemTime;

use linkerd2_proxy_api::identity::{CertifyRequest, CertifyResponse, identity_server};
use tonic::{Code, Request, Response, Status};

use crate::{
    certify::{self, Certified, Certifier, Refusal},
    metrics::Metrics,
};

/// Largest request: a token and a CSR, both with smaller limits of their own.
pub(crate) const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Identity service.
pub(crate) struct Identity {
    pub(crate) certifier: Certifier,
    pub(crate) metrics: Metrics,
}

impl Identity {
    /// Wraps the service for tonic.
    pub(crate) fn into_server(self) -> identity_server::IdentityServer<Self> {
        identity_server::IdentityServer::new(self).max_decoding_message_size(REQUEST_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl identity_server::Identity for Identity {
    async fn certify(&self, request: Request<CertifyRequest>) -> Result<Response<CertifyResponse>, Status> {
        let request = request.into_inner();
        let request = certify::Request {
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
                    identity = request.identity,
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
