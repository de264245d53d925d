//! Table of all costs of a sidecar, compared with the bare pair in the same run, with the target of each row.

mod memory;
mod print;
mod rows;
mod workers;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use self::{
    print::Line,
    rows::{ROWS, Row},
};
use crate::{
    bare::Speaks,
    lab::{self, Lab, Pair, Wanted},
    namespaces,
    orders::Load,
    report::Measured,
    run::WARM_UP_MS,
};

/// Print all costs of a sidecar with their targets.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Length of one measurement, in seconds
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Measurements of each pair and row, in turns
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Path of mesh-proxy; defaults to the one beside this program
    #[arg(long, value_name = "PATH")]
    proxy: Option<PathBuf>,
    /// Another sidecar with the same environment, measured in turns in the same run
    #[arg(long, value_name = "PATH")]
    peer: Option<PathBuf>,
    /// Only rows with one of these prefixes
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if a target is missed
    #[arg(long)]
    strict: bool,
}

/// Subject of a line.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Subject {
    Mesh,
    Peer,
    Bare,
}

/// Labs: ours and the bare pair in one, a peer in another, because of equal ports.
struct Labs {
    home: Lab,
    away: Option<Lab>,
    mesh: Pair,
    peer: Option<Pair>,
    bare: [Pair; 3],
}

/// Prints the table.
pub(crate) fn run(args: &Args) -> Result<()> {
    namespaces::private()?;
    let mesh = Wanted::new(args.proxy.clone().map_or_else(lab::beside_myself, Ok)?);
    let mut lines = Vec::new();
    let rows: Vec<&Row> = ROWS.iter().filter(|row| args.wants(row.name)).collect();
    if !rows.is_empty() {
        let mut labs = Labs::start(&mesh, args.peer.as_ref())?;
        for row in rows {
            eprintln!("{} ...", row.name);
            lines.extend(row.lines(&labs.measure(row, args)?));
        }
        labs.check()?;
    }
    if args.wants("memory") {
        eprintln!("memory ...");
        lines.extend(memory::lines(&mesh)?);
    }
    if args.wants("workers") {
        eprintln!("workers ...");
        lines.extend(workers::lines(&mesh, args)?);
    }
    if args.wants("size") {
        let size = std::fs::metadata(&mesh.program)?.len() as f64;
        lines.push(Line::absolute("program", "MB", size / 1e6).at_most(9.0));
    }
    finish(args, &lines)
}

#[expect(clippy::print_stdout, reason = "it is what this command is for")]
fn finish(args: &Args, lines: &[Line]) -> Result<()> {
    println!("{} rounds of {} s\n{}", args.rounds, args.seconds, print::table(lines));
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(lines)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let missed = lines.iter().filter(|line| line.is_met() == Some(false)).count();
    ensure!(!args.strict || missed == 0, "{missed} targets are missed");
    Ok(())
}

impl Args {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name.starts_with(only.as_str()))
    }
}

impl Labs {
    fn start(mesh: &Wanted, peer: Option<&PathBuf>) -> Result<Self> {
        let mut home = Lab::start(true)?;
        let bare = [
            home.bare(Speaks::Http1)?,
            home.bare(Speaks::Http2)?,
            home.bare(Speaks::Tcp)?,
        ];
        let mesh = home.mesh(mesh)?;
        let away = peer.map(|_| Lab::start(true)).transpose()?;
        let mut labs = Self {
            home,
            away,
            mesh,
            peer: None,
            bare,
        };
        if let (Some(peer), Some(away)) = (peer, &mut labs.away) {
            labs.peer = Some(away.mesh(&Wanted::new(peer.clone()))?);
        }
        Ok(labs)
    }

    /// Measurements of one row by round.
    fn measure(&mut self, row: &Row, args: &Args) -> Result<Vec<(Subject, Measured)>> {
        let mut subjects = vec![Subject::Mesh, Subject::Bare];
        subjects.extend(self.peer.map(|_| Subject::Peer));
        for subject in &subjects {
            self.turn(*subject, row, WARM_UP_MS)?;
        }
        let mut all = Vec::new();
        let (rounds, ms) = row.turns(args.rounds, args.seconds * 1000);
        for _ in 0..rounds {
            for subject in &subjects {
                all.push((*subject, self.turn(*subject, row, ms)?));
            }
            // Who was first is last in the next round.
            subjects.rotate_left(1);
        }
        Ok(all)
    }

    fn turn(&mut self, subject: Subject, row: &Row, ms: u64) -> Result<Measured> {
        let is_bytes = row.speaks == Speaks::Tcp;
        let of_mesh = |pair: Pair| if is_bytes { pair.for_bytes() } else { pair };
        let (lab, pair) = match (subject, &mut self.away, self.peer) {
            (Subject::Peer, Some(away), Some(peer)) => (away, of_mesh(peer)),
            (Subject::Bare, ..) => (&mut self.home, self.bare[row.speaks as usize]),
            _ => (&mut self.home, of_mesh(self.mesh)),
        };
        let load = Load {
            addr: pair.entry,
            connections: row.connections,
            ms,
            what: row.what,
            pause_ms: 0,
        };
        let measured = Measured::run(lab, &pair, load);
        measured.with_context(|| format!("{}, {subject:?}", row.name))
    }

    fn check(&mut self) -> Result<()> {
        self.home.check()?;
        self.away.as_mut().map_or(Ok(()), Lab::check)
    }
}
