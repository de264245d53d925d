//! Directories of manifests: read once, or watched.
//!
//! A changed file is live in well under a second. The last valid state of a broken file stays in effect: a rejected
//! object stays as it was, and a document that is not YAML removes nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc as std_mpsc,
    time::{Duration, Instant, SystemTime},
};

use destination_k8s::{Object, ObjectRef};
use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

pub use crate::Update;
use crate::{Error, Refusal, limits, manifest};

/// Quiet period after the last event before files are read: editors write in several steps.
const QUIET: Duration = Duration::from_millis(50);
/// Longest delay of a read by further events.
const LONGEST: Duration = Duration::from_millis(500);
/// Interval of reads without events: a safety net for file systems that send none.
const PATROL: Duration = Duration::from_secs(5);
/// The same where the system provides no events at all.
const POLL: Duration = Duration::from_millis(500);
/// Age below which a file may change again within one tick of its clock.
const FRESH: Duration = Duration::from_millis(100);

/// Content of a set of directories.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Objects, by reference; one of a later directory replaces one of an earlier directory.
    pub objects: Vec<Object>,
    /// Rejected parts.
    pub refused: Vec<Refusal>,
}

/// Reads the directories once.
pub fn load(dirs: &[PathBuf]) -> Loaded {
    let mut state = State::new(dirs.to_vec());
    state.refresh();
    Loaded {
        objects: state.merged.into_values().collect(),
        refused: state.reported.into_iter().collect(),
    }
}

/// Reads the directories and keeps sending changes. The first update is a reset.
pub fn watch(dirs: Vec<PathBuf>) -> Result<mpsc::Receiver<Update>, Error> {
    for dir in &dirs {
        fs::read_dir(dir).map_err(|source| Error::Directory {
            dir: dir.clone(),
            source,
        })?;
    }
    let (updates, receiver) = mpsc::channel(limits::UPDATES);
    // One token is enough: it only means "read again".
    let (wake, events) = std_mpsc::sync_channel::<()>(1);
    let watcher = watcher(&dirs, wake.clone());
    std::thread::Builder::new()
        .name("manifests".to_owned())
        .spawn(move || {
            // Kept, so that the event channel stays open when there is no watcher.
            let _wake = wake;
            let patrol = if watcher.is_some() { PATROL } else { POLL };
            let _watcher = watcher;
            run(State::new(dirs), &updates, &events, patrol);
        })
        .map_err(Error::Thread)?;
    Ok(receiver)
}

fn watcher(dirs: &[PathBuf], wake: std_mpsc::SyncSender<()>) -> Option<notify::RecommendedWatcher> {
    let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading is not a change; our own reads would wake us endlessly.
        if !matches!(
            event,
            Ok(notify::Event {
                kind: notify::EventKind::Access(_),
                ..
            })
        ) {
            let _ = wake.try_send(());
        }
    });
    let watched = made.and_then(|mut watcher| {
        for dir in dirs {
            watcher.watch(dir, RecursiveMode::Recursive)?;
        }
        Ok(watcher)
    });
    watched
        .inspect_err(|error| tracing::warn!(%error, "cannot watch for file events; polling manifests every {POLL:?}"))
        .ok()
}

fn run(mut state: State, updates: &mpsc::Sender<Update>, events: &std_mpsc::Receiver<()>, patrol: Duration) {
    let mut first = true;
    loop {
        let change = state.refresh();
        let mut sent = vec![];
        if first {
            sent.push(Update::Reset(state.merged.values().cloned().collect()));
            first = false;
        } else if !change.applied.is_empty() || !change.deleted.is_empty() {
            sent.push(Update::Changed {
                applied: change.applied,
                deleted: change.deleted,
            });
        }
        if !change.refused.is_empty() {
            sent.push(Update::Refused(change.refused));
        }
        if !change.recovered.is_empty() {
            sent.push(Update::Recovered(change.recovered));
        }
        for update in sent {
            if updates.blocking_send(update).is_err() {
                return;
            }
        }
        if !wait(updates, events, patrol) {
            return;
        }
    }
}

/// Waits for an event and then for quiet; returns false once the receiver is closed.
fn wait(updates: &mpsc::Sender<Update>, events: &std_mpsc::Receiver<()>, patrol: Duration) -> bool {
    let until = Instant::now() + patrol;
    let woken = loop {
        // Short steps, so that the thread ends soon after its receiver.
        let step = until.saturating_duration_since(Instant::now()).min(LONGEST);
        match events.recv_timeout(step) {
            Ok(()) => break true,
            Err(_) if updates.is_closed() => return false,
            Err(_) if step.is_zero() => break false,
            Err(_) => {}
        }
    };
    let latest = Instant::now() + LONGEST;
    while woken && Instant::now() < latest && events.recv_timeout(QUIET).is_ok() {}
    !updates.is_closed()
}

/// Version of a file: modification time, size and inode. None means that it must be read again.
type Stamp = (SystemTime, u64, u64);

#[derive(Debug, Default)]
struct FileState {
    stamp: Option<Stamp>,
    /// Current objects, including those kept from the last valid state.
    objects: Vec<Object>,
    refused: Vec<Refusal>,
}

#[derive(Debug, Default)]
struct Change {
    applied: Vec<Object>,
    deleted: Vec<ObjectRef>,
    /// New refusals.
    refused: Vec<Refusal>,
    /// Files without refusals that had some.
    recovered: Vec<PathBuf>,
}

#[derive(Debug, Default)]
struct State {
    dirs: Vec<(PathBuf, BTreeMap<PathBuf, FileState>)>,
    merged: BTreeMap<ObjectRef, Object>,
    reported: BTreeSet<Refusal>,
}

impl State {
    fn new(dirs: Vec<PathBuf>) -> Self {
        Self {
            dirs: dirs.into_iter().map(|dir| (dir, BTreeMap::new())).collect(),
            ..Self::default()
        }
    }

    /// Scans all files, reads the changed ones and returns the difference.
    fn refresh(&mut self) -> Change {
        let mut refused = vec![];
        let mut room = limits::FILES;
        for (dir, files) in &mut self.dirs {
            let mut found = Scan {
                files: vec![],
                refused: vec![],
                room,
            };
            match found.folder(dir, 0) {
                Ok(()) => {
                    room = found.room;
                    update_files(files, &found.files);
                }
                // A directory that has disappeared keeps its last state.
                Err(error) => refused.push(refusal(dir, format!("cannot read the directory: {error}"))),
            }
            refused.append(&mut found.refused);
        }
        self.merge(refused)
    }

    fn merge(&mut self, mut refused: Vec<Refusal>) -> Change {
        let mut merged = BTreeMap::new();
        for (_, files) in &self.dirs {
            let mut here: HashMap<ObjectRef, &Path> = HashMap::new();
            for (path, file) in files {
                refused.extend(file.refused.iter().cloned());
                for object in &file.objects {
                    let key = object.object_ref();
                    if let Some(other) = here.get(&key) {
                        let reason = format!("{key} is already defined in {}", other.display());
                        refused.push(Refusal {
                            object: Some(key),
                            ..refusal(path, reason)
                        });
                    } else if merged.len() >= limits::OBJECTS && !merged.contains_key(&key) {
                        let reason = format!("{key} exceeds the limit of {} objects", limits::OBJECTS);
                        refused.push(Refusal {
                            object: Some(key),
                            ..refusal(path, reason)
                        });
                    } else {
                        here.insert(key.clone(), path);
                        merged.insert(key, object.clone());
                    }
                }
            }
        }
        let applied = merged
            .iter()
            .filter(|(key, object)| self.merged.get(*key) != Some(object));
        let applied = applied.map(|(_, object)| object.clone()).collect();
        let deleted = self
            .merged
            .keys()
            .filter(|key| !merged.contains_key(*key))
            .cloned()
            .collect();
        let all: BTreeSet<_> = refused.into_iter().collect();
        let refused = all.difference(&self.reported).cloned().collect();
        let files = |refusals: &BTreeSet<Refusal>| -> BTreeSet<PathBuf> {
            refusals.iter().map(|refusal| refusal.file.clone()).collect()
        };
        let recovered = files(&self.reported).difference(&files(&all)).cloned().collect();
        self.merged = merged;
        self.reported = all;
        Change {
            applied,
            deleted,
            refused,
            recovered,
        }
    }
}

fn refusal(file: &Path, reason: String) -> Refusal {
    Refusal {
        file: file.to_owned(),
        line: None,
        object: None,
        reason,
    }
}

fn update_files(files: &mut BTreeMap<PathBuf, FileState>, found: &[PathBuf]) {
    let present: BTreeSet<&PathBuf> = found.iter().collect();
    files.retain(|path, _| present.contains(path));
    for path in found {
        let file = files.entry(path.clone()).or_default();
        let stamp = stamp(path);
        if stamp.is_some() && stamp == file.stamp {
            continue;
        }
        match read(path) {
            Ok(text) => {
                let manifest = manifest::parse(path, &text);
                file.objects = keep_last_good(&file.objects, manifest.objects, &manifest.refused);
                file.refused = manifest.refused;
                file.stamp = stamp.filter(|(changed, ..)| changed.elapsed().is_ok_and(|age| age > FRESH));
            }
            // Deleted between the scan and the read: the next scan notices.
            Err(error) if error.kind() == io::ErrorKind::NotFound => file.stamp = None,
            Err(error) => {
                file.refused = vec![refusal(path, format!("cannot read the file: {error}"))];
                file.stamp = stamp;
            }
        }
    }
}

/// Keeps the earlier objects of a file where its new content is invalid.
fn keep_last_good(before: &[Object], now: Vec<Object>, refused: &[Refusal]) -> Vec<Object> {
    let unparsed = refused
        .iter()
        .any(|r| r.object.is_none() && r.reason.starts_with(destination_yaml::INVALID));
    let named: BTreeSet<&ObjectRef> = refused.iter().filter_map(|r| r.object.as_ref()).collect();
    let present: BTreeSet<ObjectRef> = now.iter().map(Object::object_ref).collect();
    let stays = |object: &&Object| {
        let key = object.object_ref();
        !present.contains(&key) && (unparsed || named.contains(&key))
    };
    let mut kept: Vec<Object> = before.iter().filter(stays).cloned().collect();
    kept.extend(now);
    kept
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    // Tells a file that was replaced by another one of the same size and time.
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some((metadata.modified().ok()?, metadata.len(), inode))
}

fn read(path: &Path) -> io::Result<String> {
    use io::Read;
    let mut bytes = vec![];
    fs::File::open(path)?
        .take(limits::FILE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limits::FILE_BYTES {
        return Err(io::Error::other(format!("larger than {} bytes", limits::FILE_BYTES)));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("not UTF-8"))
}

struct Scan {
    files: Vec<PathBuf>,
    refused: Vec<Refusal>,
    room: usize,
}

impl Scan {
    fn folder(&mut self, dir: &Path, depth: usize) -> io::Result<()> {
        let mut entries: Vec<PathBuf> = fs::read_dir(dir)?.filter_map(|e| e.ok().map(|e| e.path())).collect();
        entries.sort();
        for path in entries {
            let hidden = path
                .file_name()
                .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
            // Metadata follows links: a mounted ConfigMap is made of them.
            let Some(metadata) = fs::metadata(&path).ok().filter(|_| !hidden) else {
                continue;
            };
            if metadata.is_dir() && depth < limits::DEPTH {
                if let Err(error) = self.folder(&path, depth + 1) {
                    self.refused
                        .push(refusal(&path, format!("cannot read the directory: {error}")));
                }
            } else if metadata.is_file() && is_manifest(&path) {
                if self.room == 0 {
                    let reason = format!("the file exceeds the limit of {} files", limits::FILES);
                    self.refused.push(refusal(&path, reason));
                    continue;
                }
                self.room -= 1;
                self.files.push(path);
            }
        }
        Ok(())
    }
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|e| {
        ["yaml", "yml", "json"]
            .iter()
            .any(|known| e.eq_ignore_ascii_case(known))
    })
}

#[cfg(test)]
mod tests;
