//! What a Kubernetes can do, by its version.

/// The first Kubernetes with native sidecars, 1.x.
const NATIVE_SIDECARS_SINCE: u32 = 29;

/// Whether a Kubernetes knows native sidecars. Reads `v1.33.1`, `v1.29.4-gke.1043002`; of what cannot be read the best is
/// assumed.
pub fn has_native_sidecars(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse::<u32>().ok()
    });
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(1), Some(minor)) => minor >= NATIVE_SIDECARS_SINCE,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_sidecars_are_told_by_the_version() {
        for (version, has) in [
            ("v1.28.15", false),
            ("v1.29.0", true),
            ("v1.33.4+k3s1", true),
            ("v1.9.1", false),
            ("v1.27+", false),
            ("v2.0.0", true),
            ("", true),
        ] {
            assert_eq!(has_native_sidecars(version), has, "{version}");
        }
    }
}
