//! The two grammars of durations: Go's (`1m30s`, `1.5s`) in Kubernetes objects, and Linkerd's (`5s`, one unit) in
//! annotations, headers and the environment.

use std::time::Duration;

/// Parses Go's form: numbers with units (`h`, `m`, `s`, `ms`, `us`, `ns`), fractions allowed; `0` needs no unit.
pub fn go(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        rest = &rest[end..];
        // Nanoseconds are rounded, so that 0.3 s is exactly that.
        let nanos = (number * unit * 1e9).round();
        if !(0.0..1e18).contains(&nanos) {
            return None;
        }
        total = total.checked_add(Duration::from_nanos(nanos as u64))?;
    }
    (!text.is_empty()).then_some(total)
}

/// Parses Linkerd's form: an integer with one of `ms`, `s`, `m`, `h`, `d`; `0` needs no unit. Blanks around it are
/// ignored.
pub fn linkerd(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs);
    match &text[digits..] {
        "" if number == 0 => Some(Duration::ZERO),
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86_400),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_adds_units_and_takes_fractions() {
        assert_eq!(go("0"), Some(Duration::ZERO));
        assert_eq!(go("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(go("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(go("0.3s"), Some(Duration::from_millis(300)));
        assert_eq!(go("5us"), Some(Duration::from_micros(5)));
    }

    #[test]
    fn go_rejects_missing_units_signs_and_overflow() {
        for bad in ["", "5", "s", "5 s", "-1s", "5x", "99999999999999h"] {
            assert_eq!(go(bad), None, "{bad}");
        }
    }

    #[test]
    fn linkerd_takes_one_unit() {
        assert_eq!(linkerd(" 250ms "), Some(Duration::from_millis(250)));
        assert_eq!(linkerd("5s"), Some(Duration::from_secs(5)));
        assert_eq!(linkerd("2m"), Some(Duration::from_secs(120)));
        assert_eq!(linkerd("1h"), Some(Duration::from_secs(3600)));
        assert_eq!(linkerd("1d"), Some(Duration::from_secs(86_400)));
        assert_eq!(linkerd("0"), Some(Duration::ZERO));
    }

    #[test]
    fn linkerd_rejects_fractions_sums_signs_and_overflow() {
        for bad in ["", "5", "5 parsecs", "1.5s", "1m30s", "-1s", "18446744073709551615d"] {
            assert_eq!(linkerd(bad), None, "{bad}");
        }
    }
}
