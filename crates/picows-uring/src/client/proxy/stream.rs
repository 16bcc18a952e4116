//! The connection to a proxy until the tunnel is open: bytes both ways, in TLS where the proxy wants it.

use super::fault::ProxyFault;
#[cfg(feature = "_tls")]
use super::secure::Records;
use std::io;
use std::os::fd::OwnedFd;
use tokio::net::TcpStream;

/// A connected socket, with the layer of TLS on it.
pub(super) struct ProxyStream {
    stream: TcpStream,
    #[cfg(feature = "_tls")]
    pub(super) records: Option<Records>,
}

impl ProxyStream {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            stream: TcpStream::from_std(socket.into())?,
            #[cfg(feature = "_tls")]
            records: None,
        })
    }

    /// The socket, and what is around all that follows.
    pub(super) fn into_socket(self) -> io::Result<OwnedFd> {
        Ok(self.stream.into_std()?.into())
    }

    /// Sends all of `bytes`.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), ProxyFault> {
        #[cfg(feature = "_tls")]
        if let Some(records) = &mut self.records {
            let sealed = records.seal(bytes)?;
            return self.send_raw(&sealed).await.map_err(ProxyFault::Io);
        }
        self.send_raw(bytes).await.map_err(ProxyFault::Io)
    }

    /// Receives to `input` what is there, and waits for the first of it. Nothing is the end.
    pub(super) async fn receive(&mut self, input: &mut Vec<u8>) -> Result<(), ProxyFault> {
        input.clear();
        #[cfg(feature = "_tls")]
        if self.records.is_some() {
            return self.receive_records(input).await;
        }
        self.receive_raw(input).await.map_err(ProxyFault::Io)
    }

    #[cfg(feature = "_tls")]
    async fn receive_records(&mut self, plain: &mut Vec<u8>) -> Result<(), ProxyFault> {
        let mut sealed = Vec::new();
        loop {
            if let Some(records) = &mut self.records {
                records.open(&sealed, plain)?;
                if !plain.is_empty() || records.is_ended() {
                    return Ok(());
                }
            }
            sealed.clear();
            self.receive_raw(&mut sealed).await.map_err(ProxyFault::Io)?;
            if sealed.is_empty() {
                return Ok(());
            }
        }
    }

    pub(super) async fn send_raw(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(bytes) {
                Ok(length) => bytes = &bytes[length..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Appends what is there to `input`; nothing at the end.
    pub(super) async fn receive_raw(&self, input: &mut Vec<u8>) -> io::Result<()> {
        let start = input.len();
        input.resize(start + ANSWER_BYTES, 0);
        let received = loop {
            self.stream.readable().await?;
            match self.stream.try_read(&mut input[start..]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => break received,
            }
        };
        input.truncate(start + received.as_ref().map_or(0, |count| *count));
        received.map(drop)
    }
}

/// Bytes that are received at once.
const ANSWER_BYTES: usize = 4096;
