//! Tests of detection with valid and hostile bytes.

use proptest::prelude::*;

use super::*;

#[test]
fn detects_http_by_its_first_bytes() {
    assert_eq!(http(b""), Detected::NeedMore);
    assert_eq!(http(b"PRI"), Detected::NeedMore);
    assert_eq!(http(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Detected::Http2);
    assert_eq!(http(b"GET / HTTP"), Detected::NeedMore);
    assert_eq!(http(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n"), Detected::Http1);
    assert_eq!(http(b"POST /upload HTTP/1.0\r\n"), Detected::Http1);
    assert_eq!(http(b"OPTIONS * HTTP/1.1\r\n\r\n"), Detected::Http1);
    assert_eq!(http(b"PING\r\n"), Detected::NotHttp);
    assert_eq!(http(b"hello there, server\r\n"), Detected::NotHttp);
    assert_eq!(
        http(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0]),
        Detected::NotHttp
    );
}

/// A ClientHello with the given extensions, in one record.
fn hello(extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0]);
    body.extend([0, 2, 0x13, 1]);
    body.extend([1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut record = vec![22, 3, 1];
    record.extend((body.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

fn sni(name: &str) -> Vec<u8> {
    let n = name.len() as u16;
    let mut extension = vec![0, 0];
    extension.extend((n + 5).to_be_bytes());
    extension.extend((n + 3).to_be_bytes());
    extension.push(0);
    extension.extend(n.to_be_bytes());
    extension.extend(name.as_bytes());
    extension
}

#[test]
fn parses_a_client_hello_once_it_is_complete() {
    let mut extensions = vec![0, 43, 0, 3, 2, 3, 4];
    extensions.extend(sni("Web.Emoji.local"));
    let bytes = hello(&extensions);
    for end in 0..bytes.len() {
        assert_eq!(client_hello(&bytes[..end]), Hello::NeedMore, "{end} of {}", bytes.len());
    }
    let found = Hello::Hello {
        sni: Some("web.emoji.local".into()),
    };
    assert_eq!(client_hello(&bytes), found);
    assert_eq!(
        client_hello(&[bytes, vec![1, 2, 3]].concat()),
        found,
        "bytes after it are ignored"
    );
    assert_eq!(client_hello(&hello(&[])), Hello::Hello { sni: None });
}

#[test]
fn rejects_damaged_client_hellos() {
    let good = hello(&sni("web"));
    for (at, value) in [(0, 23), (1, 2), (2, 4), (5, 2)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(client_hello(&bad), Hello::NotTls, "byte {at}");
        assert_eq!(client_hello(&bad[..=at]), Hello::NotTls, "at once, byte {at}");
    }
    let mut two_records = good.clone();
    two_records[4] -= 10;
    assert_eq!(client_hello(&two_records), Hello::NotTls);
    assert_eq!(client_hello(&[22, 3, 3, 0xff, 0xff, 1]), Hello::NotTls, "too large");
    assert_eq!(client_hello(&[22, 3, 3, 0, 0]), Hello::NotTls, "empty record");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn never_panics_on_arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        http(&bytes);
        client_hello(&bytes);
    }

    #[test]
    fn never_panics_on_a_damaged_client_hello(at in 0_usize..80, value: u8, cut in 0_usize..90) {
        let mut bytes = hello(&sni("web.emoji.serviceaccount"));
        let n = bytes.len();
        bytes[at % n] = value;
        client_hello(&bytes);
        client_hello(&bytes[..cut.min(n)]);
    }

    #[test]
    fn a_decision_is_final(bytes in prop::collection::vec(any::<u8>(), 0..40), cut in 0_usize..40) {
// After a decision, more bytes change nothing.
        let cut = cut.min(bytes.len());
        if client_hello(&bytes[..cut]) == Hello::NotTls {
            prop_assert_eq!(client_hello(&bytes), Hello::NotTls);
        }
        if http(&bytes[..cut]) == Detected::NotHttp {
            prop_assert_eq!(http(&bytes), Detected::NotHttp);
        }
    }
}
