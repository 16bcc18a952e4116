//! Nodes on a cluster of three NATS servers, of which the leader of the stream is killed.
//!
//! Elections take seconds: scripts/test-nats --cluster runs it.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Message, Node, Peer, eventually, has_server};
use picows_uring::topics::{History, Hub, TopicSettings};
use picows_uring_nats::{JetStream, NatsStatus, async_nats};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Three servers with JetStream, in a folder of their own.
struct Cluster {
    folder: PathBuf,
    members: Vec<(Child, u16)>,
}

impl Cluster {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("picows-cluster-{}", std::process::id()));
        // The ports of routes are in all command lines, so they are chosen before: another process may
        // take one in between, which ends that server.
        for attempt in 0..10 {
            let folder = folder.join(attempt.to_string());
            std::fs::create_dir_all(&folder).unwrap();
            if let Some(cluster) = Self::try_start(&folder) {
                return cluster;
            }
        }
        panic!("no ports for a cluster");
    }

    fn try_start(folder: &Path) -> Option<Self> {
        let free: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let route = |it: &TcpListener| format!("nats://{}", it.local_addr().unwrap());
        let routes: Vec<_> = free.iter().map(route).collect();
        drop(free);
        let mut cluster = Self { folder: folder.to_owned(), members: Vec::new() };
        for (index, route) in routes.iter().enumerate() {
            let name = format!("n{index}");
            let child = Command::new("nats-server")
                .args(["-a", "127.0.0.1", "-p", "-1", "-n", &name, "-js", "--cluster_name", "c"])
                .args(["--cluster", route, "--routes", &routes.join(",")])
                .arg("-sd")
                .arg(folder.join(&name))
                .arg("--ports_file_dir")
                .arg(folder)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            cluster.members.push((child, 0));
        }
        for (child, port) in &mut cluster.members {
            let file = folder.join(format!("nats-server_{}.ports", child.id()));
            *port = eventually("a server writes its ports, or ends", || {
                match child.try_wait().unwrap() {
                    Some(_) => Some(None),
                    None => common::port_in(&file).map(Some),
                }
            })?;
        }
        Some(cluster)
    }

    /// All of them: a node connects to any that is there.
    fn urls(&self) -> String {
        let urls = self.members.iter().map(|(_, port)| format!("nats://127.0.0.1:{port}"));
        urls.collect::<Vec<_>>().join(",")
    }

    /// Kills the leader of a stream with SIGKILL.
    fn kill_leader(&mut self, stream: &str) {
        let servers = self.urls();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let leader = runtime.block_on(async {
            let servers: Vec<_> = servers.split(',').map(ToOwned::to_owned).collect();
            let client = async_nats::connect(servers).await.unwrap();
            let stream = async_nats::jetstream::new(client).get_stream(stream).await.unwrap();
            stream.cached_info().cluster.clone().and_then(|cluster| cluster.leader).unwrap()
        });
        let index: usize = leader.trim_start_matches('n').parse().unwrap();
        let (child, _) = &mut self.members[index];
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (child, _) in &mut self.members {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn node(cluster: &Cluster) -> Node {
    let kept = Hub::builder().settings(TopicSettings::new().history(History::last(1000)));
    let stream = JetStream::new("TOPICS").per_topic(10_000).replicas(3);
    Node::with(&cluster.urls(), kept, |builder| builder.jet_stream(stream)).connected()
}

/// Reads up to the message `end`, which is published until it comes: numbers, and `None` where some are
/// missing.
fn read_to_the_end(node: &Node, peer: &mut Peer) -> Vec<Option<u64>> {
    let mut got = Vec::new();
    eventually("the end comes", || {
        node.publish("t", "end");
        while let Some(message) = peer.try_next(Duration::from_millis(50)) {
            match message {
                Message::Text(text) if text == "end" => return Some(()),
                Message::Text(text) => got.push(text.parse().ok()),
                other => panic!("{other:?}"),
            }
        }
        None
    });
    got
}

#[test]
#[ignore = "elections take seconds: scripts/test-nats --cluster runs it"]
fn a_leader_that_is_killed_costs_nothing_that_the_stream_had_taken() {
    if !has_server() {
        return;
    }
    const COUNT: u64 = 600;
    let mut cluster = Cluster::start();
    let (a, b) = (node(&cluster), node(&cluster));
    let (mut at_a, mut at_b) = (a.subscribe("/t?missed"), b.subscribe("/t?missed"));
    a.reach("t", &mut at_b);
    b.reach("t", &mut at_a);
    a.publish("t", "begin");
    for peer in [&mut at_a, &mut at_b] {
        while peer.text() != "begin" {}
    }
    let before = b.hub.position("t").unwrap();
    for number in 0..COUNT {
        a.publish("t", &number.to_string());
        if number == COUNT / 2 {
            cluster.kill_leader("TOPICS");
        }
    }
    for node in [&a, &b] {
        node.wait_status("it is back", |it| matches!(it, NatsStatus::Connected { .. }));
    }
    let unsent = a.bus.stats().unsent;
    for (node, peer) in [(&a, &mut at_a), (&b, &mut at_b)] {
        let got = read_to_the_end(node, peer);
        let numbers: Vec<_> = got.iter().flatten().copied().collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "twice, or out of order: {numbers:?}");
        let is_notified = numbers.len() < got.len();
        let missing = COUNT - numbers.len() as u64;
        let unsent = unsent.max(a.bus.stats().unsent);
        assert!(missing <= unsent || is_notified, "{missing} of {unsent}: {got:?}");
        // At the node that published them subscribers learn of those that the stream has not taken.
        if std::ptr::eq(node, &a) {
            assert!(missing == 0 || is_notified, "{missing} missing in silence: {got:?}");
        }
    }
    let after = b.hub.position("t").unwrap();
    assert_eq!(after.epoch, before.epoch, "it is the same stream");
    assert!(after.offset > before.offset);
}
