//! The applications that a simulation serves, and the watch on the order of their callbacks.

use super::hostile;
use super::journal::{self, Seen};
use crate::frame_writer::FrameWriter;
use crate::listener::{Listener, ListenerError, ListenerResult};
use crate::status::{DisconnectCause, SendStatus};
use crate::testing::ring::sim::Random;
use crate::transport::Transport;
use crate::upgrade::{Factory, Upgrade};
use bytes::Bytes;
use picows_uring_proto::{
    CloseCode, FRAME_HEADER_BYTES_MAX, Frame, FrameHead, FramePiece, MsgType, UpgradeRequest,
    UpgradeResponse,
};
use std::panic::resume_unwind;
use std::sync::Arc;

/// A listener that is watched.
struct Watched {
    id: u32,
    app: App,
    random: Random,
    panics_at: Option<&'static str>,
}

enum App {
    /// Sends back what arrives.
    Echo,
    /// Sends what arrives to everybody else.
    Room,
    /// Sends so many frames, as fast as it may, and CLOSE.
    Push { left: usize },
    /// Obeys commands.
    Obey,
    /// Says so many things to a server, and expects them back.
    Call { left: usize },
    /// Sends back what arrives, frames of more than so many bytes piece by piece.
    Pieces { above: u64, writer: Option<FrameWriter> },
    /// Nothing.
    Mute,
}

/// The listener of a connection that our client makes.
pub(super) fn caller(id: u32) -> Box<dyn Listener> {
    let mut random = Random::new(journal::with(|journal| journal.seed) ^ u64::from(id));
    let app = App::Call { left: random.between(0, 20) };
    Box::new(Watched { id, app, random, panics_at: None })
}

/// A factory of all of them, by path.
pub(super) fn factory() -> Arc<Factory> {
    Arc::new(|request: &UpgradeRequest| {
        let id = argument(request, "id").and_then(|id| id.parse().ok()).unwrap_or(u32::MAX);
        let mut random = Random::new(journal::with(|journal| journal.seed) ^ u64::from(id));
        let app = match request.path() {
            "/echo" => App::Echo,
            "/room" => App::Room,
            "/push" => App::Push { left: random.between(1, 60) },
            "/obey" => App::Obey,
            "/mute" => App::Mute,
            "/pieces" => App::Pieces { above: random.pick(&[100, 3000, 70_000]), writer: None },
            "/healthz" => return Ok(Upgrade::respond(UpgradeResponse::ok())),
            "/error" => {
                journal::with(|journal| journal.errors += 1);
                return Err("the factory fails".into());
            }
            "/panic" => {
                journal::with(|journal| journal.errors += 1);
                resume_unwind(Box::new("the factory panics"))
            }
            _ => return Ok(Upgrade::not_found()),
        };
        let panics_at = PLACES.into_iter().find(|place| argument(request, "at") == Some(*place));
        Ok(Upgrade::accept(Watched { id, app, random, panics_at }))
    })
}

/// Where a listener can be told to panic.
pub(super) const PLACES: [&str; 5] = ["connected", "disconnected", "pause", "resume", "drop"];

fn argument<'a>(request: &'a UpgradeRequest, name: &str) -> Option<&'a str> {
    let mut pairs = request.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

impl Watched {
    fn demand(&self, is_kept: bool, what: &str) {
        journal::with(|journal| journal.demand(self.id, is_kept, what));
    }

    /// Panics, without the noise of the panic hook, if its settings say so here.
    fn pass(&mut self, place: &str) {
        if self.panics_at == Some(place) {
            journal::with(|journal| {
                journal.errors += 1;
                journal.record(self.id).is_ended_by_us = true;
            });
            resume_unwind(Box::new("as it was told"));
        }
    }

    fn push(&mut self, transport: &Transport) {
        let App::Push { left } = &mut self.app else { return };
        while *left > 0 {
            let most = self.random.pick(&[0, 125, 1500, 20_000, 70_000]);
            let payload = vec![*left as u8; self.random.between(0, most)];
            *left -= 1;
            let head = FrameHead::new(MsgType::Binary);
            let status = if self.random.chance(600) {
                say_latest(&mut self.random, self.id, transport, head, &payload)
            } else {
                say(&mut self.random, self.id, transport, head, &payload)
            };
            match status {
                SendStatus::Queued | SendStatus::Replaced => {}
                SendStatus::Congested => return,
                _ => break,
            }
        }
        journal::with(|journal| journal.record(self.id).is_leaving = true);
        if self.random.chance(300) {
            // What was said before arrives all the same.
            transport.disconnect();
        } else {
            transport.send_close(CloseCode::NORMAL, "that was all");
        }
    }

    /// Says what there is to say while little of it is under way, and sends CLOSE after the last.
    fn call(&mut self, transport: &Transport) {
        let App::Call { left } = &mut self.app else { return };
        let pending = || {
            journal::with(|journal| {
                let record = journal.record(self.id);
                record.sent.len() - record.echoed
            })
        };
        while *left > 0 && pending() < CALLS_PENDING_MAX {
            *left -= 1;
            let most = self.random.pick(&[0, 125, 1500, 20_000, 70_000]);
            let payload = vec![*left as u8; self.random.between(0, most)];
            let head = FrameHead::new(MsgType::Binary);
            let status = say(&mut self.random, self.id, transport, head, &payload);
            if !status.is_queued() {
                return;
            }
        }
        if *left == 0 && pending() == 0 {
            transport.send_close(CloseCode::NORMAL, "that was all");
        }
    }

    /// A frame came back to our client.
    fn called(&mut self, transport: &Transport, seen: Seen) {
        journal::with(|journal| {
            let record = journal.record(self.id);
            let expected = record.sent.get(record.echoed).copied();
            record.echoed += 1;
            let is_lossless = record.dropped == 0;
            journal.demand(
                self.id,
                !is_lossless || expected == Some(seen),
                "another frame came back than the one that was sent",
            );
        });
        self.call(transport);
    }

    /// Sends a piece on. A peer that does not keep up is not read from meanwhile.
    fn relay(&mut self, transport: &Transport, piece: &FramePiece<'_>) {
        let App::Pieces { writer, .. } = &mut self.app else { return };
        if piece.offset() == 0 {
            *writer = transport.write_frame_like(piece).ok();
        }
        let status = writer.as_mut().map(|writer| writer.write(piece.payload()));
        let may_send = transport.session().conversation.borrow().may_send();
        if piece.is_last() {
            *writer = None;
        }
        journal::with(|journal| {
            journal.pieces += 1;
            let is_right = match status {
                None => false,
                Some(SendStatus::Closed) => !may_send,
                Some(status) => status.is_queued(),
            };
            let what = format!("{piece:?} was not sent on: {status:?}");
            journal.demand(self.id, is_right, &what);
            let record = journal.record(self.id);
            record.is_message_open = !piece.fin();
            record.awaits_pause |= status == Some(SendStatus::Congested) && !record.is_paused;
        });
        if status == Some(SendStatus::Congested) {
            transport.pause_reading();
        }
    }

    fn obey(&mut self, transport: &Transport, command: &str) -> ListenerResult {
        let is_end = command != "others" && command != "stay";
        journal::with(|journal| {
            journal.record(self.id).is_ended_by_us |= is_end;
            journal.errors += u64::from(matches!(command, "panic" | "error" | "refuse"));
        });
        match command {
            "panic" => resume_unwind(Box::new(String::from("as it was told"))),
            "error" => return Err(hostile::error(&mut self.random)),
            "refuse" => {
                let code = CloseCode::new(4000).expect("it is in the private range");
                return Err(ListenerError::close(code, "as it was told"));
            }
            "abort" => transport.abort(),
            "disconnect" => transport.disconnect(),
            "close" => {
                transport.send_close(CloseCode::NORMAL, "as it was told");
                let late = transport.send_text("too late");
                self.demand(late == SendStatus::Closed, "a frame after CLOSE was not refused");
            }
            "others" => end_another(&mut self.random, self.id),
            _ => {}
        }
        Ok(())
    }
}

/// Ends a connection in the room, from wherever this is called.
pub(super) fn end_another(random: &mut Random, not: u32) {
    let others: Vec<_> = journal::with(|journal| {
        let others = journal.room.iter().filter(|(id, _)| **id != not);
        others.map(|(id, transport)| (*id, transport.clone())).collect()
    });
    if others.is_empty() {
        return;
    }
    let (id, transport) = &others[random.below(others.len())];
    journal::with(|journal| journal.record(*id).is_ended_by_us = true);
    match random.below(3) {
        0 => transport.abort(),
        1 => transport.disconnect(),
        _ => drop(transport.send_close(CloseCode::POLICY_VIOLATION, "by another")),
    }
}

/// Sends in one of the ways that there are, and writes it down.
pub(super) fn say(
    random: &mut Random,
    id: u32,
    transport: &Transport,
    head: FrameHead,
    payload: &[u8],
) -> SendStatus {
    let way = random.below(4);
    if let Some(status) = say_compressed(way, transport, head, payload) {
        return note(id, head, payload, status);
    }
    let status = match way {
        0 => transport.send_frame(head, payload),
        1 => transport.send_bytes(head, &Bytes::copy_from_slice(payload)),
        2 => hostile::send_owned(random, transport, head, payload),
        _ => {
            let start = FRAME_HEADER_BYTES_MAX + random.below(8);
            let mut buffer = vec![0xEE; start];
            buffer.extend_from_slice(payload);
            transport.send_headroom(head, buffer, start)
        }
    };
    note(id, head, payload, status)
}

/// Two more ways of a connection that compresses: a message that was compressed before, and one that is
/// sent plain.
fn say_compressed(
    way: usize,
    transport: &Transport,
    head: FrameHead,
    payload: &[u8],
) -> Option<SendStatus> {
    #[cfg(all(test, feature = "deflate"))]
    if way == 0 && transport.deflate().is_some() {
        let is_message = head.fin && matches!(head.msg_type, MsgType::Text | MsgType::Binary);
        if is_message && payload.len() % 3 == 1 {
            let message = crate::prepared::Prepared::new(head.msg_type, payload).ok()?;
            return Some(transport.send_prepared(&message.deflate(9)));
        }
        if payload.len() % 3 == 2 {
            return Some(transport.send_frame(head.compressed(false), payload));
        }
    }
    let _ = (way, transport, head, payload);
    None
}

/// Sends a frame on, in one of the ways that there are, and writes it down.
fn send_on(random: &mut Random, id: u32, transport: &Transport, frame: &Frame<'_>) -> SendStatus {
    let head = FrameHead::new(frame.msg_type()).with_fin(frame.fin());
    if random.chance(400) {
        let status = transport.forward(frame);
        return note(id, head, frame.payload(), status);
    }
    say(random, id, transport, head, frame.payload())
}

/// Sends a message with one of a few keys, and writes down which other it replaced.
fn say_latest(
    random: &mut Random,
    id: u32,
    transport: &Transport,
    head: FrameHead,
    payload: &[u8],
) -> SendStatus {
    let key = random.below(2) as u64;
    let status = transport.send_latest_bytes(key, head, &Bytes::copy_from_slice(payload));
    let status = note(id, head, payload, status);
    journal::with(|journal| {
        let record = journal.record(id);
        if status == SendStatus::Replaced {
            // In its place: the peer is to get it there, and the one before not at all.
            let latest = record.sent.pop();
            let place = record.keys.get(&key).and_then(|index| record.sent.get_mut(*index));
            let is_known = place.is_some();
            if let (Some(place), Some(latest)) = (place, latest) {
                *place = latest;
            }
            journal.demand(id, is_known, "replaced what was never sent");
        } else if status.is_queued() {
            record.keys.insert(key, record.sent.len() - 1);
        }
    });
    status
}

fn note(id: u32, head: FrameHead, payload: &[u8], status: SendStatus) -> SendStatus {
    journal::with(|journal| {
        let record = journal.record(id);
        // Frames of others that a room sends on may come between those of a message, and the rest of
        // a message of which a frame was dropped is none: such are refused, and no others.
        let order = head.check_order(record.is_message_open);
        let is_right = match status {
            SendStatus::Refused(misuse) => order == Err(misuse),
            SendStatus::Closed => true,
            _ => order.is_ok(),
        };
        let what = format!("the order of frames is {order:?}, and sending {head:?} {status:?}");
        journal.demand(id, is_right, &what);
        let record = journal.record(id);
        if status.is_queued() {
            record.is_message_open = order.unwrap_or_default();
            record.sent.push(Seen::new(head.msg_type, head.fin, payload));
        }
        let is_gap = matches!(status, SendStatus::Dropped | SendStatus::DroppedOldest);
        record.dropped += u32::from(is_gap);
        let is_congested = matches!(status, SendStatus::Congested | SendStatus::DroppedOldest);
        record.awaits_pause |= is_congested && !record.is_paused;
    });
    status
}

impl Listener for Watched {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        journal::with(|journal| {
            let record = journal.record(self.id);
            record.connected += 1;
            let is_first = record.connected == 1 && record.disconnected == 0;
            journal.demand(self.id, is_first, "on_connected out of turn");
            journal.open.insert(self.id, transport.clone());
            journal.tokens.push((self.id, transport.session().token));
            if matches!(self.app, App::Room | App::Obey) {
                journal.room.insert(self.id, transport.clone());
            }
        });
        self.demand(transport.is_open(), "connected and not open");
        self.pass("connected");
        self.push(transport);
        self.call(transport);
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        journal::with(|journal| {
            let record = journal.record(self.id);
            let is_live = record.connected == 1 && record.disconnected == 0;
            journal.demand(self.id, is_live, "on_frame out of turn");
        });
        let head = FrameHead::new(frame.msg_type()).with_fin(frame.fin());
        let payload = frame.payload();
        match (&self.app, frame.msg_type()) {
            (_, MsgType::Close | MsgType::Ping | MsgType::Pong) => {}
            (App::Call { .. }, _) => {
                self.called(transport, Seen::new(head.msg_type, head.fin, payload));
            }
            (App::Echo | App::Pieces { .. }, _) => {
                send_on(&mut self.random, self.id, transport, frame);
            }
            (App::Room, _) => {
                let others = journal::with(|journal| journal.room.clone());
                for (id, other) in others.iter().filter(|(id, _)| **id != self.id) {
                    let is_whole = head.fin && head.msg_type != MsgType::Continuation;
                    if is_whole && self.random.chance(500) {
                        say_latest(&mut self.random, *id, other, head, payload);
                    } else {
                        send_on(&mut self.random, *id, other, frame);
                    }
                }
            }
            (App::Obey, MsgType::Text) if frame.fin() => match frame.text() {
                Ok(command) => self.obey(transport, command)?,
                Err(_) => self.demand(false, "a command is no text"),
            },
            (App::Push { .. } | App::Obey | App::Mute, _) => {}
        }
        Ok(())
    }

    fn pieces_of_frames_above(&self) -> Option<u64> {
        match self.app {
            App::Pieces { above, .. } => Some(above),
            _ => None,
        }
    }

    fn on_piece(&mut self, transport: &Transport, piece: &FramePiece<'_>) -> ListenerResult {
        journal::with(|journal| {
            let record = journal.record(self.id);
            let is_live = record.connected == 1 && record.disconnected == 0;
            journal.demand(self.id, is_live, "on_piece out of turn");
        });
        self.relay(transport, piece);
        Ok(())
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        journal::with(|journal| {
            journal.room.remove(&self.id);
            journal.open.remove(&self.id);
            let record = journal.record(self.id);
            record.is_evicted = transport.disconnect_cause() == Some(DisconnectCause::MemoryLimit);
            record.disconnected += 1;
            record.awaits_pause = false;
            let is_first = record.connected == 1 && record.disconnected == 1;
            journal.demand(self.id, is_first, "on_disconnected out of turn");
        });
        let late = transport.send_text("too late");
        self.demand(late == SendStatus::Closed, "a frame after the end was not refused");
        self.demand(transport.is_disconnected(), "disconnected, and it does not know");
        self.demand(transport.disconnect_cause().is_some(), "disconnected without a cause");
        self.pass("disconnected");
    }

    fn pause_writing(&mut self, transport: &Transport) {
        journal::with(|journal| {
            let record = journal.record(self.id);
            record.awaits_pause = false;
            record.pauses += 1;
            let was_paused = std::mem::replace(&mut record.is_paused, true);
            let is_live = record.connected == 1 && record.disconnected == 0;
            journal.demand(self.id, is_live && !was_paused, "pause_writing out of turn");
        });
        let _ = transport.buffered_amount();
        self.pass("pause");
    }

    fn resume_writing(&mut self, transport: &Transport) {
        journal::with(|journal| {
            let record = journal.record(self.id);
            let was_paused = std::mem::replace(&mut record.is_paused, false);
            let is_live = record.connected == 1 && record.disconnected == 0;
            journal.demand(self.id, is_live && was_paused, "resume_writing out of turn");
        });
        self.pass("resume");
        if matches!(self.app, App::Pieces { .. }) {
            transport.resume_reading();
        }
        self.push(transport);
    }
}

/// A caller waits when so many frames have not come back.
const CALLS_PENDING_MAX: usize = 3;

impl Drop for Watched {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.pass("drop");
        }
    }
}
