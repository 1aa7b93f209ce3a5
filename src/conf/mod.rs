//! multipath.conf text -> settings with their origin.
//!
//! Pure: text in, settings and located complaints out. No fd, no clock, no engine. The language is multipath-tools'; where it does
//! something by accident, what is done here is decided on purpose and listed in docs/differences.md, section "Configuration".
//!
//! ```text
//!   files --lex--> tokens --parse (keyword, value)--> sections, entries --effective--> what the engine asks (settings::Lookup)
//! ```

pub mod blacklist;
pub mod complaint;
pub mod effective;
pub mod ere;
pub mod keyword;
pub mod lex;
mod lookup;
pub mod names;
pub mod parse;
pub mod print;
pub mod settings;
pub mod table;
#[cfg(test)]
mod testing;
pub mod value;
pub mod wrong;

pub use complaint::{Complaint, Report};
pub use effective::Settings;
pub use parse::{Entry, Room, Section, Source, parse};
