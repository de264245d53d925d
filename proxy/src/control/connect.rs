//! Connects to one service of the control plane: resolve, connect, mesh TLS, HTTP/2.

use std::{net::SocketAddr, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use hyper::client::conn::http2::{self, Connection, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use proxy_model::{ServerAddr, limits};
use proxy_process::serve::AnyIo;
use proxy_tls::{Alpn, Tls};
use proxy_transport::Connect;

use super::Error;
use crate::env::{HostPort, Service};

/// Time between PINGs, without open streams, too: the next change may be days away.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Time for the answer to a PING.
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// Time before the next address is tried in parallel.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// Time for a resolver.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

type Body = tonic::body::Body;

/// Connector to one service.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pub(crate) service: Service,
    pub(crate) tls: Tls,
    pub(crate) tcp: Connect,
}

/// A connection, and the future that drives it.
pub(crate) struct Connected {
    pub(crate) send: SendRequest<Body>,
    pub(crate) addr: SocketAddr,
    pub(crate) driver: futures_util::future::BoxFuture<'static, Result<(), hyper::Error>>,
}

impl Connector {
    /// Tries every address of the service once, the one to avoid last. The next is tried when one fails or is slow, so
    /// that a replica that is gone does not delay the others.
    pub(crate) async fn connect(&self, avoid: Option<SocketAddr>) -> Result<Connected, Error> {
        let mut addrs = resolve(&self.service.addr).await?;
        fastrand::shuffle(&mut addrs);
        addrs.sort_by_key(|addr| Some(*addr) == avoid);
        let (mut addrs, mut attempts, mut last) = (addrs.into_iter(), FuturesUnordered::new(), Error::Closed);
        loop {
            if let Some(addr) = addrs.next() {
                attempts.push(self.connect_to(addr));
            } else if attempts.is_empty() {
                return Err(last);
            }
            let wait_for_next = async {
                match addrs.len() {
                    0 => std::future::pending().await,
                    _ => tokio::time::sleep(NEXT_ADDRESS).await,
                }
            };
            tokio::select! {
                Some(attempt) = attempts.next() => match attempt {
                    Ok(connected) => return Ok(connected),
                    Err(error) => last = error,
                },
                () = wait_for_next => {}
            }
        }
    }

    async fn connect_to(&self, addr: SocketAddr) -> Result<Connected, Error> {
        let tcp = self.tcp.connect(ServerAddr(addr)).await?;
        match &self.service.tls {
            None => http2(Box::new(tcp), addr).await,
            Some(server) => http2(Box::new(self.tls.connect(tcp, server, Alpn::None).await?), addr).await,
        }
    }
}

async fn http2(io: AnyIo, addr: SocketAddr) -> Result<Connected, Error> {
    let (send, driver): (SendRequest<Body>, Connection<_, Body, _>) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW.value)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW.value)
        .max_header_list_size(limits::HEADER_LIST_BYTES.value)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(io))
        .await?;
    Ok(Connected {
        send,
        addr,
        driver: Box::pin(driver),
    })
}

/// Resolves the service's addresses. A loopback name needs no resolver.
async fn resolve(addr: &HostPort) -> Result<Vec<SocketAddr>, Error> {
    if addr.is_loopback() {
        let ip = addr.host.parse().unwrap_or(std::net::Ipv4Addr::LOCALHOST.into());
        return Ok(vec![SocketAddr::new(ip, addr.port)]);
    }
    let failed = |reason: String| Error::Resolve {
        name: addr.host.clone(),
        reason,
    };
    let mut reason = None;
    for name in names(&addr.host) {
        match tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((&*name, addr.port))).await {
            Err(_) => reason = reason.or(Some(format!("no answer in {RESOLVE_TIMEOUT:?}"))),
            Ok(Err(error)) => reason = reason.or(Some(error.to_string())),
            Ok(Ok(found)) => {
                let mut found: Vec<_> = found.collect();
                found.sort_unstable();
                found.dedup();
                if !found.is_empty() {
                    return Ok(found);
                }
            }
        }
    }
    Err(failed(reason.unwrap_or_else(|| "it has no address".to_owned())))
}

/// Names of a service, in the order of their lookup: as written, where a final dot means that no search list is used;
/// without that dot, because /etc/hosts has none; and the sibling with a virtual address. A headless name that was
/// looked up without replicas stays empty for 5 s, because CoreDNS caches the answer.
fn names(host: &str) -> Vec<String> {
    let without_dot = host.trim_end_matches('.');
    let mut names = vec![host.to_owned()];
    if without_dot != host {
        names.push(without_dot.to_owned());
    }
    let beside = host.split_once('.').and_then(|(service, domain)| {
        let beside = match service {
            "linkerd-policy" => "linkerd-dst",
            service => service.strip_suffix("-headless")?,
        };
        Some(format!("{beside}.{domain}"))
    });
    names.extend(beside);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_headless_name_has_one_with_a_virtual_address_beside_it() {
        assert_eq!(
            names("linkerd-dst-headless.linkerd.svc.cluster.local."),
            [
                "linkerd-dst-headless.linkerd.svc.cluster.local.",
                "linkerd-dst-headless.linkerd.svc.cluster.local",
                "linkerd-dst.linkerd.svc.cluster.local."
            ]
        );
        assert_eq!(
            names("linkerd-policy.mesh.svc"),
            ["linkerd-policy.mesh.svc", "linkerd-dst.mesh.svc"]
        );
        assert_eq!(names("localhost."), ["localhost.", "localhost"]);
        assert_eq!(names("linkerd-identity.mesh.svc"), ["linkerd-identity.mesh.svc"]);
    }
}
