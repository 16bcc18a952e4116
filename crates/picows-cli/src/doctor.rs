//! `picows doctor`: what a server would find on this machine, and whether it would start.
//!
//! Sets up what workers need and takes it down again; starts no worker and listens nowhere.

mod canary;
mod files;
mod kernel;
mod limits;
mod machine;
mod report;
mod roots;

use crate::driver::NamedDriver;
use crate::fault::Fault;
use crate::{stdio, system};
use files::Surroundings;
use picows_uring::Driver;
use picows_uring::internal::preflight::{self, Preflight, Refusal};
use report::Report;

/// Check whether a server would start here, on which driver, and within which limits
///
/// Prints a line for each item: ok, note (a server starts, and may have less than it could), or
/// problem (no server starts), with the cure below it. Rings are set up for as many workers as a
/// server would have, and taken down again: nothing is started, and nothing listens. With
/// `--driver epoll` or PICOWS_DRIVER=epoll no call of io_uring is made.
///
/// Exit status: 0 when a server would start, 1 when it would not, or standard output cannot be
/// written, 2 if the command line or PICOWS_DRIVER is wrong.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    driver: NamedDriver,

    /// Print one JSON object instead of text, described in docs/guides/drivers.md
    #[arg(long)]
    json: bool,

    /// Only set up a ring: see `canary`
    #[arg(long, hide = true)]
    canary: bool,
}

/// Examines the machine and prints the report.
pub(crate) fn run(args: &Args) -> Result<(), Fault> {
    let asked = preflight::asked(args.driver.given())?;
    if args.canary {
        preflight::try_out(asked, 1);
        return Ok(());
    }
    // Before the limit is raised, as a server of the command does.
    let surroundings = Surroundings::of_this_process(args.driver.given().is_some());
    system::raise_descriptor_limit();
    let tried = try_out(asked, &surroundings);
    let report = Report::new(&surroundings, &tried);
    let text = if args.json { format!("{}\n", report.to_json()) } else { report.to_text() };
    // Part of the outcome: `main` waits until it is written.
    let _ = stdio::out().write(|queue| queue.extend_from_slice(text.as_bytes()));
    match report.problems() {
        0 => Ok(()),
        count => {
            Err(format!("a server would not start here (problems: {count}; see the report)").into())
        }
    }
}

/// Sets up what is asked for, unless a filter would end this process for it.
fn try_out(asked: Driver, surroundings: &Surroundings) -> Preflight {
    let may_be_ended = asked != Driver::Epoll && kernel::has_filter(&surroundings.files);
    if may_be_ended && canary::is_ended() {
        let text = "a seccomp filter ends a process that makes a call of io_uring: use --driver epoll \
                    or PICOWS_DRIVER=epoll, or allow io_uring_setup, io_uring_enter and \
                    io_uring_register in its profile";
        let refusal = Refusal { cause: "kill", text: text.to_owned() };
        let (driver, features) = (Err(refusal), Vec::new());
        return Preflight {
            asked,
            driver,
            fallback: None,
            is_restricted: None,
            features,
            workers: 0,
        };
    }
    preflight::try_out(asked, surroundings.workers)
}

#[cfg(test)]
mod tests;
