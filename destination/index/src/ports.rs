//! Port lists of annotations: numbers, ranges, names.

/// Returns true if a list contains `port`, whose name is `name`. Items that are neither port, range nor name are
/// skipped.
pub(crate) fn contains(list: &str, port: u16, name: Option<&str>) -> bool {
    list.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .any(|item| {
            let (low, high) = item.split_once('-').unwrap_or((item, item));
            match (low.trim().parse::<u16>(), high.trim().parse::<u16>()) {
                (Ok(low), Ok(high)) => (low..=high).contains(&port),
                // A name may have dashes, so the whole item is compared.
                _ => Some(item) == name,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_numbers_ranges_and_names() {
        assert!(contains("25, 8000-8010,my-port", 8005, None));
        assert!(contains("25, 8000-8010,my-port", 1, Some("my-port")));
        assert!(!contains("25, 8000-8010,my-port", 26, Some("port")));
        assert!(!contains("", 0, Some("")));
    }
}
