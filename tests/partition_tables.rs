//! Tables made by sfdisk, sgdisk and parted, read by us, by sfdisk (or parted) and by the peer's `kpartx -l`: all must agree, but for what
//! docs/differences.md lists.
//!
//! The peer looks at image files through a loop device, and 4096-byte blocks need one too: those parts need root and say so when they do not run.

#[path = "common/disk.rs"]
mod disk;

use corepath::wire::partition::{self, Complaint, Found, Kind, Options, Partition, Type, Unique};
use disk::FileDisk;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// (number, start, length) in 512-byte sectors.
type Slice = (u32, u64, u64);

fn run(command: &str, arguments: &[&str], input: &str) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let child =
        Command::new(command).args(arguments).env("PATH", path).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|e| panic!("{command}: {e}; tests/setup.sh installs it"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn image(name: &str, megabytes: u64) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(megabytes << 20).unwrap();
    path
}

fn ours(path: &Path, block_size: u32) -> (Kind, Vec<Partition>) {
    let mut partitions = heapless::Vec::<Partition, 256>::new();
    let mut complaints = heapless::Vec::<Complaint, 16>::new();
    let mut found = Found::new(&mut partitions, &mut complaints);
    let kind = partition::read(&mut FileDisk::open(path, block_size), &Options::default(), &mut found).unwrap();
    assert_eq!(found.complaints(), [], "{path:?}");
    (kind.expect("a table"), found.partitions().to_vec())
}

fn slices(partitions: &[Partition]) -> Vec<Slice> {
    partitions.iter().map(|p| (p.number, p.start.0, p.length.0)).collect()
}

fn is_root() -> bool {
    run("id", &["-u"], "").trim() == "0"
}

/// What the peer would map, number by number. `None` without root. Its listing counts a contained slice from its container (it maps it from
/// the disk's start nevertheless): `ours` says where that is.
fn peers(path: &Path, ours: &[Partition]) -> Option<Vec<Slice>> {
    if !is_root() {
        eprintln!("not root: kpartx -l was not asked about {path:?}");
        return None;
    }
    let text = run("kpartx", &["-l", path.to_str().unwrap()], "");
    let mut all: Vec<Slice> = text
        .lines()
        .filter_map(|line| {
            let (name, table) = line.split_once(" : ")?;
            let words: Vec<&str> = table.split(' ').collect();
            assert_eq!(words[0], "0");
            let number = name.rsplit_once('p')?.1.parse().ok()?;
            let outer = ours.iter().find(|p| p.number == number).map_or(0, |p| p.container);
            let base = ours.iter().find(|p| p.number == outer && words[2].starts_with("/dev/dm-")).map_or(0, |p| p.start.0);
            Some((number, base + words[3].parse::<u64>().ok()?, words[1].parse().ok()?))
        })
        .collect();
    all.sort_unstable();
    Some(all)
}

/// Compares our reading with `sfdisk --json`: places, types, ids and names.
fn as_sfdisk_says(path: &Path, node: &str, block_size: u32) -> Vec<Partition> {
    let json: Value = serde_json::from_str(&run("sfdisk", &["--json", node], "")).unwrap();
    let table = &json["partitiontable"];
    let ratio = u64::from(block_size) / 512;
    assert_eq!(table["sectorsize"].as_u64().unwrap_or(512), u64::from(block_size));
    let (kind, partitions) = ours(path, block_size);
    assert_eq!(kind.word(), table["label"].as_str().unwrap());
    let theirs = table["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), theirs.len(), "{path:?}");
    for (p, q) in partitions.iter().zip(theirs) {
        let device = q["node"].as_str().unwrap().strip_prefix(node).unwrap();
        assert_eq!(p.number.to_string(), device.trim_start_matches('p'));
        let kind = q["type"].as_str().unwrap();
        let extended = matches!(p.kind, Type::Dos(0x05 | 0x0f | 0x85));
        assert_eq!((p.start.0, p.span.0), (q["start"].as_u64().unwrap() * ratio, q["size"].as_u64().unwrap() * ratio), "{q}");
        assert_eq!(p.length.0, if extended { ratio.max(2) } else { p.span.0 });
        match (p.kind, p.unique) {
            (Type::Gpt(guid), Unique::Guid(unique)) => {
                assert_eq!(guid.to_string().to_uppercase(), kind);
                assert_eq!(unique.to_string().to_uppercase(), q["uuid"].as_str().unwrap());
                assert_eq!(p.name.to_string(), q["name"].as_str().unwrap_or(""));
            }
            (Type::Dos(byte), unique) => {
                assert_eq!(format!("{byte:x}"), kind);
                let id = u32::from_str_radix(table["id"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
                assert_eq!(unique, if extended { Unique::None } else { Unique::Dos(id) });
            }
            (Type::Tag(_) | Type::None, _) => {}
            other => panic!("{other:?}"),
        }
    }
    partitions
}

/// As above for an image file, and the peer beside it.
fn all_agree(path: &Path) -> Vec<Partition> {
    let partitions = as_sfdisk_says(path, path.to_str().unwrap(), 512);
    if let Some(theirs) = peers(path, &partitions) {
        assert_eq!(slices(&partitions), theirs, "{path:?}");
    }
    partitions
}

#[test]
fn gpt_one_partition_by_parted() {
    let disk = image("gpt1.img", 64);
    run("parted", &["-s", disk.to_str().unwrap(), "mklabel", "gpt", "mkpart", "'wörter und mehr'", "ext4", "1MiB", "63MiB"], "");
    let partitions = all_agree(&disk);
    assert_eq!(slices(&partitions), [(1, 2048, 126_976)]);
    assert!(partitions[0].name.is("wörter und mehr"));
}

#[test]
fn gpt_128_entries_by_sgdisk() {
    let disk = image("gpt128.img", 64);
    let mut arguments: Vec<String> = vec!["-o".into(), "-a1".into()];
    for n in 1..=128u64 {
        let start = 2048 + 512 * (n - 1);
        arguments.push(format!("-n{n}:{start}:{}", start + 499));
        arguments.push(format!("-c{n}:part {n}"));
    }
    arguments.push(disk.to_str().unwrap().into());
    run("sgdisk", &arguments.iter().map(String::as_str).collect::<Vec<_>>(), "");
    let partitions = all_agree(&disk);
    assert_eq!(partitions.len(), 128);
    assert_eq!(slices(&partitions)[127], (128, 2048 + 512 * 127, 500));
    assert!(partitions[127].name.is("part 128"));
}

/// 256 entries, of which the last is used: the peer's slots and the kernel's limit.
#[test]
fn gpt_256_entries_by_sgdisk() {
    let disk = image("gpt256.img", 64);
    run("sgdisk", &["-o", "-a1", "-S", "256", "-n256:4096:8191", "-n7:8192:9000", disk.to_str().unwrap()], "");
    assert_eq!(slices(&all_agree(&disk)), [(7, 8192, 809), (256, 4096, 4096)]);
}

#[test]
fn gpt_with_a_hybrid_mbr() {
    let disk = image("hybrid.img", 64);
    run("sgdisk", &["-o", "-n1:2048:4095", "-n2:4096:8191", "-h", "2", disk.to_str().unwrap()], "");
    assert_eq!(slices(&all_agree(&disk)), [(1, 2048, 2048), (2, 4096, 4096)]);
}

#[test]
fn dos_20_logicals_by_sfdisk() {
    let disk = image("logical20.img", 64);
    let mut script =
        String::from("label: dos\nstart=2048,size=2048,type=83,bootable\nstart=4096,size=110000,type=f\nstart=120000,size=2048,type=82\n");
    for i in 0..20 {
        // Out of order on disk: the chain is not.
        let start = 6144 + 4096 * ((i * 7) % 20);
        script += &format!("{} : start={start},size=2048,type=8e\n", 5 + i);
    }
    run("sfdisk", &["-q", disk.to_str().unwrap()], &script);
    let partitions = all_agree(&disk);
    assert_eq!(partitions.len(), 23);
    assert_eq!(slices(&partitions)[1], (2, 4096, 2));
    assert!(partitions[3..].iter().all(|p| p.container == 2));
}

#[test]
fn dos_by_parted() {
    let disk = image("dosparted.img", 64);
    let words =
        "mklabel msdos mkpart primary ext4 1MiB 8MiB mkpart extended 8MiB 60MiB mkpart logical 9MiB 20MiB mkpart logical 21MiB 59MiB";
    let mut arguments = vec!["-s", disk.to_str().unwrap()];
    arguments.extend(words.split(' '));
    run("parted", &arguments, "");
    assert_eq!(slices(&all_agree(&disk)).iter().map(|s| s.0).collect::<Vec<_>>(), [1, 2, 5, 6]);
}

#[test]
fn sun_by_sfdisk() {
    let disk = image("sun.img", 64);
    run("sfdisk", &["-q", disk.to_str().unwrap()], "label: sun\n1 : start=0,size=48195,type=83\n2 : start=48195,size=32130,type=82\n");
    all_agree(&disk);
}

/// What parted says: number, first and last sector.
fn as_parted_says(path: &Path, kind: Kind) -> Vec<Slice> {
    let text = run("parted", &["-s", "-m", path.to_str().unwrap(), "unit", "s", "print"], "");
    let sector = |word: &str| word.trim_end_matches('s').parse::<u64>().unwrap();
    let theirs: Vec<Slice> = text
        .lines()
        .skip(2)
        .map(|line| {
            let words: Vec<&str> = line.split(':').collect();
            (words[0].parse().unwrap(), sector(words[1]), sector(words[3]))
        })
        .collect();
    let (ours_kind, partitions) = ours(path, 512);
    assert_eq!((ours_kind, slices(&partitions)), (kind, theirs.clone()));
    if let Some(peers) = peers(path, &partitions) {
        assert_eq!(peers, theirs, "{path:?}");
    }
    theirs
}

#[test]
fn mac_by_parted() {
    let disk = image("mac.img", 64);
    let path = disk.to_str().unwrap();
    run("parted", &["-s", path, "mklabel", "mac", "mkpart", "first", "1MiB", "8MiB", "mkpart", "second", "8MiB", "60MiB"], "");
    // parted leaves free space out of its listing where we, the kernel and the peer map the entry.
    let (kind, partitions) = ours(&disk, 512);
    assert_eq!(kind, Kind::Mac);
    let named = |name: &str| slices(&partitions.iter().filter(|p| p.name.is(name)).copied().collect::<Vec<_>>());
    assert_eq!(named("first").len(), 1);
    assert_eq!((named("first")[0].1, named("first")[0].2), (2048, 7 * 2048));
    assert_eq!((named("second")[0].1, named("second")[0].2), (8 * 2048, 52 * 2048));
    if let Some(theirs) = peers(&disk, &partitions) {
        assert_eq!(slices(&partitions), theirs);
    }
}

#[test]
fn bsd_by_parted() {
    let disk = image("bsd.img", 64);
    run(
        "parted",
        &["-s", disk.to_str().unwrap(), "mklabel", "bsd", "mkpart", "ext2", "1MiB", "8MiB", "mkpart", "ext2", "8MiB", "60MiB"],
        "",
    );
    assert_eq!(as_parted_says(&disk, Kind::Bsd).len(), 2);
}

/// A BSD label inside a DOS partition: sfdisk's nested label and the kernel's numbers; the peer sees the primary only (docs/differences.md).
#[test]
fn bsd_inside_dos_by_fdisk() {
    let disk = image("bsdindos.img", 64);
    let path = disk.to_str().unwrap();
    run("sfdisk", &["-q", path], "label: dos\nstart=2048,size=40960,type=a5\nstart=43008,size=20480,type=83\n");
    run("fdisk", &[path], "b\ny\nn\na\n\n+4M\nn\nb\n12288\n+8M\nt\na\n7\nt\nb\n1\nw\n");
    let listing = run("fdisk", &[path], "b\np\nr\nq\n");
    let theirs: Vec<(u64, u64)> = listing
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            // Slice letter, start, end, sectors; `c` and `d` are the primary and the disk.
            (words.len() > 4 && matches!(words[0], "a" | "b")).then(|| (words[1].parse().unwrap(), words[3].parse().unwrap()))
        })
        .collect();
    assert_eq!(theirs.len(), 2, "{listing}");
    let mut partitions = heapless::Vec::<Partition, 256>::new();
    let mut complaints = heapless::Vec::<Complaint, 16>::new();
    let mut found = Found::new(&mut partitions, &mut complaints);
    let kind = partition::read(&mut FileDisk::open(&disk, 512), &Options::default(), &mut found).unwrap();
    assert_eq!(kind, Some(Kind::Dos));
    let inside: Vec<(u64, u64)> = found.partitions().iter().filter(|p| p.number >= 5).map(|p| (p.start.0, p.length.0)).collect();
    assert_eq!(inside, theirs, "{:?}", found.complaints());
    assert!(found.partitions().iter().filter(|p| p.number >= 5).all(|p| p.container == 1));
    if let Some(peers) = peers(&disk, found.partitions()) {
        assert_eq!(peers, [(1, 2048, 40960), (2, 43008, 20480)]);
    }
}

/// A loop device with 4096-byte blocks over an image, taken away at the end.
struct Loop(String);

impl Loop {
    fn new(path: &Path, block_size: u32) -> Loop {
        Loop(run("losetup", &["--show", "-f", "-b", &block_size.to_string(), path.to_str().unwrap()], "").trim().to_string())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run("losetup", &["-d", &self.0], "");
    }
}

#[test]
fn blocks_of_4096() {
    if !is_root() {
        return eprintln!("not root: no loop device with 4096-byte blocks");
    }
    let disk = image("gpt4k.img", 64);
    let node = Loop::new(&disk, 4096);
    run("sgdisk", &["-o", "-n1:256:511", "-n2:512:0", "-c2:big", &node.0], "");
    let gpt = as_sfdisk_says(&disk, &node.0, 4096);
    assert_eq!(slices(&gpt)[0], (1, 2048, 2048));
    assert_eq!(peers(Path::new(&node.0), &gpt).unwrap(), slices(&gpt));
    drop(node);

    let disk = image("dos4k.img", 64);
    let node = Loop::new(&disk, 4096);
    run(
        "sfdisk",
        &["-q", &node.0],
        "label: dos\nstart=256,size=256\nstart=512,size=10000,type=5\nstart=768,size=256\nstart=1280,size=256\n",
    );
    let dos = as_sfdisk_says(&disk, &node.0, 4096);
    assert_eq!(slices(&dos), [(1, 2048, 2048), (2, 4096, 8), (5, 6144, 2048), (6, 10240, 2048)]);
    assert_eq!(peers(Path::new(&node.0), &dos).unwrap(), slices(&dos));
}
