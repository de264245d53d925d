//! The secrets that the next keys of a connection are made of (RFC 8446, 7.2).
//!
//! rustls would keep them in what is left of a session, beside the peer's certificates and what QUIC needs: some two KiB for
//! each connection, for a message that hardly any ever gets. So they are noted while a handshake makes them, through the hook
//! that rustls has for key logs. Nothing is logged: outside of [`Noted::during`] the hook takes nothing.

use std::cell::RefCell;

use aws_lc_rs::{
    aead::{AES_256_GCM, Algorithm},
    hkdf::{HKDF_SHA256, HKDF_SHA384, KeyType, Prk},
};
use rustls::{Error, KeyLog, crypto::cipher::NONCE_LEN};
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// Longest secret of a suite that we offer: that of SHA-384.
const LONGEST: usize = 48;
/// Longest key of a suite that we offer.
const LONGEST_KEY: usize = 32;

thread_local! {
    /// What the handshake that this thread is in has made. None outside of handshakes.
    static HEARD: RefCell<Option<Noted>> = const { RefCell::new(None) };
}

/// What one side's keys are made of.
#[derive(Clone, ZeroizeOnDrop)]
pub(crate) struct Traffic([u8; LONGEST]);

impl Traffic {
    fn new(secret: &[u8]) -> Option<Self> {
        let mut traffic = Self([0; LONGEST]);
        traffic.0.get_mut(..secret.len())?.copy_from_slice(secret);
        Some(traffic)
    }

    /// The secret after this one.
    pub(crate) fn next(&self, suite: &Algorithm) -> Result<Self, Error> {
        let mut next = Self([0; LONGEST]);
        let len = hash_len(suite);
        self.expand(suite, b"traffic upd", &mut next.0[..len])?;
        Ok(next)
    }

    /// The key and the IV that this secret makes; `with` gets the key.
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

    /// HKDF-Expand-Label (RFC 8446, 7.1), without a context.
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
            .map_err(|_| Error::General("the next key cannot be made".into()))
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

/// What a handshake has made so far.
#[derive(Default)]
pub(crate) struct Noted {
    pub(crate) client: Option<Traffic>,
    pub(crate) server: Option<Traffic>,
}

impl Noted {
    /// Takes a step of a handshake, and notes what it makes.
    pub(crate) fn during<T>(&mut self, step: impl FnOnce() -> T) -> T {
        HEARD.set(Some(std::mem::take(self)));
        let done = step();
        *self = HEARD.take().unwrap_or_default();
        done
    }

    fn secret(&mut self, label: &str) -> Option<&mut Option<Traffic>> {
        match label {
            "CLIENT_TRAFFIC_SECRET_0" => Some(&mut self.client),
            "SERVER_TRAFFIC_SECRET_0" => Some(&mut self.server),
            _ => None,
        }
    }
}

/// The key log of every configuration.
#[derive(Debug)]
pub(crate) struct Notes;

impl KeyLog for Notes {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        HEARD.with_borrow_mut(|noted| {
            if let Some(kept) = noted.as_mut().and_then(|noted| noted.secret(label)) {
                *kept = Traffic::new(secret);
            }
        });
    }

    fn will_log(&self, label: &str) -> bool {
        HEARD.with_borrow_mut(|noted| noted.as_mut().is_some_and(|noted| noted.secret(label).is_some()))
    }
}
