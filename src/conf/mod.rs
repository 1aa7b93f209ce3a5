//! multipath.conf text -> settings with their origin.
//!
//! Pure: text in, settings and located complaints out. No fd, no clock, no engine. The grammar's facts are in docs/differences.md.

pub mod settings;
