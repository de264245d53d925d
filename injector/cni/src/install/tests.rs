//! The installer on temporary folders: what it writes, how often, and what it leaves behind.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path, sync::OnceLock};

use serde_json::Value;

use super::{Account, Error, Installer, KUBECONFIG, Places, SAVED};

const LIST: &str = "{ \"cniVersion\": \"1.0.0\", \"name\": \"kind\",\n  \"plugins\": [ {\"type\": \"ptp\"} ] }\n";
const SINGLE: &str = "{\"type\": \"flannel\", \"name\": \"cbr0\", \"cniVersion\": \"0.3.1\"}";
const CONFIG: &str = r#"{"type": "linkerd-cni", "linkerd": {"incoming-proxy-port": 4143}}"#;

struct Node {
    dir: tempfile::TempDir,
    installer: Installer,
}

impl Node {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        for name in ["net.d", "account", "pod"] {
            fs::create_dir(at(name)).expect("made");
        }
        for (name, text) in [
            ("pod/config", CONFIG),
            ("pod/mesh-cni", "program"),
            ("account/token", "one\n"),
            ("account/ca.crt", "ca"),
        ] {
            fs::write(at(name), text).expect("written");
        }
        let node = Self {
            installer: Installer {
                places: Places {
                    bin_dir: at("bin"),
                    net_dir: at("net.d"),
                    host_net_dir: "/etc/cni/net.d".into(),
                },
                program: at("pod/mesh-cni"),
                config: at("pod/config"),
                account: Account {
                    dir: at("account"),
                    server: "https://10.0.0.1:443".to_owned(),
                },
                compared: OnceLock::new(),
            },
            dir,
        };
        for (name, text) in files {
            node.write(name, text);
        }
        node
    }

    fn net(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("net.d").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.net(name), text).expect("written");
    }

    fn types(&self, name: &str) -> Vec<String> {
        let list: Value = serde_json::from_str(&fs::read_to_string(self.net(name)).expect("a file")).expect("JSON");
        let plugins = list["plugins"].as_array().expect("plugins").iter();
        plugins
            .map(|plugin| plugin["type"].as_str().expect("a type").to_owned())
            .collect()
    }

    fn remove(&self) {
        self.installer.leave().expect("left");
        self.installer.clean().expect("clean");
    }

    fn all(&self) -> BTreeMap<String, (String, u32)> {
        let mut all = BTreeMap::new();
        for folder in ["net.d", "bin"] {
            for entry in fs::read_dir(self.dir.path().join(folder))
                .into_iter()
                .flatten()
                .flatten()
            {
                let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
                let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
                all.insert(name, (fs::read_to_string(entry.path()).expect("text"), mode));
            }
        }
        all
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[test]
fn removal_restores_the_original_files_byte_by_byte() {
    let node = Node::new(&[
        ("10-kind.conflist", LIST),
        ("20-flannel.conf", SINGLE),
        ("30-x.json", SINGLE),
        ("notes", "x"),
    ]);
    fs::set_permissions(node.net("10-kind.conflist"), fs::Permissions::from_mode(0o600)).expect("rights");
    let before = node.all();
    let looked = node.installer.reconcile().expect("installed");
    assert_eq!(looked.joined.len(), 3);
    assert_eq!(node.types("10-kind.conflist"), ["ptp", "linkerd-cni"]);
    assert_eq!(node.types("20-flannel.conflist"), ["flannel", "linkerd-cni"]);
    assert!(!node.net("20-flannel.conf").exists(), "a runtime would read it first");
    assert_eq!(
        mode(&node.net("10-kind.conflist")),
        0o600,
        "its rights are its writer's"
    );
    assert_eq!(mode(&node.net(KUBECONFIG)), 0o600, "it contains a token");
    assert_eq!(mode(&node.dir.path().join("bin/linkerd-cni")), 0o755);
    node.remove();
    assert_eq!(node.all(), before);
}

#[test]
fn second_reconciliation_writes_nothing_and_a_successor_takes_over() {
    let node = Node::new(&[("10-kind.conflist", LIST), ("20-flannel.conf", SINGLE)]);
    let before = node.all();
    assert_eq!(node.installer.reconcile().expect("installed").written.len(), 4);
    assert_eq!(node.installer.reconcile().expect("in place").written, [""; 0]);
    let next = Installer {
        compared: OnceLock::new(),
        ..node.installer.clone()
    };
    assert_eq!(
        next.reconcile().expect("in place").written,
        [""; 0],
        "the same program and configuration"
    );
    fs::write(&node.installer.config, CONFIG.replace("4143", "5143")).expect("written");
    fs::write(&node.installer.program, "PROGRAM").expect("written");
    assert_eq!(
        next.reconcile().expect("a new version").written.len(),
        3,
        "program, two lists"
    );
    assert!(
        fs::read_to_string(node.net("10-kind.conflist"))
            .expect("a list")
            .contains("5143")
    );
    node.remove();
    assert_eq!(node.all(), before);
}

#[test]
fn rejoins_a_rewritten_list() {
    let node = Node::new(&[("10-kind.conflist", LIST)]);
    node.installer.reconcile().expect("installed");
    let newer = LIST.replace("ptp", "bridge");
    node.write("10-kind.conflist", &newer);
    assert_eq!(node.installer.reconcile().expect("joined").written.len(), 1);
    assert_eq!(node.types("10-kind.conflist"), ["bridge", "linkerd-cni"]);
    node.remove();
    assert_eq!(fs::read_to_string(node.net("10-kind.conflist")).expect("a list"), newer);
}

#[test]
fn reconverts_a_rewritten_single_plugin() {
    let node = Node::new(&[("20-flannel.conf", SINGLE)]);
    node.installer.reconcile().expect("installed");
    let newer = SINGLE.replace("cbr0", "cbr1");
    node.write("20-flannel.conf", &newer);
    node.installer.reconcile().expect("joined");
    assert!(!node.net("20-flannel.conf").exists());
    assert!(
        fs::read_to_string(node.net("20-flannel.conflist"))
            .expect("a list")
            .contains("cbr1")
    );
    node.remove();
    assert_eq!(
        fs::read_to_string(node.net("20-flannel.conf")).expect("as it was"),
        newer
    );
    assert!(!node.net("20-flannel.conflist").exists());
}

#[test]
fn plugins_chained_later_stay_after_removal() {
    let node = Node::new(&[("10-kind.conflist", LIST)]);
    node.installer.reconcile().expect("installed");
    let text = fs::read_to_string(node.net("10-kind.conflist")).expect("a list");
    let mut list: Value = serde_json::from_str(&text).expect("JSON");
    list["plugins"]
        .as_array_mut()
        .expect("plugins")
        .push(serde_json::json!({"type": "bandwidth"}));
    node.write("10-kind.conflist", &list.to_string());
    assert_eq!(node.installer.reconcile().expect("in place").written, [""; 0]);
    node.remove();
    assert_eq!(node.types("10-kind.conflist"), ["ptp", "bandwidth"]);
    assert!(
        !node.all().keys().any(|name| name.contains("linkerd")),
        "{:?}",
        node.all().keys()
    );
}

#[test]
fn waits_for_a_network_and_for_incomplete_files() {
    let node = Node::new(&[]);
    assert!(node.installer.reconcile().expect("reconciled").joined.is_empty());
    node.write("10-kind.conflist", &LIST[..20]);
    let looked = node.installer.reconcile().expect("reconciled");
    assert!(
        looked.joined.is_empty() && looked.refused[0].1.contains("invalid JSON"),
        "{looked:?}"
    );
    assert_eq!(
        fs::read_to_string(node.net("10-kind.conflist")).expect("left alone"),
        LIST[..20]
    );
    node.write("10-kind.conflist", LIST);
    assert!(
        node.installer
            .reconcile()
            .expect("reconciled")
            .joined
            .contains("10-kind.conflist")
    );
}

#[test]
fn rotated_tokens_reach_the_kubeconfig() {
    let node = Node::new(&[("10-kind.conflist", LIST)]);
    node.installer.reconcile().expect("installed");
    let read = || fs::read_to_string(node.net(KUBECONFIG)).expect("a kubeconfig");
    assert!(read().contains("token: one\n") && read().contains("server: https://10.0.0.1:443"));
    fs::write(node.installer.account.dir.join("token"), "two").expect("written");
    assert_eq!(node.installer.reconcile().expect("reconciled").written.len(), 1);
    assert!(read().contains("token: two\n"));
}

#[test]
fn touches_no_chain_without_token_or_configuration() {
    let node = Node::new(&[("10-kind.conflist", LIST)]);
    fs::remove_file(node.installer.account.dir.join("token")).expect("removed");
    let error = node.installer.reconcile().expect_err("no token").to_string();
    assert!(error.contains("account/token: "), "{error}");
    fs::write(&node.installer.config, "{}").expect("written");
    assert!(matches!(node.installer.reconcile(), Err(Error::Config { .. })));
    assert_eq!(fs::read_to_string(node.net("10-kind.conflist")).expect("a list"), LIST);
}

#[test]
fn replaces_and_removes_interrupted_writes() {
    let node = Node::new(&[("10-kind.conflist", LIST), (".10-kind.conflist.linkerd-cni-tmp", "{")]);
    node.write(&format!("gone.conflist{SAVED}"), LIST);
    node.installer.reconcile().expect("installed");
    node.remove();
    let names: Vec<String> = node.all().into_keys().collect();
    assert_eq!(names, ["net.d/10-kind.conflist"]);
}
