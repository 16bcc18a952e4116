//! Connections that come and go, in every way there is: nothing of them stays.
//!
//! Alone in its binary: it counts the descriptors of the process.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Client, address, eventually, workers};
use picows_uring::{CloseCode, EchoListener, Upgrade};
use std::net::SocketAddr;
use std::thread;

const CONNECTIONS: usize = 5_000;
const BATCH: usize = 250;

#[test]
fn five_thousand_connections_leave_nothing_behind() {
    // What a process makes once, such as the sockets that wake tokio for signals.
    workers(1).start(|_| Upgrade::accept(EchoListener)).unwrap().stop().unwrap();
    let before = descriptors();
    let server = workers(2).start(|_| Upgrade::accept(EchoListener)).unwrap();
    // A first one, so that what is made on demand is there.
    Client::upgrade(address(&server)).echo(b"first");
    eventually(&server, "the first is gone", |stats| stats.slots == 0);
    let base = descriptors();
    let server_address = address(&server);
    for batch in 0..CONNECTIONS / BATCH {
        let first = batch * BATCH;
        thread::scope(|scope| {
            for half in [first, first + BATCH / 2] {
                scope.spawn(move || come_and_go(server_address, half..half + BATCH / 2));
            }
        });
        // Those that went at once may not even have been accepted yet.
        let accepted = (first + BATCH + 1) as u64;
        eventually(&server, "the batch is gone", |stats| {
            stats.accepted >= accepted && stats.slots == 0
        });
        let stats = server.stats();
        assert_eq!(stats.connections, 0, "batch {batch}");
        assert_eq!((stats.accepted, stats.disconnected), (accepted, accepted), "batch {batch}");
    }
    // A slot is free when its socket is about to be closed, by the next turn of its worker.
    eventually(&server, "no descriptor is left open", |_| descriptors() == base);
    let stats = server.stop().unwrap();
    assert_eq!((stats.connections, stats.slots), (0, 0));
    assert_eq!((stats.accepted, stats.disconnected), (5_001, 5_001));
    assert_eq!(descriptors(), before, "nothing of the server is left");
}

/// Connects all of `numbers`, and ends each of them in its own way.
fn come_and_go(address: SocketAddr, numbers: std::ops::Range<usize>) {
    let clients: Vec<_> = numbers
        .map(|number| {
            let client = Client::connect(address);
            (number, if number % 6 < 4 { client.upgraded() } else { client })
        })
        .collect();
    for (number, mut client) in clients {
        match number % 6 {
            0 => {
                client.send_close(1000, "");
                client.expect_close(CloseCode::NORMAL, "");
                client.expect_eof();
            }
            1 => client.echo(b"and gone without a word"),
            2 => client.reset(),
            // In the middle of a frame.
            3 => client.write(&[0x82, 0xFE, 0x10]),
            // In the middle of the handshake, and before it.
            4 => client.write(b"GET / HTTP/1.1\r\n"),
            _ => drop(client),
        }
    }
}

/// How many descriptors this process has open, the one for counting included.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
