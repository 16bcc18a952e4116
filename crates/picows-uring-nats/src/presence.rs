//! Presence: how many subscriptions the other nodes have, by subject.
//!
//! Each node sends its counts to one subject of core NATS when they have changed, and now and then again. A
//! node that is silent for a while is forgotten.

use async_nats::{Client, Message};
use futures_util::StreamExt;
use picows_uring::topics::{Inlet, TopicName};
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

/// The counts of the other nodes.
#[derive(Debug, Default)]
pub(crate) struct Presence(Mutex<HashMap<u64, Node>>);

/// What is known of a node.
#[derive(Debug)]
struct Node {
    /// Its counts have a number, which only grows; they may come in several messages.
    generation: u64,
    exact: HashMap<String, usize>,
    patterns: Vec<(String, usize)>,
    heard: Instant,
}

impl Presence {
    /// Subscriptions of other nodes that get what is published to a topic.
    pub(crate) fn subscribers(&self, topic: &str) -> usize {
        let nodes = self.lock();
        let count = |node: &Node| {
            let matching = node.patterns.iter().filter(|(it, _)| TopicName::matches(it, topic));
            node.exact.get(topic).copied().unwrap_or(0)
                + matching.map(|(_, count)| *count).sum::<usize>()
        };
        nodes.values().map(count).sum()
    }

    /// Takes a message. Returns whether its node was not known before.
    fn take(&self, text: &str, now: Instant) -> Option<bool> {
        let mut lines = text.split('\n');
        let mut words = lines.next()?.split(' ');
        let node = u64::from_str_radix(words.next()?, 16).ok()?;
        let generation: u64 = words.next()?.parse().ok()?;
        let counts: Vec<(&str, usize)> = lines
            .map(|line| {
                let (count, subject) = line.split_once(' ')?;
                TopicName::check_pattern(subject).ok()?;
                Some((subject, count.parse().ok()?))
            })
            .collect::<Option<_>>()?;
        let mut nodes = self.lock();
        let is_new = !nodes.contains_key(&node);
        if is_new && nodes.len() >= NODES_MAX {
            return None;
        }
        let known = nodes.entry(node).or_insert_with(|| Node::new(generation, now));
        known.heard = now;
        if generation < known.generation {
            return Some(is_new);
        }
        if generation > known.generation {
            *known = Node::new(generation, now);
        }
        known.add(&counts);
        Some(is_new)
    }

    /// Forgets nodes that were silent for too long.
    fn expire(&self, now: Instant) {
        self.lock().retain(|_, node| now.duration_since(node.heard) < SILENCE_MAX);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Node>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    fn new(generation: u64, heard: Instant) -> Self {
        Self { generation, exact: HashMap::new(), patterns: Vec::new(), heard }
    }

    fn add(&mut self, counts: &[(&str, usize)]) {
        for (subject, count) in counts {
            if self.exact.len() + self.patterns.len() >= SUBJECTS_MAX {
                return;
            }
            if !subject.contains(['*', '>']) {
                self.exact.insert((*subject).to_owned(), *count);
            } else if !self.patterns.iter().any(|(known, _)| known == subject) {
                self.patterns.push(((*subject).to_owned(), *count));
            }
        }
    }
}

/// Sends the counts of this node, and takes those of others, for as long as it is polled.
pub(crate) async fn run(client: &Client, subject: String, inlet: &Inlet, presence: &Presence) {
    let Ok(mut messages) = client.subscribe(subject.clone()).await else { return };
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut sent, mut generation, mut quiet) = (None, 0_u64, 0_u32);
    loop {
        tokio::select! {
            message = messages.next() => match message {
                None => return,
                // A node that has come a moment ago knows nothing of this one.
                Some(message) if take(presence, &message) => sent = None,
                Some(_) => {}
            },
            _ = ticks.tick() => {
                let begun = Instant::now();
                presence.expire(begun);
                let mut counts = inlet.subscriptions();
                counts.sort_unstable();
                quiet += 1;
                if sent.as_ref() != Some(&counts) || quiet >= QUIET_TICKS_MAX {
                    (generation, quiet) = (generation + 1, 0);
                    for text in messages_of(inlet.node(), generation, &counts) {
                        let _ = client.publish(subject.clone(), text.into()).await;
                    }
                    sent = Some(counts);
                }
                // A node with very many subjects looks at them less often.
                let took = begun.elapsed() * TICK_COST;
                if took > INTERVAL {
                    sleep_until((begun + took).into()).await;
                }
            }
        }
    }
}

fn take(presence: &Presence, message: &Message) -> bool {
    let text = str::from_utf8(&message.payload).ok();
    text.and_then(|text| presence.take(text, Instant::now())).unwrap_or(false)
}

/// The counts of a node as messages, none longer than NATS takes.
fn messages_of(node: u64, generation: u64, counts: &[(String, usize)]) -> Vec<String> {
    let head = format!("{node:x} {generation}");
    let mut messages = vec![head.clone()];
    for (subject, count) in counts.iter().take(SUBJECTS_MAX) {
        if messages.last().is_none_or(|it| it.len() + subject.len() > MESSAGE_BYTES) {
            messages.push(head.clone());
        }
        if let Some(message) = messages.last_mut() {
            let _ = write!(message, "\n{count} {subject}");
        }
    }
    messages
}

/// How long a change takes to be sent, at the most.
const INTERVAL: Duration = Duration::from_secs(1);
/// Counts that have not changed are sent again after so many looks.
const QUIET_TICKS_MAX: u32 = 5;
/// A node that has sent nothing for longer has gone.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Looking takes a hundredth of the time at the most.
const TICK_COST: u32 = 100;
/// Nodes that are counted, and subjects of each; further ones are not.
const NODES_MAX: usize = 1024;
const SUBJECTS_MAX: usize = 100_000;
/// Of a message; NATS takes a megabyte by default.
const MESSAGE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: &[(&str, usize)]) -> Vec<(String, usize)> {
        all.iter().map(|(subject, count)| ((*subject).to_owned(), *count)).collect()
    }

    #[test]
    fn counts_of_several_nodes_are_added_up_and_replaced() {
        let (presence, now) = (Presence::default(), Instant::now());
        let [first] = &*messages_of(10, 1, &counts(&[("a.b", 3), ("a.*", 2), (">", 1)])) else {
            panic!("one message")
        };
        assert_eq!(presence.take(first, now), Some(true));
        assert_eq!(presence.take(first, now), Some(false), "the same again counts once");
        let other = messages_of(11, 7, &counts(&[("a.b", 10)]));
        assert_eq!(presence.take(&other[0], now), Some(true));
        let all = |presence: &Presence| ["a.b", "a.c", "x"].map(|it| presence.subscribers(it));
        assert_eq!(all(&presence), [16, 3, 1]);
        presence.take(&messages_of(10, 2, &counts(&[("a.b", 1)]))[0], now);
        presence.take(first, now);
        assert_eq!(all(&presence), [11, 0, 0], "what is late counts no more");
        presence.expire(now + SILENCE_MAX);
        assert_eq!(all(&presence), [0, 0, 0]);
    }

    #[test]
    fn many_subjects_are_several_messages_and_one_count() {
        let names: Vec<_> = (0..5000).map(|it| format!("topic.{it:0>20}")).collect();
        let counts: Vec<_> = names.iter().map(|it| (it.clone(), 1)).collect();
        let messages = messages_of(1, 1, &counts);
        assert!(messages.len() > 1 && messages.iter().all(|it| it.len() < MESSAGE_BYTES + 300));
        let presence = Presence::default();
        for message in &messages {
            presence.take(message, Instant::now());
        }
        assert!(names.iter().all(|it| presence.subscribers(it) == 1));
    }

    #[test]
    fn what_is_no_presence_is_left_out() {
        let presence = Presence::default();
        for text in ["", "x 1", "1", "1 x", "1 1\n", "1 1\nx a", "1 1\n1 a..b", "1 1\n1"] {
            assert_eq!(presence.take(text, Instant::now()), None, "{text:?}");
        }
        for node in 0..=NODES_MAX as u64 {
            presence.take(&messages_of(node, 1, &counts(&[("a", 1)]))[0], Instant::now());
        }
        assert_eq!(presence.subscribers("a"), NODES_MAX, "there is a bound");
    }
}
