//! The test rings: one from a seed, one by script; and the contract of rings, around any of them.

#[cfg(any(test, feature = "_fuzzing"))]
#[cfg_attr(not(test), allow(dead_code, reason = "some of it is for tests only"))]
pub(crate) mod checked;
#[cfg(any(test, feature = "_fuzzing"))]
#[cfg_attr(not(test), allow(dead_code, reason = "some of it is for tests only"))]
pub(crate) mod scripted;
#[cfg_attr(not(test), allow(dead_code, reason = "some of it is for tests only"))]
pub(crate) mod sim;
