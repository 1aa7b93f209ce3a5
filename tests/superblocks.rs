//! File system ids as `root=UUID=` and `root=LABEL=` need them: what mkfs wrote is what is read, at an offset into a larger disk too.

#[path = "common/disk.rs"]
mod disk;

use corepath::fault::Errno;
use corepath::model::Sectors;
use corepath::wire::superblock::{self, FileSystem, Ids, Uuid};
use disk::{FileDisk, MemDisk};
use proptest::prelude::*;
use std::path::PathBuf;
use std::process::Command;

const UUID: &str = "0c5dfd33-8c43-4f04-9a0c-7f0b1f5e1a2b";

fn made(name: &str, size: u64, command: &str, arguments: &[&str]) -> PathBuf {
    let image = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let file = std::fs::File::create(&image).unwrap();
    file.set_len(size).unwrap();
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let run = Command::new(command).args(arguments).arg(&image).env("PATH", path).output();
    let output = run.unwrap_or_else(|e| panic!("{command}: {e}; tests/setup.sh installs it"));
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    image
}

fn read(path: &PathBuf) -> Option<Ids> {
    let size = std::fs::metadata(path).unwrap().len();
    superblock::read(&mut FileDisk::open(path, 512), Sectors(0), Sectors(size / 512)).unwrap()
}

/// What is opened before there is a file system, in a partition of 1,000 sectors and on a disk of its own; and none of it past the end.
#[test]
fn what_others_open() {
    const MD: &[u8] = &[0xfc, 0x4e, 0x2b, 0xa9];
    let lvm = [&b"LABELONE"[..], &[0; 16], b"LVM2 001"].concat();
    for (what, at, bytes) in [
        ("LUKS", 0, &b"LUKS\xba\xbe"[..]),
        ("LVM", 1, &lvm),
        ("LVM in sector 3", 3, &lvm),
        ("MD 1.1", 0, MD),
        ("MD 1.2", 8, MD),
        ("MD 1.0", 984, MD),
        ("MD 0.90", 768, MD),
    ] {
        for start in [0, 2048] {
            let mut disk = MemDisk::new((start + 1000) * 512);
            disk.write((start + at) * 512, bytes);
            let opened = |length| superblock::opened_by_others(&mut disk.clone(), Sectors(start), Sectors(length));
            assert_eq!((opened(1000), opened(8)), (Ok(true), Ok(false)), "{what} from sector {start}");
            assert_eq!(superblock::read(&mut disk.clone(), Sectors(start), Sectors(1000)), Ok(None));
        }
    }
    let mut disk = MemDisk::new(1000 * 512);
    disk.write(5 * 512, &lvm);
    assert_eq!(superblock::opened_by_others(&mut disk, Sectors(0), Sectors(1000)), Ok(false));
    disk.bad = Some(8);
    assert_eq!(superblock::opened_by_others(&mut disk, Sectors(0), Sectors(1000)), Err(Errno::IO));
}

#[test]
fn what_mkfs_writes() {
    let ext4 = made("ids.ext4", 8 << 20, "mkfs.ext4", &["-q", "-F", "-U", UUID, "-L", "sixteen_letters_"]);
    let ext2 = made("ids.ext2", 1 << 20, "mkfs.ext2", &["-q", "-F", "-U", UUID, "-L", "a b"]);
    let xfs = made("ids.xfs", 320 << 20, "mkfs.xfs", &["-q", "-m", &format!("uuid={UUID}"), "-L", "twelve_chars"]);
    let btrfs = made("ids.btrfs", 128 << 20, "mkfs.btrfs", &["-q", "-U", UUID, "-L", "wörter"]);
    for (image, kind, label) in [
        (&ext4, FileSystem::Ext, "sixteen_letters_"),
        (&ext2, FileSystem::Ext, "a b"),
        (&xfs, FileSystem::Xfs, "twelve_chars"),
        (&btrfs, FileSystem::Btrfs, "wörter"),
    ] {
        let ids = read(image).unwrap();
        assert_eq!((ids.kind, ids.uuid, ids.label()), (kind, Uuid::parse(UUID).unwrap(), label.as_bytes()));
        assert_eq!(std::format!("{}", ids.uuid), UUID);
        // The same inside a partition, and not past its end.
        let mut disk = MemDisk::new(64 << 20);
        let start = std::fs::read(image).unwrap();
        disk.write(40 * 512, &start[..132 * 512]);
        let at = |length| superblock::read(&mut disk.clone(), Sectors(40), Sectors(length)).unwrap();
        assert_eq!(at(4096), Some(ids));
        let needs = [(FileSystem::Ext, 4), (FileSystem::Xfs, 1), (FileSystem::Btrfs, 130)];
        let needs = needs.into_iter().find(|(k, _)| *k == kind).unwrap().1;
        assert!(at(needs).is_some() && at(needs - 1).is_none(), "{kind:?}");
        assert_eq!(superblock::read(&mut disk.clone(), Sectors(41), Sectors(4096)), Ok(None));
        disk.bad = Some(40 + needs - 1);
        assert_eq!(superblock::read(&mut disk, Sectors(40), Sectors(4096)), Err(Errno::IO));
    }
    // An external journal has a UUID of its own, and is no root.
    let journal = made("ids.journal", 8 << 20, "mkfs.ext4", &["-q", "-F", "-O", "journal_dev", "-U", UUID]);
    assert_eq!(read(&journal), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..4096), magic in 0u8..4, start: u64, length: u64, size: u64) {
        let mut disk = MemDisk::new(size);
        disk.write(0, &bytes);
        let (at, word): (u64, &[u8]) = [(0, &b""[..]), (0, b"XFSB"), (1080, b"\x53\xef"), (65600, b"_BHRfS_M")][usize::from(magic)];
        disk.write(at, word);
        for (start, length) in [(start, length), (0, size / 512), (start % 300, length % 300)] {
            let _ = superblock::read(&mut disk, Sectors(start), Sectors(length));
        }
    }
}
