//! Kubernetes features by version.

/// First minor version of Kubernetes 1 with native sidecars.
const NATIVE_SIDECARS_SINCE: u32 = 29;

/// Returns true if a Kubernetes version supports native sidecars. Reads `v1.33.1` and `v1.29.4-gke.1043002`; assumes
/// support for versions it cannot read.
pub fn supports_native_sidecars(version: &str) -> bool {
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
    fn detects_native_sidecar_support_by_version() {
        for (version, has) in [
            ("v1.28.15", false),
            ("v1.29.0", true),
            ("v1.33.4+k3s1", true),
            ("v1.9.1", false),
            ("v1.27+", false),
            ("v2.0.0", true),
            ("", true),
        ] {
            assert_eq!(supports_native_sidecars(version), has, "{version}");
        }
    }
}
