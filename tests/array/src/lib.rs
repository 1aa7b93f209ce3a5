//! A storage array that exists only in this process: SCSI commands in, SCSI answers out.
//!
//! `target` is pure (no socket, no clock, no thread): `Array::execute` is called with the time and one
//! command and gives an answer. `bus` carries it to QEMU over vhost-user-scsi, `server` lets a test
//! drive it over a unix socket. What the personalities imitate is in ../README.md.

#![forbid(unsafe_code)]

pub mod array;
pub mod bus;
pub mod config;
pub mod control;
pub mod fault;
pub mod log;
pub mod lun;
pub mod mode;
pub mod persona;
pub mod rule;
pub mod sbc;
pub mod scsi;
pub mod server;
pub mod site;
pub mod spc;
pub mod store;
