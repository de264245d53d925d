//! TLS 1.3 records, sealed and opened in place with keys derived by rustls; rustls itself would need a buffer for every
//! record.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey,
};
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, Error, InvalidMessage, PeerMisbehaved, SupportedCipherSuite,
    crypto::cipher::NONCE_LEN,
};

use zeroize::Zeroizing;

use crate::secrets::TrafficSecret;

/// Length of a record header: type, version, length.
pub(crate) const HEADER: usize = 5;
/// Maximum plaintext of a record (RFC 8446, 5.1).
pub(crate) const PLAINTEXT: usize = 16_384;
/// Maximum payload of a record (RFC 8446, 5.2).
const PAYLOAD: usize = PLAINTEXT + 256;
/// Tag length of every TLS 1.3 suite that we offer.
const TAG: usize = 16;
/// Bytes that sealing adds to the plaintext: header, type, tag.
pub(crate) const OVERHEAD: usize = HEADER + 1 + TAG;

/// Content type of a record.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Alert,
    Handshake,
    Data,
}

impl Content {
    fn byte(self) -> u8 {
        match self {
            Self::Alert => 21,
            Self::Handshake => 22,
            Self::Data => 23,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Alert, Self::Handshake, Self::Data]
            .into_iter()
            .find(|content| content.byte() == byte)
    }
}

/// Fatal error of a connection, with the alert for the peer.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) error: Error,
    pub(crate) alert: AlertDescription,
}

impl Fault {
    pub(crate) fn misbehaved(how: PeerMisbehaved) -> Self {
        Self {
            error: how.into(),
            alert: AlertDescription::UnexpectedMessage,
        }
    }

    pub(crate) fn invalid(what: InvalidMessage) -> Self {
        Self {
            error: what.into(),
            alert: AlertDescription::DecodeError,
        }
    }

    fn oversized() -> Self {
        Self {
            error: Error::PeerSentOversizedRecord,
            alert: AlertDescription::RecordOverflow,
        }
    }

    fn undecipherable() -> Self {
        Self {
            error: Error::DecryptError,
            alert: AlertDescription::BadRecordMac,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self {
            error,
            alert: AlertDescription::InternalError,
        }
    }
}

/// Returns the payload length of the record that `bytes` begin with; none while its header is incomplete.
pub(crate) fn payload_len(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let [content, _, _, high, low, ..] = *bytes else {
        return Ok(None);
    };
    // After the handshake every record is encrypted and has the type of application data.
    if content != Content::Data.byte() {
        return Err(Fault::misbehaved(PeerMisbehaved::IllegalMiddleboxChangeCipherSpec));
    }
    let len = usize::from(u16::from_be_bytes([high, low]));
    match len {
        0..=TAG => Err(Fault::undecipherable()),
        len if len > PAYLOAD => Err(Fault::oversized()),
        len => Ok(Some(len)),
    }
}

/// Key of one direction, with the secret that the next key derives from.
pub(crate) struct Key {
    key: LessSafeKey,
    iv: Zeroizing<[u8; NONCE_LEN]>,
    sequence: u64,
    traffic: TrafficSecret,
}

impl Key {
    /// Creates the key that the handshake derived; `traffic` is the secret behind it.
    pub(crate) fn new(extracted: (u64, ConnectionTrafficSecrets), traffic: TrafficSecret) -> Result<Self, Error> {
        let (sequence, secrets) = extracted;
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Error::General("unsupported cipher suite".into())),
        };
        // A KeyUpdate that arrives with the end of the handshake moves rustls to a later key than the captured
        // secret's: the next update would then derive a key, and use its nonces, a second time.
        let (is_key, derived_iv) = traffic.key(algorithm, |derived| derived == key.as_ref())?;
        if !is_key || derived_iv != iv.as_ref() {
            return Err(Error::General("key update during the handshake".into()));
        }
        Ok(Self {
            key: key_of(algorithm, key.as_ref())?,
            iv: Zeroizing::new(derived_iv),
            sequence,
            traffic,
        })
    }

    /// Derives the next key.
    pub(crate) fn next_key(&self) -> Result<Self, Error> {
        let algorithm = self.key.algorithm();
        let traffic = self.traffic.next(algorithm)?;
        let (key, iv) = traffic.key(algorithm, |key| key_of(algorithm, key))?;
        Ok(Self {
            key: key?,
            iv: Zeroizing::new(iv),
            sequence: 0,
            traffic,
        })
    }

    /// Number of records processed so far.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns the nonce of the next record (RFC 8446, 5.3); a nonce is never returned twice.
    fn next(&mut self) -> Option<Nonce> {
        let next = self.sequence.checked_add(1)?;
        let mut nonce = *self.iv;
        for (byte, sequence) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= sequence;
        }
        self.sequence = next;
        Some(Nonce::assume_unique_for_key(nonce))
    }

    /// Opens a complete record in place; returns its content type and the length of its content, which follows the
    /// header.
    pub(crate) fn open(&mut self, record: &mut [u8]) -> Result<(Content, usize), Fault> {
        let Some((header, payload)) = record.split_first_chunk_mut::<HEADER>() else {
            return Err(Fault::undecipherable());
        };
        let nonce = self.next().ok_or_else(Fault::undecipherable)?;
        let opened = self.key.open_in_place(nonce, Aad::from(*header), payload);
        let opened = opened.map_err(|_| Fault::undecipherable())?;
        // Zero padding may follow the type byte.
        let Some(end) = opened.iter().rposition(|byte| *byte != 0) else {
            return Err(Fault::misbehaved(PeerMisbehaved::IllegalMiddleboxChangeCipherSpec));
        };
        if end > PLAINTEXT {
            return Err(Fault::oversized());
        }
        let content = Content::from_byte(opened[end]).ok_or(Fault::invalid(InvalidMessage::InvalidContentType))?;
        Ok((content, end))
    }

    /// Appends a record that carries `parts`, whose total length must fit into one record.
    pub(crate) fn seal<'a>(
        &mut self,
        content: Content,
        parts: impl Iterator<Item = &'a [u8]>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let start = out.len();
        out.extend([Content::Data.byte(), 3, 3, 0, 0]);
        for part in parts {
            out.extend_from_slice(part);
        }
        out.push(content.byte());
        let len = (out.len() - start - HEADER + TAG) as u16;
        out[start + HEADER - 2..start + HEADER].copy_from_slice(&len.to_be_bytes());
        let tag = self.seal_in_place(&mut out[start..]);
        if tag.is_err() {
            // Plaintext must not stay among the bytes to send.
            out[start..].fill(0);
            out.truncate(start);
        }
        out.extend_from_slice(tag?.as_ref());
        Ok(())
    }

    /// Appends a record of any inner plaintext: padded, or of another type.
    #[cfg(test)]
    pub(crate) fn seal_inner(&mut self, inner: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let start = out.len();
        out.extend([Content::Data.byte(), 3, 3]);
        out.extend(((inner.len() + TAG) as u16).to_be_bytes());
        out.extend_from_slice(inner);
        let tag = self.seal_in_place(&mut out[start..])?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    fn seal_in_place(&mut self, record: &mut [u8]) -> Result<Tag, Error> {
        let nonce = self.next().ok_or(Error::EncryptError)?;
        let Some((header, payload)) = record.split_first_chunk_mut::<HEADER>() else {
            return Err(Error::EncryptError);
        };
        self.key
            .seal_in_place_separate_tag(nonce, Aad::from(*header), payload)
            .map_err(|_| Error::EncryptError)
    }
}

fn key_of(algorithm: &'static Algorithm, key: &[u8]) -> Result<LessSafeKey, Error> {
    let unusable = |_| Error::General("invalid key for the cipher suite".into());
    UnboundKey::new(algorithm, key).map(LessSafeKey::new).map_err(unusable)
}

/// Returns the number of records that a key of the suite may seal.
pub(crate) fn confidentiality_limit(suite: SupportedCipherSuite) -> u64 {
    suite.tls13().map_or(0, |suite| suite.common.confidentiality_limit)
}

#[cfg(test)]
mod tests {
    use rustls::crypto::cipher::{AeadKey, Iv};

    use super::*;

    /// Creates a key that has sealed `sequence` records.
    fn key(sequence: u64) -> Key {
        let traffic = TrafficSecret::new(&[7; 32]).expect("it fits");
        let derive = |key: &[u8]| AeadKey::from(<[u8; 32]>::try_from(key).expect("32 bytes"));
        let (key, iv) = traffic.key(&CHACHA20_POLY1305, derive).expect("a key");
        let iv = Iv::from(iv);
        let secrets = ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv };
        Key::new((sequence, secrets), traffic).expect("the key of its secret")
    }

    #[test]
    fn a_failed_seal_leaves_no_plaintext() {
        let mut out = b"sealed before".to_vec();
        let sealed = key(u64::MAX).seal(Content::Data, [&b"secret"[..]].into_iter(), &mut out);
        assert!(sealed.is_err(), "its nonces are used up");
        assert_eq!(out, b"sealed before");
    }
}
