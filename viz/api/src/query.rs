//! Requests as query strings.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Serialize;

/// Encodes a flat struct as a query string, without fields that are none.
pub fn query_string<T: Serialize>(value: &T) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    let fields = value.as_object().into_iter().flatten();
    let pairs = fields.filter_map(|(key, value)| {
        let text = match value {
            serde_json::Value::Null => return None,
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Some(format!("{}={}", escape(key), escape(&text)))
    });
    pairs.collect::<Vec<_>>().join("&")
}

/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn escape(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

#[cfg(test)]
mod tests {
    use crate::{Kind, Resource, StatRequest};

    #[test]
    fn encodes_present_fields_only() {
        let mut request = StatRequest::new(Resource::named(Kind::Deployment, "web"));
        request.labels = Some("a=b c".into());
        let text = super::query_string(&request);
        assert!(text.contains("resource=deployment%2Fweb"), "{text}");
        assert!(text.contains("labels=a%3Db%20c"), "{text}");
        assert!(!text.contains("namespace"), "{text}");
    }
}
