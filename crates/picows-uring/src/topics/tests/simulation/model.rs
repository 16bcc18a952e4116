//! Model of a subscriber in the simulation, and the callbacks that report what it has to get.

use super::*;
use crate::MsgType;
use crate::prepared::Prepared;
use std::collections::BTreeSet;

/// The last number that each node has published, by topic.
#[derive(Clone, Default)]
pub(super) struct Numbers(Arc<Mutex<BTreeMap<(usize, usize), u64>>>);

impl Numbers {
    pub(super) fn last(&self, node: usize, index: usize) -> u64 {
        self.0.lock().unwrap().get(&(node, index)).copied().unwrap_or(0)
    }

    /// Publishes the next number of a node.
    pub(super) fn publish(&self, hub: &Hub, node: usize, index: usize) -> Published {
        self.publish_long(hub, node, index, 40)
    }

    /// The same, in so many digits.
    pub(super) fn publish_long(
        &self,
        hub: &Hub,
        node: usize,
        index: usize,
        digits: usize,
    ) -> Published {
        let number = {
            let mut numbers = self.0.lock().unwrap();
            let number = numbers.entry((node, index)).or_insert(0);
            *number += 1;
            *number
        };
        publish(hub, &topic(index), &format!("{node} {index} {number:0>digits$}"))
    }
}

/// What the subscriber of a place has, and is to get.
#[derive(Default)]
pub(super) struct Model {
    pub(super) node: usize,
    pub(super) topic: usize,
    pub(super) policy: usize,
    pub(super) is_pattern: bool,
    /// Its callback has reported the start, which is in front of all publications.
    pub(super) has_begun: bool,
    /// The last number of each node; of those that are not here, none was seen.
    pub(super) last: BTreeMap<usize, u64>,
    /// Publications that were reported missing and whose successors have not come.
    pub(super) reported: u64,
    /// Nodes of which an unknown number may be missing in front of the next.
    pub(super) excused: BTreeSet<usize>,
    /// The same as of `last` and `reported`, of the offsets of its topic.
    pub(super) last_offset: Option<u64>,
    pub(super) reported_offsets: u64,
    pub(super) is_closed: bool,
}

impl Model {
    /// Takes a text of its own callbacks, if it is one.
    pub(super) fn note(&mut self, text: &str) -> bool {
        let mut words = text.split(' ');
        let kind = words.next().unwrap();
        let mut number = || words.next().and_then(|it| it.parse::<u64>().ok());
        match kind {
            "note" => {}
            "missed" => match number() {
                Some(count) => {
                    self.reported += count;
                    self.reported_offsets += count;
                }
                None => self.excused = self.last.keys().copied().collect(),
            },
            // How many publications of the past follow, the last offset of the topic, and the last number
            // of this node, if it is known.
            "began" => {
                assert!(!std::mem::replace(&mut self.has_begun, true), "it begins once");
                let (recovered, offset, own) = (number(), number().unwrap(), number());
                if let (None, Some(own)) = (recovered, own) {
                    self.last.insert(self.node, own);
                }
                if !self.is_pattern {
                    self.last_offset = Some(offset - recovered.unwrap_or(0));
                }
            }
            _ => return false,
        }
        true
    }

    /// Takes a publication.
    pub(super) fn take(&mut self, node: usize, number: u64, what: &str) {
        assert!(self.has_begun, "a publication in front of the start: {what}");
        if let Some(last) = self.last.insert(node, number) {
            assert!(number > last, "behind {last}: twice, or out of order: {what}");
            let missing = number - last - 1;
            if self.policy != 2 && !self.excused.remove(&node) {
                assert!(missing <= self.reported, "{missing} missing in silence: {what}");
                self.reported -= missing;
            }
        }
    }

    pub(super) fn take_offset(&mut self, offset: u64, what: &str) {
        if let Some(last) = self.last_offset.replace(offset) {
            assert!(offset > last, "behind offset {last}: {what}");
            let missing = offset - last - 1;
            if self.policy != 2 {
                assert!(missing <= self.reported_offsets, "{missing} offsets missing: {what}");
                self.reported_offsets -= missing;
            }
        }
    }
}

/// Callbacks that publish to the topic as well, in front of what they send and behind.
pub(super) fn callbacks(
    hub: &Hub,
    published: &Numbers,
    node: usize,
    index: usize,
    own: impl Fn(Position) -> Option<u64> + 'static,
) -> SubscribeOptions {
    let (hub, published) = (hub.clone(), published.clone());
    let (its_hub, its_published, mut calls) = (hub.clone(), published.clone(), 0);
    let options = SubscribeOptions::new().on_start(move |transport, recovery| {
        let own = own(recovery.position()).map_or_else(|| "?".to_owned(), |it| it.to_string());
        published.publish(&hub, node, index);
        let offset = recovery.position().offset;
        transport.send_text(match recovery {
            Recovery::Recovered { count, .. } => format!("began {count} {offset} {own}"),
            _ => format!("began new {offset} {own}"),
        });
        published.publish(&hub, node, index);
        transport.send_text("note");
    });
    options.on_missed(move |transport, missed| {
        calls += 1;
        // Not in each, which could go on for ever.
        if calls % 2 == 0 {
            its_published.publish(&its_hub, node, index);
        }
        let count = missed.count().map_or_else(|| "some".to_owned(), |it| it.to_string());
        transport.send_text(format!("missed {count}"));
    })
}

/// Lets one topic through, and sends now and then.
pub(super) fn filter(place: &Place, index: usize) -> impl Fn(&Publication) -> bool + 'static {
    let (transport, calls, wanted) = (place.transport.clone(), Cell::new(0), topic(index));
    move |publication| {
        calls.set(calls.get() + 1);
        if calls.get() % 3 == 0 {
            transport.send_text("note");
        }
        publication.topic() == wanted
    }
}

pub(super) fn with_offsets() -> Format {
    Format::new(|publication| {
        let (offset, payload) = (publication.position().offset, publication.payload());
        Prepared::new(MsgType::Text, [format!("@{offset} ").as_bytes(), payload].concat())
    })
}

pub(super) fn parse(text: &str) -> Option<(usize, usize, u64)> {
    let mut words = text.split(' ');
    let mut next = || words.next()?.parse::<u64>().ok();
    Some((next()? as usize, next()? as usize, next()?))
}
