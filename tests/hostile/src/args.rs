//! Command line.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use tests_harness::namespaces;

use crate::{
    attacks,
    limited::{self, Limiter},
    programs::Programs,
    soak,
    suite::{self, Attack},
    table,
};

/// Attack the programs of the mesh and print what it costs them, and their clients.
#[derive(Debug, Parser)]
#[command(name = "mesh-hostile", version)]
pub struct Args {
    /// Path of a sidecar that reads mesh-proxy's environment; defaults to mesh-proxy beside this program
    #[arg(long, value_name = "PATH")]
    proxy: Option<PathBuf>,
    /// Carry out only attacks on this sidecar, not those on the control plane
    #[arg(long)]
    proxy_only: bool,
    /// Carry out only attacks whose name or listener contains this word
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    /// Run load and attacks together for so many minutes, and check that memory does not grow
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// Part that is a process of its own.
#[derive(Debug, Subcommand)]
enum Part {
    /// Run a command under limits
    #[command(hide = true)]
    Enter(limited::Enter),
}

impl Args {
    /// Runs the attacks.
    pub fn run(self) -> Result<()> {
        if let Some(Part::Enter(enter)) = &self.part {
            return limited::enter(enter);
        }
        namespaces::private()?;
        let programs = self.programs()?;
        match self.minutes {
            Some(minutes) => soak::run(&programs, minutes),
            None => self.table(&programs),
        }
    }

    fn programs(&self) -> Result<Programs> {
        let myself = std::env::current_exe().context("cannot find this program")?;
        let folder = myself.parent().context("this program has no folder")?.to_owned();
        let proxy = self.proxy.clone().unwrap_or_else(|| folder.join("mesh-proxy"));
        ensure!(proxy.is_file(), "there is no sidecar at {}", proxy.display());
        Ok(Programs {
            limiter: Limiter { myself },
            proxy,
            folder,
        })
    }

    fn is_wanted(&self, attack: &Attack) -> bool {
        let named = format!("{} {:?}", attack.name, attack.listener).to_lowercase();
        let only = self
            .only
            .as_ref()
            .is_none_or(|word| named.contains(&word.to_lowercase()));
        only && (!self.proxy_only || attack.listener.is_of_sidecar())
    }

    #[expect(clippy::print_stdout, reason = "it is what this command is for")]
    fn table(&self, programs: &Programs) -> Result<()> {
        let mut rows = Vec::new();
        for attack in attacks::ALL.iter().filter(|attack| self.is_wanted(attack)) {
            if !programs.has(attack.listener) {
                eprintln!(
                    "SKIPPED: {} {:?}: its program is not built",
                    attack.name, attack.listener
                );
                continue;
            }
            eprintln!("{}, {:?} ...", attack.name, attack.listener);
            match suite::row(attack, programs) {
                Ok(row) => rows.push(row),
                Err(error) => println!("FAILED: {}, {:?}: {error:#}", attack.name, attack.listener),
            }
        }
        println!("memory limit: {}\n{}", Limiter::kind(), table::table(&rows));
        for row in &rows {
            for broken in row.broken(Duration::ZERO) {
                println!("NOT KEPT: {}, {:?}: {broken}", row.name, row.listener);
            }
        }
        Ok(())
    }
}
