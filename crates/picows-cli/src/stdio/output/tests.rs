use super::*;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A stream that accepts bytes or fails, by a script of one answer for each write.
struct Scripted {
    asked: Sender<Vec<u8>>,
    answers: Receiver<io::Result<usize>>,
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.asked.send(bytes.to_vec()).unwrap();
        // Without an answer it blocks, like a pipe that is not read.
        let answer = self.answers.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
        answer.map(|count| count.min(bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Script {
    output: Output,
    asked: Receiver<Vec<u8>>,
    answers: Sender<io::Result<usize>>,
}

impl Script {
    fn new() -> Self {
        Self::with(Notice::Inline(Box::new(|count| format!("{count} dropped\n"))))
    }

    fn with(notice: Notice) -> Self {
        let (asked, asks) = channel();
        let (answers, answered) = channel();
        let stream = Scripted { asked, answers: answered };
        Self { output: Output::start("test", stream, notice), asked: asks, answers }
    }

    fn takes_all(&self) -> String {
        let bytes = self.asked.recv().unwrap();
        self.answers.send(Ok(bytes.len())).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn fails(&self, kind: io::ErrorKind) {
        self.asked.recv().unwrap();
        self.answers.send(Err(kind.into())).unwrap();
    }
}

#[test]
fn lines_are_written_in_their_order() {
    let script = Script::new();
    script.output.line("one");
    assert_eq!(script.takes_all(), "one\n");
    script.output.line("two");
    assert_eq!(script.takes_all(), "two\n");
    script.output.flush(None).unwrap();
    assert_eq!(script.output.dropped_lines(), 0);
}

#[test]
fn a_stream_that_is_not_read_drops_and_counts_and_says_so_in_its_place() {
    let script = Script::new();
    script.output.line("first");
    let first = script.asked.recv().unwrap();
    let line = "x".repeat(1023);
    let mut queued = 0;
    // Nothing of this waits: the test would not end.
    while script.output.dropped_lines() < 7 {
        script.output.line(&line);
        queued += 1;
    }
    queued -= 7;
    assert!((200..=256).contains(&queued), "{queued}");
    script.answers.send(Ok(first.len())).unwrap();
    let mut text = String::new();
    while !text.ends_with("7 dropped\n") {
        text += &script.takes_all();
    }
    assert_eq!(text.lines().count(), queued + 1);
    script.output.line("later");
    assert_eq!(script.takes_all(), "later\n");
}

#[test]
fn a_flush_has_a_limit() {
    let script = Script::new();
    script.output.line("one");
    let error = script.output.flush(Some(Duration::from_millis(1))).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    script.takes_all();
    script.output.flush(Some(Duration::from_secs(60))).unwrap();
}

#[test]
fn a_failure_is_remembered_and_the_stream_is_tried_again() {
    let script = Script::new();
    let (called, calls) = channel();
    script.output.when_failed(move || called.send(()).unwrap());
    script.output.line("lost");
    script.fails(io::ErrorKind::StorageFull);
    calls.recv().unwrap();
    let error = script.output.flush(None).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(script.output.write(|queue| queue.push(b'x')).is_err());
    // There is room again.
    script.output.line("kept");
    assert_eq!(script.takes_all(), "kept\n1 dropped\n");
    assert_eq!(script.output.dropped_lines(), 1);
}

#[test]
fn a_line_that_was_cut_does_not_spoil_the_next() {
    let script = Script::new();
    script.output.line("half");
    script.asked.recv().unwrap();
    script.answers.send(Ok(2)).unwrap();
    script.fails(io::ErrorKind::StorageFull);
    script.output.flush(None).unwrap_err();
    script.output.line("whole");
    assert_eq!(script.takes_all(), "\nwhole\n1 dropped\n");
}

#[test]
fn notices_for_programs_go_elsewhere() {
    let (notice, notices) = channel();
    let script =
        Script::with(Notice::Elsewhere(Box::new(move |count| notice.send(count).unwrap())));
    let line = "x".repeat(LINES_BYTES_MAX);
    script.output.line(&line);
    assert_eq!(notices.recv().unwrap(), 1);
    script.output.flush(None).unwrap();
}

#[test]
fn a_writer_hears_of_room_and_of_failures() {
    let script = Script::new();
    let (called, calls) = channel();
    let hook = |name: &'static str| {
        let called = called.clone();
        move || called.send(name).unwrap()
    };
    script.output.when_below(0, hook("nothing waits"));
    assert_eq!(calls.recv().unwrap(), "nothing waits");
    let waiting = script.output.write(|queue| queue.resize(3 * PIECE_BYTES_MAX, b'x')).unwrap();
    assert_eq!(waiting, 3 * PIECE_BYTES_MAX);
    script.output.when_below(PIECE_BYTES_MAX, hook("room"));
    script.takes_all();
    assert!(calls.try_recv().is_err());
    script.takes_all();
    assert_eq!(calls.recv().unwrap(), "room");
    script.output.when_below(0, hook("failed"));
    script.fails(io::ErrorKind::BrokenPipe);
    assert_eq!(calls.recv().unwrap(), "failed");
}

#[test]
fn a_thread_that_waits_for_room_is_released() {
    let script = Script::new();
    script.output.write(|queue| queue.push(b'x')).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| script.output.wait_below(0));
        script.output.release();
        waiting.join().unwrap();
    });
}

#[test]
fn what_is_out_of_date_soon_is_dropped_first() {
    let script = Script::new();
    script.output.write_if_idle("10 %");
    script.output.write_if_idle("20 %");
    assert_eq!(script.takes_all(), "10 %");
    script.output.flush(None).unwrap();
    script.output.write_if_idle("30 %");
    assert_eq!(script.takes_all(), "30 %");
    assert_eq!(script.output.dropped_lines(), 0);
}
