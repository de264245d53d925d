//! The index against upstream's control plane: given the same objects, the same answers, call by call.
//!
//! The recordings are beside the repository (`../shared/facts/wire`); without them the test says so and passes.

mod recorded {
    pub(crate) mod cluster;
    pub(crate) mod compare;
}

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use recorded::{cluster, compare};

/// Scenarios of single calls. `changes` and `identity` have tests of their own.
const SCENARIOS: [&str; 13] = [
    "plain",
    "unmeshed",
    "opaque",
    "profile",
    "httproute",
    "grpcroute",
    "appprotocol",
    "breaker",
    "inbound",
    "special",
    "zones",
    "tlstcp",
    "changes",
];

/// Calls that are answered otherwise, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("tlstcp/outbound_egress_open_443", TLS),
    ("tlstcp/outbound_egress_out_443", TLS),
    ("tlstcp/outbound_egress_out_5000", TCP),
    ("tlstcp/outbound_tcp", TCP),
    ("tlstcp/outbound_tls-tcp", TLS),
    ("tlstcp/outbound_tls_443", TLS),
];

const TLS: &str = "TLSRoute is not read in this slice";
const TCP: &str = "TCPRoute is not read in this slice";

fn recordings() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/facts/wire");
    dir.is_dir().then_some(dir)
}

#[test]
fn the_same_objects_get_the_same_answers() {
    let Some(dir) = recordings() else {
        println!("skipped: the recordings ../shared/facts/wire are not there");
        return;
    };
    let mut wrong: BTreeMap<String, String> = BTreeMap::new();
    let mut right = 0;
    for scenario in SCENARIOS.into_iter().filter(|scenario| *scenario != "changes") {
        let mut index = cluster::index(&dir, scenario);
        let mut files: Vec<_> = fs::read_dir(dir.join(scenario))
            .expect("a folder")
            .map(|f| f.expect("a file").path())
            .collect();
        files.sort();
        for file in files {
            let name = format!("{scenario}/{}", file.file_stem().expect("a name").to_string_lossy());
            if file.extension().is_none_or(|e| e != "json") || name.ends_with("/cluster") {
                continue;
            }
            let call = compare::Call::read(&file);
            match compare::compare(&mut index, &call) {
                Ok(()) => right += 1,
                Err(difference) => {
                    wrong.insert(name, difference);
                }
            }
        }
    }
    let total = right + wrong.len();
    println!("{right} of {total} recorded calls are answered alike");
    for (name, reason) in DIFFERENT {
        assert!(
            wrong.remove(*name).is_some(),
            "{name} is listed as different ({reason}), but is not"
        );
    }
    let shown: String = wrong
        .iter()
        .map(|(name, difference)| format!("== {name}\n{difference}\n"))
        .collect();
    assert!(wrong.is_empty(), "{} calls differ\n{shown}", wrong.len());
}
