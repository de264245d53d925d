//! Records of an established TLS 1.3 session, sealed one by one: empty ones, alerts, and whatever else rustls would
//! not write.

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::client::TlsStream;

use super::Io;

/// Inner types of records.
pub mod inner {
    /// Alert.
    pub const ALERT: u8 = 21;
    /// Application data.
    pub const DATA: u8 = 23;
}

const NONCE: usize = 12;
const TAG: usize = 16;

/// Writer of records.
pub struct Records<I> {
    /// Connection underneath.
    pub io: I,
    key: LessSafeKey,
    iv: [u8; NONCE],
    sequence: u64,
    output: Vec<u8>,
}

impl<I: Io> Records<I> {
    /// Takes over the sending side of a session.
    pub fn new(session: TlsStream<I>) -> Result<Self> {
        let (io, connection) = session.into_inner();
        let (sequence, secrets) = connection.dangerous_extract_secrets()?.tx;
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => bail!("an unknown cipher"),
        };
        let key = UnboundKey::new(algorithm, key.as_ref())
            .ok()
            .context("a key of another length")?;
        Ok(Self {
            io,
            key: LessSafeKey::new(key),
            iv: iv.as_ref().try_into()?,
            sequence,
            output: Vec::new(),
        })
    }

    /// Seals a record.
    pub fn seal(&mut self, kind: u8, payload: &[u8]) -> Result<()> {
        let mut nonce = self.iv;
        for (byte, sequence) in nonce[NONCE - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= sequence;
        }
        self.sequence += 1;
        let mut text = [payload, &[kind]].concat();
        let length = ((text.len() + TAG) as u16).to_be_bytes();
        let head = [inner::DATA, 3, 3, length[0], length[1]];
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = self.key.seal_in_place_append_tag(nonce, Aad::from(head), &mut text);
        sealed.ok().context("cannot seal")?;
        self.output.extend(head);
        self.output.extend(text);
        Ok(())
    }

    /// Writes what was sealed.
    pub async fn flush(&mut self) -> std::io::Result<()> {
        let written = self.io.write_all(&self.output).await;
        self.output.clear();
        written
    }
}
