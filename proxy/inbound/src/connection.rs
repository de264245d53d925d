//! Facts about a connection once its TLS and its target are known; every later phase decides by them.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use proxy_core::authorize::ClientTls;
use proxy_metrics::{NoTls, Peer, ServerLabels, Target, Tls as TlsLabels};
use proxy_model::{ClientAddr, Id, OrigDstAddr, ServerAddr, ServerPolicy, ServerProtocol, route::HostMatch};

use crate::{Worker, io::ClientIo, policy::CurrentPolicy};

/// TLS status of a client connection.
#[derive(Clone, Debug)]
pub(crate) enum TlsStatus {
    /// Mesh TLS, terminated here.
    Mesh(Option<Id>),
    /// The application's own TLS, with this SNI; its bytes pass untouched.
    Opaque(Arc<str>),
    /// No TLS, for this reason.
    None(NoTls),
}

impl TlsStatus {
    fn client(&self) -> ClientTls {
        match self {
            Self::Mesh(client_id) => ClientTls::Mesh {
                client_id: client_id.clone(),
            },
            Self::Opaque(_) | Self::None(_) => ClientTls::None,
        }
    }
}

/// Addresses of an accepted connection.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Addresses {
    pub(crate) orig_dst: OrigDstAddr,
    pub(crate) client: ClientAddr,
}

/// Connection whose target is known.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) client: ClientAddr,
    /// Address that the client dialed; a transport header may have named another port.
    pub(crate) orig_dst: OrigDstAddr,
    /// Address of the application.
    pub(crate) target: ServerAddr,
    pub(crate) tls: TlsStatus,
    /// TLS status in the form that authorizations compare.
    pub(crate) client_tls: ClientTls,
    pub(crate) policy: RefCell<CurrentPolicy>,
}

impl Connection {
    pub(crate) fn new(
        worker: &Rc<Worker>,
        addresses: Addresses,
        target: ServerAddr,
        tls: TlsStatus,
        policy: CurrentPolicy,
    ) -> Self {
        let Addresses { orig_dst, client } = addresses;
        let client_tls = tls.client();
        Self {
            worker: worker.clone(),
            client,
            orig_dst,
            target,
            tls,
            client_tls,
            policy: RefCell::new(policy),
        }
    }

    /// Returns the current policy of the target's port.
    pub(crate) fn policy(&self) -> Arc<ServerPolicy> {
        self.policy.borrow_mut().current().clone()
    }

    /// Starts counting the client's connection.
    pub(crate) fn meter(&self, io: ClientIo) -> proxy_http::Metered<ClientIo> {
        let policy = self.policy();
        let (target, server) = (self.target_labels(&policy), self.server_labels(&policy));
        let metrics = &self.worker.metrics;
        let slot = metrics.inbound_transport(Peer::Src, target, &self.tls_labels(&policy), Some(&server));
        proxy_http::Metered::new(io, slot.open())
    }

    /// Labels of the target. The client chose its port, so it is named only where the workload or a Server declares it.
    pub(crate) fn target_labels(&self, policy: &ServerPolicy) -> Target {
        let addr = self.target.0;
        Target::declared(
            addr,
            has_server(policy) || self.worker.config.ports.contains(addr.port()),
        )
    }

    /// Labels of the Server that a policy comes from.
    pub(crate) fn server_labels<'p>(&self, policy: &'p ServerPolicy) -> ServerLabels<'p> {
        let label = |name| policy.labels.get(name).map_or("", String::as_str);
        ServerLabels {
            group: label("group"),
            kind: label("kind"),
            name: label("name"),
            port: self.target_labels(policy).port(),
        }
    }

    /// Labels of the client's TLS. The client chose the SNI, so it is named only where a route has it as its host.
    pub(crate) fn tls_labels(&self, policy: &ServerPolicy) -> TlsLabels<'_> {
        match &self.tls {
            TlsStatus::Mesh(id) => TlsLabels::Client(id.as_ref()),
            TlsStatus::Opaque(sni) => TlsLabels::Opaque(Some(&**sni).filter(|sni| is_host(policy, sni))),
            TlsStatus::None(why) => TlsLabels::None(*why),
        }
    }
}

/// Returns true if the policy comes from a Server.
pub(crate) fn has_server(policy: &ServerPolicy) -> bool {
    policy.labels.get("kind").is_some_and(|kind| kind != "default")
}

/// Returns true if a route names this host.
fn is_host(policy: &ServerPolicy, name: &str) -> bool {
    let is_named = |hosts: &[HostMatch]| {
        hosts
            .iter()
            .any(|host| matches!(host, HostMatch::Exact(host) if host.eq_ignore_ascii_case(name)))
    };
    match &policy.protocol {
        ServerProtocol::Detect { routes, .. }
        | ServerProtocol::Http1 { routes, .. }
        | ServerProtocol::Http2 { routes, .. } => routes.iter().any(|route| is_named(&route.hosts)),
        ServerProtocol::Grpc { routes } => routes.iter().any(|route| is_named(&route.hosts)),
        ServerProtocol::Opaque | ServerProtocol::Tls => false,
    }
}
