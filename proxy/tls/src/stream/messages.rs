//! Handshake messages after the handshake. They may be in pieces, though hardly anybody sends them so.

use proxy_model::limits::TLS_HANDSHAKE_BYTES;
use rustls::{InvalidMessage, PeerMisbehaved};

use crate::record::Fault;

/// A KeyUpdate that asks for none.
pub(super) const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// What a peer may still say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// NewSessionTicket.
    Ticket,
    /// The next record comes under the next key.
    KeyUpdate {
        /// And one of ours should, too.
        is_requested: bool,
    },
}

/// What is not whole yet.
#[derive(Debug, Default)]
pub(super) struct Messages(Vec<u8>);

impl Messages {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.is_empty() {
            return Err(Fault::invalid(InvalidMessage::InvalidEmptyPayload));
        }
        if self.0.len() + bytes.len() > TLS_HANDSHAKE_BYTES.value {
            return Err(Fault::invalid(InvalidMessage::HandshakePayloadTooLarge));
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// The next message, if it is whole.
    pub(super) fn next(&mut self) -> Result<Option<Message>, Fault> {
        let [kind, a, b, c, ref rest @ ..] = self.0[..] else {
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
        self.0.drain(..4 + len);
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        Ok(Some(message))
    }

    /// Nothing may come between the pieces of a message.
    pub(super) fn expect_whole(&self) -> Result<(), Fault> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Fault::misbehaved(
                PeerMisbehaved::MessageInterleavedWithHandshakeMessage,
            ))
        }
    }
}
