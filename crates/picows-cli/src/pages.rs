//! `picows pages`: manual pages and shell completions of the command, for packages.

use crate::fault::Fault;
use clap_complete::Shell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Write manual pages and shell completions
///
/// Into DIR/man: picows.1, and a page for each subcommand. Into DIR/completions: picows.bash, _picows
/// of zsh, and picows.fish.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder for them, which is made
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes the pages of `command`.
pub(crate) fn run(args: &Args, command: clap::Command) -> Result<(), Fault> {
    write(&args.folder, command)
        .map_err(|error| format!("cannot write into {}: {error}", args.folder.display()).into())
}

fn write(folder: &Path, mut command: clap::Command) -> io::Result<()> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    // First, and without a page for each `help COMMAND`, which completions add to the command.
    clap_mangen::generate_to(command.clone(), &man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "picows", &completions)?;
    }
    Ok(())
}
