//! `corepath config`: the configuration in force with the place each value comes from, `--check` of files, the list of keywords.
//!
//! Pure: reads no file and prints to what it is handed; whoever dispatches reads the files in load order and chooses the stream.

use super::engine_view::EngineView;
use crate::conf::print::{self, Local, Options};
use crate::conf::{Report, Settings, Source};
use core::fmt::{Result as Printed, Write};

/// The configuration in force, as text that reads back to itself. `local`: only entries for the paths and maps of this view; `origins`: a
/// comment behind each value.
pub fn dump(out: &mut dyn Write, settings: &Settings<'_>, local: Option<&EngineView<'_>>, origins: bool) -> Printed {
    let mut disks = heapless::Vec::<[&str; 3], 64>::new();
    let Some(view) = local else { return print::dump(out, settings, Options { origins, local: None }) };
    for path in view.shown() {
        let disk = [path.vendor(), path.product(), path.revision()];
        if !disks.contains(&disk) {
            // More kinds of arrays than that on one machine: the rest is left out.
            let _ = disks.push(disk);
        }
    }
    let maps = |wwid: &str| view.engine.find_map(wwid).is_some_and(|map| map.live());
    print::dump(out, settings, Options { origins, local: Some(Local { disks: &disks, maps: &maps }) })
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
