//! Kubernetes quantities (`100m`, `250Mi`, `1e3`), and weights, which are whole numbers or quantities (the older form
//! of SMI, and ServiceProfiles).
//!
//! Not `kube_quantity`: it brings `rust_decimal` and `nom` for these thirty lines, and accepts negative amounts.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Parses a quantity that is not negative: a decimal number with an optional suffix (`n u m k M G T P E`,
/// `Ki Mi Gi Ti Pi Ei`, `e3`).
pub fn parse(text: &str) -> Option<f64> {
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
            let units = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
            let power = units.iter().position(|unit| *unit == binary)? + 1;
            1024_f64.powi(i32::try_from(power).ok()?)
        }
        exponent => 10_f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let amount = number * factor;
    amount.is_finite().then_some(amount)
}

/// A weight in thousandths, so that `1`, `"1"` and `1000m` are the same.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Weight(u64);

impl Weight {
    /// Makes a whole weight.
    pub fn whole(weight: u32) -> Self {
        Self(u64::from(weight) * 1_000)
    }

    /// Returns the weight in thousandths.
    pub fn millis(self) -> u64 {
        self.0
    }

    /// Parses a quantity.
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_f64(parse(text)?)
    }

    fn from_f64(number: f64) -> Option<Self> {
        let exact = number * 1_000.0;
        // 10.088 times 1,000 is a little more than 10,088 in binary.
        let is_whole = (exact - exact.round()).abs() <= exact * 1e-12;
        let millis = if is_whole { exact.round() } else { exact.ceil() };
        (0.0..1e15).contains(&millis).then_some(Self(millis as u64))
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1_000) {
            write!(f, "{}", self.0 / 1_000)
        } else {
            write!(f, "{}m", self.0)
        }
    }
}

impl Serialize for Weight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(1_000) {
            serializer.serialize_u64(self.0 / 1_000)
        } else {
            serializer.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Weight;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a weight, such as 90 or \"900m\", not negative")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Weight, E> {
                Weight::from_f64(number as f64).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Weight, E> {
                Weight::from_f64(number as f64).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Weight, E> {
                Weight::from_f64(number).ok_or_else(|| E::invalid_value(de::Unexpected::Float(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Weight, E> {
                Weight::parse(text.trim()).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_every_form_of_quantity() {
        assert_eq!(parse("100m"), Some(0.1));
        assert_eq!(parse("1.5"), Some(1.5));
        assert_eq!(parse("2Ki"), Some(2048.0));
        assert_eq!(parse("1e3"), Some(1000.0));
        assert_eq!(parse("1E"), Some(1e18));
        for invalid in ["", "m", "-1", "1x", "1Kii", "1.2.3", "1 "] {
            assert_eq!(parse(invalid), None, "{invalid:?}");
        }
    }

    #[test]
    fn weights_keep_their_ratio() {
        let millis = |json: &str| serde_json::from_str::<Weight>(json).map(Weight::millis).ok();
        assert_eq!(millis("90"), Some(90_000));
        assert_eq!(millis("\"900m\""), Some(900));
        assert_eq!(millis("\"1\""), Some(1_000));
        assert_eq!(millis("\"1e3\""), Some(1_000_000));
        assert_eq!(millis("0.5"), Some(500));
        assert_eq!(millis("\"1Ki\""), Some(1_024_000));
        assert_eq!(millis("-1"), None);
        assert_eq!(millis("\"many\""), None);
        assert_eq!(Weight::parse("900m").map(|w| w.to_string()), Some("900m".into()));
    }
}
