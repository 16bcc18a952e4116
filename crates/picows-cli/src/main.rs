//! The `picows` command: reads its arguments, sets up the log, and runs what was asked for.

mod auto_ping;
mod client;
mod connect;
mod echo;
mod fault;
mod load;
mod measure;
mod report;
mod rtt;
mod system;
mod units;

use clap::{Parser, Subcommand};
use std::io::IsTerminal;
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
    Load(load::Args),
    Rtt(rtt::Args),
    Connect(connect::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        log.init();
    } else {
        // Colours are for people.
        log.with_ansi(false).init();
    }
    let outcome = match cli.command {
        Command::Echo(args) => echo::run(args),
        Command::Load(args) => load::run(args),
        Command::Rtt(args) => rtt::run(args),
        Command::Connect(args) => connect::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            note(format_args!("error: {}", fault::tell(&fault)));
            fault::exit_code(&fault)
        }
    }
}

/// Prints a line for people. Failing to is no reason to fail.
fn note(line: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_makes_sense() {
        Cli::command().debug_assert();
    }
}
