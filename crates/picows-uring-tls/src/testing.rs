//! Support of tests and fuzz targets: the bodies of the fuzz targets.

pub mod fuzzing;
