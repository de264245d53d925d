//! The two ways in which durations are written: Go's (`1m30s`, `300ms`) and Linkerd's annotations (`5s`, one unit).

use std::time::Duration;

/// Reads Go's form: numbers with units (`h`, `m`, `s`, `ms`, `us`, `ns`), fractions allowed; `0` needs no unit.
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
        // Nanoseconds are rounded, so that 0.3 s is what it says.
        let nanos = (number * unit * 1e9).round();
        if !(0.0..1e18).contains(&nanos) {
            return None;
        }
        total = total.checked_add(Duration::from_nanos(nanos as u64))?;
    }
    (!text.is_empty()).then_some(total)
}

/// Reads an annotation: an integer with one of `ms`, `s`, `m`, `h`, `d`; `0` needs no unit.
pub fn annotation(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let millis = match &text[digits..] {
        "" if number == 0 => 0,
        "ms" => number,
        "s" => number.checked_mul(1_000)?,
        "m" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        "d" => number.checked_mul(86_400_000)?,
        _ => return None,
    };
    Some(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_nonsense_is_not() {
        assert_eq!(go("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(go("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(go("0.3s"), Some(Duration::from_millis(300)));
        for bad in ["", "5", "s", "5 s", "-1s", "5x", "99999999999999h"] {
            assert_eq!(go(bad), None, "{bad}");
        }
        assert_eq!(annotation("5s"), Some(Duration::from_secs(5)));
        assert_eq!(annotation("0"), Some(Duration::ZERO));
        for bad in ["", "5", "5 parsecs", "1.5s", "-1s"] {
            assert_eq!(annotation(bad), None, "{bad}");
        }
    }
}
