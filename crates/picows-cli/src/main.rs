//! The `picows` command: reads its arguments, sets up the log, and runs what was asked for.

mod auto_ping;
mod echo;
mod units;

use clap::{Parser, Subcommand};
use picows_uring::Error;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// WebSocket on io_uring: servers and tools to try and to measure.
#[derive(Debug, Parser)]
#[command(name = "picows", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Echo(echo::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let outcome = match cli.command {
        Command::Echo(args) => echo::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(format_args!("error: {error}"));
            match error.downcast_ref::<Error>() {
                // As for any other value that makes no sense.
                Some(Error::Address { .. } | Error::Config { .. }) => ExitCode::from(EXIT_USAGE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// What the argument parser exits with, too.
const EXIT_USAGE: u8 = 2;

/// Prints a line for people. Failing to is no reason to fail.
fn note(line: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}
