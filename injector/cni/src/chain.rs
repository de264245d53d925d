//! Network configurations, as text: with the plugin at the end of the chain, and without it. Pure.
//!
//! ```text
//! x.conf      {plugin}             ─┐
//!                                   ├─▶ x.conflist {plugins: [plugin, …, linkerd-cni]} ─▶ without it again
//! x.conflist  {plugins: [plugin …]} ─┘
//! ```

use serde_json::{Map, Value, json};

/// Type of the plugin and name of its file.
pub(crate) const PLUGIN: &str = "linkerd-cni";
/// Oldest version of CNI with chained plugins, for configurations with an older version or none.
const FIRST_CHAINING_VERSION: &str = "0.3.1";
/// Name of a network without one; a list must have a name.
const UNNAMED: &str = "default-network";

/// Form of a configuration file.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One plugin: `.conf`, `.json`.
    Single,
    /// A list of plugins: `.conflist`.
    List,
}

impl Form {
    /// Returns the form that a runtime reads a file as; none for other files.
    pub(crate) fn from_name(file: &str) -> Option<Self> {
        match file.rsplit_once('.')?.1 {
            "conflist" => Some(Self::List),
            "conf" | "json" => Some(Self::Single),
            _ => None,
        }
    }
}

/// Error of a file that is ignored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidConfiguration {
    #[error("invalid JSON: {0}")]
    Json(String),
    #[error("no plugins")]
    NoPlugins,
    #[error("no type")]
    NoType,
}

/// Result of joining a configuration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Joined {
    /// The configuration already has the plugin.
    Unchanged,
    /// The configuration had another version of the plugin.
    Changed(Value),
    /// The configuration did not have the plugin.
    Added(Value),
}

/// Adds `plugin` at the end of the chain.
pub(crate) fn join(form: Form, text: &str, plugin: &Value) -> Result<Joined, InvalidConfiguration> {
    let mut list = list_of(form, text)?;
    let plugins = plugins(&mut list).ok_or(InvalidConfiguration::NoPlugins)?;
    let ours: Vec<usize> = (0..plugins.len()).filter(|at| is_ours(&plugins[*at])).collect();
    let (Some(last), others) = (ours.last().copied(), plugins.len() - ours.len()) else {
        plugins.push(plugin.clone());
        return Ok(Joined::Added(list));
    };
    if others == 0 {
        // No plugin creates a network here, so there is nothing to redirect.
        return Err(InvalidConfiguration::NoPlugins);
    }
    if ours.len() == 1 && plugins[last] == *plugin {
        return Ok(Joined::Unchanged);
    }
    plugins[last] = plugin.clone();
    let mut at = 0..;
    plugins.retain(|plugin| at.next() == Some(last) || !is_ours(plugin));
    Ok(Joined::Changed(list))
}

/// Returns a configuration without the plugin; none if it did not have it. The result may be an empty list.
pub(crate) fn leave(text: &str) -> Option<Value> {
    let mut list: Value = serde_json::from_str(text).ok()?;
    let plugins = plugins(&mut list)?;
    let before = plugins.len();
    plugins.retain(|plugin| !is_ours(plugin));
    (plugins.len() < before).then_some(list)
}

/// Returns true if a list has no plugins.
pub(crate) fn is_empty(list: &Value) -> bool {
    list["plugins"].as_array().is_none_or(Vec::is_empty)
}

/// Converts a configuration to a list.
pub(crate) fn list_of(form: Form, text: &str) -> Result<Value, InvalidConfiguration> {
    let conf: Value = serde_json::from_str(text).map_err(|error| InvalidConfiguration::Json(error.to_string()))?;
    if form == Form::List {
        let has = conf["plugins"].as_array().is_some_and(|plugins| !plugins.is_empty());
        return if has {
            Ok(conf)
        } else {
            Err(InvalidConfiguration::NoPlugins)
        };
    }
    if !conf["type"].is_string() {
        return Err(InvalidConfiguration::NoType);
    }
    let mut list = Map::new();
    let version = conf["cniVersion"].as_str().filter(|version| !is_old(version));
    list.insert(
        "cniVersion".to_owned(),
        version.unwrap_or(FIRST_CHAINING_VERSION).into(),
    );
    list.insert("name".to_owned(), conf["name"].as_str().unwrap_or(UNNAMED).into());
    list.insert("plugins".to_owned(), json!([conf]));
    Ok(list.into())
}

/// Formats a configuration as it is written to disk.
pub(crate) fn text(list: &Value) -> String {
    let text = serde_json::to_string_pretty(list).expect("a value is JSON");
    format!("{text}\n")
}

fn is_old(version: &str) -> bool {
    matches!(version, "" | "0.1.0" | "0.2.0" | "0.3.0")
}

fn plugins(list: &mut Value) -> Option<&mut Vec<Value>> {
    list.get_mut("plugins")?.as_array_mut()
}

fn is_ours(plugin: &Value) -> bool {
    plugin["type"] == PLUGIN
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"name": "n", "cniVersion": "1.0.0", "plugins": [{"type": "bridge"}, {"type": "portmap"}]}"#;

    fn ours(port: u16) -> Value {
        json!({"type": "linkerd-cni", "linkerd": {"incoming-proxy-port": port}})
    }

    fn types(list: &Value) -> Vec<&str> {
        let plugins = list["plugins"].as_array().expect("plugins").iter();
        plugins.map(|plugin| plugin["type"].as_str().expect("a type")).collect()
    }

    #[test]
    fn recognizes_files_that_a_runtime_reads() {
        assert_eq!(Form::from_name("10-a.conflist"), Some(Form::List));
        assert_eq!(
            (Form::from_name("a.conf"), Form::from_name("a.json")),
            (Some(Form::Single), Some(Form::Single))
        );
        let others = [
            "ZZZ-linkerd-cni-kubeconfig",
            "a.conflist.linkerd-cni-saved",
            "calico.conf.bak",
        ];
        assert!(others.iter().all(|file| Form::from_name(file).is_none()));
    }

    #[test]
    fn join_adds_the_plugin_once_and_leave_removes_it() {
        let Ok(Joined::Added(list)) = join(Form::List, LIST, &ours(1)) else {
            panic!("not added");
        };
        assert_eq!(types(&list), ["bridge", "portmap", "linkerd-cni"]);
        assert_eq!(join(Form::List, &text(&list), &ours(1)), Ok(Joined::Unchanged));
        let Ok(Joined::Changed(newer)) = join(Form::List, &text(&list), &ours(2)) else {
            panic!("not changed");
        };
        assert_eq!(newer["plugins"][2], ours(2));
        assert_eq!(leave(&text(&newer)), serde_json::from_str(LIST).expect("JSON"));
        assert_eq!(leave(LIST), None);
    }

    #[test]
    fn join_keeps_later_plugins_and_removes_duplicates() {
        let text = r#"{"name": "n", "plugins": [{"type": "a"}, {"type": "linkerd-cni"}, {"type": "linkerd-cni"}, {"type": "b"}]}"#;
        let Ok(Joined::Changed(list)) = join(Form::List, text, &ours(1)) else {
            panic!("not changed");
        };
        assert_eq!(types(&list), ["a", "linkerd-cni", "b"]);
    }

    #[test]
    fn single_plugins_become_lists_of_a_chaining_version() {
        let list = |text: &str| list_of(Form::Single, text).expect("a configuration");
        let flannel = list(r#"{"name": "n", "cniVersion": "0.2.0", "type": "flannel", "delegate": {}}"#);
        assert_eq!(
            (flannel["cniVersion"].as_str(), flannel["name"].as_str()),
            (Some("0.3.1"), Some("n"))
        );
        assert_eq!(flannel["plugins"][0]["delegate"], json!({}));
        assert_eq!(list(r#"{"cniVersion": "0.4.0", "type": "x"}"#)["cniVersion"], "0.4.0");
    }

    #[test]
    fn rejects_files_that_are_not_configurations() {
        assert!(matches!(
            join(Form::List, "{\"plu", &ours(1)),
            Err(InvalidConfiguration::Json(_))
        ));
        assert_eq!(join(Form::List, "{}", &ours(1)), Err(InvalidConfiguration::NoPlugins));
        assert_eq!(
            join(Form::List, r#"{"plugins": [{"type": "linkerd-cni"}]}"#, &ours(1)),
            Err(InvalidConfiguration::NoPlugins)
        );
        assert_eq!(
            join(Form::Single, r#"{"name": "n"}"#, &ours(1)),
            Err(InvalidConfiguration::NoType)
        );
    }
}
