//! Messages on the wire, each with gRPC's prefix of five bytes. Encoded once and shared by all streams that need them.

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use prost::Message;
use proxy_model::limits::{Limit, Value};
use tokio::time::timeout;
use tonic::Status;

use crate::limits;

/// Bytes of the prefix: compression flag and length.
const HEADER: usize = 5;

/// Encoded messages that are sent together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Encoded {
    pub(crate) bytes: Bytes,
    pub(crate) messages: u32,
}

/// Encoder of consecutive messages.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    buffer: BytesMut,
    messages: u32,
}

impl Encoder {
    pub(crate) fn message(&mut self, message: &impl Message) {
        self.begin(message.encoded_len());
        // The buffer grows as needed.
        message.encode(&mut self.buffer).expect("the buffer grows");
    }

    /// Appends an encoded message.
    pub(crate) fn raw(&mut self, message: &[u8]) {
        self.begin(message.len());
        self.buffer.put_slice(message);
    }

    fn begin(&mut self, length: usize) {
        self.buffer.reserve(HEADER + length);
        self.buffer.put_u8(0);
        self.buffer.put_u32(length as u32);
        self.messages += 1;
    }

    pub(crate) fn finish(self) -> Encoded {
        Encoded {
            // Without spare capacity, which would be kept as long as the message.
            bytes: Bytes::from(self.buffer.to_vec().into_boxed_slice()),
            messages: self.messages,
        }
    }
}

/// Encodes a message that is bytes already.
pub(crate) fn encode_raw(message: &[u8]) -> Encoded {
    let mut encoder = Encoder::default();
    encoder.raw(message);
    encoder.finish()
}

/// Error of a request that cannot be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// It is too long, or takes too long.
    Limit(Limit<Value>),
    /// The client has ended it.
    Ended(String),
}

/// Reads the bytes of a request.
pub(crate) async fn read(body: Incoming) -> Result<Bytes, ReadError> {
    let (longest, time) = (limits::REQUEST_BYTES, limits::DESTINATION_REQUEST_TIME);
    let body = Limited::new(body, longest.value as usize + HEADER).collect();
    match timeout(time.value, body).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ReadError::Limit(longest.row())),
        Ok(Err(error)) => Err(ReadError::Ended(error.to_string())),
        Err(_) => Err(ReadError::Limit(time.row())),
    }
}

/// Decodes the single message of a request.
pub(crate) fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, Status> {
    let Some((header, message)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(Status::invalid_argument("the request has no message"));
    };
    let [compressed, length @ ..] = *header;
    if compressed != 0 {
        return Err(Status::unimplemented(
            "the request is compressed, which is not supported",
        ));
    }
    if u32::from_be_bytes(length) as usize != message.len() {
        return Err(Status::invalid_argument(
            "the request is not a single message of the declared length",
        ));
    }
    M::decode(message).map_err(|error| Status::invalid_argument(format!("invalid request: {error}")))
}

#[cfg(test)]
mod tests {
    use linkerd2_proxy_api::destination::GetDestination;

    use super::*;

    fn encode(message: &impl Message) -> Encoded {
        encode_raw(&message.encode_to_vec())
    }

    #[test]
    fn decodes_a_single_uncompressed_message() {
        let request = GetDestination {
            path: "web:80".to_owned(),
            ..GetDestination::default()
        };
        let encoded = encode(&request);
        assert_eq!(decode::<GetDestination>(&encoded.bytes).ok(), Some(request));
        let refused = |bytes: &[u8]| decode::<GetDestination>(bytes).expect_err("refused").code();
        let mut compressed = encoded.bytes.to_vec();
        compressed[0] = 1;
        assert_eq!(refused(&compressed), tonic::Code::Unimplemented);
        for bytes in [&b""[..], b"\0\0\0\0", &encoded.bytes[..8], b"\0\0\0\0\x02\xff\xff"] {
            assert_eq!(refused(bytes), tonic::Code::InvalidArgument);
        }
    }

    #[test]
    fn fuzz_request() {
        let request = GetDestination {
            path: "web.ns.svc.cluster.local:80".to_owned(),
            ..GetDestination::default()
        };
        let target = tests_fuzz::Target {
            name: "fuzz_request",
            seeds: vec![encode(&request).bytes.to_vec()],
            words: &["\0\0\0\0", "\u{1}", "\n", "\u{12}"],
        };
        target.run(|bytes| {
            let limit = 4 * bytes.len() + 1024;
            if let Ok(decoded) = tests_fuzz::within(limit, || decode::<GetDestination>(bytes)) {
                assert_eq!(decode(&encode(&decoded).bytes).ok(), Some(decoded));
            }
        });
    }
}
