//! What tests and fuzz targets drive: two ends in memory, and the bodies of the fuzz targets.

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(test)]
mod pair;
