//! TLS: sessions by rustls, and ClientHellos by hand.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    version::TLS13,
};
use tests_harness::Credentials;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Io;

/// Trust of a client, and its own identity.
#[derive(Clone)]
pub struct Keys {
    /// Trusted certificates, PEM.
    pub roots: String,
    /// Own certificate.
    pub own: Option<Credentials>,
    /// Name of the server.
    pub server: String,
}

impl Keys {
    /// Configuration with these ALPN protocols, whose secrets can be extracted.
    pub fn config(&self, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.roots.as_bytes()) {
            roots.add(certificate?)?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_protocol_versions(&[&TLS13])?.with_root_certificates(roots);
        let mut config = match &self.own {
            Some(own) => {
                let chain = [&own.leaf_der].into_iter().chain(&own.intermediates_der);
                let chain = chain.map(|der| CertificateDer::from(der.clone())).collect();
                let key = PrivateKeyDer::Pkcs8(own.key_pkcs8_der.clone().into());
                builder.with_client_auth_cert(chain, key)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.enable_secret_extraction = true;
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// Does a handshake.
    pub async fn connect<I: Io>(&self, io: I, config: &Arc<ClientConfig>) -> Result<TlsStream<I>> {
        let name = ServerName::try_from(self.server.clone())?;
        let connector = TlsConnector::from(Arc::clone(config));
        connector.connect(name, io).await.context("no handshake")
    }
}

/// Record of one handshake message: a ClientHello with this name, whatever it is.
pub fn client_hello(name: &[u8]) -> Vec<u8> {
    let names = with_length(&[&[0][..], &with_length(name)].concat());
    let extension = [&[0, 0][..], &with_length(&names)].concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],                // no session
        &[0, 2, 0x13, 0x01], // a cipher suite
        &[1, 0],             // no compression
        &with_length(&extension),
    ]
    .concat();
    let length = (body.len() as u32).to_be_bytes();
    record(22, &[&[1][..], &length[1..], &body].concat())
}

/// Record of plaintext.
pub fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1][..], &with_length(payload)].concat()
}

fn with_length(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}
