//! Handshake from its first byte to the keys: rustls drives the protocol, this module moves the bytes.

use std::io;

use rustls::{
    CommonState, Error, ExtractedSecrets, SupportedCipherSuite,
    client::UnbufferedClientConnection,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError, UnbufferedStatus},
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{record::HEADER, secrets::CapturedSecrets};
use proxy_model::limits::TLS_HANDSHAKE_BYTES;

/// Initial buffer size: a flight with a certificate chain takes about 2 KiB.
const FLIGHT: usize = 4096;

/// Client or server side of a handshake.
pub(crate) trait Session: Sized {
    type Data;

    const IS_CLIENT: bool;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn common(&self) -> &CommonState;
    fn finish(self) -> Result<ExtractedSecrets, Error>;
}

impl Session for UnbufferedClientConnection {
    type Data = rustls::client::ClientConnectionData;

    const IS_CLIENT: bool = true;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn finish(self) -> Result<ExtractedSecrets, Error> {
        Ok(self.dangerous_into_kernel_connection()?.0)
    }
}

impl Session for UnbufferedServerConnection {
    type Data = rustls::server::ServerConnectionData;

    const IS_CLIENT: bool = false;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn finish(self) -> Result<ExtractedSecrets, Error> {
        Ok(self.dangerous_into_kernel_connection()?.0)
    }
}

/// Result of a handshake.
pub(crate) struct Established {
    pub(crate) secrets: ExtractedSecrets,
    /// Secrets that later keys derive from.
    pub(crate) captured: CapturedSecrets,
    pub(crate) is_client: bool,
    pub(crate) suite: SupportedCipherSuite,
    /// Records received after the handshake; the last may be incomplete.
    pub(crate) rest: Vec<u8>,
}

/// Bytes received, which rustls is shown record by record: those behind the handshake, a KeyUpdate among them, are left
/// to the stream.
#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
    /// End of the whole records that were shown.
    whole: usize,
    /// End of what is shown.
    shown: usize,
}

impl Received {
    /// Shows the next record; returns false if it is not complete.
    fn advance(&mut self) -> bool {
        let [_, _, _, high, low, ..] = self.bytes[self.whole..] else {
            return false;
        };
        let end = self.whole + HEADER + usize::from(u16::from_be_bytes([high, low]));
        let is_complete = end <= self.bytes.len();
        if is_complete {
            (self.whole, self.shown) = (end, end);
        }
        is_complete
    }

    /// Shows the incomplete record at the end, so that other protocols are refused early.
    fn show_all(&mut self) {
        self.shown = self.bytes.len();
    }

    fn discard(&mut self, len: usize) {
        self.bytes.drain(..len);
        self.whole -= len.min(self.whole);
        self.shown -= len.min(self.shown);
    }
}

/// Next action of a handshake.
enum Next {
    Process,
    Send,
    Receive,
    Done,
}

/// Performs the handshake over `io`; afterwards the session knows the peer. Returns the bytes that followed.
pub(crate) async fn shake_hands<S, I>(session: &mut S, io: &mut I) -> io::Result<(Vec<u8>, CapturedSecrets)>
where
    S: Session,
    I: AsyncRead + AsyncWrite + Unpin,
{
    let (mut outgoing, mut received, mut captured) = (Vec::new(), Received::default(), CapturedSecrets::default());
    loop {
        match captured.capture(|| step(session, &mut outgoing, &mut received)) {
            Ok(Next::Process) => {}
            Ok(Next::Send) => send(io, &mut outgoing).await?,
            Ok(Next::Done) if !session.common().is_handshaking() => return Ok((received.bytes, captured)),
            // A server may send before it knows the client; we do not.
            Ok(Next::Done | Next::Receive) => {
                if !received.advance() {
                    receive(io, &mut received.bytes).await?;
                    if !received.advance() {
                        received.show_all();
                    }
                }
            }
            Err(error) => {
                // Sends the alert that explains the failure; an error while sending it is less important.
                while session.common().wants_write() && step(session, &mut outgoing, &mut received).is_ok() {}
                let _ = send(io, &mut outgoing).await;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}

fn step<S: Session>(session: &mut S, outgoing: &mut Vec<u8>, received: &mut Received) -> Result<Next, Error> {
    let UnbufferedStatus { discard, state } = session.process(&mut received.bytes[..received.shown]);
    let next = match state {
        Ok(ConnectionState::EncodeTlsData(encode)) => self::encode(encode, outgoing).map(|()| Next::Process),
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            transmit.done();
            Ok(Next::Send)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Next::Receive),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Next::Done),
        // Data and ends come after the handshake, in records that rustls is not shown.
        Ok(_) => Err(Error::HandshakeNotComplete),
        Err(error) => Err(error),
    };
    received.discard(discard);
    next
}

fn encode<Data>(mut encode: EncodeTlsData<'_, Data>, outgoing: &mut Vec<u8>) -> Result<(), Error> {
    let start = outgoing.len();
    let encoded = match encode.encode(&mut []) {
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
            outgoing.resize(start + required_size, 0);
            encode.encode(&mut outgoing[start..])
        }
        encoded => encoded,
    };
    encoded.map(drop).map_err(|error| Error::General(error.to_string()))
}

async fn send(io: &mut (impl AsyncWrite + Unpin), outgoing: &mut Vec<u8>) -> io::Result<()> {
    io.write_all(outgoing).await?;
    outgoing.clear();
    io.flush().await
}

async fn receive(io: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> io::Result<()> {
    let room = TLS_HANDSHAKE_BYTES.value - bytes.len().min(TLS_HANDSHAKE_BYTES.value);
    if room == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            Error::from(rustls::InvalidMessage::HandshakePayloadTooLarge),
        ));
    }
    if bytes.len() == bytes.capacity() {
        bytes.reserve(FLIGHT);
    }
    if io.take(room as u64).read_buf(bytes).await? == 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "connection closed during the handshake",
        ));
    }
    Ok(())
}
