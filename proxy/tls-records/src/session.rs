//! Handshake from its first byte to the keys: rustls drives the protocol, this module moves the bytes.

use std::io;

use rustls::{
    CommonState, Error, ExtractedSecrets, SupportedCipherSuite,
    client::UnbufferedClientConnection,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError, UnbufferedStatus},
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::secrets::CapturedSecrets;
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
    pub(crate) rest: Rest,
}

/// Bytes received after the handshake.
#[derive(Default)]
pub(crate) struct Rest {
    /// Data of complete records.
    pub(crate) early: Vec<u8>,
    /// Beginning of an incomplete record.
    pub(crate) records: Vec<u8>,
    /// The peer has closed its half.
    pub(crate) is_closed: bool,
}

/// Next action of a handshake.
enum Next {
    Process,
    Send,
    Receive,
    Done,
}

/// Performs the handshake over `io`; afterwards the session knows the peer.
pub(crate) async fn shake_hands<S, I>(session: &mut S, io: &mut I) -> io::Result<(Rest, CapturedSecrets)>
where
    S: Session,
    I: AsyncRead + AsyncWrite + Unpin,
{
    let (mut outgoing, mut rest, mut captured) = (Vec::new(), Rest::default(), CapturedSecrets::default());
    loop {
        match captured.capture(|| step(session, &mut outgoing, &mut rest)) {
            Ok(Next::Process) => {}
            Ok(Next::Send) => send(io, &mut outgoing).await?,
            Ok(Next::Done) if !session.common().is_handshaking() => return Ok((rest, captured)),
            // A server may send before it knows the client; we do not.
            Ok(Next::Done | Next::Receive) => receive(io, &mut rest).await?,
            Err(error) => {
                // Sends the alert that explains the failure; an error while sending it is less important.
                while session.common().wants_write() && step(session, &mut outgoing, &mut rest).is_ok() {}
                let _ = send(io, &mut outgoing).await;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}

fn step<S: Session>(session: &mut S, outgoing: &mut Vec<u8>, rest: &mut Rest) -> Result<Next, Error> {
    let UnbufferedStatus { mut discard, state } = session.process(&mut rest.records);
    let next = match state {
        Ok(ConnectionState::EncodeTlsData(encode)) => self::encode(encode, outgoing).map(|()| Next::Process),
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            transmit.done();
            Ok(Next::Send)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Next::Receive),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Next::Done),
        Ok(ConnectionState::ReadTraffic(mut read)) => loop {
            match read.next_record() {
                None => break Ok(Next::Process),
                Some(Err(error)) => break Err(error),
                Some(Ok(record)) => {
                    rest.early.extend_from_slice(record.payload);
                    discard += record.discard;
                }
            }
        },
        Ok(ConnectionState::PeerClosed) => {
            rest.is_closed = true;
            Ok(Next::Process)
        }
        Ok(_) => Err(Error::HandshakeNotComplete),
        Err(error) => Err(error),
    };
    rest.records.drain(..discard);
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

async fn receive(io: &mut (impl AsyncRead + Unpin), rest: &mut Rest) -> io::Result<()> {
    let room = TLS_HANDSHAKE_BYTES.value - (rest.records.len() + rest.early.len()).min(TLS_HANDSHAKE_BYTES.value);
    if room == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            Error::from(rustls::InvalidMessage::HandshakePayloadTooLarge),
        ));
    }
    if rest.records.len() == rest.records.capacity() {
        rest.records.reserve(FLIGHT);
    }
    if io.take(room as u64).read_buf(&mut rest.records).await? == 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "connection closed during the handshake",
        ));
    }
    Ok(())
}
