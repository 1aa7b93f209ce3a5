//! Partition readers against tables that lie and disks that fail: no panic, no read outside the disk, a bounded number of reads, and nothing
//! mapped that a damaged table did not clearly say.

#[path = "common/disk.rs"]
mod disk;
#[path = "common/tables.rs"]
mod tables;

use corepath::fault::Errno;
use corepath::wire::partition::{self, Complaint, Found, GptCopy, GptFault, Guid, Kind, Options, Partition, Type, Unique};
use disk::MemDisk;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::LazyLock;
use tables::{Gpt, NONE, bsd_label, logicals, mbr};

type Slice = (u32, u64, u64, u32);

struct Read {
    kind: Result<Option<Kind>, Errno>,
    partitions: Vec<Partition>,
    complaints: Vec<Complaint>,
    complete: bool,
}

impl Read {
    fn slices(&self) -> Vec<Slice> {
        self.partitions.iter().map(|p| (p.number, p.start.0, p.length.0, p.container)).collect()
    }
}

/// Reads and checks what must hold of every answer.
fn read(disk: &mut MemDisk) -> Read {
    let mut partitions = heapless::Vec::<Partition, 256>::new();
    let mut complaints = heapless::Vec::<Complaint, 1024>::new();
    let mut found = Found::new(&mut partitions, &mut complaints);
    let options = Options { only: None, force_gpt: false, dasd: None };
    let kind = partition::read(disk, &options, &mut found);
    assert_eq!(found.lost(), 0);
    let all = found.partitions();
    assert!(matches!(kind, Ok(Some(_))) || all.is_empty(), "partitions without a table");
    for (i, p) in all.iter().enumerate() {
        assert!((1..=256).contains(&p.number) && p.length.0 > 0 && p.span >= p.length);
        assert!(p.start.0.checked_add(p.length.0).unwrap() <= disk.size / 512, "outside: {p:?}");
        // An extended partition holds its logical ones by what it claims, not by the two sectors that are mapped.
        let end = p.start.0.saturating_add(p.span.0);
        for q in &all[i + 1..] {
            assert!(p.number < q.number, "numbers ascend and are unique");
            let (q_start, q_end) = (q.start.0, q.start.0.saturating_add(q.span.0));
            let nested = (p.start.0 <= q_start && q_end <= end) || (q_start <= p.start.0 && end <= q_end);
            assert!(end <= q_start || q_end <= p.start.0 || nested, "overlap: {p:?} {q:?}");
            assert!(!(nested && kind == Ok(Some(Kind::Gpt))) || end <= q_start || q_end <= p.start.0);
        }
    }
    assert!(disk.reads < 5000, "{} reads", disk.reads);
    let (partitions, complaints, complete) = (all.to_vec(), found.complaints().to_vec(), found.complete());
    Read { kind, partitions, complaints, complete }
}

#[test]
fn each_format_says_what_it_holds() {
    let wanted: &[(&str, Kind, &[Slice])] = &[
        ("gpt", Kind::Gpt, &[(1, 2048, 2048, 0), (2, 4096, 4096, 0), (128, 8192, 1, 0)]),
        ("gpt 4096", Kind::Gpt, &[(1, 2048, 2048, 0), (3, 4096, 4096, 0)]),
        // FreeBSD a and d relative, `c` is the primary again; OpenBSD absolute, b out of bounds; UnixWare; Solaris with its slice 2.
        (
            "labels in dos",
            Kind::Dos,
            &[
                (1, 1000, 4000, 0),
                (2, 5000, 4000, 0),
                (3, 10000, 4000, 0),
                (4, 15000, 4000, 0),
                (5, 1016, 100, 1),
                (6, 1300, 200, 1),
                (7, 5016, 100, 2),
                (8, 5300, 200, 2),
                (9, 10034, 100, 3),
                (10, 10200, 300, 3),
                (11, 15016, 100, 4),
                (12, 15116, 200, 4),
                (13, 15000, 4000, 4),
            ],
        ),
        ("bsd", Kind::Bsd, &[(1, 16, 1000, 3), (2, 1016, 2000, 3), (3, 0, 16384, 0)]),
        ("bsd in sector 0", Kind::Bsd, &[(1, 16, 1000, 2), (2, 0, 16384, 0)]),
        ("solaris", Kind::Solaris, &[(1, 16, 100, 3), (2, 116, 200, 3), (3, 0, 4000, 0)]),
        ("unixware", Kind::Unixware, &[(1, 34, 100, 0), (2, 200, 300, 0)]),
        // A track has 12 blocks of 8 sectors, a cylinder 15 tracks.
        ("vol1", Kind::Dasd, &[(1, 192, 960, 0), (2, 1152, 1920, 0)]),
        ("lnx1", Kind::Dasd, &[(1, 24, 4776, 0)]),
        ("cms1", Kind::Dasd, &[(1, 160, 4632, 0)]),
        ("mac", Kind::Mac, &[(1, 4, 12, 0), (2, 256, 400, 0), (3, 800, 200, 0)]),
        ("sun", Kind::Sun, &[(1, 0, 1260, 3), (2, 1260, 2520, 3), (3, 0, 12600, 0)]),
        ("ps3", Kind::Ps3, &[(1, 8, 100, 0), (2, 200, 300, 0)]),
    ];
    for (name, kind, slices) in wanted {
        let mut disk = tables::all().into_iter().find(|(n, _)| n == name).unwrap().1;
        let read = read(&mut disk);
        assert_eq!((read.kind, &read.slices()[..]), (Ok(Some(*kind)), *slices), "{name}");
        assert!(read.complete);
        let odd = read.complaints.iter().filter(|c| !matches!(c, Complaint::NotInParent { number: 8, parent: 2 })).count();
        assert_eq!(odd, 0, "{name}: {:?}", read.complaints);
    }
}

#[test]
fn identities_and_names() {
    let mut disk = tables::all().remove(0).1;
    let gpt = read(&mut disk).partitions;
    assert_eq!(gpt[0].unique, Unique::Guid(Guid([1; 16])));
    assert_eq!(gpt[0].kind, Type::Gpt(Guid([0xaf; 16])));
    assert!(gpt[0].name.is("p"));
    let dos = read(&mut logicals(1, 512)).partitions;
    assert_eq!((dos[0].unique, dos[1].unique), (Unique::Dos(0xdecade01), Unique::None), "no PARTUUID for an extended partition");
    assert_eq!((dos[3].number, dos[3].unique), (5, Unique::Dos(0xdecade01)));
    assert_eq!(dos[0].kind, Type::Dos(0x83));
}

#[test]
fn twenty_logicals_in_512_and_4096() {
    for ratio in [1u64, 8] {
        let read = read(&mut logicals(20, 512 * ratio as u32));
        assert_eq!(read.partitions.len(), 23);
        // Two sectors of the extended partition, or one block.
        assert_eq!(read.slices()[1], (2, 64 * ratio, ratio.max(2), 0));
        assert_eq!(read.slices()[22], (24, (64 + 19 * 8 + 1) * ratio, 7 * ratio, 2));
    }
}

#[test]
fn chains_that_loop_end() {
    let mut own = MemDisk::new(8 << 20);
    own.write(0, &mbr(0, [(0x05, 64, 8000), NONE, NONE, NONE]));
    own.write(64 * 512, &mbr(0, [(0x83, 1, 7), (0x05, 0, 8), NONE, NONE]));
    let one = read(&mut own);
    assert_eq!(one.slices(), [(1, 64, 2, 0), (5, 65, 7, 1)]);
    assert_eq!(one.complaints, [Complaint::ChainLoop { sector: 64 }]);

    let mut far = logicals(50, 512);
    far.write((64 + 49 * 8) * 512, &mbr(0, [(0x83, 1, 7), (0x05, 10 * 8, 8), NONE, NONE]));
    let fifty = read(&mut far);
    assert_eq!((fifty.partitions.len(), fifty.complaints), (53, vec![Complaint::ChainLoop { sector: 64 + 80 }]));

    let mut empty = MemDisk::new(8 << 20);
    empty.write(0, &mbr(0, [(0x05, 64, 8000), NONE, NONE, NONE]));
    for i in 0..200u32 {
        empty.write(u64::from(64 + i) * 512, &mbr(0, [NONE, (0x05, i + 1, 1), NONE, NONE]));
    }
    let none = read(&mut empty);
    assert_eq!((none.slices().len(), none.complaints), (1, vec![Complaint::ChainTooLong { sector: 64 + 100 }]));

    let mut many = logicals(900, 512);
    let most = read(&mut many);
    assert_eq!(most.partitions.len(), 255);
    assert_eq!(most.complaints, [Complaint::TooMany { number: 257 }]);

    // The link's offset wraps 32 bits and more on 4096-byte blocks.
    let mut beyond = logicals(1, 4096);
    beyond.write(64 * 4096, &mbr(0, [(0x83, u32::MAX, u32::MAX), (0x05, u32::MAX, u32::MAX), NONE, NONE]));
    let refused = read(&mut beyond);
    assert_eq!(refused.partitions.len(), 3);
    assert!(matches!(refused.complaints[..], [Complaint::Outside { number: 5, .. }, Complaint::ChainBroken { .. }]));
}

#[test]
fn a_gpt_that_lies() {
    let good = Gpt { entries: vec![(0, 2048, 4095)], ..Gpt::new(32768, 512) };
    let refused = |gpt: Gpt| {
        let read = read(&mut gpt.disk());
        assert!(read.partitions.is_empty() && read.complete);
        assert_eq!(read.kind, Ok(None));
        match read.complaints[0] {
            Complaint::Gpt { copy: GptCopy::Primary, fault } => fault,
            other => panic!("{other:?}"),
        }
    };
    for size in [0, 1, 127, 129, 256, 1 << 30, u32::MAX] {
        assert_eq!(refused(Gpt { entry_size: size, ..good.clone() }), GptFault::EntrySize(size));
    }
    for size in [0, 91, 513, 4096, u32::MAX] {
        assert_eq!(refused(Gpt { header_size: size, ..good.clone() }), GptFault::HeaderSize(size));
    }
    for count in [32769, 1 << 30, u32::MAX] {
        assert_eq!(refused(Gpt { count, ..good.clone() }), GptFault::EntryCount(count));
    }
    // 32768 entries are 4 MiB: past the first usable block, in the disk, and the checksum is not theirs.
    assert_eq!(refused(Gpt { count: 32768, ..good.clone() }), GptFault::EntriesCrc);
    assert_eq!(read(&mut Gpt { count: 0, ..good.clone() }.disk()).kind, Ok(Some(Kind::Gpt)));

    for (first, last) in [(0, u64::MAX), (u64::MAX, u64::MAX), (1 << 63, u64::MAX), (32767, 32768), (u64::MAX - 1, u64::MAX)] {
        let mut gpt = good.clone();
        gpt.entries.push((1, first, last));
        let read = read(&mut gpt.disk());
        assert_eq!(read.slices(), [(1, 2048, 2048, 0)], "{first} {last}");
        assert!(matches!(read.complaints[..], [Complaint::Outside { number: 2, .. }]), "{:?}", read.complaints);
    }
    let mut gpt = good.clone();
    gpt.entries.push((1, 9000, 8999));
    assert_eq!(read(&mut gpt.disk()).complaints, [Complaint::Reversed { number: 2 }]);
}

/// Any one wrong byte under a checksum makes the backup speak, and it says the same.
#[test]
fn checksums_are_believed() {
    let good = Gpt { entries: vec![(0, 2048, 4095), (3, 5000, 5999)], ..Gpt::new(32768, 512) }.disk();
    for at in (0..92).chain(512..512 + 16384).filter(|at| *at < 92 || at % 61 == 0) {
        let mut disk = good.clone();
        let mut sector = [0; 512];
        let offset = 512 + at as u64;
        partition::ReadAt::read_at(&mut disk, offset / 512 * 512, &mut sector).unwrap();
        disk.write(offset, &[sector[(offset % 512) as usize] ^ 0x10]);
        let read = read(&mut disk);
        assert_eq!(read.slices(), [(1, 2048, 2048, 0), (4, 5000, 1000, 0)], "byte {at}");
        assert_eq!(read.complaints.last(), Some(&Complaint::GptBackupUsed(GptCopy::Backup)), "byte {at}");
    }
    // Both damaged: nothing, in so many words.
    let mut disk = good.clone();
    disk.write(512 + 100 * 16, &[1]);
    disk.write(512 + 56, &[1]);
    disk.write(32767 * 512 + 56, &[1]);
    let read = read(&mut disk);
    assert_eq!((read.kind, read.complaints.len()), (Ok(None), 2));
}

/// The backup is where the primary says when the disk has grown since.
#[test]
fn a_grown_disk_finds_the_alternate() {
    let mut disk = Gpt { entries: vec![(0, 2048, 4095)], ..Gpt::new(32768, 512) }.disk();
    disk.size += 1 << 20;
    assert_eq!(read(&mut disk).complaints, [], "the primary is enough");
    disk.write(512 + 56, &[1]);
    let read = read(&mut disk);
    assert_eq!((read.slices().len(), read.complaints.last()), (1, Some(&Complaint::GptBackupUsed(GptCopy::Alternate))));
}

#[test]
fn protective_mbr_rules() {
    let gpt = Gpt { entries: vec![(0, 2048, 4095)], ..Gpt::new(32768, 512) };
    let with = |entries| {
        let mut disk = gpt.disk();
        disk.write(0, &mbr(0, entries));
        read(&mut disk)
    };
    assert_eq!(with([(0x83, 2048, 2048), (0xee, 1, 2047), NONE, NONE]).kind, Ok(Some(Kind::Gpt)), "hybrid: the GPT speaks");
    let odd = with([(0xee, 0, 100), NONE, NONE, NONE]);
    assert_eq!((odd.kind, &odd.complaints[..]), (Ok(None), &[Complaint::Protective { start: 0 }][..]));
    assert_eq!(with([(0x83, 2048, 100), NONE, NONE, NONE]).kind, Ok(Some(Kind::Dos)), "an old GPT under a new DOS table");
}

#[test]
fn overlaps_are_refused_by_name() {
    let mut dos = MemDisk::new(8 << 20);
    dos.write(0, &mbr(0, [(0x83, 100, 100), (0x83, 150, 100), (0x83, 120, 10), (0x83, 100, 100)]));
    let read_dos = read(&mut dos);
    assert_eq!(read_dos.slices(), [(1, 100, 100, 0), (3, 120, 10, 1)], "wholly inside: as on bootable images");
    assert_eq!(read_dos.complaints, [Complaint::Overlap { number: 2, with: 1 }, Complaint::Overlap { number: 4, with: 1 }]);

    let mut bsd = MemDisk::new(8 << 20);
    bsd.write(512, &bsd_label(&[(100, 100, 7), (100, 150, 7), (16384, 0, 1)]));
    let read_bsd = read(&mut bsd);
    assert_eq!(read_bsd.slices(), [(1, 100, 100, 3), (3, 0, 16384, 0)]);
    assert_eq!(read_bsd.complaints, [Complaint::Overlap { number: 2, with: 1 }]);

    // A primary that a logical partition reaches into stands, though it comes later in the table.
    let mut extended = MemDisk::new(8 << 20);
    extended.write(0, &mbr(0, [(0x05, 64, 1000), (0x83, 2000, 100), NONE, NONE]));
    extended.write(64 * 512, &mbr(0, [(0x83, 1950, 100), NONE, NONE, NONE]));
    assert_eq!(read(&mut extended).slices(), [(1, 64, 2, 0), (2, 2000, 100, 0)]);
}

#[test]
fn what_is_no_dos_table() {
    let mut aix = MemDisk::new(8 << 20);
    let mut sector = mbr(0, [(0x41, 100, 100), NONE, NONE, NONE]);
    sector[..4].copy_from_slice(&[0xc9, 0xc2, 0xd4, 0xc1]);
    aix.write(0, &sector);
    assert_eq!(read(&mut aix.clone()).kind, Ok(Some(Kind::Dos)), "the magic alone is not enough");
    aix.write(7 * 512, b"_LVM");
    assert_eq!(read(&mut aix).kind, Ok(None));
    sector[0x1be + 4] = 0x83;
    aix.write(0, &sector);
    assert_eq!(read(&mut aix).kind, Ok(Some(Kind::Dos)), "a Linux partition makes the table true");
    for at in 0..4 {
        let mut boot = MemDisk::new(8 << 20);
        let mut sector = mbr(0, [(0x83, 100, 100), NONE, NONE, NONE]);
        sector[0x1be + 16 * at] = 1;
        boot.write(0, &sector);
        assert_eq!(read(&mut boot).kind, Ok(None), "boot byte {at}");
    }
}

#[test]
fn disks_of_no_size() {
    for (name, disk) in tables::all() {
        for size in [0, 1, 511, 512, 513, 1024, 4096, 4608, 8192] {
            let mut small = MemDisk { size, ..disk.clone() };
            let read = read(&mut small);
            assert!(read.kind.is_ok() && read.partitions.iter().all(|p| p.start.0 + p.length.0 <= size / 512), "{name} {size}");
        }
        for block_size in [0, 1, 256, 513, 1000, u32::MAX] {
            assert_eq!(read(&mut MemDisk { block_size, ..disk.clone() }).kind, Err(Errno::INVAL), "{name} {block_size}");
        }
        let largest = read(&mut MemDisk { size: u64::MAX, ..disk.clone() });
        assert!(largest.kind.is_ok(), "{name}");
    }
}

/// EIO in any sector: either no answer, or one that says it is not all, or the right one (from a backup, or because the sector is not needed).
#[test]
fn an_error_in_any_sector() {
    for (name, disk) in tables::all() {
        let right = read(&mut disk.clone());
        // Every sector that holds something, its neighbours, and the front and end of the disk.
        let written = disk.sectors.keys().flat_map(|at| [at.saturating_sub(1), *at, at + 1]);
        let bad: BTreeSet<u64> = written.chain(0..64).chain(disk.size / 512 - 64..disk.size / 512).collect();
        for bad in bad {
            let read = read(&mut MemDisk { bad: Some(bad), ..disk.clone() });
            match read.kind {
                Err(errno) => assert_eq!(errno, Errno::IO),
                Ok(_) if read.complete => assert_eq!((read.kind, read.partitions), (right.kind, right.partitions.clone()), "{name} {bad}"),
                Ok(_) => {
                    assert_eq!(read.kind, right.kind, "{name} {bad}");
                    for p in &read.partitions {
                        let same = |q: &&Partition| (q.start, q.length) == (p.start, p.length);
                        assert!(right.partitions.iter().any(|q| same(&q)), "{name} {bad}: invented {p:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_disk_that_vanishes() {
    for (name, disk) in tables::all() {
        let mut counted = disk.clone();
        let right = read(&mut counted);
        for n in 0..counted.reads {
            let gone = read(&mut MemDisk { vanishes_after: Some(n), ..disk.clone() });
            assert!(gone.kind == Err(Errno::NXIO) || !gone.complete, "{name}: believed after {n} reads");
            assert!(gone.partitions.len() <= right.partitions.len());
        }
    }
}

#[test]
fn full_is_said() {
    let mut disk = logicals(20, 512);
    let mut partitions = heapless::Vec::<Partition, 4>::new();
    let mut complaints = heapless::Vec::<Complaint, 2>::new();
    let mut found = Found::new(&mut partitions, &mut complaints);
    assert_eq!(partition::read(&mut disk, &Options::default(), &mut found), Ok(Some(Kind::Dos)));
    assert_eq!(found.partitions().len(), 4);
    assert_eq!(found.complaints(), [Complaint::TooMany { number: 6 }, Complaint::TooMany { number: 7 }]);
    assert_eq!(found.lost(), 17);
}

static TABLES: LazyLock<Vec<(&'static str, MemDisk)>> = LazyLock::new(tables::all);

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any bytes in the first sectors of a disk of any size.
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..6000), size in 0u64..40000, power in 0u32..4) {
        let mut disk = MemDisk::new(size);
        disk.block_size = 512 << power;
        disk.write(0, &bytes);
        read(&mut disk);
    }

    /// Valid tables with some bytes, words and sectors changed.
    #[test]
    fn damaged_tables(
        which in 0usize..15,
        pokes in proptest::collection::vec((0u64..20000, prop_oneof![any::<u64>(), Just(0), Just(u64::MAX), 0u64..300], 1usize..9), 0..12),
        power in 0u32..4,
        size in prop_oneof![Just(None), (0u64..(20 << 20)).prop_map(Some)],
    ) {
        let mut disk = TABLES[which].1.clone();
        for (at, value, len) in pokes {
            disk.write(at, &value.to_le_bytes()[..len.min(8)]);
        }
        if power > 0 {
            disk.block_size = 512 << power;
        }
        disk.size = size.unwrap_or(disk.size);
        read(&mut disk);
    }
}
