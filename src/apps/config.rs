//! `corepath config`: the configuration in force with the place each value comes from, `--check` of files, the list of keywords.
//!
//! Pure: reads no file and prints to what it is handed; whoever dispatches reads the files in load order and chooses the stream.

use crate::conf::print::{self, Options};
use crate::conf::{Report, Settings, Source};
use core::fmt::{Result as Printed, Write};

/// The configuration in force, as text that reads back to itself. `local`: only device entries for these disks (vendor, product,
/// revision); `origins`: a comment behind each value.
pub fn dump(out: &mut dyn Write, settings: &Settings<'_>, local: Option<&[[&str; 3]]>, origins: bool) -> Printed {
    print::dump(out, settings, Options { origins, local })
}

/// What is wrong with the files that were parsed, a line each, and a last line that sums up. `Ok(true)`: no errors; remarks (old
/// spellings, duplicates) are printed but are none.
pub fn check(out: &mut dyn Write, files: &[Source<'_>], report: &Report<'_>) -> Result<bool, core::fmt::Error> {
    print::complaints(out, files, report)?;
    crate::conf::value::decimal(out, u64::from(report.errors))?;
    out.write_str(if report.errors == 1 { " error\n" } else { " errors\n" })?;
    Ok(report.errors == 0)
}

/// The complaints alone, for those who only start: standard error or the log.
pub fn complain(out: &mut dyn Write, files: &[Source<'_>], report: &Report<'_>) -> Printed {
    print::complaints(out, files, report)
}

/// Every keyword, or one, with its sections, values, default and meaning. `Ok(false)`: there is no such keyword.
pub fn keywords(out: &mut dyn Write, only: Option<&str>) -> Result<bool, core::fmt::Error> {
    print::keywords(out, only)
}
