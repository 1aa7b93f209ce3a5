//! The peer's `valid` vectors as far as they apply, and thirty disks that other tools took or missed.

use super::*;
use crate::conf::settings::{Origin, Stage};
use crate::model::{DevNo, Hctl, Sectors, Text};
use std::string::String;

const NAA: &str = "3600601601234567890abcdef01234567";

fn text<const N: usize>(s: &str) -> Text<N> {
    Text::try_from(s).unwrap()
}

/// A healthy FC disk: `sda` at 1:0:0:0.
fn disk() -> PathFacts {
    PathFacts {
        name: text("sda"),
        devno: DevNo::new(8, 0),
        bus: Bus::Scsi,
        protocol: Protocol::ScsiFcp,
        hctl: Some(Hctl { host: 1, channel: 0, target: 0, lun: 0 }),
        vendor: text("DGC"),
        product: text("VRAID"),
        wwid: text(NAA),
        size: Sectors(2048),
        ..PathFacts::default()
    }
}

fn ways(list: &[(u32, u32)]) -> Siblings {
    let mut s = Siblings::default();
    for &(host, target) in list {
        s.add(Nexus::of(&PathFacts { hctl: Some(Hctl { host, channel: 0, target, lun: 0 }), ..disk() }));
    }
    s
}

fn candidate(facts: &PathFacts) -> Candidate<'_> {
    Candidate {
        facts,
        verdict: Verdict::Accepted,
        named: false,
        live_map: false,
        asked: false,
        taken_out: false,
        siblings: ways(&[(1, 0)]),
        known_array: false,
        since: Instant::from_secs(100),
    }
}

fn mode(mode: FindMultipaths) -> Rules {
    Rules { mode, ..Rules::default() }
}

const NOW: Instant = Instant::from_secs(100);

/// One row of the table: what differs from a lone, unnamed, healthy FC disk in strict mode, and the verdict.
struct Row {
    what: &'static str,
    change: fn(&mut PathFacts, &mut Rules),
    with: fn(&mut Candidate<'_>),
    verdict: Claim,
}

const fn row(what: &'static str, change: fn(&mut PathFacts, &mut Rules), with: fn(&mut Candidate<'_>), verdict: Claim) -> Row {
    Row { what, change, with, verdict }
}

fn two(c: &mut Candidate<'_>) {
    c.siblings = ways(&[(1, 0), (2, 0)]);
}

fn named(c: &mut Candidate<'_>) {
    c.named = true;
}

fn local_nvme(f: &mut PathFacts) {
    (f.name, f.bus, f.protocol, f.hctl) = (text("nvme0n1"), Bus::Nvme, Protocol::NvmePcie, None);
    f.wwid = text("eui.0025385b71b0b7c5");
}

fn as_virtual(f: &mut PathFacts, name: &str) {
    (f.name, f.bus, f.protocol, f.hctl, f.wwid) = (text(name), Bus::Other, Protocol::Undefined, None, text(""));
}

fn table() -> std::vec::Vec<Row> {
    use Claim::{No, Wait, Yes};
    std::vec![
        row("a lone SAN disk", |_, _| (), |_| (), No(Reason::SinglePath)),
        row("a lone SAN disk, named", |_, _| (), named, Yes(Reason::Named)),
        row("a lone SAN disk, asked for", |_, _| (), |c| c.asked = true, Yes(Reason::Asked)),
        row("a lone SAN disk with a live map", |_, _| (), |c| c.live_map = true, Yes(Reason::LiveMap)),
        row("two paths, two ports", |_, _| (), two, Yes(Reason::SeveralPaths)),
        row("two paths, two targets on one HBA", |_, _| (), |c| c.siblings = ways(&[(1, 0), (1, 1)]), Yes(Reason::SeveralPaths)),
        row("one LUN shown twice by one port", |_, _| (), |c| c.siblings = ways(&[(1, 0), (1, 0)]), No(Reason::SamePort)),
        row(
            "local RAID volume, one path",
            |f, _| (f.vendor, f.protocol) = (text("AVAGO"), Protocol::ScsiSas),
            |_| (),
            No(Reason::SinglePath)
        ),
        row(
            "local SATA disk",
            |f, _| (f.protocol, f.wwid) = (Protocol::ScsiAta, text("1ATA_QEMU_HARDDISK_QM00001")),
            |_| (),
            No(Reason::SinglePath)
        ),
        row("two disks with one vendor serial", |f, _| f.wwid = text("SQEMU_QEMU_HARDDISK_0"), two, No(Reason::WeakIdentity)),
        row(
            "two disks with one vendor serial, on",
            |f, r| (f.wwid, r.mode) = (text("SQEMU_QEMU_HARDDISK_0"), FindMultipaths::On),
            two,
            Yes(Reason::SeveralPaths)
        ),
        row("local NVMe, native multipath", |f, r| (local_nvme(f), r.native_nvme = true).0, |_| (), No(Reason::NativeNvme)),
        row("local NVMe, native multipath, named", |f, r| (local_nvme(f), r.native_nvme = true).0, named, No(Reason::NativeNvme)),
        row("hidden NVMe path", |f, _| (local_nvme(f), f.hidden = true).0, two, No(Reason::NativeNvme)),
        row("local NVMe without native multipath", |f, _| local_nvme(f), |_| (), No(Reason::SinglePath)),
        row("rbd", |f, _| as_virtual(f, "rbd0"), two, No(Reason::Virtual)),
        row("nbd", |f, _| as_virtual(f, "nbd0"), |_| (), No(Reason::Virtual)),
        row("loop, greedy", |f, r| (as_virtual(f, "loop0"), r.mode = FindMultipaths::Greedy).0, |_| (), No(Reason::Virtual)),
        row("zram, greedy, named", |f, r| (as_virtual(f, "zram0"), r.mode = FindMultipaths::Greedy).0, named, No(Reason::Virtual)),
        row("virtio disk", |f, _| as_virtual(f, "vda"), |_| (), No(Reason::Virtual)),
        row("an unknown kind of disk", |f, _| as_virtual(f, "pmem0"), named, No(Reason::Virtual)),
        row("USB stick, greedy", |f, r| (f.usb, r.mode) = (true, FindMultipaths::Greedy), |_| (), No(Reason::Usb)),
        row(
            "USB disk, allowed, greedy",
            |f, r| (f.usb, r.allow_usb, r.mode) = (true, true, FindMultipaths::Greedy),
            |_| (),
            Yes(Reason::Greedy)
        ),
        row("BMC virtual floppy, greedy", |f, r| (f.removable, r.mode) = (true, FindMultipaths::Greedy), |_| (), No(Reason::Removable)),
        row("LUNZ", |f, _| f.product = text("LUNZ"), two, No(Reason::Lunz)),
        row("no WWID", |f, _| f.wwid = text(""), named, No(Reason::NoIdentity)),
        row("a WWID of zeros", |f, _| f.wwid = text("30000000000000000"), two, No(Reason::NoIdentity)),
        row("size 0", |f, _| f.size = Sectors(0), two, No(Reason::NoSize)),
        row("size 0, passive path of a live map", |f, _| f.size = Sectors(0), |c| c.live_map = true, Yes(Reason::LiveMap)),
        row("mounted, named", |f, _| f.holder = Holder::Mounted(text("/")), named, No(Reason::InUse)),
        row(
            "md member, greedy",
            |f, r| (f.holder, r.mode) = (Holder::Device(text("md0")), FindMultipaths::Greedy),
            |_| (),
            No(Reason::InUse)
        ),
        row("LVM on it", |f, _| f.holder = Holder::Map { devno: DevNo::new(254, 0), uuid: text("LVM-abc") }, two, No(Reason::InUse)),
        row(
            "held by its map",
            |f, _| f.holder = Holder::Map { devno: DevNo::new(254, 0), uuid: text("mpath-3600601601234567890abcdef01234567") },
            |_| (),
            Yes(Reason::LiveMap),
        ),
        row(
            "held by another map of ours",
            |f, _| f.holder = Holder::Map { devno: DevNo::new(254, 0), uuid: text("mpath-36") },
            |c| c.live_map = true,
            No(Reason::InUse),
        ),
        row(
            "blacklisted, named and live",
            |_, _| (),
            |c| (c.named, c.live_map, c.verdict) = (true, true, Verdict::Rejected { stage: Stage::Wwid, origin: Origin::Default }),
            No(Reason::Blacklisted(Stage::Wwid)),
        ),
        row("taken out by hand", |_, _| (), |c| (c.named, c.taken_out) = (true, true), No(Reason::TakenOut)),
        row("strict by configuration, two ports", |_, r| r.evidence = false, two, No(Reason::Strict)),
        row("off, the daemon", |_, r| r.mode = FindMultipaths::Off, |_| (), Yes(Reason::Greedy)),
        row("off, udev asks", |_, r| (r.mode, r.only_asking) = (FindMultipaths::Off, true), |_| (), No(Reason::Strict)),
        row("smart, alone, unknown array", |_, r| r.mode = FindMultipaths::Smart, |_| (), Wait { until: Instant::from_secs(101) }),
        row(
            "smart, alone, known array",
            |_, r| r.mode = FindMultipaths::Smart,
            |c| c.known_array = true,
            Wait { until: Instant::from_secs(110) }
        ),
        row(
            "smart, alone, 30 s",
            |_, r| (r.mode, r.smart_timeout) = (FindMultipaths::Smart, 30),
            |_| (),
            Wait { until: Instant::from_secs(130) }
        ),
        row("smart, alone, time over", |_, r| r.mode = FindMultipaths::Smart, |c| c.since = Instant::from_secs(99), No(Reason::SinglePath)),
        row("smart, two", |_, r| r.mode = FindMultipaths::Smart, two, Yes(Reason::SeveralPaths)),
        row(
            "DASD, alone",
            |f, _| (f.name, f.bus, f.hctl, f.wwid) = (text("dasda"), Bus::Dasd, None, text("IBM.750000000DX111.1234.1a")),
            |_| (),
            No(Reason::SinglePath)
        ),
    ]
}

#[test]
fn each_disk_its_verdict() {
    for r in table() {
        let (mut facts, mut rules) = (disk(), Rules::default());
        (r.change)(&mut facts, &mut rules);
        let mut c = candidate(&facts);
        (r.with)(&mut c);
        assert_eq!(claim(&c, &rules, NOW), r.verdict, "{}", r.what);
    }
    assert!(table().len() >= 30);
}

#[test]
fn identities() {
    for strong in [NAA, "35000c50012345678", "20123456789abcdef", "eui.0025385b71b0b7c5", "uuid.1b4e28ba-2fa1-11d2-883f-0016d3cca427"] {
        assert_eq!(identity(strong), Identity::Strong, "{strong}");
    }
    for weak in [
        "3",
        "34123456789abcdef",
        "SVENDOR_model_1",
        "1ATA_x",
        "0QEMU_QEMU_HARDDISK_1",
        "nvme.1af4-31-1-1",
        "36006zz",
        "8iqn.2020-01.x",
        "\u{e9}",
    ] {
        let want = if weak == "3" { Identity::None } else { Identity::Weak };
        assert_eq!(identity(weak), want, "{weak}");
    }
    for none in
        ["", " ", "\t ", "0000", "3000000000000000000000000000000000", "eui.0000000000000000", "uuid.00000000-0000-0000-0000-000000000000"]
    {
        assert_eq!(identity(none), Identity::None, "{none}");
    }
}

#[test]
fn nexus_of_nvme_is_the_controller() {
    let on = |name: &str| {
        let mut f = disk();
        local_nvme(&mut f);
        f.name = text(name);
        Nexus::of(&f)
    };
    assert_eq!(on("nvme0n1"), on("nvme0n2"));
    assert_ne!(on("nvme0n1"), on("nvme1n1"));
    assert_eq!(controller("nvme99999999999n1"), None);
}

#[test]
fn a_timeout_of_any_value_is_a_time() {
    assert_eq!(smart_wait(i32::MIN, true), Duration::from_secs(1 << 31));
    assert_eq!(smart_wait(i32::MAX, false), Duration::from_secs((1 << 31) - 1));
    assert_eq!(smart_wait(-7, false), Duration::from_secs(1));
}

/// Vectors that speak of what `claim` decides; the others are named with their reason in docs/differences.md ("Claim").
#[test]
fn valid_as_the_peer() {
    let file: serde_json::Value = serde_json::from_str(include_str!("../../../tests/vectors/valid.json")).unwrap();
    let elsewhere = [
        "daemon check: connect refused",
        "daemon check: EAGAIN counts as running, no udev device",
        "wwid marked failed",
        "failed-wwid lookup error",
        "find_multipaths undefined",
    ];
    let (mut tried, mut skipped) = (0, 0);
    for v in file["vectors"].as_array().unwrap() {
        let (name, input) = (v["name"].as_str().unwrap(), &v["input"]);
        if elsewhere.contains(&name) {
            skipped += 1;
            continue;
        }
        let mut facts = disk();
        if let Some(w) = input["wwid"].as_str() {
            facts.wwid = text(w);
        }
        if let Some(w) = input["sysfs_multipathed"].as_str() {
            facts.wwid = text(w);
            facts.holder = Holder::Map { devno: DevNo::new(254, 0), uuid: text(&(String::from("mpath-") + w)) };
        }
        if input["in_use"] == true {
            facts.holder = Holder::Mounted(text("/mnt"));
        }
        let mut c = candidate(&facts);
        c.named = input["in_wwids_file"] == true;
        if input["pathinfo"] == "skipped" || input["filter_property"] == "blacklisted" {
            c.verdict = Verdict::Rejected { stage: Stage::Property, origin: Origin::Default };
        }
        if input["filter_property"] == "missing" {
            c.verdict = Verdict::MissingProperty;
        }
        let find = match input["find_multipaths"].as_str().unwrap() {
            "strict" => FindMultipaths::Strict,
            "off" => FindMultipaths::Off,
            "on" => FindMultipaths::On,
            "greedy" => FindMultipaths::Greedy,
            "smart" => FindMultipaths::Smart,
            other => panic!("{other}"),
        };
        let word = match claim(&c, &Rules { only_asking: true, ..mode(find) }, NOW) {
            Claim::Yes(Reason::LiveMap | Reason::Named) => "valid-no-check",
            Claim::Yes(_) => "valid",
            Claim::No(_) => "not-valid",
            Claim::Wait { .. } => "maybe",
        };
        assert_eq!(word, v["expected"].as_str().unwrap(), "{name}");
        tried += 1;
    }
    assert_eq!((tried, skipped), (12, elsewhere.len()));
}
