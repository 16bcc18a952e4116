//! Settings of workers and connections, and their way into the builders of the library.

use crate::server::text_at;
use crate::status::{Failure, entry, pwu_status};
use crate::tls::{self, pwu_tls};
use crate::types::{Sized0, read_sized};
use picows_uring::{
    AutoPing, AutoPingStrategy, Connect, Driver, Embedded, EmbeddedBuilder, Networks, OriginPolicy,
    QueuePolicy, ServerBuilder, TrustedProxies,
};
use std::ffi::{c_char, c_int};
use std::ptr;
use std::time::Duration;

/// The interface of the kernel that a worker uses.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub enum pwu_driver {
    /// io_uring, or else epoll; what the environment variable PICOWS_DRIVER says, if it is set.
    PWU_DRIVER_AUTO = 0,
    /// io_uring; where it cannot be had, there is no worker.
    PWU_DRIVER_IO_URING = 1,
    /// epoll. No call of io_uring is made.
    PWU_DRIVER_EPOLL = 2,
}

/// The fate of a frame for which the queue has no room.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub enum pwu_queue_policy {
    /// The connection ends with CLOSE 1008.
    PWU_QUEUE_CLOSE = 0,
    /// That frame is dropped.
    PWU_QUEUE_DROP_NEWEST = 1,
    /// The oldest messages that have not begun to leave are dropped.
    PWU_QUEUE_DROP_OLDEST = 2,
}

/// Settings of a worker; zero is the default of each.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pwu_worker_options {
    /// sizeof(pwu_worker_options).
    pub size: usize,
    /// One of pwu_driver.
    pub driver: u8,
    /// Turns that pwu_worker_turn takes at most, unless it is given a number. 0: 16.
    pub turns_max: u32,
    /// Bytes that its connections may hold together. 0: one limit for the whole process.
    pub memory_limit: u64,
    /// Milliseconds after which the log names a callback that blocks the thread. 0: 100.
    pub slow_callback_ms: u32,
    /// Milliseconds for which memory is kept that is not needed. 0: 10,000.
    pub release_memory_ms: u32,
}

// SAFETY: the size is first, and all fields are integers.
unsafe impl Sized0 for pwu_worker_options {
    const DEFAULT: Self = Self {
        size: 0,
        driver: 0,
        turns_max: 0,
        memory_limit: 0,
        slow_callback_ms: 0,
        release_memory_ms: 0,
    };
}

impl pwu_worker_options {
    pub(crate) fn builder(&self) -> Result<EmbeddedBuilder, Failure> {
        let mut builder = Embedded::builder();
        builder = match self.driver {
            0 => builder,
            1 => builder.driver(Driver::IoUring),
            2 => builder.driver(Driver::Epoll),
            other => return Err(invalid(format!("driver {other}: use one of pwu_driver"))),
        };
        if self.turns_max > 0 {
            builder = builder.turns_max(self.turns_max);
        }
        if self.memory_limit > 0 {
            builder = builder.memory_limit(bytes(self.memory_limit));
        }
        if self.slow_callback_ms > 0 {
            builder = builder.slow_callback(milliseconds(self.slow_callback_ms));
        }
        if self.release_memory_ms > 0 {
            builder = builder.release_memory_after(milliseconds(self.release_memory_ms));
        }
        Ok(builder)
    }
}

/// Settings of connections, of a listening socket or of one client. pwu_options_init sets the defaults;
/// then change what is to differ. Times are milliseconds, and 0 is no limit.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pwu_options {
    /// sizeof(pwu_options); pwu_options_init sets it.
    pub size: usize,
    /// Largest payload of a frame that is received. Default: 10 MiB.
    pub max_frame: u64,
    /// Time for the handshake. Default: 5000.
    pub handshake_ms: u32,
    /// Time for the close handshake; more than 0. Default: 5000.
    pub close_ms: u32,
    /// Time without received data, or between pings, after which a ping is sent. Default: 0, no pings.
    pub ping_idle_ms: u32,
    /// Time for its answer, at most ping_idle_ms. 0: as long as that. Default: 0.
    pub ping_reply_ms: u32,
    /// Time without received data after which the connection ends. Default: 0.
    pub idle_ms: u32,
    /// Time that a slow message may take. Default: 60,000.
    pub message_ms: u32,
    /// Time for which the peer may take nothing of what is queued. Default: 60,000.
    pub write_stall_ms: u32,
    /// Lifetime of a connection of a server, after which it is asked to reconnect. Default: 0.
    pub lifetime_ms: u32,
    /// 1: pings come every ping_idle_ms, whatever is received. Default: 0.
    pub ping_periodic: u8,
    /// 1: PING is answered and not delivered. Default: 1.
    pub auto_pong: u8,
    /// 1: CLOSE is answered after on_frame saw it. Default: 1.
    pub auto_close: u8,
    /// 1: TEXT that is no UTF-8 ends the connection. Default: 0.
    pub validate_text: u8,
    /// RSV bits that may be received: 4, 2, 1 or a sum. Default: 0.
    pub allow_rsv: u8,
    /// 1: fragments may come and be sent in any order. Default: 0.
    pub any_order: u8,
    /// 1: a failure of on_frame ends the connection. Default: 1.
    pub disconnect_on_error: u8,
    /// One of pwu_queue_policy. Default: PWU_QUEUE_CLOSE.
    pub queue_policy: u8,
    /// Buffered bytes above which pause_writing is called. Default: 64 KiB.
    pub high_watermark: usize,
    /// Buffered bytes at or below which resume_writing is called. Default: 16 KiB.
    pub low_watermark: usize,
    /// Bytes that may be queued. Default: 64 MiB.
    pub max_queue: usize,
    /// Server: largest request head. Default: 16 KiB.
    pub max_head: usize,
    /// Server: most headers of a request. Default: 128.
    pub max_headers: usize,
    /// Server: open connections; 0 for no limit. Default: 0.
    pub max_connections: usize,
    /// Server: open connections of one address; 0 for no limit. Default: 0.
    pub max_per_address: usize,
    /// Server: handshakes in progress; 0 for no limit. Default: 4096.
    pub max_handshakes: usize,
    /// Server: connections that the kernel holds before they are accepted. Default: 4096.
    pub backlog: u32,
    /// Server: 1: other processes may listen on the port as well. Default: 0.
    pub share_port: u8,
    /// 1: pwu_get_request can be used. Default: 1.
    pub keep_request: u8,
    /// Settings of TLS, made by pwu_tls_server or pwu_tls_client; may be freed after the call. Default:
    /// NULL: a server without TLS; a client that trusts the roots of the system where its URL is wss.
    pub tls: *const pwu_tls,
    /// Client: name that the certificate of the server has. Default: NULL, the host of the URL.
    pub tls_server_name: *const c_char,
    /// 1: messages may be compressed (permessage-deflate), if the peer can do it. Default: 0.
    pub deflate: u8,
    /// How hard messages are compressed, 1 to 9. Default: 4.
    pub deflate_level: u8,
    /// Window of what is sent: 8 to 15, the bits of its bytes. Default: 12.
    pub deflate_window: u8,
    /// 1: messages refer to earlier ones; 0: each is compressed by itself, and the peer is asked to do the
    /// same. Default: 1.
    pub deflate_context: u8,
    /// Bytes of a message below which it is sent as it is. 0: 64, or 1024 without deflate_context.
    /// Default: 0.
    pub deflate_threshold: u32,
    /// Bytes that a received byte may expand to, in messages of more than 64 KiB; 0 for no limit.
    /// Default: 0.
    pub deflate_ratio_max: u32,
    /// Server: 1: `trusted_proxies` name the client in `Forwarded` instead of `X-Forwarded-For`. Default: 0.
    pub trusted_by_forwarded: u8,
    /// Server: networks of proxies that begin each connection with a header of the PROXY protocol, which
    /// names the client, such as `10.0.0.0/8, 192.0.2.7`; of other peers such a header is an error. On a
    /// Unix socket, every peer is a proxy. Default: NULL, none.
    pub proxy_protocol: *const c_char,
    /// Server: networks of proxies that name the client in a header of its request. The client named by a
    /// proxy is the peer of the request, and that of limits and logs. Default: NULL, none.
    pub trusted_proxies: *const c_char,
    /// Server: sites whose scripts may open connections, such as `https://example.com, https://*.example.org`,
    /// or `same-host`; others are answered with 403, and the route is not asked. Default: NULL, any.
    pub origins: *const c_char,
}

// SAFETY: the size is first, and all fields are integers and pointers.
unsafe impl Sized0 for pwu_options {
    const DEFAULT: Self = Self {
        size: 0,
        max_frame: 10 << 20,
        handshake_ms: 5000,
        close_ms: 5000,
        ping_idle_ms: 0,
        ping_reply_ms: 0,
        idle_ms: 0,
        message_ms: 60_000,
        write_stall_ms: 60_000,
        lifetime_ms: 0,
        ping_periodic: 0,
        auto_pong: 1,
        auto_close: 1,
        validate_text: 0,
        allow_rsv: 0,
        any_order: 0,
        disconnect_on_error: 1,
        queue_policy: 0,
        high_watermark: 64 << 10,
        low_watermark: 16 << 10,
        max_queue: 64 << 20,
        max_head: 16 << 10,
        max_headers: 128,
        max_connections: 0,
        max_per_address: 0,
        max_handshakes: 4096,
        backlog: 4096,
        share_port: 0,
        keep_request: 1,
        tls: ptr::null(),
        tls_server_name: ptr::null(),
        deflate: 0,
        deflate_level: 4,
        deflate_window: 12,
        deflate_context: 1,
        deflate_threshold: 0,
        deflate_ratio_max: 0,
        trusted_by_forwarded: 0,
        proxy_protocol: ptr::null(),
        trusted_proxies: ptr::null(),
        origins: ptr::null(),
    };
}

/// Sets all fields of `options`, a structure of `size` bytes, to their defaults: those of a server if
/// is_server is 1, else those of a client.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_options_init(
    options: *mut pwu_options,
    size: usize,
    is_server: c_int,
) -> pwu_status {
    entry(|| {
        // They are the same today.
        let _ = is_server;
        if options.is_null() {
            return Err(Failure::null("options"));
        }
        if size < size_of::<usize>() {
            return Err(invalid(format!("{size} bytes of options: give sizeof(pwu_options)")));
        }
        let mut defaults = pwu_options::DEFAULT;
        defaults.size = size;
        let known = size.min(size_of::<pwu_options>());
        // SAFETY: there are `size` bytes, by the caller's word; what is newer becomes zero.
        unsafe {
            ptr::write_bytes(options.cast::<u8>(), 0, size);
            ptr::copy_nonoverlapping((&raw const defaults).cast::<u8>(), options.cast(), known);
        }
        Ok(pwu_status::PWU_OK)
    })
}

/// The options at `given`; the defaults for NULL.
///
/// # Safety
///
/// As [`read_sized`].
pub(crate) unsafe fn read_options(given: *const pwu_options) -> Result<pwu_options, Failure> {
    // SAFETY: the caller's promise.
    Ok(unsafe { read_sized(given) }?.unwrap_or(pwu_options::DEFAULT))
}

/// Settings that servers and clients have, which have methods of the same names.
macro_rules! with_settings {
    ($builder:expr, $options:expr) => {{
        let it: &pwu_options = $options;
        $builder
            .max_frame_size(it.max_frame)
            .handshake_timeout(limit(it.handshake_ms))
            .close_timeout(milliseconds(it.close_ms))
            .auto_ping(it.auto_ping())
            .idle_timeout(limit(it.idle_ms))
            .message_timeout(limit(it.message_ms))
            .write_stall_timeout(limit(it.write_stall_ms))
            .auto_pong(it.auto_pong != 0)
            .auto_close(it.auto_close != 0)
            .validate_text(it.validate_text != 0)
            .allow_rsv(it.allow_rsv)
            .any_order(it.any_order != 0)
            .disconnect_on_error(it.disconnect_on_error != 0)
            .write_watermarks(it.high_watermark, it.low_watermark)
            .max_queue_size(it.max_queue, it.queue_policy()?)
    }};
}

/// The same with compression, if it is asked for.
#[cfg(feature = "deflate")]
macro_rules! with_deflate {
    ($builder:expr, $options:expr) => {
        $builder.deflate($options.compression())
    };
}
#[cfg(not(feature = "deflate"))]
macro_rules! with_deflate {
    ($builder:expr, $options:expr) => {{
        $options.refuse_compression()?;
        $builder
    }};
}

impl pwu_options {
    /// `builder` with these settings.
    ///
    /// # Safety
    ///
    /// What they point to was made and not freed.
    pub(crate) unsafe fn of_server(
        &self,
        builder: ServerBuilder,
    ) -> Result<ServerBuilder, Failure> {
        let mut builder = with_deflate!(with_settings!(builder, self), self)
            .max_header_size(self.max_head)
            .max_headers(self.max_headers)
            .max_connections(count(self.max_connections))
            .max_per_address(count(self.max_per_address))
            .max_handshakes(count(self.max_handshakes))
            .backlog(self.backlog)
            .share_port(self.share_port != 0)
            .keep_request(self.keep_request != 0);
        if self.lifetime_ms > 0 {
            builder = builder.max_lifetime(milliseconds(self.lifetime_ms), LIFETIME_JITTER);
        }
        // SAFETY: the caller's promise.
        unsafe { tls::of_server(self.tls, self.front_door(builder)?) }
    }

    /// `builder` with the rules about where requests come from.
    ///
    /// # Safety
    ///
    /// As [`of_server`](Self::of_server).
    unsafe fn front_door(&self, mut builder: ServerBuilder) -> Result<ServerBuilder, Failure> {
        // SAFETY: the caller's promise.
        let (by_protocol, by_header, origins) = unsafe {
            (text_at(self.proxy_protocol), text_at(self.trusted_proxies), text_at(self.origins))
        };
        if let Some(proxies) = by_protocol {
            builder = builder.proxy_protocol(networks("proxy_protocol", &proxies)?);
        }
        if let Some(proxies) = by_header {
            let proxies = networks("trusted_proxies", &proxies)?;
            builder = builder.trusted_proxies(match self.trusted_by_forwarded {
                0 => TrustedProxies::by_x_forwarded_for(proxies),
                _ => TrustedProxies::by_forwarded(proxies),
            });
        }
        match origins.as_deref() {
            None => Ok(builder),
            Some("same-host") => Ok(builder.origins(OriginPolicy::SameHost)),
            Some(list) => {
                let entries = list.split([',', ' ']).filter(|entry| !entry.is_empty());
                let policy = OriginPolicy::list(entries);
                Ok(builder.origins(policy.map_err(|it| invalid(format!("origins: {it}")))?))
            }
        }
    }

    /// `connect` with these settings.
    ///
    /// # Safety
    ///
    /// What they point to was made and not freed.
    pub(crate) unsafe fn of_client(&self, connect: Connect) -> Result<Connect, Failure> {
        let connect = with_deflate!(with_settings!(connect, self), self);
        // SAFETY: the caller's promise.
        unsafe { tls::of_client(self.tls, text_at(self.tls_server_name), connect) }
    }

    #[cfg(feature = "deflate")]
    fn compression(&self) -> Option<picows_uring::Deflate> {
        if self.deflate == 0 {
            return None;
        }
        let takeover = self.deflate_context != 0;
        let deflate = picows_uring::Deflate::new()
            .level(self.deflate_level)
            .window_bits(self.deflate_window)
            .context_takeover(takeover)
            .peer_context_takeover(takeover)
            .ratio_max((self.deflate_ratio_max > 0).then_some(self.deflate_ratio_max));
        let threshold = self.deflate_threshold as usize;
        Some(if threshold > 0 { deflate.threshold(threshold) } else { deflate })
    }

    #[cfg(not(feature = "deflate"))]
    fn refuse_compression(&self) -> Result<(), Failure> {
        if self.deflate == 0 {
            return Ok(());
        }
        Err(invalid(
            "deflate: this build has no compression: build it with its feature deflate".into(),
        ))
    }

    fn auto_ping(&self) -> Option<AutoPing> {
        let idle = limit(self.ping_idle_ms)?;
        let ping = AutoPing::new(idle, limit(self.ping_reply_ms).unwrap_or(idle));
        let is_periodic = self.ping_periodic != 0;
        Some(if is_periodic { ping.with_strategy(AutoPingStrategy::Periodic) } else { ping })
    }

    fn queue_policy(&self) -> Result<QueuePolicy, Failure> {
        match self.queue_policy {
            0 => Ok(QueuePolicy::Close),
            1 => Ok(QueuePolicy::DropNewest),
            2 => Ok(QueuePolicy::DropOldest),
            other => Err(invalid(format!("queue_policy {other}: use one of pwu_queue_policy"))),
        }
    }
}

fn networks(setting: &str, text: &str) -> Result<Networks, Failure> {
    text.parse().map_err(|fault| invalid(format!("{setting}: {fault}")))
}

fn invalid(text: String) -> Failure {
    Failure::new(pwu_status::PWU_INVALID, text)
}

fn milliseconds(count: u32) -> Duration {
    Duration::from_millis(count.into())
}

fn limit(count: u32) -> Option<Duration> {
    (count > 0).then(|| milliseconds(count))
}

fn count(count: usize) -> Option<usize> {
    (count > 0).then_some(count)
}

fn bytes(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Connections that begin together end over a fifth of their lifetime.
const LIFETIME_JITTER: f64 = 0.2;
