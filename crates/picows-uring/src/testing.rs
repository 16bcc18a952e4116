//! Rings and peers that tests play: the simulated ring with its simulation, the scripted ring, and
//! what fuzz targets and counted benchmarks drive.
//!
//! Not part of the library: compiled for tests, and with the feature `fuzzing`. No module outside of
//! this one names it, but for tests.

pub mod fuzzing;
pub mod measured;
pub(crate) mod ring;
pub(crate) mod simulation;
