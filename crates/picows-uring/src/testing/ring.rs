//! The test rings: one from a seed, one by script.

#[cfg_attr(not(test), allow(dead_code, reason = "some of it is for tests only"))]
pub(crate) mod scripted;
#[cfg_attr(not(test), allow(dead_code, reason = "some of it is for tests only"))]
pub(crate) mod sim;
