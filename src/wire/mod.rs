//! Bytes and text from the outside <-> small values. One file per format, `parse` beside `emit`; `emit(parse(x)) == x` is a test.
//!
//! Total on any input: no panic, no over-read, overflow is malformed. No clock, no fd, no log, no configuration, no engine.

pub mod alua;
pub mod cursor;
pub mod dm;
pub mod emc;
pub mod inquiry;
pub mod ipc;
pub mod links;
pub mod mode;
pub mod nvme;
pub mod partition;
pub mod rdac;
pub mod root;
pub mod scsi;
pub mod sense;
pub mod superblock;
pub mod table;
pub mod uevent;
pub mod vendor;
pub mod vpd;
