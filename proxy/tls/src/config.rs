//! rustls configurations, prepared once per publication of credentials: one per ALPN setting and direction.

use std::{
    sync::{Arc, LazyLock},
    time::SystemTime,
};

use rustls::{
    ClientConfig, ServerConfig,
    client::{Resumption, danger::ServerCertVerifier},
    crypto::{
        CryptoProvider,
        aws_lc_rs::{
            cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256},
            default_provider,
            kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768},
        },
    },
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};

use crate::{Alpn, Anchors, Credentials, Engine, Error, TRANSPORT_HEADER_ALPN, verify::MeshVerifier};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        // Upstream's order; AES-128 is also the cheapest.
        cipher_suites: vec![
            TLS13_AES_128_GCM_SHA256,
            TLS13_AES_256_GCM_SHA384,
            TLS13_CHACHA20_POLY1305_SHA256,
        ],
        // The hybrid group first: its client share includes an X25519 share, so either choice saves a second round
        // trip.
        kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1],
        ..default_provider()
    })
});

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// Configurations that handshakes use until the next publication.
#[derive(Debug)]
pub(crate) struct Configs {
    /// Expiry of the leaf; none without a leaf.
    pub(crate) valid_until: Option<SystemTime>,
    client: ByAlpn<ClientConfig>,
    server: Option<ByAlpn<ServerConfig>>,
}

#[derive(Debug)]
struct ByAlpn<T> {
    none: Arc<T>,
    transport_header: Arc<T>,
}

impl<T> ByAlpn<T> {
    fn get(&self, alpn: Alpn) -> Arc<T> {
        match alpn {
            Alpn::None => Arc::clone(&self.none),
            Alpn::TransportHeader => Arc::clone(&self.transport_header),
        }
    }
}

impl Configs {
    pub(crate) fn without_leaf(anchors: &Anchors, engine: Engine) -> Result<Self, Error> {
        Ok(Self {
            valid_until: None,
            client: client(anchors, None, engine)?,
            server: None,
        })
    }

    pub(crate) fn with_leaf(anchors: &Anchors, credentials: &Credentials, engine: Engine) -> Result<Self, Error> {
        let client = client(anchors, Some(credentials), engine)?;
        let server = server(anchors, credentials, engine)?;
        Ok(Self {
            valid_until: Some(credentials.valid_until),
            client,
            server: Some(server),
        })
    }

    pub(crate) fn client(&self, alpn: Alpn) -> Arc<ClientConfig> {
        self.client.get(alpn)
    }

    pub(crate) fn server(&self, alpn: Alpn) -> Option<Arc<ServerConfig>> {
        self.server.as_ref().map(|server| server.get(alpn))
    }
}

fn invalid(error: impl std::fmt::Display) -> Error {
    Error::Credentials(error.to_string())
}

fn client(anchors: &Anchors, credentials: Option<&Credentials>, engine: Engine) -> Result<ByAlpn<ClientConfig>, Error> {
    let algorithms = provider().signature_verification_algorithms;
    let verifier: Arc<dyn ServerCertVerifier> = Arc::new(MeshVerifier::new(Arc::clone(&anchors.0), algorithms));
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(invalid)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match credentials {
        Some(c) => builder
            .with_client_auth_cert(c.chain.clone(), c.key())
            .map_err(invalid)?,
        None => builder.with_no_client_auth(),
    };
    // A resumed session would outlive the credentials that established it.
    config.resumption = Resumption::disabled();
    engine.prepare_client(&mut config);
    let mut with_header = config.clone();
    with_header.alpn_protocols = vec![TRANSPORT_HEADER_ALPN.to_vec()];
    Ok(ByAlpn {
        none: Arc::new(config),
        transport_header: Arc::new(with_header),
    })
}

fn server(anchors: &Anchors, credentials: &Credentials, engine: Engine) -> Result<ByAlpn<ServerConfig>, Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&anchors.0), provider())
        .allow_unauthenticated()
        .clear_root_hint_subjects()
        .build()
        .map_err(invalid)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(invalid)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(credentials.chain.clone(), credentials.key())
        .map_err(invalid)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    engine.prepare_server(&mut config);
    let mut with_header = config.clone();
    with_header.alpn_protocols = vec![TRANSPORT_HEADER_ALPN.to_vec()];
    Ok(ByAlpn {
        none: Arc::new(config),
        transport_header: Arc::new(with_header),
    })
}
