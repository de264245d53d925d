//! One connection of the application: which kind of session it becomes, and serving it.

use std::rc::Rc;

use proxy_core::{detect::Detected, select};
use proxy_http::metered::Metered;
use proxy_model::{ClientAddr, OrigDstAddr};
use proxy_transport::PrefixedIo;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Worker,
    context::Context,
    detect,
    discover::Target,
    http::{ClientConnection, HttpVersion},
    opaque,
    snapshot::{Protocol, Snapshot, TcpRule},
};

/// Kind of session that a connection becomes.
enum Session {
    Http(HttpVersion),
    Opaque(Rc<TcpRule>),
    /// Decided by the first bytes; with the route for anything but HTTP.
    Detect(Option<Rc<TcpRule>>),
    Sni,
}

impl Worker {
    /// Serves one connection. Logs and counts its failure.
    pub async fn serve(
        self: Rc<Self>,
        socket: TcpStream,
        orig_dst: OrigDstAddr,
        client: ClientAddr,
        drain: CancellationToken,
    ) {
        if let Err(error) = self.start(socket, orig_dst, client, &drain).await {
            tracing::debug!(%error, reason = %error.reason(), %client, %orig_dst, "outbound connection failed");
            if !matches!(error, Error::Client(_)) {
                self.context.metrics.outbound_tcp_error(error.label()).inc();
            }
        }
    }

    async fn start(
        self: &Rc<Self>,
        socket: TcpStream,
        orig_dst: OrigDstAddr,
        client: ClientAddr,
        drain: &CancellationToken,
    ) -> Result<(), Error> {
        if orig_dst.0.ip().is_loopback() {
            return Err(Error::Loopback(orig_dst.0.ip()));
        }
        let too_many = || Error::LoadShed("too many targets".into());
        let target = self.target(orig_dst).ok_or_else(too_many)?;
        let io = Metered::new(socket, target.accepted.open());
        // The protocol is detected even without an answer from discovery, so that an HTTP client gets a response.
        let session = match target.wait().await {
            Ok(snapshot) => session(&snapshot),
            Err(_) => Session::Detect(None),
        };
        self.run(io, session, Accepted { target, client, drain }).await
    }

    async fn run(
        self: &Rc<Self>,
        mut io: Metered<TcpStream>,
        session: Session,
        accepted: Accepted<'_>,
    ) -> Result<(), Error> {
        let context = &self.context;
        let Accepted { target, client, drain } = accepted;
        let orig_dst = target.addr.0;
        // Boxed, as opaque sessions are: a connection's future should not reserve room for each kind of session.
        let http = |io, version| Box::pin(ClientConnection::new(context, &target, client).serve(io, version, drain));
        match session {
            Session::Http(version) => {
                count_protocol(context, version);
                http(PrefixedIo::plain(io), version).await
            }
            Session::Opaque(rule) => {
                context.metrics.outbound_protocol("opaq").inc();
                Box::pin(opaque::serve(context, &rule, PrefixedIo::plain(io), orig_dst)).await
            }
            Session::Detect(rule) => {
                let first = detect::detect_http(&mut io, context.config.detect_timeout).await?;
                let io = PrefixedIo::new(first.bytes, io);
                match first.detected {
                    Detected::Http1 => {
                        count_protocol(context, HttpVersion::Http1);
                        http(io, HttpVersion::Http1).await
                    }
                    Detected::Http2 => {
                        count_protocol(context, HttpVersion::Http2);
                        http(io, HttpVersion::Http2).await
                    }
                    Detected::NotHttp | Detected::NeedMore => {
                        context.metrics.outbound_protocol("detect").inc();
                        let rule = match rule {
                            Some(rule) => rule,
                            None => late_rule(&target).await?,
                        };
                        Box::pin(opaque::serve(context, &rule, io, orig_dst)).await
                    }
                }
            }
            Session::Sni => {
                context.metrics.outbound_protocol("tls").inc();
                let (bytes, sni) = detect::read_client_hello(&mut io, context.config.detect_timeout).await?;
                let rule = tls_rule(&target, sni.as_deref())?;
                Box::pin(opaque::serve(context, &rule, PrefixedIo::new(bytes, io), orig_dst)).await
            }
        }
    }
}

/// Facts about a connection that hold for its whole life.
struct Accepted<'a> {
    target: Rc<Target>,
    client: ClientAddr,
    drain: &'a CancellationToken,
}

fn count_protocol(context: &Context, version: HttpVersion) {
    let protocol = match version {
        HttpVersion::Http1 => "http/1",
        HttpVersion::Http2 => "http/2",
    };
    context.metrics.outbound_protocol(protocol).inc();
}

/// Kind of session for a connection to a target.
fn session(snapshot: &Snapshot) -> Session {
    let opaque = |rule: &Option<Rc<TcpRule>>| snapshot.opaque_profile.clone().or_else(|| rule.clone());
    let or_detect = |rule: Option<Rc<TcpRule>>| rule.map_or(Session::Detect(None), Session::Opaque);
    match &snapshot.protocol {
        Protocol::Detect { opaque: rule, .. } if snapshot.opaque_by_profile => or_detect(opaque(rule)),
        Protocol::Detect { opaque: rule, .. } => Session::Detect(opaque(rule)),
        Protocol::Http1(_) => Session::Http(HttpVersion::Http1),
        Protocol::Http2(_) => Session::Http(HttpVersion::Http2),
        Protocol::Opaque(rule) => or_detect(opaque(rule)),
        Protocol::Tls(_) => Session::Sni,
    }
}

/// Opaque route of a target that had no snapshot when the connection was accepted.
async fn late_rule(target: &Target) -> Result<Rc<TcpRule>, Error> {
    let snapshot = target.wait().await?;
    let none = || Error::InvalidPolicy(format!("{} has no opaque route", snapshot.name).into());
    match &snapshot.protocol {
        Protocol::Detect { opaque, .. } | Protocol::Opaque(opaque) => snapshot
            .opaque_profile
            .clone()
            .or_else(|| opaque.clone())
            .ok_or_else(none),
        Protocol::Http1(_) | Protocol::Http2(_) | Protocol::Tls(_) => Err(none()),
    }
}

fn tls_rule(target: &Target, sni: Option<&str>) -> Result<Rc<TcpRule>, Error> {
    let invalid = |why: &str| Error::InvalidPolicy(why.into());
    let snapshot = target.current().ok_or_else(|| invalid("the target has no policy"))?;
    let Protocol::Tls(routes) = &snapshot.protocol else {
        return Err(invalid("the target's policy has no TLS routes"));
    };
    let route = select::sni(routes, sni).ok_or(Error::NoRoute)?;
    let rule = route.rules.first();
    rule.map(|rule| rule.action.clone())
        .ok_or_else(|| invalid("the TLS route has no rule"))
}
