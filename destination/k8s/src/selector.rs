//! Matching of labels by selectors.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Returns true if `labels` match; an empty selector matches everything, an unknown operator nothing.
pub fn matches(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let value = |key: &String| labels.and_then(|labels| labels.get(key));
    let all_equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, want)| value(key) == Some(want));
    all_equal
        && selector.match_expressions.iter().flatten().all(|e| {
            let values = e.values.as_deref().unwrap_or_default();
            match e.operator.as_str() {
                "In" => value(&e.key).is_some_and(|v| values.contains(v)),
                "NotIn" => value(&e.key).is_none_or(|v| !values.contains(v)),
                "Exists" => value(&e.key).is_some(),
                "DoesNotExist" => value(&e.key).is_none(),
                _ => false,
            }
        })
}

/// Returns true if every pair of `want` is in `labels`. An empty `want` matches nothing: a Service without a selector
/// has no pods.
pub fn selects(want: Option<&BTreeMap<String, String>>, labels: Option<&BTreeMap<String, String>>) -> bool {
    let Some(want) = want.filter(|want| !want.is_empty()) else {
        return false;
    };
    want.iter()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    use super::*;

    #[test]
    fn requires_all_labels_and_expressions() {
        let labels: BTreeMap<String, String> = [("app".into(), "web".into())].into();
        let requirement = |key: &str, operator: &str, values: &[&str]| LabelSelector {
            match_labels: None,
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: Some(values.iter().map(|v| (*v).to_owned()).collect()),
            }]),
        };
        assert!(matches(&LabelSelector::default(), None));
        assert!(matches(&requirement("app", "In", &["web"]), Some(&labels)));
        assert!(!matches(&requirement("app", "NotIn", &["web"]), Some(&labels)));
        assert!(matches(&requirement("x", "NotIn", &["web"]), Some(&labels)));
        assert!(matches(&requirement("app", "Exists", &[]), Some(&labels)));
        assert!(!matches(&requirement("app", "DoesNotExist", &[]), Some(&labels)));
        assert!(!matches(&requirement("app", "Likes", &[]), Some(&labels)));
        assert!(selects(Some(&labels), Some(&labels)) && !selects(Some(&BTreeMap::new()), Some(&labels)));
    }
}
