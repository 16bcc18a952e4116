//! A bus with a log: it delivers late and again, skips what it reports as a gap, and begins anew.

use super::*;

/// The log of a bus, whose offsets are those of all topics.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedLog(Arc<Mutex<Log>>);

#[derive(Debug)]
struct Log {
    epoch: u64,
    messages: Vec<BusMessage>,
}

impl Default for Log {
    fn default() -> Self {
        Self { epoch: 1, messages: Vec::new() }
    }
}

/// How far a subject of a hub was followed.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) subject: String,
    next: usize,
    is_ready: bool,
}

impl Follower {
    pub(super) fn new(subject: &str) -> Self {
        Self { subject: subject.to_owned(), next: 0, is_ready: false }
    }
}

impl SharedLog {
    pub(super) fn append(&self, mut message: BusMessage) {
        let mut log = self.0.lock().unwrap();
        let offset = log.messages.len() as u64 + 1;
        message.position = Some(Position { epoch: log.epoch, offset });
        log.messages.push(message);
    }

    /// The last number of a node in a topic up to a position, if it is one of this log.
    pub(super) fn last(&self, at: Position, node: usize, index: usize) -> Option<u64> {
        let log = self.0.lock().unwrap();
        let until = usize::try_from(at.offset).unwrap();
        let before = log.messages.get(..until).filter(|_| at.epoch == log.epoch)?;
        let numbers =
            before.iter().filter_map(|it| parse(std::str::from_utf8(&it.payload).unwrap()));
        let own = numbers.filter(|(from, topic, _)| (*from, *topic) == (node, index));
        own.map(|(_, _, number)| number).max()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().messages.len()
    }

    fn get(&self, at: usize) -> Option<BusMessage> {
        self.0.lock().unwrap().messages.get(at).cloned()
    }

    fn begin_anew(&self) {
        let mut log = self.0.lock().unwrap();
        log.epoch += 1;
        log.messages.clear();
    }
}

impl End {
    /// Whether nothing is on its way.
    pub(super) fn is_through(&self) -> bool {
        let subjects = self.subjects.lock().unwrap();
        let len = self.log.len();
        self.sent.lock().unwrap().is_empty()
            && (self.mode == BusMode::Relay
                || subjects.iter().all(|it| it.is_ready && it.next == len))
    }

    fn inlet(&self) -> Inlet {
        self.inlet.lock().unwrap().clone().unwrap()
    }
}

impl Simulation {
    /// Hands some of the log to a hub, or does it wrong.
    pub(super) fn carry_log(&mut self) {
        if self.has_faults && self.seed.chance(60) {
            self.begin_log_anew();
        }
        let (hub, pick, count) = (self.seed.below(2), self.seed.below(8), 1 + self.seed.below(4));
        let fault = if self.has_faults { self.seed.below(16) } else { 16 };
        let end = Arc::clone(&self.hubs[hub].1);
        let (mut subjects, inlet) = (end.subjects.lock().unwrap(), end.inlet());
        let len = subjects.len().max(1);
        let Some(follower) = subjects.get_mut(pick % len) else { return };
        match fault {
            0 | 1 => follower.next = follower.next.saturating_sub(count),
            2 if follower.is_ready && follower.next < self.log.len() => {
                follower.next = (follower.next + count).min(self.log.len());
                inlet.gap(&follower.subject);
            }
            _ => {}
        }
        for _ in 0..count {
            let Some(message) = self.log.get(follower.next) else { break };
            follower.next += 1;
            if TopicName::matches(&follower.subject, &message.topic) {
                inlet.deliver(&follower.subject, message);
            }
        }
        if !follower.is_ready && follower.next == self.log.len() {
            follower.is_ready = true;
            inlet.ready(&follower.subject);
        }
    }

    /// What was not delivered is lost, which the bus reports where it had delivered the past.
    fn begin_log_anew(&mut self) {
        self.log.begin_anew();
        for (_, end) in &self.hubs {
            let inlet = end.inlet();
            for follower in end.subjects.lock().unwrap().iter_mut() {
                follower.next = 0;
                if follower.is_ready {
                    inlet.gap(&follower.subject);
                }
            }
        }
    }
}
