//! Whole messages: joined by [`Messages`], sent in fragments, on a real ring.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod patience;

use patience::{PATIENCE, run};
use picows_uring::{
    ApiMisuse, Assembled, CloseCode, Connect, DisconnectCause, Frame, FrameHead, Listener,
    ListenerResult, Message, MessageAssembler, MessageListener, Messages, MsgType, PeerMisbehaved,
    QueuePolicy, SendStatus, Server, ServerBuilder, ServerHandle, Transport, Upgrade,
};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Echoes messages, and reports how its connection ended.
struct Echo(Sender<Option<DisconnectCause>>);

impl MessageListener for Echo {
    fn on_message(&mut self, transport: &Transport, message: Message<'_>) -> ListenerResult {
        transport.send(message.msg_type(), message.payload());
        Ok(())
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        self.0.send(transport.disconnect_cause()).unwrap();
    }
}

fn builder() -> ServerBuilder {
    Server::builder().listen("127.0.0.1:0").workers(1)
}

fn url(server: &ServerHandle) -> String {
    server.addresses()[0].to_string()
}

/// A server that joins messages of at most 1000 bytes, and the ends of its connections.
fn echo_server(builder: ServerBuilder) -> (ServerHandle, Receiver<Option<DisconnectCause>>) {
    let (told, tells) = channel();
    let server = builder
        .start(move |_| Upgrade::accept(Messages::new(Echo(told.clone())).max_message_size(1000)))
        .unwrap();
    (server, tells)
}

/// What a client heard.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Control(MsgType, Vec<u8>),
}

type Begin = Box<dyn FnOnce(&Transport)>;

/// Does something when connected, and writes down what comes.
#[derive(Default)]
struct Client {
    begin: Option<Begin>,
    heard: Vec<Heard>,
}

impl MessageListener for Client {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        if let Some(begin) = self.begin.take() {
            begin(transport);
        }
        Ok(())
    }

    fn on_message(&mut self, transport: &Transport, message: Message<'_>) -> ListenerResult {
        self.heard.push(match message {
            Message::Text(text) => Heard::Text(text.to_owned()),
            Message::Binary(bytes) => Heard::Binary(bytes.to_vec()),
        });
        if message.text() == Some("bye") {
            transport.send_close(CloseCode::NORMAL, "");
        }
        Ok(())
    }

    fn on_control(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
        self.heard.push(Heard::Control(frame.msg_type(), frame.payload().to_vec()));
        Ok(())
    }
}

/// Connects, does `begin`, and returns what was heard until the end.
fn talk(url: String, begin: impl FnOnce(&Transport) + 'static) -> Vec<Heard> {
    let client = Client { begin: Some(Box::new(begin)), heard: Vec::new() };
    let client = Rc::new(RefCell::new(client));
    let listener = Messages::new(Rc::clone(&client));
    run(async move {
        let transport = Connect::new(url).connect(listener).await.unwrap();
        let end = tokio::time::timeout(PATIENCE, transport.wait_disconnected());
        end.await.expect("an end in time").unwrap();
    })
    .unwrap();
    client.take().heard
}

fn text(text: &str) -> Heard {
    Heard::Text(text.to_owned())
}

fn close(code: u16, reason: &str) -> Heard {
    Heard::Control(MsgType::Close, [&code.to_be_bytes()[..], reason.as_bytes()].concat())
}

const BEGINS: FrameHead = FrameHead::new(MsgType::Text).with_fin(false);
const CONTINUES: FrameHead = FrameHead::new(MsgType::Continuation).with_fin(false);
const ENDS: FrameHead = FrameHead::new(MsgType::Continuation);

#[test]
fn fragments_are_joined_with_control_frames_between_them_rfc6455_5_4() {
    let (server, ends) = echo_server(builder());
    let heard = talk(url(&server), |transport| {
        let words = "Здравствуй, мир";
        transport.send_fragments(MsgType::Text, words.as_bytes().chunks(3));
        transport.send_fragments(MsgType::Binary, Vec::<Vec<u8>>::new());
        let mut writer = transport.message_writer(MsgType::Binary);
        assert!(writer.write([1]).is_queued());
        assert!(transport.send_ping("between").is_queued());
        assert!(writer.write([]).is_queued());
        assert!(writer.finish([2]).is_queued());
        transport.message_writer(MsgType::Text).finish("bye");
    });
    let pong = Heard::Control(MsgType::Pong, b"between".to_vec());
    let [binary, empty] = [vec![1, 2], vec![]].map(Heard::Binary);
    let close = Heard::Control(MsgType::Close, vec![0x03, 0xE8]);
    let words = text("Здравствуй, мир");
    assert_eq!(heard, [words, empty, pong, binary, text("bye"), close]);
    assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), Some(DisconnectCause::Closed));
    let stats = server.stop().unwrap();
    assert_eq!((stats.protocol_errors, stats.listener_errors), (0, 0));
}

#[test]
fn two_messages_are_not_mixed_rfc6455_5_4() {
    let (server, _ends) = echo_server(builder());
    let heard = talk(url(&server), |transport| {
        let refused = SendStatus::Refused;
        assert_eq!(transport.send_frame(ENDS, b"x"), refused(ApiMisuse::UnexpectedContinuation));
        let mut writer = transport.message_writer(MsgType::Text);
        assert!(transport.send_text("before the first fragment").is_queued());
        assert!(writer.write("b").is_queued());
        let under_way = refused(ApiMisuse::MessageUnderWay);
        assert_eq!(transport.send_text("inside"), under_way);
        assert_eq!(transport.send_fragments(MsgType::Text, ["in", "side"]), under_way);
        let shared = bytes::Bytes::from_static(&[0; 2000]);
        assert_eq!(transport.send_bytes(FrameHead::new(MsgType::Binary), &shared), under_way);
        let mut other = transport.message_writer(MsgType::Binary);
        assert_eq!(other.write("inside"), under_way);
        assert!(writer.finish("ye").is_queued());
        assert_eq!(other.finish("its first fragment was refused"), under_way);
        let control = transport.message_writer(MsgType::Ping);
        assert_eq!(control.finish(""), refused(ApiMisuse::FragmentedControlFrame));
    });
    assert_eq!(heard[..2], [text("before the first fragment"), text("bye")]);
    server.stop().unwrap();
}

#[test]
fn a_message_over_the_limit_is_told_1009_and_why() {
    let (server, ends) = echo_server(builder());
    let reason = "Received message with total size exceeding max allowed size";
    for is_whole in [true, false] {
        let heard = talk(url(&server), move |transport| {
            if is_whole {
                transport.send(MsgType::Binary, [0; 1001]);
            } else {
                // It never ends, and need not.
                transport.send_frame(BEGINS, &[b'x'; 500]);
                transport.send_frame(CONTINUES, &[b'x'; 501]);
            }
        });
        assert_eq!(heard, [close(1009, reason)]);
        let cause = DisconnectCause::PeerMisbehaved(PeerMisbehaved::MessageTooLarge);
        assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), Some(cause));
    }
    let stats = server.stop().unwrap();
    assert_eq!((stats.protocol_errors, stats.listener_errors), (2, 0), "the peer's fault");
}

#[test]
fn broken_text_is_told_1007_before_the_message_is_complete_rfc6455_8_1() {
    // Tolerating errors of the listener is no reason to tolerate those of the peer.
    for builder in [builder(), builder().validate_text(true), builder().disconnect_on_error(false)]
    {
        let (server, ends) = echo_server(builder);
        let heard = talk(url(&server), |transport| {
            transport.send_text("good");
            transport.send_frame(BEGINS, b"not \xf4");
            transport.send_frame(CONTINUES, b"\x90");
        });
        let told = close(1007, "Received text that is not valid UTF-8");
        assert_eq!(heard, [text("good"), told]);
        let cause = DisconnectCause::PeerMisbehaved(PeerMisbehaved::InvalidUtf8);
        assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), Some(cause));
        server.stop().unwrap();
    }
}

/// Joins by itself, and leaves errors to `?`.
#[derive(Default)]
struct OwnAssembler(MessageAssembler);

impl Listener for OwnAssembler {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if let Some(Assembled::Message(message)) = self.0.push(frame)? {
            transport.send(message.msg_type(), message.payload());
        }
        Ok(())
    }
}

#[test]
fn an_assembler_in_a_listener_of_ones_own_closes_as_well() {
    let server = builder().start(|_| Upgrade::accept(OwnAssembler::default())).unwrap();
    let heard = talk(url(&server), |transport| {
        transport.send_text("good");
        transport.send(MsgType::Text, b"\xff");
    });
    assert_eq!(heard, [text("good"), close(1007, "Received text that is not valid UTF-8")]);
    server.stop().unwrap();
}

#[test]
fn a_fragment_that_continues_a_message_is_not_dropped() {
    let server = builder().start(|_| Upgrade::accept(OwnAssembler::default())).unwrap();
    let url = url(&server);
    run(async move {
        let connect = Connect::new(url).write_watermarks(1000, 250);
        let connect = connect.max_queue_size(1000, QueuePolicy::DropNewest);
        let transport = connect.connect(Messages::new(Client::default())).await.unwrap();
        let mut lost = transport.message_writer(MsgType::Binary);
        assert_eq!(lost.write([0; 2000]), SendStatus::Dropped);
        assert_eq!(lost.finish([]), SendStatus::Dropped, "no rest without a beginning");
        let mut writer = transport.message_writer(MsgType::Binary);
        assert!(writer.write([0; 500]).is_queued());
        assert_eq!(writer.write([0; 2000]), SendStatus::Closed);
        transport.wait_disconnected().await.unwrap();
        assert_eq!(transport.disconnect_cause(), Some(DisconnectCause::QueueFull));
    })
    .unwrap();
    server.stop().unwrap();
}
