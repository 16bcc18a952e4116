//! Conversion of standard input to messages.
//!
//! Runs on a thread of its own, and waits for the loop at intervals, as messages ahead of it are
//! held in memory.

use crate::fault::Fault;
use picows_uring::MsgType;
use std::io::{BufRead, Read};

/// Converter of a stream of bytes to messages.
pub(super) struct Input<S, C> {
    /// Sends a message; returns `false` when the connection has ended.
    send: S,
    /// Waits until the connection has caught up with the messages sent.
    catch_up: C,
    ahead_bytes: usize,
    /// Messages that may still be sent.
    left: u64,
}

impl<S, C> Input<S, C>
where
    S: FnMut(MsgType, Vec<u8>) -> bool,
    C: FnMut(),
{
    pub(super) fn new(send: S, catch_up: C) -> Self {
        Self { send, catch_up, ahead_bytes: 0, left: u64::MAX }
    }

    /// Ends the input after so many messages.
    pub(super) fn at_most(self, messages: Option<u64>) -> Self {
        Self { left: messages.unwrap_or(u64::MAX), ..self }
    }

    /// Sends all of `input`, or as much of it as is wanted.
    ///
    /// # Errors
    ///
    /// When the input cannot be read, or is not UTF-8 where text is sent.
    pub(super) fn read(&mut self, input: impl BufRead, is_binary: bool) -> Result<(), Fault> {
        if is_binary { self.read_pieces(input) } else { self.read_lines(input) }
    }

    fn read_pieces(&mut self, mut input: impl Read) -> Result<(), Fault> {
        let mut piece = vec![0; PIECE_BYTES_MAX];
        loop {
            let count = match input.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(&error)),
            };
            if !self.post(MsgType::Binary, piece[..count].to_vec()) {
                return Ok(());
            }
        }
    }

    fn read_lines(&mut self, mut input: impl BufRead) -> Result<(), Fault> {
        for number in 1_u64.. {
            let mut line = Vec::new();
            // One byte more, for the line break.
            let mut limited = input.by_ref().take(LINE_BYTES_MAX + 1);
            let count = limited.read_until(b'\n', &mut line).map_err(|error| unreadable(&error))?;
            if count == 0 {
                break;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            } else if line.len() as u64 > LINE_BYTES_MAX {
                let limit = LINE_BYTES_MAX >> 20;
                return Err(format!("line {number} of the input is over {limit} MiB").into());
            }
            if std::str::from_utf8(&line).is_err() {
                return Err(format!("line {number} of the input is not UTF-8: use --binary").into());
            }
            if !self.post(MsgType::Text, line) {
                break;
            }
        }
        Ok(())
    }

    fn post(&mut self, msg_type: MsgType, payload: Vec<u8>) -> bool {
        self.ahead_bytes += payload.len() + MESSAGE_BYTES;
        let is_sent = (self.send)(msg_type, payload);
        if self.ahead_bytes >= AHEAD_BYTES_MAX {
            (self.catch_up)();
            self.ahead_bytes = 0;
        }
        self.left = self.left.saturating_sub(1);
        is_sent && self.left > 0
    }
}

fn unreadable(error: &std::io::Error) -> Fault {
    format!("standard input cannot be read: {error}").into()
}

/// The capacity of a pipe.
const PIECE_BYTES_MAX: usize = 64 * 1024;
/// The most that can be queued on a connection.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// Approximate memory of a message besides its payload.
const MESSAGE_BYTES: usize = 64;
/// Enough to keep the loop busy.
const AHEAD_BYTES_MAX: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(bytes: &[u8], is_binary: bool) -> (Vec<(MsgType, Vec<u8>)>, Option<String>) {
        let mut sent = Vec::new();
        let send = |msg_type, payload| {
            sent.push((msg_type, payload));
            true
        };
        let outcome = Input::new(send, || {}).read(bytes, is_binary);
        (sent, outcome.err().map(|error| error.to_string()))
    }

    #[test]
    fn lines_are_messages_without_their_ends() {
        let (sent, error) = messages("one\n\nthrée\r\nlast".as_bytes(), false);
        let expected = ["one", "", "thrée\r", "last"];
        assert_eq!(sent, expected.map(|line| (MsgType::Text, line.as_bytes().to_vec())));
        assert_eq!(error, None);
    }

    #[test]
    fn a_line_that_is_no_text_is_named() {
        let (sent, error) = messages(b"one\n\xff\nthree\n", false);
        assert_eq!(sent.len(), 1);
        assert_eq!(error.unwrap(), "line 2 of the input is not UTF-8: use --binary");
    }

    #[test]
    fn bytes_go_as_they_come() {
        let bytes: Vec<u8> = (0..200_000).map(|index: u32| index as u8).collect();
        let (sent, error) = messages(&bytes, true);
        assert!(sent.iter().all(|(msg_type, _)| *msg_type == MsgType::Binary));
        assert_eq!(
            sent.iter().map(|it| it.1.len()).collect::<Vec<_>>(),
            [65536, 65536, 65536, 3392]
        );
        assert_eq!(sent.concat_payloads(), bytes);
        assert_eq!(error, None);
    }

    trait Concat {
        fn concat_payloads(&self) -> Vec<u8>;
    }

    impl Concat for Vec<(MsgType, Vec<u8>)> {
        fn concat_payloads(&self) -> Vec<u8> {
            self.iter().flat_map(|message| message.1.clone()).collect()
        }
    }

    #[test]
    fn it_waits_for_the_loop_at_intervals() {
        let mut waits = 0;
        let bytes = vec![b'\n'; 3 * AHEAD_BYTES_MAX / MESSAGE_BYTES];
        Input::new(|_, _| true, || waits += 1).read(&*bytes, false).unwrap();
        assert_eq!(waits, 3);
    }

    #[test]
    fn it_stops_after_as_many_messages_as_are_wanted() {
        for (is_binary, wanted) in [(false, vec![b"1".to_vec()]), (true, vec![b"1\n2\n".to_vec()])]
        {
            let mut sent = Vec::new();
            let send = |_, payload| {
                sent.push(payload);
                true
            };
            let mut input = Input::new(send, || {}).at_most(Some(1));
            input.read(&b"1\n2\n"[..], is_binary).unwrap();
            assert_eq!(sent, wanted);
        }
    }

    #[test]
    fn it_stops_when_the_connection_has_ended() {
        let mut count = 0;
        let send = |_, _| {
            count += 1;
            count < 2
        };
        Input::new(send, || {}).read(&b"1\n2\n3\n"[..], false).unwrap();
        assert_eq!(count, 2);
    }
}
