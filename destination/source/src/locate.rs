//! Line of a path in a YAML document. The parser reports lines only in errors, so the walk fails at the path on
//! purpose.

use std::fmt;

use destination_k8s::{Path, Segment};
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Returns the line, from 1, of `path` in `document`, or of the deepest part of it that exists.
pub(crate) fn line(document: &str, path: &Path) -> Option<usize> {
    (1..=path.0.len()).rev().find_map(|depth| {
        let (error, line) = destination_yaml::walk(document, Walk(&path.0[..depth])).err()?;
        // Only the error made here shows that the path was reached.
        line.filter(|_| error.contains(REACHED))
    })
}

const REACHED: &str = "\u{1}reached";

#[derive(Copy, Clone)]
struct Walk<'a>(&'a [Segment]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Walk<'_> {
    fn leaf<E: de::Error>(self) -> Result<(), E> {
        // A scalar where the path goes on does not match.
        if self.0.is_empty() {
            Err(E::custom(REACHED))
        } else {
            Ok(())
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.0.split_first() else {
            return Err(de::Error::custom(REACHED));
        };
        while let Some(key) = map.next_key::<String>()? {
            if matches!(first, Segment::Key(want) if *want == key) {
                map.next_value_seed(Walk(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.0.split_first() else {
            return Err(de::Error::custom(REACHED));
        };
        let mut index = 0;
        loop {
            let found = if *first == Segment::Index(index) {
                seq.next_element_seed(Walk(rest))?
            } else {
                seq.next_element::<IgnoredAny>()?.map(|_| ())
            };
            if found.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.leaf()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.leaf()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.leaf()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.leaf()
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        self.leaf()
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.leaf()
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        self.leaf()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_line_of_the_deepest_existing_part() {
        let document = "kind: Service\nspec:\n  ports:\n  - port: 80\n  - {port: 70000}\n";
        let at = |path: Path| line(document, &path);
        assert_eq!(at(Path::keys(&["spec", "ports"]).index(1).key("port")), Some(5));
        assert_eq!(at(Path::keys(&["spec", "ports"]).index(0).key("absent")), Some(4));
        assert_eq!(at(Path::keys(&["kind"])), Some(1));
        assert_eq!(at(Path::keys(&["absent"])), None);
        assert_eq!(at(Path::default()), None);
    }
}
