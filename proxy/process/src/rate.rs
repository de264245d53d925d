//! Rate of something that others cause: so many in a row, and then one in each interval.

use std::time::{Duration, Instant};

/// Bounds of a rate.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Number in a row.
    pub row: u32,
    /// Time between two further ones.
    pub every: Duration,
}

/// Position within a rate; the default is that nothing has happened yet.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Time at which all so far have been paid for.
    paid: Option<Instant>,
}

impl Rate {
    /// Returns true if there is room for one more.
    pub fn has_room(self, bounds: Bounds, now: Instant) -> bool {
        let owed = self
            .paid
            .map_or(Duration::ZERO, |paid| paid.saturating_duration_since(now));
        owed <= bounds.every * bounds.row.saturating_sub(1)
    }

    /// Counts one.
    pub fn count(&mut self, bounds: Bounds, now: Instant) {
        self.paid = Some(self.paid.map_or(now, |paid| paid.max(now)) + bounds.every);
    }

    /// Counts one if there is room.
    pub fn take(&mut self, bounds: Bounds, now: Instant) -> bool {
        let has_room = self.has_room(bounds, now);
        if has_room {
            self.count(bounds, now);
        }
        has_room
    }

    /// Returns true if all so far have been paid for, so that nothing is lost by forgetting it.
    pub fn is_idle(self, now: Instant) -> bool {
        self.paid.is_none_or(|paid| paid <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_a_row_and_then_one_in_each_interval() {
        let bounds = Bounds {
            row: 3,
            every: Duration::from_secs(1),
        };
        let (mut rate, now) = (Rate::default(), Instant::now());
        let taken = |rate: &mut Rate, at| (0..10).filter(|_| rate.take(bounds, at)).count();
        assert_eq!(taken(&mut rate, now), 3);
        assert_eq!(taken(&mut rate, now + bounds.every), 1);
        assert!(!rate.is_idle(now + bounds.every * 3));
        assert_eq!(taken(&mut rate, now + bounds.every * 60), 3);
        assert!(rate.is_idle(now + bounds.every * 63));
    }
}
