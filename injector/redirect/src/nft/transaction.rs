//! Sends a batch of nftables messages as one transaction and reads the kernel's verdict.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_netfilter::nftables::NfTablesMessage;
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::{Error, TRANSACTION_BYTES};

/// `NFNL_SUBSYS_NFTABLES`, the subsystem of a batch.
const NFTABLES: u16 = 10;
/// Sequence number of the batch's first message.
const FIRST: u32 = 1;

/// Commits all messages or none.
pub(super) fn commit(table: &str, messages: Vec<NfTablesMessage>) -> Result<(), Error> {
    let (buffer, last) = batch(messages);
    if buffer.len() > TRANSACTION_BYTES {
        return Err(Error::TooLarge {
            table: table.to_owned(),
            bytes: buffer.len(),
        });
    }
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&buffer, 0)?;
    // The kernel answers before the send returns, so an empty queue means that no answer will come.
    socket.set_non_blocking(true)?;
    loop {
        match answer(&socket, last)? {
            Some(Ok(())) => return Ok(()),
            Some(Err(source)) => {
                return Err(Error::Refused {
                    table: table.to_owned(),
                    source,
                });
            }
            None => {}
        }
    }
}

/// Returns the batch and the sequence number whose acknowledgement confirms all of it.
fn batch(messages: Vec<NfTablesMessage>) -> (Vec<u8>, u32) {
    let last = FIRST + messages.len() as u32;
    let mut buffer = Vec::new();
    let control = |message| {
        (
            NetfilterMessageInner::from(message),
            NetfilterProtoFamily::Unspec,
            NFTABLES,
            0,
        )
    };
    let change = |message: NfTablesMessage| {
        let flags = match message {
            NfTablesMessage::NewRule(_) => NLM_F_CREATE | NLM_F_APPEND,
            NfTablesMessage::DeleteTable(_) => 0,
            _ => NLM_F_CREATE,
        };
        (
            NetfilterMessageInner::from(message),
            NetfilterProtoFamily::Inet,
            0,
            flags,
        )
    };
    let all = std::iter::once(control(ControlMessage::BatchBegin))
        .chain(messages.into_iter().map(change))
        .chain(std::iter::once(control(ControlMessage::BatchEnd)));
    for (sequence, (inner, family, resource, flags)) in (FIRST..).zip(all) {
        let mut message = NetlinkMessage::from(NetfilterMessage::new(NetfilterHeader::new(family, 0, resource), inner));
        message.header.sequence_number = sequence;
        message.header.flags = NLM_F_REQUEST | flags | if sequence == last { NLM_F_ACK } else { 0 };
        message.finalize();
        let start = buffer.len();
        buffer.resize(start + message.buffer_len(), 0);
        message.serialize(&mut buffer[start..]);
    }
    (buffer, last)
}

/// Reads one datagram and returns the verdict if it contains one.
fn answer(socket: &Socket, last: u32) -> Result<Option<io::Result<()>>, Error> {
    let (bytes, _) = socket.recv_from_full().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Error::NoAnswer,
        _ => Error::Socket(error),
    })?;
    let mut rest = &bytes[..];
    while rest.len() >= 16 {
        let length = NetlinkBuffer::new_checked(rest).map_err(invalid)?.length() as usize;
        let message = NetlinkMessage::<NetfilterMessage>::deserialize(&rest[..length]).map_err(invalid)?;
        if let NetlinkPayload::Error(error) = &message.payload {
            match error.code {
                Some(_) => return Ok(Some(Err(error.to_io()))),
                None if message.header.sequence_number == last => return Ok(Some(Ok(()))),
                None => {}
            }
        }
        // Messages are aligned to 4 bytes.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(None)
}

fn invalid(error: impl std::fmt::Display) -> Error {
    Error::Socket(io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}
