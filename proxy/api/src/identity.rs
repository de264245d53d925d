//! `Identity.Certify`: from a token and a CSR to a leaf.

use std::time::SystemTime;

use linkerd2_proxy_api::identity::{CertifyRequest as WireRequest, CertifyResponse};

use crate::{Error, Result};

/// Request for a leaf.
#[derive(Clone, PartialEq, Eq)]
pub struct CertifyRequest {
    /// Requested identity.
    pub identity: String,
    /// Token that proves the identity.
    pub token: Vec<u8>,
    /// CSR, DER.
    pub csr_der: Vec<u8>,
}

impl std::fmt::Debug for CertifyRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is a secret.
        f.debug_struct("CertifyRequest")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// A leaf with its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// Leaf, DER.
    pub leaf_der: Vec<u8>,
    /// Certificates between leaf and trust anchor, DER, from the leaf on.
    pub intermediates_der: Vec<Vec<u8>>,
    /// Expiry of the leaf.
    pub valid_until: SystemTime,
}

/// Decodes the request of `Identity.Certify`. All parts are required.
pub fn decode_certify_request(wire: WireRequest) -> Result<CertifyRequest> {
    let WireRequest {
        identity,
        token,
        certificate_signing_request: csr_der,
    } = wire;
    let parts = [
        ("identity", identity.is_empty()),
        ("token", token.is_empty()),
        ("certificate_signing_request", csr_der.is_empty()),
    ];
    match parts.into_iter().find(|(_, is_empty)| *is_empty) {
        Some((field, _)) => Err(Error::missing(field)),
        None => Ok(CertifyRequest {
            identity,
            token,
            csr_der,
        }),
    }
}

/// Encodes the request of `Identity.Certify`.
pub fn encode_certify_request(request: CertifyRequest) -> WireRequest {
    let CertifyRequest {
        identity,
        token,
        csr_der,
    } = request;
    WireRequest {
        identity,
        token,
        certificate_signing_request: csr_der,
    }
}

/// Decodes the answer of `Identity.Certify`.
pub fn decode_certified(wire: CertifyResponse) -> Result<Certified> {
    if wire.leaf_certificate.is_empty() {
        return Err(Error::missing("leaf_certificate"));
    }
    let valid_until = wire.valid_until.ok_or_else(|| Error::missing("valid_until"))?;
    Ok(Certified {
        leaf_der: wire.leaf_certificate,
        intermediates_der: wire.intermediate_certificates,
        valid_until: valid_until
            .try_into()
            .map_err(|error| Error::invalid("valid_until", error))?,
    })
}

/// Encodes the answer of `Identity.Certify`.
pub fn encode_certified(certified: Certified) -> CertifyResponse {
    CertifyResponse {
        leaf_certificate: certified.leaf_der,
        intermediate_certificates: certified.intermediates_der,
        valid_until: Some(certified.valid_until.into()),
    }
}
