//! Posts of other threads to connections: broadcasts over workers, and ends that stay unheard of.

mod common;

use common::{Client, Got, address, next, on_frame, workers};
use picows_uring::{
    CloseCode, Frame, Listener, ListenerResult, MsgType, QueuePolicy, RemoteTransport, Transport,
    Upgrade,
};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

/// Who is in the room, whichever worker has them.
type Room = Arc<Mutex<Vec<RemoteTransport>>>;

/// Passes on whatever one of them says to all of them.
struct Member(Room);

impl Listener for Member {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        self.0.lock().map_err(|error| error.to_string())?.push(transport.remote());
        // The client waits for it, so that all are in the room before one of them speaks.
        transport.send_text("in");
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Binary {
            let message = bytes::Bytes::copy_from_slice(frame.payload());
            for member in self.0.lock().map_err(|error| error.to_string())?.iter() {
                member.send(MsgType::Binary, message.clone())?;
            }
        }
        Ok(())
    }
}

fn message(number: u32) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.resize(1000, b'x');
    message
}

#[test]
fn members_of_a_room_over_two_workers_get_all_of_a_burst_that_is_longer_than_their_queues() {
    const COUNT: u32 = 1000;
    let room = Room::default();
    let server = workers(2)
        .write_watermarks(64 << 10, 16 << 10)
        .max_queue_size(128 << 10, QueuePolicy::Close)
        .start(move |_| Upgrade::accept(Member(Arc::clone(&room))))
        .unwrap();
    let mut members: Vec<_> = (0..9).map(|_| Client::upgrade(address(&server))).collect();
    for member in &mut members {
        member.expect_text("in");
    }
    let speaker = &mut members[0];
    let head = picows_uring::FrameHead::new(MsgType::Binary);
    let burst = (0..COUNT).flat_map(|number| common::masked(head, &message(number)));
    speaker.write(&burst.collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for (index, member) in members.iter_mut().enumerate() {
            scope.spawn(move || {
                for number in 0..COUNT {
                    let got = member.receive();
                    let expected = Got::new(MsgType::Binary, message(number));
                    assert!(got == expected, "member {index}, message {number}: {got:?}");
                }
            });
        }
    });
    drop(members);
    assert_eq!(server.stop().unwrap().frames_dropped, 0);
}

#[test]
fn ends_that_are_posted_to_a_worker_that_is_held_up_are_taken_and_the_first_of_each_counts() {
    let (sender, remotes) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let (sender, released) = (Mutex::new(sender), Arc::new(Mutex::new(released)));
    let server = workers(1)
        .start(move |_| {
            let (sender, released) = (sender.lock().unwrap().clone(), Arc::clone(&released));
            Upgrade::accept(on_frame(move |transport, frame| {
                if frame.msg_type() == MsgType::Text {
                    sender.send(transport.remote())?;
                    let _ = released.lock().map_err(|error| error.to_string())?.recv();
                }
                Ok(())
            }))
        })
        .unwrap();
    let mut client = Client::upgrade(address(&server));
    client.send_text("wait");
    let remote = next(&remotes);
    for number in 0..100_000 {
        remote.send_close(CloseCode::NORMAL, format!("number {number}")).unwrap();
    }
    drop(release);
    client.expect_close(CloseCode::NORMAL, "number 0");
    client.send_close(1000, "");
    client.expect_eof();
    drop(client);
    server.stop().unwrap();
}
