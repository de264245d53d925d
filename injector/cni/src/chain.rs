//! Network configurations, as text: with our plugin at the end of the chain, and without it. Pure.
//!
//! ```text
//! x.conf      {plugin}             ─┐
//!                                   ├─▶ x.conflist {plugins: [plugin, …, linkerd-cni]} ─▶ without it again
//! x.conflist  {plugins: [plugin …]} ─┘
//! ```

use serde_json::{Map, Value, json};

/// The type of our plugin, which is the name of its file.
pub(crate) const PLUGIN: &str = "linkerd-cni";
/// The oldest version of CNI in which plugins can be chained, for configurations that name an older one or none.
const CHAINS_SINCE: &str = "0.3.1";
/// What a network is called that has no name; a list must have one.
const UNNAMED: &str = "default-network";

/// What a file is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One plugin: `.conf`, `.json`.
    Single,
    /// A list of them: `.conflist`.
    List,
}

impl Form {
    /// What a runtime takes a file for; none if it does not read it.
    pub(crate) fn of(file: &str) -> Option<Self> {
        match file.rsplit_once('.')?.1 {
            "conflist" => Some(Self::List),
            "conf" | "json" => Some(Self::Single),
            _ => None,
        }
    }
}

/// Why a file is left alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("it is no JSON: {0}")]
    Json(String),
    #[error("it has no plugins")]
    NoPlugins,
    #[error("it has no type")]
    NoType,
}

/// What becomes of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Joined {
    /// It has our plugin, as we want it.
    AsWanted,
    /// It had our plugin, as another version of us wanted it.
    Changed(Value),
    /// Somebody wrote it without us.
    Added(Value),
}

/// Puts `plugin` at the end of the chain.
pub(crate) fn join(form: Form, text: &str, plugin: &Value) -> Result<Joined, Wrong> {
    let mut list = list_of(form, text)?;
    let plugins = plugins(&mut list).ok_or(Wrong::NoPlugins)?;
    let ours: Vec<usize> = (0..plugins.len()).filter(|at| is_ours(&plugins[*at])).collect();
    let (Some(last), others) = (ours.last().copied(), plugins.len() - ours.len()) else {
        plugins.push(plugin.clone());
        return Ok(Joined::Added(list));
    };
    if others == 0 {
        // Nobody makes a network here, so there is nothing to redirect.
        return Err(Wrong::NoPlugins);
    }
    if ours.len() == 1 && plugins[last] == *plugin {
        return Ok(Joined::AsWanted);
    }
    plugins[last] = plugin.clone();
    let mut at = 0..;
    plugins.retain(|plugin| at.next() == Some(last) || !is_ours(plugin));
    Ok(Joined::Changed(list))
}

/// A configuration without our plugin; none if it has none of it. A list that holds nothing else is empty then.
pub(crate) fn leave(text: &str) -> Option<Value> {
    let mut list: Value = serde_json::from_str(text).ok()?;
    let plugins = plugins(&mut list)?;
    let before = plugins.len();
    plugins.retain(|plugin| !is_ours(plugin));
    (plugins.len() < before).then_some(list)
}

/// Whether a list has no plugin.
pub(crate) fn is_empty(list: &Value) -> bool {
    list["plugins"].as_array().is_none_or(Vec::is_empty)
}

/// A configuration as a list.
pub(crate) fn list_of(form: Form, text: &str) -> Result<Value, Wrong> {
    let conf: Value = serde_json::from_str(text).map_err(|error| Wrong::Json(error.to_string()))?;
    if form == Form::List {
        let has = conf["plugins"].as_array().is_some_and(|plugins| !plugins.is_empty());
        return if has { Ok(conf) } else { Err(Wrong::NoPlugins) };
    }
    if !conf["type"].is_string() {
        return Err(Wrong::NoType);
    }
    let mut list = Map::new();
    let version = conf["cniVersion"].as_str().filter(|version| !is_old(version));
    list.insert("cniVersion".to_owned(), version.unwrap_or(CHAINS_SINCE).into());
    list.insert("name".to_owned(), conf["name"].as_str().unwrap_or(UNNAMED).into());
    list.insert("plugins".to_owned(), json!([conf]));
    Ok(list.into())
}

/// As it is written.
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
    fn only_what_a_runtime_reads_is_a_configuration() {
        assert_eq!(Form::of("10-a.conflist"), Some(Form::List));
        assert_eq!(
            (Form::of("a.conf"), Form::of("a.json")),
            (Some(Form::Single), Some(Form::Single))
        );
        let others = [
            "ZZZ-linkerd-cni-kubeconfig",
            "a.conflist.linkerd-cni-saved",
            "calico.conf.bak",
        ];
        assert!(others.iter().all(|file| Form::of(file).is_none()));
    }

    #[test]
    fn a_list_gets_our_plugin_once_and_loses_it_again() {
        let Ok(Joined::Added(list)) = join(Form::List, LIST, &ours(1)) else {
            panic!("it had none");
        };
        assert_eq!(types(&list), ["bridge", "portmap", "linkerd-cni"]);
        assert_eq!(join(Form::List, &text(&list), &ours(1)), Ok(Joined::AsWanted));
        let Ok(Joined::Changed(newer)) = join(Form::List, &text(&list), &ours(2)) else {
            panic!("another configuration");
        };
        assert_eq!(newer["plugins"][2], ours(2));
        assert_eq!(leave(&text(&newer)), serde_json::from_str(LIST).expect("JSON"));
        assert_eq!(leave(LIST), None);
    }

    #[test]
    fn who_chains_behind_us_stays_there_and_doubles_go() {
        let text = r#"{"name": "n", "plugins": [{"type": "a"}, {"type": "linkerd-cni"}, {"type": "linkerd-cni"}, {"type": "b"}]}"#;
        let Ok(Joined::Changed(list)) = join(Form::List, text, &ours(1)) else {
            panic!("twice is once too often");
        };
        assert_eq!(types(&list), ["a", "linkerd-cni", "b"]);
    }

    #[test]
    fn a_single_plugin_becomes_a_list_of_a_version_that_can_chain() {
        let of = |text: &str| list_of(Form::Single, text).expect("a configuration");
        let list = of(r#"{"name": "n", "cniVersion": "0.2.0", "type": "flannel", "delegate": {}}"#);
        assert_eq!(
            (list["cniVersion"].as_str(), list["name"].as_str()),
            (Some("0.3.1"), Some("n"))
        );
        assert_eq!(list["plugins"][0]["delegate"], json!({}));
        assert_eq!(of(r#"{"cniVersion": "0.4.0", "type": "x"}"#)["cniVersion"], "0.4.0");
    }

    #[test]
    fn what_is_no_configuration_is_left_alone() {
        assert!(matches!(join(Form::List, "{\"plu", &ours(1)), Err(Wrong::Json(_))));
        assert_eq!(join(Form::List, "{}", &ours(1)), Err(Wrong::NoPlugins));
        assert_eq!(
            join(Form::List, r#"{"plugins": [{"type": "linkerd-cni"}]}"#, &ours(1)),
            Err(Wrong::NoPlugins)
        );
        assert_eq!(join(Form::Single, r#"{"name": "n"}"#, &ours(1)), Err(Wrong::NoType));
    }
}
