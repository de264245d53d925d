//! Facts about a connection once its TLS and its target are known; every later phase decides by them.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use proxy_core::authorize::ClientTls;
use proxy_metrics::{NoTls, Peer, Tls as TlsLabels};
use proxy_model::{ClientAddr, Id, OrigDstAddr, ServerAddr, ServerPolicy};

use crate::{Worker, io::ClientIo, policy::CurrentPolicy, policy::server_labels};

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
    pub(crate) fn labels(&self) -> TlsLabels<'_> {
        match self {
            Self::Mesh(id) => TlsLabels::Client(id.as_ref()),
            Self::Opaque(sni) => TlsLabels::Opaque(sni),
            Self::None(why) => TlsLabels::None(*why),
        }
    }

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
        let server = server_labels(&policy, self.target.0.port());
        let metrics = &self.worker.metrics;
        let slot = metrics.inbound_transport(Peer::Src, self.target.0, &self.tls.labels(), Some(&server));
        proxy_http::Metered::new(io, slot.open())
    }
}
