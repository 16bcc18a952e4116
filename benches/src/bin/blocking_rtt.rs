//! The simplest client there is: one blocking socket, one message in flight.
//!
//! What `picows rtt` is compared with: a round trip cannot cost less without spinning.

use benches::echo::{Check, Echo, Requests};
use clap::Parser;
use hdrhistogram::Histogram;
use picows_uring_proto::{ClientHandshake, HeadLimits};
use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Measure round trips with a blocking socket, and print them as JSON
#[derive(Debug, Parser)]
struct Args {
    /// Address of the server, such as 127.0.0.1:9001
    #[arg(long, value_name = "ADDR")]
    url_addr: SocketAddr,

    /// Payload of a message, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    size: u32,

    /// How long to measure
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration,
          default_value = "2s")]
    duration: Duration,

    /// How long to run before that
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration,
          default_value = "300ms")]
    warmup: Duration,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut socket = TcpStream::connect(args.url_addr)?;
    socket.set_nodelay(true)?;
    upgrade(&mut socket, args.url_addr)?;
    let payload_bytes = args.size as usize;
    let mut requests = Requests::new(payload_bytes, 1);
    let echo = Echo::new(payload_bytes, Check::Content);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut latencies = Histogram::<u64>::new(3)?;
    let begin = Instant::now();
    let mut sent_at = begin;
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
        let now = Instant::now();
        if now - begin >= args.warmup {
            latencies.record((now - sent_at).as_nanos() as u64)?;
        }
        if now - begin >= args.warmup + args.duration {
            break;
        }
        sent_at = now;
    }
    let micros = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
    let rate = latencies.len() as f64 / args.duration.as_secs_f64();
    let line = format!(
        "{{\"rate_per_s\": {rate:.1}, \"latency_us\": {{\"p50\": {:.2}, \"p99\": {:.2}}}}}\n",
        micros(0.5),
        micros(0.99),
    );
    std::io::stdout().write_all(line.as_bytes())?;
    Ok(())
}

fn upgrade(socket: &mut TcpStream, address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let handshake = ClientHandshake::new(&address.to_string(), "/", [7; 16])?;
    let mut head = Vec::new();
    handshake.encode(&mut head);
    socket.write_all(&head)?;
    head.clear();
    loop {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
        if handshake.parse_response(&head, &HeadLimits::default())?.is_some() {
            return Ok(());
        }
    }
}

const BUFFER_BYTES: usize = 512 * 1024;
