//! Bytes and text from the outside <-> small values. One file per format, `parse` beside `emit`; `emit(parse(x)) == x` is a test.
//!
//! Total on any input: no panic, no over-read, overflow is malformed. No clock, no fd, no log, no configuration, no engine.

pub mod cursor;
pub mod dm;
pub mod partition;
pub mod scsi;
pub mod table;
