//! Topics on all kinds of hosts, which share them; a worker that is lost; other threads.

use super::*;
use crate::common::{PATIENCE, uninterrupted};
use crate::desk::member;
use picows_uring::{
    Driver, Embedded, ListenAddress, Listening, Server, ServerHandle, Turned, Upgrade,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::net::SocketAddr;
use std::time::Duration;

const DRIVERS: [Driver; 2] = [Driver::IoUring, Driver::Epoll];

/// A worker in a loop of the test, whose connections are members, too.
fn embedded(driver: Driver, hub: &Hub) -> (Embedded, Listening, SocketAddr) {
    let worker = Embedded::builder().driver(driver).build().expect("the driver can be set up");
    let hub = hub.clone();
    let listening = worker
        .listen(Server::builder().listen("127.0.0.1:0"), move |_| Upgrade::accept(member(&hub)))
        .expect("a port is free");
    let [ListenAddress::Tcp(address)] = listening.addresses() else { panic!("{listening:?}") };
    let address = *address;
    (worker, listening, address)
}

/// Takes turns until the worker has been stopped, or `holds` after one.
fn run_until(worker: &Embedded, holds: impl Fn() -> bool) {
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    loop {
        let turned = worker.turn().expect("the ring is there");
        if turned == Turned::Done || holds() {
            return;
        }
        if turned == Turned::Idle {
            let ready = uninterrupted(|| {
                poll(&mut [PollFd::new(worker, PollFlags::IN)], Some(&patience)).map_err(Into::into)
            });
            assert_eq!(ready.expect("it can be polled"), 1, "a wake-up was lost");
        }
    }
}

/// A hub whose topics below `slow` linger.
fn lingering_hub() -> Hub {
    let settings = TopicSettings::new().linger(Duration::from_millis(5)).history(History::last(9));
    Hub::builder().settings_of("slow.>", settings).build().expect("valid settings")
}

#[test]
fn a_loop_of_the_application_shares_topics_with_a_server() {
    if common::is_over_tls() {
        return;
    }
    for driver in DRIVERS {
        let hub = lingering_hub();
        let server = serve(workers(1).dedicated(true), &hub);
        let (worker, _listening, here) = embedded(driver, &hub);
        let (there, stopper, publisher) = (address(&server), worker.stopper(), hub.clone());
        let clients = std::thread::spawn(move || {
            let mut clients = [here, there].map(Client::upgrade);
            for client in &mut clients {
                for subject in ["t.*", "slow.a"] {
                    assert!(client.subscribe(subject, "").starts_with("new "));
                }
            }
            for number in 0..200 {
                // From both workers and a thread, one behind the other.
                clients[0].send_text(&format!("pub t.a here{number}"));
                clients.iter_mut().for_each(|it| it.expect_text(&format!("here{number}")));
                clients[1].send_text(&format!("pub t.b there{number}"));
                clients.iter_mut().for_each(|it| it.expect_text(&format!("there{number}")));
                let post = Post::text(format!("thread{number}"));
                assert_eq!(publisher.publish("t.c", post).unwrap().receivers, 2);
                clients.iter_mut().for_each(|it| it.expect_text(&format!("thread{number}")));
            }
            // Nothing but the timer of the worker delivers these.
            for number in 0..5 {
                publish_all(&publisher, "slow.a", number..=number);
                clients.iter_mut().for_each(|it| it.expect_text(&number.to_string()));
            }
            drop(clients);
            stopper.stop();
        });
        run_until(&worker, || false);
        clients.join().expect("the clients got all");
        common::eventually(&server, "all are gone", |stats| stats.connections == 0);
        assert_eq!(hub.subscriptions(), 0);
    }
}

#[test]
fn a_worker_that_is_lost_takes_its_subscriptions_with_it_and_no_others() {
    if common::is_over_tls() {
        return;
    }
    for driver in DRIVERS {
        let hub = hub(100);
        let server = serve(workers(2), &hub);
        let (worker, listening, here) = embedded(driver, &hub);
        let there = address(&server);
        let clients = std::thread::spawn(move || {
            let mut lost: Vec<_> = (0..10).map(|_| Client::upgrade(here)).collect();
            let mut others: Vec<_> = (0..10).map(|_| Client::upgrade(there)).collect();
            for client in lost.iter_mut().chain(&mut others) {
                client.subscribe("t", "");
                client.subscribe("*", "oldest=5 missed");
            }
            (lost, others)
        });
        run_until(&worker, || clients.is_finished());
        let (lost, mut others) = clients.join().expect("all subscribe");
        assert_eq!(hub.subscribers("t"), 40);
        // In the middle of publications, some of which wait for it.
        publish_all(&hub, "t", 1..=50);
        drop((worker, listening));
        assert_eq!((hub.subscribers("t"), hub.subscriptions()), (20, 20));
        for number in 51..=100 {
            let published = hub.publish("t", Post::text(number.to_string())).unwrap();
            assert_eq!((published.receivers, published.lost), (20, 0));
        }
        for client in &mut others {
            let twice: Vec<_> = client.texts(200);
            let numbers: Vec<_> = (1..=100).map(|it| it.to_string()).collect();
            for number in &numbers {
                assert_eq!(twice.iter().filter(|it| *it == number).count(), 2, "{number}");
            }
        }
        drop((lost, others));
        common::eventually(&server, "all are gone", |stats| stats.connections == 0);
        assert_eq!((hub.subscriptions(), hub.stats().behind), (0, 0));
        ended(server);
    }
}

fn ended(server: ServerHandle) {
    server.stop().expect("no worker has failed");
}

#[test]
fn another_thread_ends_a_subscription_whatever_its_worker_does() {
    let hub = hub(0);
    let server = serve(workers(1), &hub);
    let mut client = Client::upgrade(address(&server));
    for subject in ["t", "t.*", "other"] {
        client.subscribe(subject, "");
    }
    client.send_text("remote t");
    client.send_text("say done");
    client.expect_text("done");
    // It was asked to end before these: they do not go there, whatever the worker has done by now.
    publish_all(&hub, "t", 1..=10);
    publish_all(&hub, "other", 11..=11);
    client.expect_text("11");
    client.send_text("active");
    client.expect_text("active 2");
    assert_eq!((hub.subscribers("t"), hub.subscriptions()), (0, 2));
    // Again at once.
    client.subscribe("t", "");
    publish_all(&hub, "t", 12..=12);
    client.expect_text("12");
}
