//! Mesh TLS: rustls configuration, verifier, SNI detection, credentials.
