//! Earlier names of what was renamed: each still compiles and does the same.

#![expect(deprecated)]

use picows_uring_proto::{
    Arrival, Conversation, ConversationRules, Decoder, Frame, FrameAction, FrameRules, MsgType,
    Role, Stash, Tick,
};

#[test]
fn an_earlier_name_does_what_the_present_one_does() {
    let rules = ConversationRules::default();
    let mut conversation = Conversation::new(Role::Client, &rules, Tick::ZERO);
    let frame = Frame::new(MsgType::Text, b"early");
    let arrival: Arrival = conversation.arrived(&rules, &frame);
    assert_eq!(arrival, FrameAction::Ignore);

    let (mut decoder, rules) = (Decoder::new(Role::Client), FrameRules::default());
    let mut stash = Stash::new();
    decoder.next_frame(&rules, &mut stash, &mut b"\x81\x05Hel".to_vec()).unwrap();
    assert_eq!(decoder.missing(&stash), 2);
    stash.bytes_mut().extend_from_slice(b"..lo");
    let frame = decoder.filled(&rules, &mut stash, 2, 2).unwrap();
    assert_eq!(frame.map(|it| it.payload().to_vec()), Some(b"Hello".to_vec()));
}
