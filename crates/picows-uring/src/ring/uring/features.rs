//! Optional features of the kernel's io_uring, found by trying them.
//!
//! A kernel's version does not show them: distributions backport, and a probe of operations knows
//! no flags.

use super::sleep::poll_devices;
use super::{Uring, UringRing};
use io_uring::opcode;
use io_uring::register::Restriction;
use std::io;
use std::time::Duration;

/// The features of a ring beyond what every worker needs. `None` where it could not be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    /// Receive buffers that are filled piece by piece (`IOU_PBUF_RING_INC`, Linux 6.12).
    pub(crate) incremental_buffers: Option<bool>,
    /// Busy polling of network devices (`IORING_REGISTER_NAPI`, Linux 6.9).
    pub(crate) napi: Option<bool>,
    /// Waits that gather completions for a while (`IORING_FEAT_MIN_TIMEOUT`, Linux 6.12).
    pub(crate) min_wait: Option<bool>,
    /// Sleeping without showing as iowait (`IORING_ENTER_NO_IOWAIT`, Linux 6.15).
    pub(crate) no_iowait: Option<bool>,
    /// Rings that take only registered kinds of operations (`IORING_REGISTER_RESTRICTIONS`, Linux
    /// 5.10).
    pub(crate) restrictions: Option<bool>,
}

impl UringRing {
    /// What the kernel has for this ring. Small rings try what a data ring may not register.
    pub(crate) fn features(&self) -> Features {
        let parameters = self.ring.params();
        Features {
            incremental_buffers: Some(self.buffers.are_incremental()),
            napi: answer(poll_devices_at_all()),
            min_wait: Some(parameters.is_feature_min_timeout()),
            no_iowait: Some(parameters.is_feature_no_iowait()),
            restrictions: answer(restrict()),
        }
    }
}

/// Switches busy polling of network devices on for a ring of its own.
fn poll_devices_at_all() -> io::Result<()> {
    poll_devices(&Uring::builder().build(1)?, Duration::ZERO)
}

/// Restricts a ring of its own to an operation that does nothing.
fn restrict() -> io::Result<()> {
    let ring: Uring = Uring::builder().setup_r_disabled().build(1)?;
    ring.submitter().register_restrictions(&mut [Restriction::sqe_op(opcode::Nop::CODE)])?;
    ring.submitter().register_enable_rings()
}

/// Whether the kernel can. A lack of memory or descriptors says nothing about that.
fn answer(tried: io::Result<()>) -> Option<bool> {
    match tried {
        Ok(()) => Some(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE) => None,
            _ => Some(false),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::WaitMode;

    #[test]
    fn a_lack_of_memory_says_nothing_about_a_feature() {
        let failed = |errno| answer(Err(io::Error::from_raw_os_error(errno)));
        assert_eq!(answer(Ok(())), Some(true));
        assert_eq!([failed(libc::ENOMEM), failed(libc::EMFILE)], [None, None]);
        assert_eq!([failed(libc::EINVAL), failed(libc::EOPNOTSUPP)], [Some(false); 2]);
    }

    #[test]
    fn features_agree_with_what_rings_are_made_of() {
        let ring = UringRing::new(WaitMode::Dedicated).unwrap();
        let features = ring.features();
        // Older than what every ring needs, so each kernel that runs the test has it.
        assert_eq!(features.restrictions, Some(true));
        // Since 6.12 both; a kernel without one has not the other.
        assert_eq!(features.incremental_buffers, features.min_wait);
        let old = std::thread::spawn(|| {
            crate::ring::uring::buffers::tests::be_old();
            UringRing::new(WaitMode::Dedicated).unwrap().features()
        });
        assert_eq!(old.join().unwrap().incremental_buffers, Some(false));
    }
}
