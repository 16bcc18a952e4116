//! The common part of the servers and clients of other libraries: a runtime of one thread.
//!
//! What each library does with a connection is in `bin/`, as its own examples do it.

use benches::process::{announce_as, listen, raise_descriptor_limit};
use clap::Parser;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::error::Error;
use std::fmt::Debug;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What stops a connection.
pub type Fault = Box<dyn Error + Send + Sync>;

/// Where messages go that are not echoed: every connection subscribes.
pub type Hub<M> = broadcast::Sender<M>;

/// Run an echo server, for comparison
#[derive(Debug, Parser)]
pub struct ServerArgs {
    /// Address to listen on; port 0 for any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
    pub listen: SocketAddr,

    /// Threads of the runtime that serve connections
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..))]
    pub workers: u8,

    /// Send each message to every connection instead of back
    #[arg(long)]
    pub fan_out: bool,

    /// Certificate (PEM): speak TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Key of --tls-cert (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

/// Accepts connections, and gives each to `serve` in a task of its own; those with TLS to `serve_secure`.
///
/// Tasks are not held back by tokio's budget, as no example of these libraries does either.
pub fn run_both<M, F, S, G, T>(serve: S, serve_secure: T) -> Result<(), Fault>
where
    M: Clone + Send + 'static,
    F: Future<Output = Result<(), Fault>> + Send + 'static,
    S: Fn(TcpStream, Option<Hub<M>>) -> F,
    G: Future<Output = Result<(), Fault>> + Send + 'static,
    T: Fn(TlsStream<TcpStream>, Option<Hub<M>>) -> G + Send + Sync + 'static,
{
    let args = ServerArgs::parse();
    let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) else {
        return run(serve);
    };
    let acceptor = TlsAcceptor::from(Arc::new(tls(certificate, key)?));
    let serve_secure = Arc::new(serve_secure);
    accept(&args, "wss", move |stream, hub| {
        let (handshake, serve) = (acceptor.accept(stream), Arc::clone(&serve_secure));
        async move { serve(handshake.await?, hub).await }
    })
}

/// Settings of TLS with one ticket, sealed and not kept, as ours are.
fn tls(certificate: &Path, key: &Path) -> Result<ServerConfig, Fault> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// Accepts connections without TLS, and gives each to `serve` in a task of its own.
pub fn run<M, F, S>(serve: S) -> Result<(), Fault>
where
    M: Clone + Send + 'static,
    F: Future<Output = Result<(), Fault>> + Send + 'static,
    S: Fn(TcpStream, Option<Hub<M>>) -> F,
{
    run_with(&ServerArgs::parse(), serve)
}

/// [`run`] with arguments that the program has parsed, as some of them are its own.
pub fn run_with<M, F, S>(args: &ServerArgs, serve: S) -> Result<(), Fault>
where
    M: Clone + Send + 'static,
    F: Future<Output = Result<(), Fault>> + Send + 'static,
    S: Fn(TcpStream, Option<Hub<M>>) -> F,
{
    if args.tls_cert.is_some() {
        return Err("this server speaks no TLS".into());
    }
    accept(args, "ws", serve)
}

fn accept<M, F, S>(args: &ServerArgs, scheme: &str, serve: S) -> Result<(), Fault>
where
    M: Clone + Send + 'static,
    F: Future<Output = Result<(), Fault>> + Send + 'static,
    S: Fn(TcpStream, Option<Hub<M>>) -> F,
{
    raise_descriptor_limit()?;
    let listener = listen(args.listen)?;
    announce_as(scheme, &listener)?;
    block_on_threads(args.workers, async {
        let listener = TcpListener::from_std(listener)?;
        let hub = args.fan_out.then(|| Hub::new(HUB_MESSAGES_MAX));
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // How a connection ends is its own affair: the load resets them all.
            let connection = serve(stream, hub.clone());
            tokio::spawn(tokio::task::unconstrained(async {
                let _ = connection.await;
            }));
        }
    })
}

/// Serves a connection that is a stream of messages and a sink: each message that `is_data` goes back,
/// or with a hub to everybody.
pub async fn converse<M, E, S>(
    mut socket: S,
    hub: Option<Hub<M>>,
    is_data: impl Fn(&M) -> bool,
) -> Result<(), Fault>
where
    M: Clone + Debug + Send + Sync + 'static,
    E: Error + Send + Sync + 'static,
    S: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
{
    let Some(hub) = hub else {
        while let Some(message) = socket.next().await {
            let message = message?;
            if is_data(&message) {
                socket.send(message).await?;
            }
        }
        return Ok(());
    };
    let mut messages = hub.subscribe();
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(message) => {
                    let message = message?;
                    if is_data(&message) {
                        hub.send(message)?;
                    }
                }
                None => return Ok(()),
            },
            message = messages.recv() => socket.send(message?).await?,
        }
    }
}

/// Runs a future on this thread.
pub fn block_on<F: Future<Output = Result<(), Fault>>>(future: F) -> Result<(), Fault> {
    block_on_threads(1, future)
}

/// Runs a future on this thread, and its tasks there as well, or from two on in so many others.
fn block_on_threads<F: Future<Output = Result<(), Fault>>>(
    workers: u8,
    future: F,
) -> Result<(), Fault> {
    let mut builder = match workers {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(workers.into()).enable_io().build()?.block_on(future)
}

/// Messages that a subscriber may be behind.
const HUB_MESSAGES_MAX: usize = 64;
