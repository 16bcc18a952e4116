//! The flag of the driver, common to all commands.

use picows_uring::{Driver, Runtime, RuntimeBuilder, ServerBuilder};

/// What the workers of a command talk to the kernel with.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct DriverFlag {
    /// What to talk to the kernel with: io-uring (an error where it cannot be had), epoll (no call
    /// of io_uring is made at all), or auto: io-uring, or else epoll with a warning where io_uring
    /// is absent, too old, or forbidden, as in most containers [default: PICOWS_DRIVER of the
    /// environment, or else auto]
    #[arg(long, value_name = "auto|io-uring|epoll")]
    driver: Option<Driver>,
}

impl DriverFlag {
    /// The driver that the flag names.
    pub(crate) fn given(self) -> Option<Driver> {
        self.driver
    }

    /// Sets the driver of a server. Without the flag the library reads the environment.
    pub(crate) fn of_server(self, builder: ServerBuilder) -> ServerBuilder {
        match self.driver {
            Some(driver) => builder.driver(driver),
            None => builder,
        }
    }

    /// A client's loop on this driver, to be set up further.
    pub(crate) fn of_loop(self) -> RuntimeBuilder {
        match self.driver {
            Some(driver) => Runtime::builder().driver(driver),
            None => Runtime::builder(),
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
        flag: DriverFlag,
    }

    #[test]
    fn the_flag_takes_the_names_of_the_library() {
        let parse = |name| Cli::try_parse_from(["picows", "--driver", name]);
        for driver in [Driver::Auto, Driver::IoUring, Driver::Epoll] {
            assert_eq!(parse(driver.name()).unwrap().flag.driver, Some(driver));
        }
        let error = parse("kqueue").unwrap_err().to_string();
        assert!(
            error.contains("--driver") && error.contains("use auto, io-uring or epoll"),
            "{error}"
        );
        assert_eq!(Cli::try_parse_from(["picows"]).unwrap().flag.driver, None);
    }

    #[test]
    fn a_loop_runs_on_the_driver_that_the_flag_names() {
        let flag = DriverFlag { driver: Some(Driver::Epoll) };
        let runtime = flag.of_loop().build().unwrap();
        assert_eq!(runtime.driver(), Driver::Epoll);
    }
}
