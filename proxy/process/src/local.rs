//! Requests that only this host may make, a port-forward included.
//!
//! A loopback address alone proves little: a web page on this host may send requests, too, if its name resolves to the
//! address. So a request must name its host by an address or as `localhost`, and not come from a page.

use std::net::IpAddr;

use axum::{
    extract::FromRequestParts,
    http::{
        StatusCode,
        header::{CONTENT_TYPE, HOST, HeaderName, ORIGIN},
        request::Parts,
        uri::Authority,
    },
};
use proxy_model::ClientAddr;

/// Refusal, as a response.
pub type Refusal = (StatusCode, [(HeaderName, &'static str); 1], &'static str);

const NOT_LOCAL: &str = "Requests are only permitted from localhost.";
const NOT_ADDRESSED: &str = "The host of the request must be localhost or an IP address, and not a web page's.";

/// Proof that a request is from this host. As an argument before the body, no other client's body is read.
#[derive(Copy, Clone, Debug)]
pub struct LocalClient(());

impl<S: Sync> FromRequestParts<S> for LocalClient {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        check_host(parts)?;
        if is_local(parts) {
            Ok(Self(()))
        } else {
            Err(refusal(NOT_LOCAL))
        }
    }
}

/// Returns true if the client has a loopback address.
pub fn is_local(parts: &Parts) -> bool {
    let client = parts.extensions.get::<ClientAddr>();
    client.is_some_and(|client| client.0.ip().to_canonical().is_loopback())
}

/// Refuses requests to a name that anyone could let resolve to this host, and those of web pages.
pub fn check_host(parts: &Parts) -> Result<(), Refusal> {
    let by_header = parts.headers.get_all(HOST).into_iter().map(|host| host.to_str().ok());
    let by_target = parts.uri.authority().map(|authority| Some(authority.as_str()));
    let is_address = |host: Option<&str>| host.is_some_and(is_address);
    if !parts.headers.contains_key(ORIGIN) && by_header.chain(by_target).all(is_address) {
        Ok(())
    } else {
        Err(refusal(NOT_ADDRESSED))
    }
}

fn is_address(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

/// Refusal with a reason.
pub fn refusal(reason: &'static str) -> Refusal {
    (StatusCode::FORBIDDEN, [(CONTENT_TYPE, "text/plain")], reason)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn hosts_are_addresses_or_localhost() {
        for host in [
            "localhost",
            "LOCALHOST:4191",
            "127.0.0.1:4191",
            "10.0.0.1",
            "[::1]:4191",
            "[::1]",
        ] {
            assert!(check_host(&parts("/", &[("host", host)])).is_ok(), "{host}");
        }
        assert!(check_host(&parts("/", &[])).is_ok(), "HTTP/1.0 has none");
        for host in [
            "attacker.example",
            "localhost.attacker.example:4191",
            "127.0.0.1.nip.io",
            "",
            "a b",
        ] {
            assert!(check_host(&parts("/", &[("host", host)])).is_err(), "{host}");
        }
        assert!(check_host(&parts("http://attacker.example/", &[("host", "localhost")])).is_err());
        let page = [("host", "localhost"), ("origin", "http://attacker.example")];
        assert!(check_host(&parts("/", &page)).is_err());
    }
}
