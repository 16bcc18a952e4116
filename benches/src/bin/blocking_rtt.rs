//! The simplest client there is: one blocking socket, one message in flight.
//!
//! What `picows rtt` is compared with: a round trip cannot cost less without spinning.

use benches::echo::{Check, Echo, Requests};
use benches::opening::open;
use benches::rtt::{Args, Meter};
use clap::Parser;
use std::error::Error;
use std::io::{Read, Write};

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut socket = open(args.course.url_addr, 0)?;
    socket.set_nonblocking(false)?;
    let payload_bytes = args.size as usize;
    let mut requests = Requests::new(payload_bytes, 1);
    let echo = Echo::new(payload_bytes, Check::Content);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut meter = Meter::start(&args);
    for stamp in 0_u64.. {
        socket.write_all(requests.stamped(stamp, 1))?;
        let mut at = 0;
        while at < echo.frame_bytes() {
            let count = socket.read(&mut buffer)?;
            if count == 0 || !echo.is_right(at, &buffer[..count], stamp) {
                return Err(format!("message {stamp}: the echo is wrong or missing").into());
            }
            at += count;
        }
        if !meter.echoed() {
            break;
        }
    }
    Ok(meter.print()?)
}

const BUFFER_BYTES: usize = 512 * 1024;
