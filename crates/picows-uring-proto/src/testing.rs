//! Support of tests and fuzz targets: two ends in memory, and the bodies of the fuzz targets.

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(test)]
mod pair;
