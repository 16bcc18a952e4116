//! Runs each case of the protocol crate a fixed number of times: the program that `scripts/icount`
//! has callgrind count the instructions of.
//!
//! By itself it measures nothing. What callgrind counts is what happens inside [`measured`], and
//! each call of it ends a section of callgrind's output; the lines printed here, one for each
//! section, tell what it was.

use benches::cases::{self, Case};
use clap::Parser;
use std::io::{self, Write};

/// Run the micro benchmarks of the protocol crate under scripts/icount
#[derive(Debug, Parser)]
struct Args {
    /// Only cases whose name contains this
    filter: Option<String>,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let mut out = io::stdout().lock();
    for mut case in cases::all() {
        if args.filter.as_deref().is_some_and(|filter| !case.name().contains(filter)) {
            continue;
        }
        // What happens once: memory is taken, the processor's features are asked for.
        case.call();
        measured(&mut case);
        writeln!(out, "{} {}", case.name(), CALLS * case.items())?;
    }
    Ok(())
}

/// The part that counts.
#[inline(never)]
fn measured(case: &mut Case) {
    for _ in 0..CALLS {
        case.call();
    }
}

/// Enough for cases whose calls differ, such as those of the timer wheel.
const CALLS: u32 = 100;
