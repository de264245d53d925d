//! Amounts of resources as Kubernetes writes them (`100m`, `250Mi`, `1e3`), compared before the API server would refuse them
//! with a sentence about a container that nobody wrote.

/// Reads an amount.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let factor = match &text[end..] {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        binary if binary.ends_with('i') => {
            let power = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
                .iter()
                .position(|unit| *unit == binary)?
                + 1;
            1024_f64.powi(i32::try_from(power).ok()?)
        }
        exponent => 10_f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let amount = number * factor;
    amount.is_finite().then_some(amount)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn amounts_are_kubernetes_own() {
        assert_eq!(parse("100m"), Some(0.1));
        assert_eq!(parse("1.5"), Some(1.5));
        assert_eq!(parse("2Ki"), Some(2048.0));
        assert_eq!(parse("1e3"), Some(1000.0));
        assert_eq!(parse("1E"), Some(1e18));
        for wrong in ["", "m", "-1", "1x", "1Kii", "1.2.3", "1 "] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
