//! Hostile bytes for the transport header.

use std::num::NonZeroU16;

use bytes::BytesMut;
use proxy_model::limits::TRANSPORT_HEADER_BYTES;
use proxy_transport::{
    Error,
    header::{Header, SessionProtocol},
};
use tests_fuzz::{Target, within};

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for protocol in [None, Some(SessionProtocol::Http1), Some(SessionProtocol::Http2)] {
        for name in [None, Some("web.ns.svc.cluster.local".to_owned())] {
            let port = NonZeroU16::MAX;
            let mut bytes = Header { port, name, protocol }.encode().to_vec();
            bytes.extend(b"GET / HTTP/1.1\r\n");
            seeds.push(bytes);
        }
    }
    seeds
}

#[test]
fn fuzz_transport_header() {
    let target = Target {
        name: "fuzz_transport_header",
        seeds: seeds(),
        words: &[
            "transport.l5d.io/v1\r\n\r\n",
            "\u{8}",
            "\u{12}",
            "\u{1a}",
            "\0\0\0\u{7}",
        ],
    };
    target.run(|bytes| {
        let mut rest = BytesMut::from(bytes);
        let decoded = within(3 * bytes.len() + 1024, || Header::decode(&mut rest));
        prefixes_agree(bytes, &decoded);
        match decoded {
            // A peer cannot make the reader wait for more than the limit.
            Ok(None) => assert!(bytes.len() < 27 + TRANSPORT_HEADER_BYTES.value && rest == bytes),
            Ok(Some(header)) => {
                assert!(bytes.ends_with(&rest), "what follows is untouched");
                let again = Header::decode(&mut BytesMut::from(&header.encode()[..]));
                assert_eq!(again.expect("valid"), Some(header));
            }
            Err(_) => {}
        }
    });
}

/// Asserts that every prefix leaves the decision open or anticipates it.
fn prefixes_agree(bytes: &[u8], whole: &Result<Option<Header>, Error>) {
    for end in (0..bytes.len()).rev().take(40) {
        match Header::decode(&mut BytesMut::from(&bytes[..end])) {
            Ok(None) => {}
            Ok(header) => assert_eq!(whole.as_ref().ok(), Some(&header)),
            Err(_) => assert!(whole.is_err()),
        }
    }
}
