//! Quantiles of histogram buckets, by linear interpolation within the bucket as in Prometheus.

use std::collections::BTreeMap;

/// Increases of cumulative buckets by upper bound.
#[derive(Clone, Debug, Default)]
pub struct Buckets(BTreeMap<u64, (f64, f64)>);

impl Buckets {
    /// Adds `increase` to the bucket with this upper bound.
    pub fn add(&mut self, bound: f64, increase: f64) {
        // Floats that are not negative have the order of their bits.
        self.0.entry(bound.max(0.0).to_bits()).or_insert((bound, 0.0)).1 += increase;
    }

    /// Returns the value that the share `q` of observations does not exceed; none without observations.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let (last, total) = self.0.values().next_back().copied()?;
        if last != f64::INFINITY || total <= 0.0 {
            return None;
        }
        let rank = q * total;
        let mut below = (0.0, 0.0);
        for &(bound, count) in self.0.values() {
            if count >= rank && count > below.1 {
                // Beyond the last finite bound only that bound is known.
                let inside = (rank - below.1).max(0.0) / (count - below.1);
                return Some(if bound == f64::INFINITY {
                    below.0
                } else {
                    below.0 + (bound - below.0) * inside
                });
            }
            below = (bound, count.max(below.1));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Buckets {
        let mut buckets = Buckets::default();
        for (bound, count) in pairs {
            buckets.add(*bound, *count);
        }
        buckets
    }

    #[test]
    fn quantiles_interpolate_within_their_bucket() {
        let b = buckets(&[(1.0, 0.0), (2.0, 50.0), (10.0, 100.0), (f64::INFINITY, 100.0)]);
        assert_eq!(b.quantile(0.5), Some(2.0));
        assert_eq!(b.quantile(0.25), Some(1.5));
        assert_eq!(b.quantile(0.75), Some(6.0));
    }

    #[test]
    fn last_bound_caps_quantiles_and_no_observations_have_none() {
        let b = buckets(&[(1.0, 10.0), (50.0, 10.0), (f64::INFINITY, 100.0)]);
        assert_eq!(b.quantile(0.99), Some(50.0));
        assert_eq!(buckets(&[(1.0, 0.0), (f64::INFINITY, 0.0)]).quantile(0.5), None);
        assert_eq!(Buckets::default().quantile(0.5), None);
        assert_eq!(buckets(&[(1.0, 3.0)]).quantile(0.5), None);
    }
}
