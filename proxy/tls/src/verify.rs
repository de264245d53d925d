//! Server verification: any leaf that chains to the anchors and is valid now. Its name is compared afterwards, with the
//! expected identity rather than the SNI.

use std::sync::Arc;

use proxy_model::Id;
use rustls::{
    DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// Returns the names in a leaf's SAN, in order; the first is a client's identity. Names that cannot be an identity are
/// skipped.
pub fn leaf_ids(leaf: &[u8]) -> Result<Vec<Id>, String> {
    let (_, certificate) =
        X509Certificate::from_der(leaf).map_err(|error| format!("cannot parse the leaf: {error}"))?;
    let san = certificate
        .subject_alternative_name()
        .map_err(|error| format!("cannot parse the leaf's SAN: {error}"))?;
    let names = san.iter().flat_map(|san| &san.value.general_names);
    Ok(names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => name.parse().ok().filter(|id| matches!(id, Id::Dns(_))),
            GeneralName::URI(uri) => uri.parse().ok().filter(|id| matches!(id, Id::Uri(_))),
            _ => None,
        })
        .collect())
}

#[derive(Debug)]
pub(crate) struct MeshVerifier {
    anchors: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl MeshVerifier {
    pub(crate) fn new(anchors: Arc<RootCertStore>, algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { anchors, algorithms }
    }
}

impl ServerCertVerifier for MeshVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let leaf = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&leaf, &self.anchors, intermediates, now, self.algorithms.all)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
