//! Choice among the backends of a route.

/// Returns the first of `0..n` that is ready.
pub fn first(n: usize, ready: impl FnMut(usize) -> bool) -> Option<usize> {
    (0..n).find({
        let mut ready = ready;
        move |i| ready(*i)
    })
}

/// Draws one of `0..n` by weight among those that are ready. Weight 0 is never drawn, unless it is the only one, as in
/// upstream.
pub fn weighted(
    n: usize,
    weight: impl Fn(usize) -> u32,
    rng: &mut fastrand::Rng,
    mut ready: impl FnMut(usize) -> bool,
) -> Option<usize> {
    if n < 2 {
        return first(n, ready);
    }
    let drawn = draw(n, &weight, rng)?;
    if ready(drawn) {
        return Some(drawn);
    }
    // Equals repeated draws among the rest until one is ready, without a list.
    let mut best = None;
    let mut total = 0_u64;
    for i in (0..n).filter(|i| *i != drawn && weight(*i) > 0) {
        if !ready(i) {
            continue;
        }
        total += u64::from(weight(i));
        if rng.u64(..total) < u64::from(weight(i)) {
            best = Some(i);
        }
    }
    best
}

fn draw(n: usize, weight: &impl Fn(usize) -> u32, rng: &mut fastrand::Rng) -> Option<usize> {
    let total: u64 = (0..n).map(|i| u64::from(weight(i))).sum();
    if total == 0 {
        return None;
    }
    let mut at = rng.u64(..total);
    (0..n).find(|i| {
        let weight = u64::from(weight(*i));
        let here = at < weight;
        at = at.saturating_sub(weight);
        here
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(weights: &[u32], ready: &[bool]) -> Vec<usize> {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut hits = vec![0; weights.len()];
        for _ in 0..100_000 {
            if let Some(i) = weighted(weights.len(), |i| weights[i], &mut rng, |i| ready[i]) {
                hits[i] += 1;
            }
        }
        hits
    }

    #[test]
    fn shares_follow_weights() {
        let hits = shares(&[900, 100, 0], &[true; 3]);
        assert!((89_500..90_500).contains(&hits[0]) && hits[2] == 0, "{hits:?}");
    }

    #[test]
    fn redraws_an_unready_backend_among_the_rest() {
        let hits = shares(&[800, 150, 50], &[false, true, true]);
        assert_eq!((hits[0], hits[1] + hits[2]), (0, 100_000));
        assert!((74_000..76_000).contains(&hits[1]), "{hits:?}");
        assert_eq!(shares(&[1, 1], &[false, false]), [0, 0]);
    }

    #[test]
    fn draws_weight_zero_only_when_alone() {
        assert_eq!(shares(&[0, 0], &[true, true]), [0, 0]);
        assert_eq!(shares(&[0], &[true]), [100_000]);
        assert_eq!(
            shares(&[u32::MAX, u32::MAX], &[true, true]).iter().sum::<usize>(),
            100_000
        );
        assert_eq!(first(3, |i| i > 0), Some(1));
    }
}
