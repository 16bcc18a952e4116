//! Flags of the driver and of the loop, common to the commands.

use picows_uring::{Driver, EventLoop, Runtime, RuntimeBuilder, ServerBuilder};

/// The driver of a command.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct NamedDriver {
    /// What to talk to the kernel with: io-uring (an error where it cannot be had), epoll (no call
    /// of io_uring is made at all), or auto: io-uring, or else epoll with a warning where io_uring
    /// is absent, too old, or forbidden, as in most containers [default: PICOWS_DRIVER of the
    /// environment, or else auto]
    #[arg(long, value_name = "auto|io-uring|epoll")]
    driver: Option<Driver>,
}

impl NamedDriver {
    /// The driver that the flag names.
    pub(crate) fn given(self) -> Option<Driver> {
        self.driver
    }
}

/// The driver of a command's workers, and their loop.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct DriverFlag {
    #[command(flatten)]
    named: NamedDriver,

    /// The loop of workers that are not dedicated, and in which clients connect: tokio-uring's, tokio's own
    /// (one system call less for a lone message), or auto: tokio-uring's, and with the driver epoll tokio's own
    #[arg(long, value_name = "auto|tokio-uring|tokio", default_value_t)]
    event_loop: EventLoop,
}

impl DriverFlag {
    /// Sets the driver and the loop of a server. Without the flag the library reads the driver from the
    /// environment.
    pub(crate) fn of_server(self, builder: ServerBuilder) -> ServerBuilder {
        let builder = builder.event_loop(self.event_loop);
        match self.named.driver {
            Some(driver) => builder.driver(driver),
            None => builder,
        }
    }

    /// A client's loop as the flags have it, to be set up further.
    pub(crate) fn of_loop(self) -> RuntimeBuilder {
        let builder = Runtime::builder().event_loop(self.event_loop);
        match self.named.driver {
            Some(driver) => builder.driver(driver),
            None => builder,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        flags: DriverFlag,
    }

    #[test]
    fn the_flag_takes_the_names_of_the_library() {
        let parse = |name| Cli::try_parse_from(["picows", "--driver", name]);
        for driver in [Driver::Auto, Driver::IoUring, Driver::Epoll] {
            assert_eq!(parse(driver.name()).unwrap().flags.named.given(), Some(driver));
        }
        let error = parse("kqueue").unwrap_err().to_string();
        assert!(
            error.contains("--driver") && error.contains("use auto, io-uring or epoll"),
            "{error}"
        );
        assert_eq!(Cli::try_parse_from(["picows"]).unwrap().flags.named.given(), None);
    }

    #[test]
    fn the_flag_of_the_loop_takes_the_names_of_the_library() {
        let parse = |name| Cli::try_parse_from(["picows", "--event-loop", name]);
        for event_loop in [EventLoop::Auto, EventLoop::TokioUring, EventLoop::Tokio] {
            assert_eq!(parse(event_loop.name()).unwrap().flags.event_loop, event_loop);
        }
        let error = parse("libuv").unwrap_err().to_string();
        assert!(error.contains("use auto, tokio-uring or tokio"), "{error}");
    }

    #[test]
    fn a_loop_runs_on_the_driver_that_the_flag_names() {
        let named = NamedDriver { driver: Some(Driver::Epoll) };
        let flags = DriverFlag { named, event_loop: EventLoop::Auto };
        let runtime = flags.of_loop().build().unwrap();
        assert_eq!(runtime.driver(), Driver::Epoll);
        // Which would make calls of io_uring.
        let flags = DriverFlag { event_loop: EventLoop::TokioUring, ..flags };
        assert!(flags.of_loop().build().unwrap_err().to_string().starts_with("event_loop: "));
    }
}
