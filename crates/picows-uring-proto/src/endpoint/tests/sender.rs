//! The sending half: which frame may go, and how it is encoded.

use super::*;
use crate::misuse::ApiMisuse;

fn open(role: Role) -> Sender {
    let mut sender = Sender::new(role, &ConversationRules::default(), START);
    sender.conversation_mut().opened();
    sender
}

const TEXT: FrameHead = FrameHead::new(MsgType::Text);
const NEXT: FrameHead = FrameHead::new(MsgType::Continuation);

#[test]
fn control_frames_go_between_fragments_and_messages_do_not_rfc6455_5_4() {
    let mut sender = open(Role::Server);
    assert!(sender.may_send() && sender.may_send_message());
    let unexpected = Err(SendError::Misuse(ApiMisuse::UnexpectedContinuation));
    assert_eq!(sender.check(NEXT, 0), unexpected);
    sender.queued(TEXT.with_fin(false));
    assert!(sender.may_send() && !sender.may_send_message());
    assert_eq!(sender.check(TEXT, 0), Err(SendError::Misuse(ApiMisuse::MessageUnderWay)));
    for control in [MsgType::Ping, MsgType::Pong].map(FrameHead::new) {
        assert_eq!(sender.check(control, 125), Ok(()));
        sender.queued(control);
        assert!(!sender.may_send_message(), "the message is still under way");
    }
    assert_eq!(sender.check(NEXT.with_fin(false), 0), Ok(()));
    sender.queued(NEXT.with_fin(false));
    assert!(!sender.may_send_message());
    assert_eq!(sender.check(NEXT, 0), Ok(()));
    sender.queued(NEXT);
    assert!(sender.may_send_message());
    assert_eq!(sender.check(TEXT, 0), Ok(()));
}

#[test]
fn a_frame_that_would_break_the_protocol_is_refused_whatever_the_phase() {
    let through_send = SendError::Misuse(ApiMisuse::CloseThroughSend);
    let too_long = SendError::Misuse(ApiMisuse::ControlPayloadTooLong(126));
    for sender in
        [open(Role::Server), Sender::new(Role::Server, &ConversationRules::default(), START)]
    {
        assert_eq!(sender.check(FrameHead::new(MsgType::Close), 0), Err(through_send));
        assert_eq!(sender.check(FrameHead::new(MsgType::Ping), 126), Err(too_long));
    }
}

#[test]
fn nothing_is_sent_before_the_handshake_nor_after_our_close_rfc6455_5_5_1() {
    let rules = ConversationRules::default();
    let mut sender = Sender::new(Role::Server, &rules, START);
    assert_eq!(sender.check(TEXT, 0), Err(SendError::Closed));
    assert!(!sender.may_send() && !sender.may_send_message());
    assert!(!sender.send_close(&rules, START, CloseFrame::empty()));
    assert_eq!(sender.phase(), Phase::Handshake);
    sender.conversation_mut().opened();
    assert!(sender.send_close(&rules, START, CloseFrame::empty()));
    assert_eq!((sender.phase(), sender.check(TEXT, 0)), (Phase::Open, Err(SendError::Closed)));
    assert!(!sender.may_send() && !sender.may_send_message());
    assert!(!sender.send_close(&rules, START, CloseFrame::empty()));
    let error = PeerMisbehaved::UnmaskedFrame;
    assert_eq!(sender.peer_misbehaved(&rules, START, error), None);
    assert_eq!(sender.phase(), Phase::Finishing);
}

#[test]
fn a_refused_frame_is_neither_encoded_nor_recorded() {
    let mut sender = open(Role::Client);
    let mut out = b"before".to_vec();
    let refused = sender.encode(&mut out, NEXT.with_fin(false), b"x", || panic!("no key is drawn"));
    assert_eq!(refused, Err(SendError::Misuse(ApiMisuse::UnexpectedContinuation)));
    assert_eq!(out, b"before");
    assert!(sender.may_send_message());
}

#[test]
fn a_client_masks_and_a_server_does_not_rfc6455_5_1() {
    let (mut client, mut server) = (open(Role::Client), open(Role::Server));
    let mut out = Vec::new();
    client.encode(&mut out, TEXT, b"Hello", || KEY).unwrap();
    assert_eq!(out, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"); // RFC 6455 §5.7
    out.clear();
    server.encode(&mut out, TEXT, b"Hello", || panic!("no key is drawn")).unwrap();
    assert_eq!(out, b"\x81\x05Hello");
    assert_eq!((client.mask_key(|| KEY), server.mask_key(|| KEY)), (Some(KEY), None));
}

#[test]
fn errors_show_their_text() {
    let misuse = ApiMisuse::MessageUnderWay;
    assert_eq!(SendError::from(misuse).to_string(), misuse.to_string());
    assert!(format!("{:?}", SendError::Closed).starts_with("Closed(nothing can be sent"));
}

#[test]
fn any_order_refuses_no_data_frame_and_keeps_the_other_rules() {
    let mut sender = open(Role::Server);
    sender.queued(TEXT.with_fin(false));
    sender.allow_any_order();
    for head in [TEXT, NEXT, TEXT.with_fin(false), NEXT.with_fin(false), TEXT, NEXT] {
        assert_eq!(sender.check(head, 0), Ok(()), "{head:?}");
        sender.queued(head);
        assert!(sender.may_send_message());
    }
    let cut = FrameHead::new(MsgType::Ping).with_fin(false);
    assert!(
        sender.check(cut, 0).is_err() && sender.check(FrameHead::new(MsgType::Close), 0).is_err()
    );
}
