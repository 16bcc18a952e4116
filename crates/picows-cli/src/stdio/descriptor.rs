//! Blocking reads and writes of an inherited descriptor, non-blocking ones included.
//!
//! The flag `O_NONBLOCK` belongs to the open file, which other processes share, so it is not
//! changed: after EAGAIN, poll(2) waits.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

/// An output stream that blocks until the bytes are written.
pub(super) struct Descriptor<T>(pub(super) T);

impl<T: AsFd> Write for Descriptor<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        retry(&self.0, PollFlags::OUT, || rustix::io::write(&self.0, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An input stream, such as standard input, that blocks until bytes arrive.
pub(crate) struct Input<T>(pub(crate) T);

impl<T: AsFd> Read for Input<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(&self.0, PollFlags::IN, || rustix::io::read(&self.0, &mut *buffer))
    }
}

/// Repeats `call` until it succeeds, or fails with another error than EINTR or EAGAIN.
fn retry(
    descriptor: &impl AsFd,
    wanted: PollFlags,
    mut call: impl FnMut() -> Result<usize, Errno>,
) -> io::Result<usize> {
    loop {
        match call() {
            Ok(count) => return Ok(count),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match poll(&mut [PollFd::new(descriptor, wanted)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            },
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    use std::thread;

    fn pipe() -> (io::PipeReader, io::PipeWriter) {
        let (reader, writer) = io::pipe().unwrap();
        fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
        fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        (reader, writer)
    }

    #[test]
    fn a_pipe_that_does_not_block_is_waited_for_and_stays_so() {
        let (reader, writer) = pipe();
        let flags = fcntl_getfl(&writer).unwrap();
        assert!(flags.contains(OFlags::NONBLOCK));
        let sent: Vec<u8> = (0..1_000_000_u32).map(|index| index as u8).collect();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut out = Descriptor(writer);
                out.write_all(&sent).unwrap();
                assert_eq!(fcntl_getfl(&out.0).unwrap(), flags);
            });
            let mut came = Vec::new();
            Input(&reader).read_to_end(&mut came).unwrap();
            assert!(came == sent, "{} of {} bytes", came.len(), sent.len());
        });
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error() {
        let (reader, writer) = pipe();
        drop(reader);
        let error = Descriptor(writer).write_all(b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
