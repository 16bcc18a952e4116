use super::*;
use crate::config::Config;
use crate::foreign::Foreign;
use crate::health::Counters;
use crate::local::Local;
use crate::mailbox::Mailbox;
use crate::ring::Socket;
use crate::session::Session;
use crate::upgrade::{LocalFactory, Upgrade};
use picows_uring_proto::Role;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

struct Crowd {
    slots: Slots,
    local: Rc<Local>,
    tokens: Vec<Token>,
}

impl Crowd {
    fn new() -> Self {
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let mailbox = Arc::new(Mailbox::new(Arc::new(event)));
        let local = Local::new(Arc::<Config>::default(), Arc::<Counters>::default(), mailbox);
        Self { slots: Slots::default(), local, tokens: Vec::new() }
    }

    fn come(&mut self, count: usize) {
        let factory: Box<LocalFactory> = Box::new(|_: &_| Ok(Upgrade::not_found()));
        let factory = Rc::new(Foreign::new(factory));
        for _ in 0..count {
            let local = &self.local;
            let token = self.slots.insert(|token| {
                let (config, socket) = (&local.config, Socket(0));
                let session = Session::new(local, config, Role::Server, token, socket, None);
                Connection::accepted(session, Rc::clone(&factory))
            });
            self.tokens.push(token);
        }
    }

    fn leave(&mut self, count: usize) -> Vec<Token> {
        let gone: Vec<_> = self.tokens.drain(..count).collect();
        gone.iter().for_each(|token| self.slots.free(*token));
        gone
    }
}

#[test]
fn the_memory_of_a_crowd_goes_when_it_has_left_for_a_while() {
    let mut crowd = Crowd::new();
    crowd.come(10);
    let few = crowd.slots.bytes();
    crowd.come(10_000);
    let most = crowd.slots.bytes();
    assert!(most > 10_000 * size_of::<Slot>() && !crowd.slots.has_spare());
    crowd.leave(10_000);
    assert_eq!(crowd.slots.len(), 10);
    crowd.slots.trim();
    assert_eq!(crowd.slots.bytes(), most, "all of it was needed since the last trim");
    assert!(crowd.slots.has_spare());
    crowd.slots.trim();
    assert!(!crowd.slots.has_spare());
    assert!(crowd.slots.bytes() < most / 10, "{few} {} {most}", crowd.slots.bytes());
    // Those who stayed are where they were.
    let tokens = crowd.tokens.clone();
    assert!(tokens.iter().all(|token| crowd.slots.get_mut(*token).is_some()));
}

#[test]
fn a_token_never_comes_back_whatever_became_of_its_memory() {
    let mut crowd = Crowd::new();
    let mut seen = HashSet::new();
    for round in 0..20 {
        crowd.come(500);
        assert!(crowd.tokens.iter().all(|token| seen.insert(*token)), "round {round}");
        let gone = crowd.leave(500);
        assert!(gone.iter().all(|token| crowd.slots.get_mut(*token).is_none()));
        crowd.slots.trim();
        crowd.slots.trim();
        assert_eq!(crowd.slots.len(), 0);
    }
}

#[test]
fn the_first_slots_are_used_first() {
    let mut crowd = Crowd::new();
    crowd.come(1000);
    let gone = crowd.leave(100);
    crowd.come(100);
    let slots = |tokens: &[Token]| tokens.iter().map(|token| token.slot).collect::<HashSet<_>>();
    assert_eq!(slots(&crowd.tokens[900..]), slots(&gone));
}
