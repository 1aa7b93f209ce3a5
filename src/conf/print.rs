//! The configuration in force, printed in its own language: what `multipath -t` and `corepath config` show.
//!
//! Reads back to the same text. Never prints what is unset, never cuts; the order is that of the keyword table. With origins each
//! line ends in a comment that says where its value comes from.

use super::blacklist::PROPERTY;
use super::complaint::{self, Report};
use super::effective::{Pick, Settings};
use super::keyword::{KEYWORDS, Key, Kind, Place};
use super::parse::Source;
use super::settings::{Lookup, Origin};
use super::table::ROWS;
use super::value::{self, Value, decimal, unescaped};
use core::fmt::{Result as Printed, Write};

/// What to print.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// A comment behind each value: its file and line, the array table, or the program's own default.
    pub origins: bool,
    /// Only what concerns these.
    pub local: Option<Local<'a>>,
}

/// What is there.
#[derive(Clone, Copy)]
pub struct Local<'a> {
    /// Vendor, product, revision.
    pub disks: &'a [[&'a str; 3]],
    /// Is there a map with this WWID?
    pub maps: &'a dyn Fn(&str) -> bool,
}

struct Printer<'p, 'a> {
    out: &'p mut dyn Write,
    settings: &'p Settings<'a>,
    origins: bool,
    depth: usize,
}

/// Prints everything in force.
pub fn dump(out: &mut dyn Write, settings: &Settings<'_>, options: Options<'_>) -> Printed {
    let mut p = Printer { out, settings, origins: options.origins, depth: 0 };
    p.open("defaults")?;
    let globals = settings.globals();
    let pick = settings.defaults(true);
    for row in &KEYWORDS {
        // What the two intervals are in the end, not what was said of them.
        let derived = match row.key {
            Key::PollingInterval => Some(globals.polling_interval),
            Key::MaxPollingInterval => Some(globals.max_polling_interval),
            _ => None,
        };
        let located = pick.get(row.key);
        let value = match derived {
            Some(seconds) => Some(Value::Number(u32::try_from(seconds.as_secs()).unwrap_or(u32::MAX))),
            None => located.map(|l| l.value),
        };
        if let Some(value) = value {
            p.line(row.key, value, located.map_or(Origin::Default, |l| l.origin))?;
        }
    }
    p.close()?;
    p.blacklist(Place::Blacklist, Place::BlacklistDevice)?;
    p.blacklist(Place::Exceptions, Place::ExceptionsDevice)?;
    p.open("devices")?;
    for (i, row) in ROWS.iter().enumerate().filter(|(i, _)| settings.row_counts(*i)) {
        if options.local.is_none_or(|local| local.disks.iter().any(|[vendor, product, revision]| row.matches(vendor, product, revision))) {
            let mut pick = Pick::empty();
            Settings::take_row(&mut pick, i);
            p.block("device", &pick)?;
        }
    }
    for (i, section) in settings.live(Place::Device) {
        if options.local.is_none_or(|local| local.disks.iter().any(|disk| settings.device_matches(section, *disk))) {
            p.chain("device", i)?;
        }
    }
    p.close()?;
    p.open("overrides")?;
    let mut pick = Pick::empty();
    settings.take_block(&mut pick, Place::Overrides);
    p.values(&pick)?;
    for (i, _) in settings.live(Place::Protocol) {
        p.chain("protocol", i)?;
    }
    p.close()?;
    if settings.live(Place::Multipath).next().is_some() {
        p.open("multipaths")?;
        for (i, _) in settings.live(Place::Multipath) {
            let mut pick = Pick::empty();
            settings.take_chain(&mut pick, i);
            let there = |local: Local<'_>| pick.text(Key::MapWwid).is_some_and(|wwid| (local.maps)(wwid));
            if options.local.is_none_or(there) {
                p.block("multipath", &pick)?;
            }
        }
        p.close()?;
    }
    Ok(())
}

impl<'a> Printer<'_, 'a> {
    fn indent(&mut self) -> Printed {
        (0..self.depth).try_for_each(|_| self.out.write_char('\t'))
    }
    fn open(&mut self, name: &str) -> Printed {
        self.indent()?;
        self.out.write_str(name)?;
        self.out.write_str(" {\n")?;
        self.depth += 1;
        Ok(())
    }
    fn close(&mut self) -> Printed {
        self.depth -= 1;
        self.indent()?;
        self.out.write_str("}\n")
    }
    fn line(&mut self, key: Key, value: Value<'_>, origin: Origin) -> Printed {
        self.indent()?;
        self.out.write_str(key.row().name())?;
        self.out.write_char(' ')?;
        value::emit(self.out, key, value)?;
        if self.origins {
            self.out.write_str("\t# ")?;
            emit_origin(self.out, self.settings.files, origin)?;
        }
        self.out.write_char('\n')
    }
    fn values(&mut self, pick: &Pick<'_>) -> Printed {
        for row in &KEYWORDS {
            if let Some(located) = pick.get(row.key) {
                self.line(row.key, located.value, located.origin)?;
            }
        }
        Ok(())
    }
    fn block(&mut self, name: &str, pick: &Pick<'_>) -> Printed {
        self.open(name)?;
        self.values(pick)?;
        self.close()
    }
    /// A section with what it took over.
    fn chain(&mut self, name: &str, section: usize) -> Printed {
        let mut pick = Pick::empty();
        self.settings.take_chain(&mut pick, section);
        self.block(name, &pick)
    }

    #[inline(never)]
    fn blacklist(&mut self, place: Place, device: Place) -> Printed {
        let settings = self.settings;
        self.open(place.word())?;
        for key in [Key::Devnode, Key::Wwid, Key::Property, Key::BlacklistProtocol] {
            let own = match (place, key) {
                (Place::Blacklist, Key::Devnode) => Some(settings.default_devnode()),
                (Place::Exceptions, Key::Property) => Some(PROPERTY),
                _ => None,
            };
            for (text, origin) in settings.listed(place, key) {
                self.line(key, Value::Text(text), origin)?;
            }
            if let Some(text) = own.filter(|own| settings.listed(place, key).all(|(text, _)| text != *own)) {
                self.line(key, Value::Text(text), Origin::Default)?;
            }
        }
        for (i, _) in settings.live(device) {
            self.chain("device", i)?;
        }
        if place == Place::Blacklist {
            self.product_blacklist()?;
        }
        self.close()
    }
    /// The products that device entries keep out, as blacklist entries; each pair once.
    #[inline(never)]
    fn product_blacklist(&mut self) -> Printed {
        let settings = self.settings;
        let (mut count, mut result) = (0u32, Ok(()));
        settings.kept_out(&mut |vendor, product, origin| {
            let same = |v: &str, p: &str| unescaped(v) == unescaped(vendor) && unescaped(p) == unescaped(product);
            let mut listed = settings.live(Place::BlacklistDevice).any(|(_, section)| {
                let text = |key| settings.text_of(section, key);
                matches!((text(Key::BlacklistVendor), text(Key::BlacklistProduct)), (Some(v), Some(p)) if same(v, p))
            });
            // Those before this one.
            let mut left = count;
            settings.kept_out(&mut |v, p, _| {
                listed |= left > 0 && same(v, p);
                left = left.saturating_sub(1);
                left > 0
            });
            count += 1;
            if !listed {
                result = self.kept_out_device(vendor, product, origin);
            }
            result.is_ok()
        });
        result
    }
    fn kept_out_device(&mut self, vendor: &'a str, product: &'a str, origin: Origin) -> Printed {
        self.open("device")?;
        for (key, text) in [(Key::BlacklistVendor, vendor), (Key::BlacklistProduct, product)] {
            self.inverting_line(key, text, origin)?;
        }
        self.close()
    }
    /// A plain pattern where a leading `!` would invert it.
    fn inverting_line(&mut self, key: Key, text: &'a str, origin: Origin) -> Printed {
        if !text.starts_with('!') {
            return self.line(key, Value::Text(text), origin);
        }
        let mut escaped = heapless::String::<{ super::lex::LINE_MAX + 1 }>::new();
        escaped.write_str("\\")?;
        escaped.write_str(text)?;
        self.line(key, Value::Text(&escaped), origin)
    }
}

/// Where a value comes from, in words.
pub fn emit_origin(out: &mut dyn Write, files: &[Source<'_>], origin: Origin) -> Printed {
    match origin {
        Origin::Default => out.write_str("default"),
        Origin::CommandLine => out.write_str("command line"),
        Origin::Table(row) => {
            out.write_str("built-in array table, entry ")?;
            decimal(out, u64::from(row) + 1)
        }
        Origin::File { file, line } => {
            out.write_str(files.get(usize::from(file)).map_or("?", |file| file.name))?;
            out.write_char(':')?;
            decimal(out, u64::from(line))
        }
    }
}

/// Prints the complaints of a parse, a line each, and how many more there were.
pub fn complaints(out: &mut dyn Write, files: &[Source<'_>], report: &Report<'_>) -> Printed {
    for complaint in report.kept {
        let name = files.get(usize::from(complaint.file)).map_or("?", |file| file.name);
        complaint::emit(out, name, complaint)?;
        out.write_char('\n')?;
    }
    if report.lost > 0 {
        out.write_str("and ")?;
        decimal(out, u64::from(report.lost))?;
        out.write_str(" more\n")?;
    }
    Ok(())
}

/// Prints the keyword table: name, sections, values, default, meaning. `config --help` and the manual's list are this. `only`: the
/// rows of one keyword. `Ok(false)`: there is no such keyword.
pub fn keywords(out: &mut dyn Write, only: Option<&str>) -> Result<bool, core::fmt::Error> {
    let mut any = false;
    for row in KEYWORDS.iter().filter(|row| only.is_none_or(|name| name == row.name())) {
        any = true;
        out.write_str(row.name())?;
        out.write_str(" (")?;
        complaint::list(out, row.places)?;
        out.write_str(")\n    ")?;
        out.write_str(row.doc())?;
        out.write_str(match *row.kind {
            Kind::Ignored => "; accepted without effect\n",
            Kind::Same(_) | Kind::Block => "\n",
            _ => "\n    ",
        })?;
        if matches!(*row.kind, Kind::Ignored | Kind::Same(_) | Kind::Block) {
            continue;
        }
        complaint::describe(out, row.key)?;
        if !row.default().is_empty() {
            out.write_str("; default ")?;
            out.write_str(row.default())?;
        }
        out.write_char('\n')?;
    }
    Ok(any)
}

#[cfg(test)]
mod tests {
    use super::super::settings::{PathSettings, PrioKind};
    use super::super::testing::{load, load_bytes};
    use super::*;
    use proptest::prelude::*;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    fn text(settings: &Settings<'_>) -> String {
        let mut out = String::new();
        dump(&mut out, settings, Options::default()).unwrap();
        out
    }

    #[test]
    fn built_in_dump_reads_back() {
        let first = text(&Settings::builtin());
        let (blacklist, devices) = first.split_once("\ndevices {").unwrap();
        let kept_out: std::collections::BTreeSet<_> =
            ROWS.iter().filter_map(|row| Some((row.text(Key::Vendor)?, row.text(Key::ProductBlacklist)?))).collect();
        assert_eq!(devices.matches("\n\tdevice {").count(), 137);
        assert_eq!(blacklist.matches("\n\tdevice {").count(), kept_out.len());
        let (settings, report) = load(&first);
        assert_eq!(report.kept, []);
        assert_eq!(settings.devices(), 137);
        assert!((0..ROWS.len()).all(|row| !settings.row_counts(row)), "every built-in entry was taken over by its own print");
        assert_eq!(text(&settings), first);
    }

    #[test]
    fn a_dump_line_by_line() {
        let (settings, _) = load(
            "defaults {\n polling_interval 7\n mode 0640\n}\nblacklist {\n wwid \"say \"\"x\"\"\"\n}\noverrides {\n protocol {\n type scsi:fcp\n \
             fast_io_fail_tmo off\n }\n no_path_retry fail\n}\nmultipaths {\n multipath {\n wwid W\n alias a\n }\n}\n",
        );
        let mut out = String::new();
        dump(
            &mut out,
            &settings,
            Options { origins: true, local: Some(Local { disks: &[["EMC", "SYMMETRIX", ""]], maps: &|wwid| wwid == "W" }) },
        )
        .unwrap();
        for line in [
            "\tpolling_interval 7\t# test:2\n",
            "\tmax_polling_interval 28\t# default\n",
            "\tmode 0640\t# test:3\n",
            "\tpath_selector \"service-time 0\"\t# default\n",
            "\twwid \"say \"\"x\"\"\"\t# test:6\n",
            "\tdevnode \"!^(sd[a-z]|dasd[a-z]|nvme[0-9])\"\t# default\n",
            "\tproperty \"(SCSI_IDENT_|ID_WWN)\"\t# default\n",
            "\t\tvendor \"EMC\"\t# built-in array table, entry 27\n",
            "overrides {\n\tno_path_retry \"fail\"\t# test:13\n\tprotocol {\n\t\ttype \"scsi:fcp\"\t# test:10\n\t\tfast_io_fail_tmo off\t# test:11\n\t}\n}\n",
            "multipaths {\n\tmultipath {\n\t\twwid \"W\"\t# test:17\n\t\talias \"a\"\t# test:18\n\t}\n}\n",
        ] {
            assert!(out.contains(line), "{line:?} in\n{out}");
        }
        assert_eq!(out.split("devices {").nth(1).unwrap().matches("\tdevice {").count(), 1);
    }

    #[test]
    fn keyword_list() {
        let mut out = String::new();
        assert_eq!(keywords(&mut out, None), Ok(true));
        assert!(out.contains("no_path_retry (defaults, devices/device, overrides, multipaths/multipath)\n"));
        assert!(out.contains("    fail, queue or a number from 1 to 2147483647\n"));
        let mut one = String::new();
        assert_eq!(keywords(&mut one, Some("wwid")), Ok(true));
        assert_eq!(one.matches("wwid (").count(), 2);
        assert_eq!(keywords(&mut one, Some("nonsense")), Ok(false));
    }

    /// A configuration of known keywords with likely values, in and out of place.
    fn configuration() -> impl Strategy<Value = String> {
        let values = proptest::sample::select(
            &[
                "5",
                "0",
                "-1",
                "no",
                "yes",
                "queue",
                "fail",
                "off",
                "infinity",
                "\"1 queue_if_no_path\"",
                "\"round-robin 0\"",
                "foo",
                "\"a\"\"b\"",
                "\"!x\"",
                "\"^(a|b)$\"",
                "\"\"",
                "IBM",
                "^2145",
                "scsi:fcp",
                "alua",
                "\"sd:ID_X dasd\"",
                "{",
                "}",
                "file",
                "0640",
                "/UNSET/",
            ][..],
        );
        let line = ((0..KEYWORDS.len()).prop_map(|row| KEYWORDS[row].name()), values).prop_map(|(k, v)| format!("{k} {v}\n"));
        let block = proptest::sample::select(
            &[
                ("defaults {\n", "}\n"),
                ("overrides {\n", "}\n"),
                ("overrides {\nprotocol {\ntype scsi:fcp\n", "}\n}\n"),
                ("blacklist {\n", "}\n"),
                ("blacklist {\ndevice {\nvendor \"!a\"\n", "}\n}\n"),
                ("blacklist_exceptions {\n", "}\n"),
                ("devices {\ndevice {\nvendor IBM\nproduct ^2145\n", "}\n}\n"),
                ("devices {\ndevice {\nvendor !x\nvendor \"!x\"\nproduct y\nproduct_blacklist z\n", "}\n}\n"),
                ("multipaths {\nmultipath {\nwwid W0\n", "}\n}\n"),
                ("multipaths {\nmultipath {\nwwid W1\nalias a\n", "}\n}\n"),
                ("", ""),
            ][..],
        );
        let section =
            (block, proptest::collection::vec(line, 0..12)).prop_map(|((open, close), lines)| format!("{open}{}{close}", lines.concat()));
        proptest::collection::vec(section, 0..10).prop_map(|sections| sections.concat())
    }

    proptest! {
        /// What is printed reads back without a complaint, to the same text and the same answers.
        #[test]
        fn dump_is_stable(config in configuration()) {
            let (settings, _) = load(&config);
            let first = text(&settings);
            let (again, report) = load(&first);
            // What was taken in spite of a complaint still is: an alias that two maps want, old features.
            use super::super::complaint::What;
            let stays = |what: What| matches!(what, What::DuplicateAlias | What::Deprecated | What::BadPair | What::NotRead);
            let odd: Vec<_> = report.kept.iter().filter(|c| !stays(c.what)).collect();
            prop_assert!(odd.is_empty(), "{odd:?} in\n{first}");
            prop_assert_eq!(text(&again), first);
            for (vendor, product, wwid) in [("IBM", "2145", "W0"), ("!x", "y", "W1"), ("EMC", "SYMMETRIX", "")] {
                let facts = crate::model::PathFacts {
                    name: crate::model::Text::try_from("sda").unwrap(),
                    vendor: crate::model::Text::try_from(vendor).unwrap(),
                    product: crate::model::Text::try_from(product).unwrap(),
                    wwid: crate::model::Text::try_from(wwid).unwrap(),
                    ..Default::default()
                };
                prop_assert_eq!(again.map(wwid, &facts), settings.map(wwid, &facts));
                // Arguments without a prioritizer go with the one the dump names, const, which takes none.
                let path = |settings: &Settings<'_>| match settings.path(&facts) {
                    path if path.prio == PrioKind::Const => PathSettings { prio_args: Default::default(), ..path },
                    path => path,
                };
                prop_assert_eq!(path(&again), path(&settings));
            }
        }

        #[test]
        fn any_bytes(main: Vec<u8>, drop_in in "[ -~{}\"\n]{0,300}") {
            let (settings, report) = load_bytes(&[&main, drop_in.as_bytes()]);
            let mut out = String::new();
            dump(&mut out, &settings, Options { origins: true, local: None }).unwrap();
            complaints(&mut out, settings.files, &report).unwrap();
        }
    }
}
