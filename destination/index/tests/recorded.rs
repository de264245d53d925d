//! The index against upstream's control plane: given the same objects, the same answers, call by call and step by step.
//!
//! The recordings are beside the repository (`../shared/facts/wire`); without them the tests say so and pass.

#![expect(
    clippy::print_stdout,
    reason = "a test says what it skipped, and how much it compared"
)]

mod recorded {
    pub(crate) mod cluster;
    pub(crate) mod compare;
}

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use recorded::{
    cluster::{self, Timeline},
    compare::{Call, Open, difference},
};

/// Scenarios of single calls.
const SCENARIOS: [&str; 12] = [
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
];

/// Calls that are answered otherwise, and why.
const DIFFERENT: &[(&str, &str)] = &[(
    "httproute/outbound_rewrite",
    "the rewrite acts; upstream accepts the route and leaves it out",
)];

/// Open streams that differ from one step of `changes` to another, and why.
const DIFFERENT_STEPS: &[(&str, std::ops::RangeInclusive<u64>, &str)] = &[
    (
        "get_other",
        38..=44,
        "an annotation put on a running pod is sent on open streams too, not to new ones only",
    ),
    ("profile_other_pod", 38..=44, "the same"),
    (
        "outbound_egress",
        39..=39,
        "the stream goes on with the EgressNetwork's policy; upstream ends it to be asked again",
    ),
];

fn recordings() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/facts/wire");
    if !dir.is_dir() {
        println!("skipped: the recordings in ../shared/facts/wire are not there");
        return None;
    }
    Some(dir)
}

fn calls(dir: &Path) -> Vec<(String, Call)> {
    let files = fs::read_dir(dir)
        .expect("a folder")
        .map(|file| file.expect("a file").path());
    let mut files: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    let name = |file: &Path| file.file_stem().expect("a name").to_string_lossy().into_owned();
    files
        .iter()
        .filter_map(|file| Some((name(file), Call::read(file)?)))
        .collect()
}

/// Fails unless exactly the listed ones are wrong.
fn settle(mut wrong: BTreeMap<String, String>, right: usize, listed: &[(String, &str)]) {
    let total = right + wrong.len();
    println!(
        "{right} of {total} recorded answers are alike, {} differ as listed",
        listed.len()
    );
    for (name, reason) in listed {
        assert!(
            wrong.remove(name).is_some(),
            "{name} is listed as different ({reason}), but is not"
        );
    }
    let mut shown = String::new();
    for (name, difference) in &wrong {
        let _ = writeln!(shown, "== {name}\n{difference}");
    }
    assert!(wrong.is_empty(), "{} answers differ\n{shown}", wrong.len());
}

#[test]
fn the_same_objects_get_the_same_answers() {
    let Some(dir) = recordings() else { return };
    let mut wrong = BTreeMap::new();
    let mut right = 0;
    for scenario in SCENARIOS {
        let mut index = cluster::index(&dir, scenario);
        for (name, call) in calls(&dir.join(scenario)) {
            match difference(&call.answer(), &Open::new(&mut index, &call).answer()) {
                None => right += 1,
                Some(difference) => {
                    wrong.insert(format!("{scenario}/{name}"), difference);
                }
            }
        }
    }
    let listed: Vec<_> = DIFFERENT
        .iter()
        .map(|(name, reason)| ((*name).to_owned(), *reason))
        .collect();
    settle(wrong, right, &listed);
}

#[test]
fn open_streams_follow_the_same_changes() {
    let Some(dir) = recordings() else { return };
    let mut index = cluster::index(&dir, "changes");
    let mut timeline = Timeline::read(&dir.join("changes"));
    let mut open: Vec<_> = calls(&dir.join("changes"))
        .into_iter()
        .map(|(name, call)| {
            let stream = Open::new(&mut index, &call);
            (name, call, stream)
        })
        .collect();
    let mut wrong = BTreeMap::new();
    let mut right = 0;
    for step in 0..=timeline.last_step() {
        timeline.apply(step, &mut index);
        for (name, call, stream) in &mut open {
            match difference(&call.until(step).answer(), &stream.answer()) {
                None => right += 1,
                Some(difference) => {
                    wrong.insert(format!("{name}@{step}"), difference);
                }
            }
        }
        // A stream that upstream has ended tells no more.
        open.retain(|(_, call, _)| call.ended_in.is_none_or(|ended| ended > step));
    }
    let listed = DIFFERENT_STEPS.iter();
    let listed = listed.flat_map(|(name, steps, why)| steps.clone().map(move |step| (format!("{name}@{step}"), *why)));
    settle(wrong, right, &listed.collect::<Vec<_>>());
}

/// Statuses that are otherwise, and why.
const DIFFERENT_STATUSES: &[(&str, &str)] = &[];

#[test]
fn statuses_are_those_that_upstream_wrote() {
    let Some(dir) = recordings() else { return };
    let mut wrong = BTreeMap::new();
    let mut right = 0;
    for scenario in SCENARIOS.iter().filter(|scenario| **scenario != "plain") {
        let ours = cluster::index(&dir, scenario).statuses();
        for (object, theirs) in cluster::statuses(&dir, scenario) {
            match cluster::status_difference(&theirs, ours.get(&object)) {
                None => right += 1,
                Some(difference) => {
                    wrong.insert(object.to_string(), difference);
                }
            }
        }
    }
    let listed: Vec<_> = DIFFERENT_STATUSES
        .iter()
        .map(|(name, reason)| ((*name).to_owned(), *reason))
        .collect();
    settle(wrong, right, &listed);
}
