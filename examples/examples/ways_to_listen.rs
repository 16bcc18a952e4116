//! Costs of an echo through a listener, through a stream, and with a task for each message.
//!
//! cargo run --release -p examples --example ways_to_listen -- 200000
//!
//! One server and one client on threads of their own; the client, which is the same each time,
//! keeps some messages in flight. Prints the server's CPU time for each message.

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use picows_uring::{
    CloseCode, Connect, EchoListener, Frame, Listener, ListenerResult, MsgType, Server, Transport,
    Upgrade, run, spawn,
};
use std::error::Error;
use std::time::{Duration, Instant};

/// Makes a connection's answer.
type Make = fn() -> Upgrade;

/// Echoes in a task of its own for each message.
struct InTasks;

impl Listener for InTasks {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Binary {
            let (transport, payload) = (transport.clone(), frame.payload().to_vec());
            spawn(async move { transport.send(MsgType::Binary, payload) })?;
        }
        Ok(())
    }
}

fn in_a_stream() -> Upgrade {
    Upgrade::accept_stream(async |mut stream| {
        while let Some(message) = stream.next().await {
            stream.send(message).await?;
        }
        Ok(())
    })
}

/// Keeps messages in flight until enough have come back.
struct Load {
    payload: Vec<u8>,
    in_flight: u32,
    left: u32,
}

impl Listener for Load {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        for _ in 0..self.in_flight {
            transport.send(MsgType::Binary, &self.payload);
        }
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() != MsgType::Binary {
            return Ok(());
        }
        self.left -= 1;
        if self.left == 0 {
            transport.send_close(CloseCode::NORMAL, "");
        } else if self.left >= self.in_flight {
            transport.send(MsgType::Binary, &self.payload);
        }
        Ok(())
    }
}

/// The CPU time of the thread with this name, so far.
fn cpu_time(thread: &str) -> Result<Duration, Box<dyn Error>> {
    for task in std::fs::read_dir("/proc/self/task")? {
        let folder = task?.path();
        if std::fs::read_to_string(folder.join("comm"))?.trim_end() == thread {
            let on_cpu = std::fs::read_to_string(folder.join("schedstat"))?;
            let nanos = on_cpu.split(' ').next().unwrap_or_default().parse()?;
            return Ok(Duration::from_nanos(nanos));
        }
    }
    Err(format!("there is no thread {thread:?}").into())
}

fn measure(
    make: Make,
    size: usize,
    in_flight: u32,
    count: u32,
) -> Result<(f64, f64), Box<dyn Error>> {
    let builder = Server::builder().listen("127.0.0.1:0").workers(1);
    let server = builder.start(move |_| make())?;
    let url = server.addresses()[0].to_string();
    let started = Instant::now();
    run(async {
        let load = Load { payload: vec![7; size], in_flight, left: count };
        let transport = Connect::new(url).connect(load).await?;
        transport.wait_disconnected().await?;
        Ok::<(), Box<dyn Error>>(())
    })??;
    let elapsed = started.elapsed();
    let server_cpu = cpu_time("picows-0")?;
    server.stop()?;
    let per_message = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(count);
    Ok((per_message(server_cpu), per_message(elapsed)))
}

fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().nth(1).map_or(Ok(200_000), |count| count.parse())?;
    let ways: [(&str, Make); 3] = [
        ("Listener", || Upgrade::accept(EchoListener)),
        ("WsStream", in_a_stream),
        ("task per message", || Upgrade::accept(InTasks)),
    ];
    println!(
        "{:<18} {:>6} {:>10} {:>18} {:>12}",
        "way", "bytes", "in flight", "server CPU µs/msg", "µs/msg"
    );
    for (size, in_flight) in [(256, 1), (256, 64), (16_384, 8)] {
        let small = if in_flight == 1 { 10 } else { 1 };
        let mut runs = ways.map(|_| Vec::new());
        // In turn, so that what else the machine does is shared by all.
        for _ in 0..ROUNDS {
            for ((_, make), runs) in ways.iter().zip(&mut runs) {
                runs.push(measure(*make, size, in_flight, count / small)?);
            }
        }
        for ((name, _), mut runs) in ways.iter().zip(runs) {
            runs.sort_by(|one, other| one.0.total_cmp(&other.0));
            let (cpu, elapsed) = runs[ROUNDS / 2];
            println!("{name:<18} {size:>6} {in_flight:>10} {cpu:>18.2} {elapsed:>12.2}");
        }
    }
    Ok(())
}

/// How often each way is measured; the median counts.
const ROUNDS: usize = 9;
