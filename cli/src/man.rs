//! `mesh man-pages DIR`, hidden: the manual pages of a release, one per command.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Folder for the pages.
    dir: PathBuf,
}

/// Writes `mesh.1`, `mesh-install.1` and so on.
pub(crate) fn pages(args: &ManArgs, command: clap::Command) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(&args.dir).with_context(|| format!("cannot create {}", args.dir.display()))?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write(&command, &args.dir)?;
    Ok(ExitCode::SUCCESS)
}

fn write(command: &clap::Command, dir: &Path) -> anyhow::Result<()> {
    let name = command
        .get_display_name()
        .unwrap_or(command.get_name())
        .replace(' ', "-");
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).title(&name).render(&mut page)?;
    let path = dir.join(format!("{name}.1"));
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    shown.into_iter().try_for_each(|command| write(command, dir))
}
