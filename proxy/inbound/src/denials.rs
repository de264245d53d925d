//! Log of denied requests and connections, at a limited rate.

use std::{cell::Cell, time::Instant};

use proxy_core::log_quota::LogQuota;
use proxy_metrics::ResourceLabels;
use proxy_model::{Meta, Reason, ServerPolicy, limits};

use crate::connection::Connection;

/// Log of the denials of one worker. Denials beyond the rate are only counted; the next logged one reports their number
/// as `suppressed`.
#[derive(Debug, Default)]
pub(crate) struct DenialLog(Cell<LogQuota>);

impl DenialLog {
    fn admit(&self) -> Option<u64> {
        LogQuota::admit_shared(&self.0, limits::DENIALS_LOGGED.value, Instant::now())
    }

    /// Logs a denied request; `route` is the one that matched.
    #[cold]
    pub(crate) fn request(&self, connection: &Connection, policy: &ServerPolicy, reason: Reason, route: Option<&Meta>) {
        let Some(suppressed) = self.admit() else {
            return;
        };
        let server = connection.server_labels(policy);
        let route = route.map(ResourceLabels::from).unwrap_or_default();
        tracing::info!(
            reason = reason.code(),
            server.group = server.group,
            server.kind = server.kind,
            server.name = server.name,
            route.group = route.group,
            route.kind = route.kind,
            route.name = route.name,
            client.id = connection.client_tls.client_id().map_or("", |id| id.as_str()),
            client.ip = %connection.client.0.ip(),
            suppressed,
            "Request denied"
        );
    }

    /// Logs a denied connection.
    #[cold]
    pub(crate) fn connection(&self, connection: &Connection, policy: &ServerPolicy, reason: Reason) {
        let Some(suppressed) = self.admit() else {
            return;
        };
        let server = connection.server_labels(policy);
        tracing::info!(
            reason = reason.code(),
            server.group = server.group,
            server.kind = server.kind,
            server.name = server.name,
            client.id = connection.client_tls.client_id().map_or("", |id| id.as_str()),
            client.ip = %connection.client.0.ip(),
            suppressed,
            "Connection denied"
        );
    }
}
