//! Anything that can happen, in any order: it goes forward, and ends.

use super::*;
use proptest::prelude::*;

/// What can happen to a connection.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Opened,
    Arrived(MsgType),
    SendClose,
    Misbehaved,
    Finish,
    Step { is_flushed: bool },
    EndOfStream,
    End,
    Wait(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    let msg_type = proptest::sample::select(vec![MsgType::Text, MsgType::Ping, MsgType::Close]);
    prop_oneof![
        2 => Just(Happening::Opened),
        3 => msg_type.prop_map(Happening::Arrived),
        1 => Just(Happening::SendClose),
        1 => Just(Happening::Misbehaved),
        1 => Just(Happening::Finish),
        3 => any::<bool>().prop_map(|is_flushed| Happening::Step { is_flushed }),
        1 => Just(Happening::EndOfStream),
        1 => Just(Happening::End),
        2 => (0..7_u64).prop_map(Happening::Wait),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_goes_forward_and_ends(
        role in proptest::sample::select(ROLES.to_vec()),
        auto_close: bool,
        is_open: bool,
        happenings in proptest::collection::vec(happening(), 0..24),
    ) {
        let rules = ConversationRules { auto_close, ..auto() };
        let mut conversation = Conversation::new(role, &rules, START);
        if is_open {
            conversation.opened();
        }
        let (mut now, mut closes_sent) = (START, 0);
        for happening in happenings {
            let (phase, could_send) = (conversation.phase(), conversation.may_send());
            match happening {
                Happening::Opened => conversation.opened(),
                Happening::Arrived(msg_type) => {
                    let frame = Frame::new(msg_type, b"");
                    if conversation.handle_frame(&rules, &frame) == FrameAction::Deliver {
                        let reply = conversation.close_reply(&rules, now, &frame);
                        closes_sent += usize::from(reply.is_some());
                    }
                }
                Happening::SendClose => {
                    let is_sent = conversation.send_close(&rules, now, normal());
                    prop_assert_eq!(is_sent, could_send);
                    closes_sent += usize::from(is_sent);
                }
                Happening::Misbehaved => {
                    let error = PeerMisbehaved::UnmaskedFrame;
                    let close = conversation.peer_misbehaved(&rules, now, error);
                    prop_assert_eq!(close.is_some(), could_send);
                    closes_sent += usize::from(close.is_some());
                }
                Happening::Finish => conversation.finish(&rules, now),
                Happening::Step { is_flushed } => match conversation.step(is_flushed) {
                    Step::ShutDown => conversation.shut_down(),
                    Step::Close => conversation.end(),
                    Step::Continue | Step::Flush | Step::Linger => {}
                },
                Happening::EndOfStream => conversation.end_of_stream(&rules, now),
                Happening::End => conversation.end(),
                Happening::Wait(seconds) => {
                    now = now + Duration::from_secs(seconds);
                    conversation.handle_timeout(now);
                }
            }
            prop_assert!(phase <= conversation.phase(), "never back");
            prop_assert!(closes_sent <= 1, "one CLOSE at most");
            prop_assert_eq!(conversation.is_close_sent(), closes_sent == 1);
            prop_assert!(conversation.phase() == Phase::Open || !conversation.may_send());
            let is_ending = matches!(conversation.phase(), Phase::Finishing | Phase::Lingering);
            let deadline = conversation.poll_timeout();
            prop_assert!(deadline.is_some() || !is_ending, "nobody can hold it open");
            prop_assert!(deadline.is_none_or(|deadline| deadline <= now + TIMEOUT));
        }
        conversation.finish(&rules, now);
        conversation.handle_timeout(now + TIMEOUT);
        prop_assert_eq!(conversation.phase(), Phase::Ended);
    }
}
