//! Messages between a hub and its bus.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

use picows_uring::MsgType;
use picows_uring::topics::{Bus, BusError, BusMessage, History, Hub, Inlet, Position, Post};
use std::sync::{Arc, Mutex};

/// A bus that keeps what it gets, and delivers what the test says.
#[derive(Default)]
struct Recording {
    inlet: Mutex<Option<Inlet>>,
    sent: Mutex<Vec<BusMessage>>,
}

impl Bus for Recording {
    fn attach(&self, inlet: Inlet) -> Result<(), BusError> {
        *self.inlet.lock().unwrap() = Some(inlet);
        Ok(())
    }

    fn subscribe(&self, _: &str, _: History) {}

    fn unsubscribe(&self, _: &str) {}

    fn publish(&self, message: BusMessage) -> Result<(), BusError> {
        self.sent.lock().unwrap().push(message);
        Ok(())
    }
}

#[test]
fn origins_are_consecutive_whatever_comes_from_other_nodes() {
    let (hub, bus) = (Hub::new(), Arc::new(Recording::default()));
    hub.attach(bus.clone()).unwrap();
    let topic = hub.topic("a").unwrap();
    let inlet = bus.inlet.lock().unwrap().clone().unwrap();
    for offset in 1..=5 {
        topic.publish(Post::text("from here")).unwrap();
        let mut message = BusMessage::new("a", MsgType::Text, "from there");
        message.origin = Some(Position { epoch: 77, offset });
        assert!(inlet.deliver("a", message));
    }
    assert_eq!(topic.position().offset, 10, "both count here");
    let sent = bus.sent.lock().unwrap();
    let origins: Vec<_> = sent.iter().map(|message| message.origin.unwrap()).collect();
    assert_eq!(origins.iter().map(|it| it.offset).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(origins.iter().all(|it| it.epoch == origins[0].epoch));
}
