//! Request bodies within a budget of the whole process. When it is exhausted, the oldest body in flight is dropped: the
//! API server's arrives within milliseconds, so that what has been arriving for longest is not the API server's.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use proxy_model::limits::{Limit, Value};
use tokio_util::sync::CancellationToken;

use crate::limits::{WEBHOOK_BODIES_BYTES, WEBHOOK_BODY_BYTES, WEBHOOK_BODY_TIME};

/// Error of a body that was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A body above the limit.
    #[error("the body exceeds {} bytes", WEBHOOK_BODY_BYTES.value)]
    TooLarge,
    /// A body that arrived too slowly.
    #[error("timed out reading the body")]
    Timeout,
    /// A body dropped in favour of newer ones.
    #[error("too many bytes in flight")]
    Dropped,
    /// A broken connection.
    #[error("cannot read the body: {0}")]
    Read(String),
}

impl Error {
    /// Returns the limit that was exceeded.
    pub(crate) fn limit(&self) -> Option<Limit<Value>> {
        match self {
            Self::TooLarge => Some(WEBHOOK_BODY_BYTES.row()),
            Self::Timeout => Some(WEBHOOK_BODY_TIME.row()),
            Self::Dropped => Some(WEBHOOK_BODIES_BYTES.row()),
            Self::Read(_) => None,
        }
    }
}

/// Budget of bodies in flight.
#[derive(Debug, Default)]
pub(crate) struct Budget(Mutex<InFlight>);

#[derive(Debug, Default)]
struct InFlight {
    bytes: usize,
    next: u64,
    /// By age: bytes, and the signal that drops the body.
    bodies: BTreeMap<u64, (usize, CancellationToken)>,
}

/// Part of the budget that one body holds until it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation<'a> {
    budget: &'a Budget,
    id: u64,
    dropped: CancellationToken,
}

impl Budget {
    /// Reads a body; its part of the budget is held as long as the reservation.
    pub(crate) async fn read<B>(&self, body: B) -> Result<(Bytes, Reservation<'_>), Error>
    where
        B: hyper::body::Body<Data = Bytes, Error = hyper::Error> + Unpin,
    {
        // Announced by the client; refused before any of it is read.
        if body.size_hint().lower() > WEBHOOK_BODY_BYTES.value as u64 {
            return Err(Error::TooLarge);
        }
        let reservation = self.reserve();
        let dropped = reservation.dropped.clone();
        let bytes = tokio::select! {
            bytes = collect(body, &reservation) => bytes?,
            () = dropped.cancelled() => return Err(Error::Dropped),
            () = tokio::time::sleep(WEBHOOK_BODY_TIME.value) => return Err(Error::Timeout),
        };
        Ok((bytes, reservation))
    }

    fn reserve(&self) -> Reservation<'_> {
        let mut in_flight = self.lock();
        let id = in_flight.next;
        in_flight.next += 1;
        let dropped = CancellationToken::new();
        in_flight.bodies.insert(id, (0, dropped.clone()));
        Reservation {
            budget: self,
            id,
            dropped,
        }
    }

    fn lock(&self) -> MutexGuard<'_, InFlight> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn collect<B>(mut body: B, reservation: &Reservation<'_>) -> Result<Bytes, Error>
where
    B: hyper::body::Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::Read(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        if all.len() + data.len() > WEBHOOK_BODY_BYTES.value {
            return Err(Error::TooLarge);
        }
        reservation.grow(data.len());
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

impl Reservation<'_> {
    /// Takes more of the budget; drops the oldest bodies if it is exhausted.
    fn grow(&self, bytes: usize) {
        let mut in_flight = self.budget.lock();
        let Some((own, _)) = in_flight.bodies.get_mut(&self.id) else {
            return;
        };
        *own += bytes;
        in_flight.bytes += bytes;
        while in_flight.bytes > WEBHOOK_BODIES_BYTES.value {
            let Some((_, (bytes, dropped))) = in_flight.bodies.pop_first() else {
                return;
            };
            in_flight.bytes -= bytes;
            dropped.cancel();
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut in_flight = self.budget.lock();
        if let Some((bytes, _)) = in_flight.bodies.remove(&self.id) {
            in_flight.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_body_is_dropped_and_the_rest_is_returned() {
        let budget = Budget::default();
        let bodies: Vec<_> = (0..9).map(|_| budget.reserve()).collect();
        for body in &bodies {
            body.grow(WEBHOOK_BODIES_BYTES.value / 8);
        }
        let dropped: Vec<_> = bodies.iter().map(|body| body.dropped.is_cancelled()).collect();
        assert!(dropped[0] && !dropped[1..].contains(&true), "{dropped:?}");
        assert_eq!(budget.lock().bytes, WEBHOOK_BODIES_BYTES.value);
        drop(bodies);
        assert_eq!(budget.lock().bytes, 0);
    }
}
