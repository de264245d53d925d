//! Secrets that later keys of a connection derive from (RFC 8446, 7.2).
//!
//! rustls keeps them in the rest of a session, beside the peer's certificates and QUIC state: about 2 KiB per
//! connection for a message that hardly any connection receives. So they are captured while a handshake derives them,
//! through rustls' key-log hook. Nothing is logged: outside of [`CapturedSecrets::capture`] the hook ignores every
//! secret.

use std::cell::RefCell;

use aws_lc_rs::{
    aead::{AES_256_GCM, Algorithm},
    hkdf::{HKDF_SHA256, HKDF_SHA384, KeyType, Prk},
};
use rustls::{Error, KeyLog, crypto::cipher::NONCE_LEN};
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// Longest secret of the offered suites: that of SHA-384.
const LONGEST: usize = 48;
/// Longest key of the offered suites.
const LONGEST_KEY: usize = 32;

thread_local! {
    /// Secrets of the handshake that runs on this thread; none outside of handshakes.
    static CAPTURE: RefCell<Option<CapturedSecrets>> = const { RefCell::new(None) };
}

/// Traffic secret that one side's keys derive from.
#[derive(Clone, ZeroizeOnDrop)]
pub(crate) struct TrafficSecret([u8; LONGEST]);

impl TrafficSecret {
    pub(crate) fn new(secret: &[u8]) -> Option<Self> {
        let mut traffic = Self([0; LONGEST]);
        traffic.0.get_mut(..secret.len())?.copy_from_slice(secret);
        Some(traffic)
    }

    /// Derives the next secret.
    pub(crate) fn next(&self, suite: &Algorithm) -> Result<Self, Error> {
        let mut next = Self([0; LONGEST]);
        let len = hash_len(suite);
        self.expand(suite, b"traffic upd", &mut next.0[..len])?;
        Ok(next)
    }

    /// Derives the key and the IV; `with` receives the key.
    pub(crate) fn key<T>(
        &self,
        suite: &Algorithm,
        with: impl FnOnce(&[u8]) -> T,
    ) -> Result<(T, [u8; NONCE_LEN]), Error> {
        let (mut key, mut iv) = (Zeroizing::new([0; LONGEST_KEY]), [0; NONCE_LEN]);
        let key = &mut key[..suite.key_len()];
        self.expand(suite, b"key", key)?;
        self.expand(suite, b"iv", &mut iv)?;
        Ok((with(key), iv))
    }

    /// HKDF-Expand-Label (RFC 8446, 7.1) with an empty context.
    fn expand(&self, suite: &Algorithm, label: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let len = (out.len() as u16).to_be_bytes();
        let label_len = [PREFIX.len() as u8 + label.len() as u8];
        let info = [&len[..], &label_len, PREFIX, label, &[0]];
        let hash = if suite == &AES_256_GCM {
            HKDF_SHA384
        } else {
            HKDF_SHA256
        };
        Prk::new_less_safe(hash, &self.0[..hash_len(suite)])
            .expand(&info, Length(out.len()))
            .and_then(|okm| okm.fill(out))
            .map_err(|_| Error::General("cannot derive the next key".into()))
    }
}

const PREFIX: &[u8] = b"tls13 ";

fn hash_len(suite: &Algorithm) -> usize {
    if suite == &AES_256_GCM { LONGEST } else { 32 }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Traffic secrets captured from a handshake so far.
#[derive(Default)]
pub(crate) struct CapturedSecrets {
    pub(crate) client: Option<TrafficSecret>,
    pub(crate) server: Option<TrafficSecret>,
}

impl CapturedSecrets {
    /// Runs one step of a handshake and captures the secrets that it derives.
    pub(crate) fn capture<T>(&mut self, step: impl FnOnce() -> T) -> T {
        CAPTURE.set(Some(std::mem::take(self)));
        let done = step();
        *self = CAPTURE.take().unwrap_or_default();
        done
    }

    fn secret(&mut self, label: &str) -> Option<&mut Option<TrafficSecret>> {
        match label {
            "CLIENT_TRAFFIC_SECRET_0" => Some(&mut self.client),
            "SERVER_TRAFFIC_SECRET_0" => Some(&mut self.server),
            _ => None,
        }
    }
}

/// Key log of every configuration; see the module.
#[derive(Debug)]
pub(crate) struct SecretCapture;

impl KeyLog for SecretCapture {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        CAPTURE.with_borrow_mut(|captured| {
            if let Some(kept) = captured.as_mut().and_then(|captured| captured.secret(label)) {
                *kept = TrafficSecret::new(secret);
            }
        });
    }

    fn will_log(&self, label: &str) -> bool {
        CAPTURE.with_borrow_mut(|captured| {
            captured
                .as_mut()
                .is_some_and(|captured| captured.secret(label).is_some())
        })
    }
}
