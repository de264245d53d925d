//! Post-handshake messages. They may be fragmented, though hardly any peer does that.

use proxy_model::limits::TLS_HANDSHAKE_BYTES;
use rustls::{InvalidMessage, PeerMisbehaved};

use crate::record::Fault;

/// A KeyUpdate that requests none in return.
pub(super) const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// Post-handshake message that a peer may send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// NewSessionTicket.
    Ticket,
    /// The next record is sealed with the next key.
    KeyUpdate {
        /// The peer requests a KeyUpdate in return.
        is_requested: bool,
    },
}

/// Messages received and not processed yet.
#[derive(Debug, Default)]
pub(super) struct Messages {
    bytes: Vec<u8>,
    /// End of the messages already processed.
    start: usize,
}

impl Messages {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.is_empty() {
            return Err(Fault::invalid(InvalidMessage::InvalidEmptyPayload));
        }
        self.bytes.drain(..std::mem::take(&mut self.start));
        if self.bytes.len() + bytes.len() > TLS_HANDSHAKE_BYTES.value {
            return Err(Fault::invalid(InvalidMessage::HandshakePayloadTooLarge));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Returns the next message once it is complete.
    pub(super) fn next(&mut self) -> Result<Option<Message>, Fault> {
        let [kind, a, b, c, ref rest @ ..] = self.bytes[self.start..] else {
            return Ok(None);
        };
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        if len > TLS_HANDSHAKE_BYTES.value {
            return Err(Fault::invalid(InvalidMessage::HandshakePayloadTooLarge));
        }
        let Some(body) = rest.get(..len) else {
            return Ok(None);
        };
        let message = match (kind, body) {
            (4, _) => Message::Ticket,
            (24, [0]) => Message::KeyUpdate { is_requested: false },
            (24, [1]) => Message::KeyUpdate { is_requested: true },
            (24, _) => return Err(Fault::invalid(InvalidMessage::InvalidKeyUpdate)),
            _ => return Err(Fault::invalid(InvalidMessage::UnexpectedMessage("after the handshake"))),
        };
        self.start += 4 + len;
        if self.start == self.bytes.len() {
            *self = Self::default();
        }
        Ok(Some(message))
    }

    /// Fails if a message is incomplete: no other record may come between its fragments.
    pub(super) fn expect_whole(&self) -> Result<(), Fault> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(Fault::misbehaved(
                PeerMisbehaved::MessageInterleavedWithHandshakeMessage,
            ))
        }
    }
}
