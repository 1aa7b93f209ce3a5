//! Configuration that nobody should write: every complaint names its place, nothing grows, nothing that was right before is lost.

use corepath::conf::settings::Lookup;
use corepath::conf::{Complaint, Entry, Report, Room, Section, Settings, Source, parse, print};
use corepath::model::{PathFacts, Text};
use std::time::Duration;

/// Room for so many lines and complaints, kept as long as the test.
fn load_into(texts: &[&[u8]], lines: usize, complaints: usize) -> (Settings<'static>, Report<'static>) {
    let names = ["multipath.conf", "conf.d/a.conf", "conf.d/b.conf"];
    let files: Vec<_> = texts.iter().zip(names).map(|(text, name)| Source { name, text: text.to_vec().leak() }).collect();
    let files: &'static [Source<'static>] = files.leak();
    let room = Room {
        sections: vec![Section::EMPTY; lines].leak(),
        entries: vec![Entry::EMPTY; lines].leak(),
        slots: vec![0; 4 * lines].leak(),
        text: vec![0; 4 * lines].leak(),
        complaints: vec![Complaint::EMPTY; complaints].leak(),
    };
    let parsed = parse(files, room);
    let report = parsed.report;
    (Settings::new(files, parsed), report)
}

fn load(text: &str) -> (Settings<'static>, Report<'static>) {
    load_into(&[text.as_bytes()], 100, 32)
}

/// What `config --check` prints.
fn said(text: &[u8]) -> String {
    let (settings, report) = load_into(&[text], 100, 32);
    let mut out = String::new();
    print::complaints(&mut out, settings.files, &report).unwrap();
    out
}

fn retry(settings: &Settings<'_>) -> String {
    let facts = PathFacts { vendor: Text::try_from("foo").unwrap(), ..PathFacts::default() };
    format!("{:?}", settings.map("W0", &facts).no_path_retry)
}

#[test]
fn sentences() {
    for (text, expected) in [
        (
            "defaults {\nno_path_retry 5x\n}\n",
            "2: no_path_retry: bad value, expected fail, queue or a number from 1 to 2147483647; it stays unset here",
        ),
        (
            "defaults {\npolling_interval 7\npolling_interval x\n}\n",
            "3: polling_interval: given before; the last one counts\nmultipath.conf:3: polling_interval: bad value, expected a number from 1 to 2147483647; 7 stays in force",
        ),
        ("defaults {\npolling_interval x\n}\n", "2: polling_interval: bad value, expected a number from 1 to 2147483647; 5 stays in force"),
        ("defaults {\nuxsock_timeout 5\n}\n", "2: uxsock_timeout: out of range, expected a number from 4000 to 2147483647; 4000 is taken"),
        (
            "defaults {\npath_checker turr\n}\n",
            "2: path_checker: bad value, expected tur, directio, readsector0, rdac, emc_clariion, hp_sw, cciss_tur, none; \"tur\" stays in force",
        ),
        (
            "defaults {\nfeatures \"2 a\"\n}\n",
            "2: features: the count is not that of the words, expected \"count word ...\"; \"0\" stays in force",
        ),
        (
            "defaults {\npath_selector\n}\n",
            "2: path_selector: no value, expected \"name count word ...\"; \"service-time 0\" stays in force",
        ),
        (
            "defaults {\nvendor x\n}\n",
            "2: vendor: not a keyword of defaults but of blacklist/device, blacklist_exceptions/device, devices/device; the line has no effect",
        ),
        ("defaults {\nfoo x\n}\n", "2: foo: unknown keyword; the line has no effect"),
        ("defaults {\nmode 999\n}\n", "2: mode: bad value, expected octal digits up to 0777; it stays unset here"),
        ("defaults {\nuid nobody\n}\n", "2: uid: bad value, expected root or a number; it stays unset here"),
        (
            "defaults {\nreservation_key xyz\n}\n",
            "2: reservation_key: bad key, expected 1 to 16 hexadecimal digits with an optional :aptpl, or file; it stays unset here",
        ),
        ("defaults {\nbindings_file /x\n}\n", "2: bindings_file: obsolete; the line has no effect"),
        ("defaults {\nflush_on_last_del yes\n}\n", "2: flush_on_last_del: an old spelling, still understood"),
        ("defaults {\nalias_prefix a/b\n}\n", "2: alias_prefix: a / cannot be part of it; \"mpath\" stays in force"),
        ("blacklist {\nwwid \"(\"\n}\n", "2: wwid: bad regular expression: ( without ); the line has no effect"),
        ("defaults {\nuid_attrs \"sd dasd:\"\n}\n", "2: uid_attrs: words that are not prefix:ATTRIBUTE are ignored; it stays unset here"),
        (
            "overrides {\nuid_attribute ID_WWN\n}\n",
            "2: uid_attribute: not read: the WWID of a SCSI disk is what udev has as ID_SERIAL, made from the disk's own pages",
        ),
        (
            "defaults {\nno_path_retry x\nno_path_retry 5\n}\n",
            "2: no_path_retry: bad value, expected fail, queue or a number from 1 to 2147483647; it stays unset here\nmultipath.conf:3: no_path_retry: given before; the last one counts",
        ),
        ("devices {\ndevice {\nvendor x\n}\n}\n", "2: vendor and product must be given; the block has no effect"),
        ("multipaths {\nmultipath {\nalias x\n}\n}\n", "2: no wwid given; the block has no effect"),
        ("foo {\nbar {\n}\n}\n", "1: foo: no such block in the top level; the block has no effect"),
        ("}\n", "1: } closes nothing; the line has no effect"),
        ("defaults {\n", "1: the file ends inside defaults"),
        ("defaults {\nfailback \"manual\n}\n", "2: failback: no closing quotation mark"),
        (
            "defaults {\nfailback 5\u{a0}x\n}\n",
            "2: bytes outside ASCII count as blanks unless quoted\nmultipath.conf:2: failback: text behind the value or brace is ignored",
        ),
        ("defaults\nverbosity 3\n}\n", "1: defaults: no { behind it"),
        ("\u{feff}defaults {\n\x1b[31m 1\n}\n", "2: not text (control bytes, or not UTF-8); the line has no effect"),
        ("defaults {\na\\\u{7f}b\n}\n", "2: not text (control bytes, or not UTF-8); the line has no effect"),
    ] {
        assert_eq!(said(text.as_bytes()), format!("multipath.conf:{expected}\n"), "{text:?}");
    }
    for text in [
        "blacklist {\ndevice {\n}\n}\n",
        "devices {\ndevice {\nvendor NVME\nproduct x\nuid_attribute ID_WWN\n}\n}\n",
        "defaults {\nuid_attribute \"\"\n}\n",
        "defaults {\nchecker tur\npath_checker tur\n}\n",
    ] {
        assert_eq!(said(text.as_bytes()), "", "{text:?}");
    }
    let long = format!("defaults {{\n{}\n}}\n", "x".repeat(1024));
    assert_eq!(said(long.as_bytes()), "multipath.conf:2: longer than 1023 bytes; the line has no effect\n");
    assert_eq!(said(format!("#{}\n", "x".repeat(1022)).as_bytes()), "");
    // Untrusted text is cut and cleaned in messages.
    let odd = said(format!("{} 1\n", "a%~|".repeat(20)).as_bytes());
    assert!(odd.contains(&format!("1: {}...: unknown keyword", "a%~|".repeat(12))), "{odd}");
}

#[test]
fn braces() {
    // A one-line section has no effect and swallows nothing; what follows counts.
    let (settings, _) = load("defaults { failback 3 }\ndefaults {\nno_path_retry 7\n}\n");
    assert_eq!(retry(&settings), "Retries(7)");
    let (settings, report) = load("devices { device { vendor foo\nproduct x\n}\n}\ndefaults {\nno_path_retry 7\n}\n");
    assert_eq!((retry(&settings).as_str(), report.errors), ("Retries(7)", 1));
    // Several closing braces on one line.
    let (settings, _) = load("devices {\ndevice {\nvendor foo\nproduct .*\nno_path_retry 8\n} }\ndefaults {\nno_path_retry 7\n}\n");
    assert_eq!(retry(&settings), "Retries(8)");
    // An unknown block inside a known one does not close it.
    let (settings, report) = load("defaults {\nfoo {\nbar {\n} }\nno_path_retry 7\n}\n");
    assert_eq!((retry(&settings).as_str(), report.errors), ("Retries(7)", 1));
    // A known keyword with a brace for a value is no block of ours.
    let (settings, report) = load("defaults {\nfailback {\nno_path_retry 9\n}\nno_path_retry 7\n}\n");
    assert_eq!((retry(&settings).as_str(), report.errors), ("Retries(7)", 1));
    // A quotation mark, nothing in it, and a brace behind.
    let (_, report) = load("\"\" {\n\"\" }\n\" { }\n");
    assert_eq!(report.errors, 3);
}

#[test]
fn drop_ins_and_later_values() {
    let (settings, report) =
        load_into(&[b"defaults {\nno_path_retry 5\n}\n", b"defaults {\nno_path_retry x\n", b"defaults {\nfailback 3\n}\n"], 20, 5);
    assert_eq!(retry(&settings), "Retries(5)");
    let mut out = String::new();
    print::complaints(&mut out, settings.files, &report).unwrap();
    assert_eq!(
        out,
        "conf.d/a.conf:2: no_path_retry: bad value, expected fail, queue or a number from 1 to 2147483647; 5 stays in force\n\
         conf.d/a.conf:2: the file ends inside defaults\n"
    );
    // One map in two files is told as it is within one; a device entry of another file is there to be added to.
    let map = b"multipaths {\nmultipath {\nwwid W0\n}\n}\ndevices {\ndevice {\nvendor a\nproduct b\n}\n}\n";
    let (_, report) = load_into(&[map, map], 20, 5);
    let told: Vec<_> = report.kept.iter().map(|c| (c.file, c.line, c.what)).collect();
    assert_eq!(told, [(1, 2, corepath::conf::complaint::What::DuplicateMultipath)]);
    // 0 where it means "not set": the last one of one section counts, but takes nothing from another.
    let zero = |text: &str| load(text).0.map("W0", &PathFacts::default()).max_sectors_kb;
    assert_eq!(zero("defaults {\nmax_sectors_kb 5\nmax_sectors_kb 0\n}\n"), None);
    assert_eq!(zero("defaults {\nmax_sectors_kb 5\n}\noverrides {\nmax_sectors_kb 6\nmax_sectors_kb 0\n}\n"), Some(5));
    let twice = "multipaths {\nmultipath {\nwwid W0\nmax_sectors_kb 5\n}\nmultipath {\nwwid W0\nmax_sectors_kb 0\n}\n}\n";
    assert_eq!(zero(twice), Some(5));
    assert_eq!(load("defaults {\nfind_multipaths_timeout 0\n}\n").0.globals().find_multipaths_timeout, -10);
}

#[test]
fn one_alias_for_two() {
    let text = "multipaths {\nmultipath {\nwwid W1\nalias a\n}\nmultipath {\nwwid W0\nalias a\n}\nmultipath {\nwwid W0\nalias b\n}\n}\n";
    let (settings, report) = load(text);
    let alias = |settings: &Settings<'_>, wwid: &str| settings.map(wwid, &PathFacts::default()).alias.to_string();
    // W0 gave `a` up for `b`, so it is free for W1.
    assert_eq!((alias(&settings, "W0").as_str(), alias(&settings, "W1").as_str(), report.errors), ("b", "a", 0));
    let (settings, report) = load(&text.replace("alias b", "mode 0600"));
    assert_eq!((alias(&settings, "W0").as_str(), alias(&settings, "W1").as_str(), report.errors), ("a", "", 1));
    let mut taken = Vec::new();
    settings.aliases(&mut |alias, wwid| taken.push((alias.to_string(), wwid.to_string())));
    assert_eq!(taken, [("a".to_string(), "W0".to_string())]);
    assert!(settings.named("W0") && settings.named("W1") && !settings.named("W2") && !settings.named(""));
}

/// Full is an answer: what fits is in force, what does not is complained about with its place, and blocks stay blocks.
#[test]
fn full() {
    let text = "defaults {\nno_path_retry 7\n}\nmultipaths {\nmultipath {\nwwid W0\nalias a\n}\nmultipath {\nwwid W1\nalias b\n}\n}\n\
                overrides {\nno_path_retry 9\n}\n";
    for room in 0..8 {
        let (settings, report) = load_into(&[text.as_bytes()], room, 32);
        let full = report.kept.iter().any(|c| c.what == corepath::conf::complaint::What::Full);
        assert_eq!(full, room < 6, "{room}");
        let expected = match room {
            0 => "Unset",
            1..6 => "Retries(7)",
            _ => "Retries(9)",
        };
        assert_eq!(retry(&settings), expected, "{room}");
        let mut out = String::new();
        print::dump(&mut out, &settings, Default::default()).unwrap();
    }
    // No room for complaints: they are counted.
    let (_, report) = load_into(&[b"a b\nc d\n"], 2, 0);
    assert_eq!((report.kept.len(), report.lost, report.errors), (0, 2, 2));
}

/// 100 MB of bytes that are no text, blocks that never end, and lines that never end, one file each; the settings before and after
/// stay in force, the first complaints are kept and the rest are counted.
#[test]
fn a_hundred_megabytes() {
    const SIZE: usize = 100 << 20;
    let good = b"defaults {\nno_path_retry 7\n}\n";
    let check = |text: &[u8], least: u32, before: bool| {
        let files = [Source { name: "large", text }, Source { name: "small", text: b"defaults {\nfailback 3\n}\n" }];
        let (mut sections, mut entries, mut slots) = ([Section::EMPTY; 64], [Entry::EMPTY; 64], [0; 256]);
        let mut complaints = [Complaint::EMPTY; 20];
        let room =
            Room { sections: &mut sections, entries: &mut entries, slots: &mut slots, text: &mut [0; 64], complaints: &mut complaints };
        let parsed = parse(&files, room);
        let report = parsed.report;
        let settings = Settings::new(&files, parsed);
        assert!(report.errors >= least, "{}", report.errors);
        assert_eq!(report.kept.len() as u32 + report.lost, report.errors, "all of these are errors");
        assert!(report.kept.len() <= 20);
        assert!(!before || retry(&settings) == "Retries(7)");
        assert_eq!(format!("{:?}", settings.map("W0", &PathFacts::default()).failback), "After(3)");
    };
    let mut text = Vec::with_capacity(SIZE);
    let mut seed = 1u64;
    while text.len() < SIZE {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        text.extend(seed.to_le_bytes());
    }
    check(&text, 1000, false);
    text.clear();
    text.extend(good);
    let line = format!("devices {{\n{}\n", "{ x ".repeat(250));
    while text.len() < SIZE {
        text.extend(line.as_bytes());
    }
    check(&text, 1, true);
    text.clear();
    text.extend(good);
    text.resize(SIZE, b'x');
    check(&text, 1, true);
}

/// Ten times the input takes about ten times as long, whatever it holds.
#[test]
fn linear() {
    // CPU time of this thread: the machine may be busy with other tests.
    let now = || {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
    };
    let time = |text: &[u8]| -> Duration {
        let lines = Room::lines(&[Source { name: "x", text }]);
        let (mut sections, mut slots) = (vec![Section::EMPTY; lines], vec![0; 4 * lines]);
        let run = || {
            let (mut entries, mut complaints) = (vec![Entry::EMPTY; lines], [Complaint::EMPTY; 20]);
            let files = [Source { name: "x", text }];
            let room =
                Room { sections: &mut sections, entries: &mut entries, slots: &mut slots, text: &mut [], complaints: &mut complaints };
            let start = now();
            parse(&files, room);
            now() - start
        };
        std::iter::repeat_with(run).take(4).min().unwrap()
    };
    let maps = |n: usize| {
        let one = |i| format!("multipath {{\nwwid W{i}\nalias a{}\n}}\n", i % (n / 2));
        format!("multipaths {{\n{}}}\n", (0..n).map(one).collect::<String>())
    };
    let devices = |n: usize| {
        let one = |i| format!("device {{\nvendor V{i}\nproduct \"p\"\n}}\n");
        format!("devices {{\n{}}}\n", (0..n).map(one).collect::<String>())
    };
    let bad = |n: usize| format!("defaults {{\n{}", "polling_interval x\n".repeat(n));
    let nested = |n: usize| "defaults {\n".repeat(n);
    for make in [&maps as &dyn Fn(usize) -> String, &devices, &bad, &nested] {
        let (small, large) = (time(make(2_000).as_bytes()), time(make(20_000).as_bytes()));
        assert!(large < small * 40 + Duration::from_millis(20), "{small:?}, ten times as much {large:?}");
    }
}
