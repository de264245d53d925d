//! Log of denied requests and connections, at a limited rate.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use proxy_metrics::ResourceLabels;
use proxy_model::{Meta, Reason, ServerPolicy, limits};

use crate::connection::Connection;

const WINDOW: Duration = Duration::from_secs(1);

/// Log of the denials of one worker. Denials beyond [`limits::DENIALS_LOGGED`] in a second are only counted; the next
/// logged one reports their number as `suppressed`.
#[derive(Debug, Default)]
pub(crate) struct DenialLog {
    began: Cell<Option<Instant>>,
    logged: Cell<u32>,
    suppressed: Cell<u64>,
}

impl DenialLog {
    /// Logs a denied request; `route` is the one that matched.
    #[cold]
    pub(crate) fn request(&self, connection: &Connection, policy: &ServerPolicy, reason: Reason, route: Option<&Meta>) {
        let Some(suppressed) = self.admit(Instant::now()) else {
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
        let Some(suppressed) = self.admit(Instant::now()) else {
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

    /// Returns the number of denials suppressed since the last logged one, if another may be logged now.
    fn admit(&self, now: Instant) -> Option<u64> {
        if self.began.get().is_none_or(|began| now.duration_since(began) >= WINDOW) {
            self.began.set(Some(now));
            self.logged.set(0);
        }
        if self.logged.get() >= limits::DENIALS_LOGGED.value {
            self.suppressed.set(self.suppressed.get() + 1);
            return None;
        }
        self.logged.set(self.logged.get() + 1);
        Some(self.suppressed.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_the_rate_and_reports_suppressed_denials() {
        let log = DenialLog::default();
        let now = Instant::now();
        for _ in 0..limits::DENIALS_LOGGED.value {
            assert_eq!(log.admit(now), Some(0));
        }
        assert_eq!((log.admit(now), log.admit(now)), (None, None));
        assert_eq!(log.admit(now + WINDOW), Some(2));
        assert_eq!(log.admit(now + WINDOW), Some(0), "reported once");
    }
}
