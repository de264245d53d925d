//! Rate of something that others cause: so many in a row, and then one in each interval.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

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

/// Rates by the one who causes, of a bounded number of them.
#[derive(Clone, Debug)]
pub struct Rates<K> {
    rates: HashMap<K, Rate>,
    most: usize,
}

impl<K: Eq + Hash> Rates<K> {
    /// Rates of at most `most`.
    pub fn new(most: usize) -> Self {
        Self {
            rates: HashMap::new(),
            most,
        }
    }

    /// Number of those that have a rate.
    pub fn count(&self) -> usize {
        self.rates.len()
    }

    /// Returns the rate of `key`. Idle ones make room for a new one; none if there is no room all the same.
    pub fn get<Q>(&mut self, key: &Q, now: Instant) -> Option<&mut Rate>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        if !self.rates.contains_key(key) {
            if self.rates.len() >= self.most {
                self.rates.retain(|_, rate| !rate.is_idle(now));
            }
            if self.rates.len() >= self.most {
                return None;
            }
            self.rates.insert(key.to_owned(), Rate::default());
        }
        self.rates.get_mut(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_number_has_rates_and_idle_ones_make_room() {
        let bounds = Bounds {
            row: 1,
            every: Duration::from_secs(1),
        };
        let (mut rates, now) = (Rates::<String>::new(2), Instant::now());
        let mut take = |key: &str, at| rates.get(key, at).map(|rate| rate.take(bounds, at));
        assert_eq!(
            [take("a", now), take("b", now), take("a", now), take("c", now)],
            [Some(true), Some(true), Some(false), None]
        );
        assert_eq!(take("c", now + bounds.every), Some(true));
        assert_eq!(rates.count(), 1);
    }

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
