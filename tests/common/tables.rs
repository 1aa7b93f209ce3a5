//! One valid table of each format, built from its description, for the tests to damage.

#![allow(unreachable_pub, dead_code)]

use super::disk::MemDisk;

const CRC: crc::Crc<u32, crc::Table<1>> = crc::Crc::<u32, crc::Table<1>>::new(&crc::CRC_32_ISO_HDLC);

pub fn put32(b: &mut [u8], at: usize, v: u32) {
    b[at..at + 4].copy_from_slice(&v.to_le_bytes());
}
pub fn put64(b: &mut [u8], at: usize, v: u64) {
    b[at..at + 8].copy_from_slice(&v.to_le_bytes());
}

/// What goes into a GPT, before its checksums are made; every field can lie.
#[derive(Clone)]
pub struct Gpt {
    pub blocks: u64,
    pub block_size: u32,
    pub count: u32,
    pub entry_size: u32,
    pub header_size: u32,
    /// (index, first, last)
    pub entries: Vec<(usize, u64, u64)>,
}

impl Gpt {
    pub fn new(blocks: u64, block_size: u32) -> Gpt {
        Gpt { blocks, block_size, count: 128, entry_size: 128, header_size: 92, entries: Vec::new() }
    }
    fn table(&self) -> Vec<u8> {
        let mut table = vec![0; 128 * 128];
        for (index, first, last) in &self.entries {
            let e = &mut table[index * 128..][..128];
            e[..16].fill(0xaf);
            e[16..32].fill(*index as u8 + 1);
            put64(e, 32, *first);
            put64(e, 40, *last);
            e[56] = b'p';
        }
        table
    }
    fn header(&self, at: u64, other: u64, entries_at: u64) -> Vec<u8> {
        let mut h = vec![0; self.block_size as usize];
        h[..8].copy_from_slice(b"EFI PART");
        put32(&mut h, 8, 0x10000);
        put32(&mut h, 12, self.header_size);
        put64(&mut h, 24, at);
        put64(&mut h, 32, other);
        put64(&mut h, 40, 34);
        put64(&mut h, 48, self.blocks - 34);
        h[56..72].fill(9);
        put64(&mut h, 72, entries_at);
        put32(&mut h, 80, self.count);
        put32(&mut h, 84, self.entry_size);
        let table = self.table();
        put32(&mut h, 88, CRC.checksum(&table[..(self.count as usize * 128).min(table.len())]));
        let crc = CRC.checksum(&h[..(self.header_size as usize).min(h.len())]);
        put32(&mut h, 16, crc);
        h
    }
    /// With protective MBR, both headers and both tables.
    pub fn disk(&self) -> MemDisk {
        let size = u64::from(self.block_size);
        let mut disk = MemDisk::new(self.blocks * size);
        disk.block_size = self.block_size;
        disk.write(0, &mbr(0, [(0xee, 1, u32::MAX), (0, 0, 0), (0, 0, 0), (0, 0, 0)]));
        let (table, last) = (self.table(), self.blocks - 1);
        let back = last - (table.len() as u64).div_ceil(size);
        disk.write(size, &self.header(1, last, 2));
        disk.write(2 * size, &table);
        disk.write(last * size, &self.header(last, 1, back));
        disk.write(back * size, &table);
        disk
    }
}

/// A DOS table sector: (type, start, length) of its four entries.
pub fn mbr(signature: u32, entries: [(u8, u32, u32); 4]) -> [u8; 512] {
    let mut sector = [0; 512];
    put32(&mut sector, 0x1b8, signature);
    for (i, (kind, start, length)) in entries.into_iter().enumerate() {
        let at = 0x1be + 16 * i;
        sector[at + 4] = kind;
        put32(&mut sector, at + 8, start);
        put32(&mut sector, at + 12, length);
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

pub const NONE: (u8, u32, u32) = (0, 0, 0);

/// `count` logical partitions of 7 blocks, a block apart, in an extended partition at block 64.
pub fn logicals(count: u32, block_size: u32) -> MemDisk {
    let mut disk = MemDisk::new(u64::from(block_size) * 8192);
    disk.block_size = block_size;
    let size = u64::from(block_size);
    disk.write(0, &mbr(0xdecade01, [(0x83, 8, 8), (0x05, 64, 8000), (0x82, 16, 8), NONE]));
    for i in 0..count {
        let link = if i + 1 < count { (0x05, (i + 1) * 8, 8) } else { NONE };
        disk.write((64 + u64::from(i) * 8) * size, &mbr(0, [(0x83, 1, 7), link, NONE, NONE]));
    }
    disk
}

/// A BSD label: (size, offset, fstype) of its slices.
pub fn bsd_label(slices: &[(u32, u32, u8)]) -> Vec<u8> {
    let mut label = vec![0; 404];
    put32(&mut label, 0, 0x82564557);
    put32(&mut label, 132, 0x82564557);
    label[138] = slices.len() as u8;
    for (i, (size, offset, kind)) in slices.iter().enumerate() {
        put32(&mut label, 148 + 16 * i, *size);
        put32(&mut label, 152 + 16 * i, *offset);
        label[160 + 16 * i] = *kind;
    }
    label
}

fn solaris_label() -> Vec<u8> {
    let mut label = vec![0; 512];
    put32(&mut label, 12, 0x600ddeee);
    put32(&mut label, 16, 1);
    label[30] = 8;
    for (i, (start, size)) in [(16, 100), (116, 200), (0, 4000)].into_iter().enumerate() {
        label[72 + 12 * i] = 2;
        put32(&mut label, 76 + 12 * i, start);
        put32(&mut label, 80 + 12 * i, size);
    }
    label
}

fn unixware_label(base: u32) -> Vec<u8> {
    let mut label = vec![0; 512];
    put32(&mut label, 4, 0xca5e600d);
    put32(&mut label, 156, 0x600ddeee);
    for (i, (start, size)) in [(0, 4000), (34, 100), (200, 300)].into_iter().enumerate() {
        label[216 + 12 * i] = 3;
        put32(&mut label, 220 + 12 * i, base + start);
        put32(&mut label, 224 + 12 * i, size);
    }
    label
}

/// Every label in a DOS partition: FreeBSD (relative), OpenBSD, UnixWare, Solaris.
pub fn labels_in_dos() -> MemDisk {
    let mut disk = MemDisk::new(16 << 20);
    disk.write(0, &mbr(7, [(0xa5, 1000, 4000), (0xa6, 5000, 4000), (0x63, 10000, 4000), (0xbf, 15000, 4000)]));
    disk.write(1001 * 512, &bsd_label(&[(100, 16, 7), (0, 0, 0), (4000, 0, 1), (200, 300, 7)]));
    disk.write(5001 * 512, &bsd_label(&[(100, 5016, 7), (50, 3, 7), (4000, 5000, 1), (200, 5300, 7)]));
    disk.write(10029 * 512, &unixware_label(10000));
    disk.write(15001 * 512, &solaris_label());
    disk
}

/// A valid disk of every format, by name.
pub fn all() -> Vec<(&'static str, MemDisk)> {
    let plain = |size, writes: &[(u64, Vec<u8>)]| {
        let mut disk = MemDisk::new(size);
        writes.iter().for_each(|(at, bytes)| disk.write(*at, bytes));
        disk
    };
    let mut gpt = Gpt::new(32768, 512);
    gpt.entries = vec![(0, 2048, 4095), (1, 4096, 8191), (127, 8192, 8192)];
    let mut gpt4k = Gpt::new(4096, 4096);
    gpt4k.entries = vec![(0, 256, 511), (2, 512, 1023)];

    let mut sun = vec![0; 512];
    let be = |b: &mut Vec<u8>, at: usize, v: u32| b[at..at + 4].copy_from_slice(&v.to_be_bytes());
    be(&mut sun, 436, 2 << 16 | 63);
    for (i, (cylinder, size)) in [(0, 1260), (10, 2520), (0, 12600)].into_iter().enumerate() {
        be(&mut sun, 444 + 8 * i, cylinder);
        be(&mut sun, 448 + 8 * i, size);
    }
    sun[508..510].copy_from_slice(&[0xda, 0xbe]);
    let sum = sun.chunks(2).fold([0, 0], |s, w| [s[0] ^ w[0], s[1] ^ w[1]]);
    sun[510..].copy_from_slice(&sum);

    let mac_entry = |start: u32, size: u32| {
        let mut e = vec![0; 512];
        e[..2].copy_from_slice(b"PM");
        be(&mut e, 4, 3);
        be(&mut e, 8, start);
        be(&mut e, 12, size);
        e[16..20].copy_from_slice(b"disk");
        e
    };
    let mut mac = b"ER\x08\x00".to_vec();
    mac.resize(512, 0);
    let mut ps3 = vec![0; 1536];
    ps3[16..24].copy_from_slice(&0x0face0ffu64.to_be_bytes());
    ps3[24..32].copy_from_slice(&0xdeadfaceu64.to_be_bytes());
    for (i, (start, size)) in [(8u64, 100u64), (0, 0), (200, 300)].into_iter().enumerate() {
        ps3[48 + 144 * i..][..8].copy_from_slice(&start.to_be_bytes());
        ps3[56 + 144 * i..][..8].copy_from_slice(&size.to_be_bytes());
    }

    // VOL1 at block 2 of 4096, its VTOC at cylinder 0 head 1; two data sets of 10 and 20 tracks.
    let mut vol1 = vec![0; 512];
    vol1[..4].copy_from_slice(&[0xe5, 0xd6, 0xd3, 0xf1]);
    vol1[15..20].copy_from_slice(&[0, 0, 0, 1, 1]);
    let dscb = |format: u8, low: [u8; 4], high: [u8; 4]| {
        let mut b = vec![0; 512];
        b[44] = format;
        b[107..111].copy_from_slice(&low);
        b[111..115].copy_from_slice(&high);
        b
    };
    let mut dasd = plain(
        600 * 4096,
        &[
            (2 * 4096, vol1),
            (14 * 4096, dscb(0xf4, [0; 4], [0; 4])),
            (15 * 4096, dscb(0xf5, [0; 4], [0; 4])),
            (16 * 4096, dscb(0xf1, [0, 0, 0, 2], [0, 0, 0, 11])),
            (17 * 4096, dscb(0xf8, [0, 0, 0, 12], [0, 2, 0, 1])),
        ],
    );
    dasd.block_size = 4096;
    let mut lnx1 = vec![0; 512];
    lnx1[..4].copy_from_slice(&[0xd3, 0xd5, 0xe7, 0xf1]);
    lnx1[79] = 0xf2;
    lnx1[80..88].copy_from_slice(&600u64.to_be_bytes());
    let mut ldl = plain(600 * 4096, &[(2 * 4096, lnx1)]);
    ldl.block_size = 4096;
    let mut cms1 = vec![0; 512];
    cms1[..4].copy_from_slice(&[0xc3, 0xd4, 0xe2, 0xf1]);
    be(&mut cms1, 12, 4096);
    be(&mut cms1, 28, 600);
    be(&mut cms1, 52, 20);
    let mut cms = plain(600 * 4096, &[(2 * 4096, cms1)]);
    cms.block_size = 4096;

    vec![
        ("gpt", gpt.disk()),
        ("gpt 4096", gpt4k.disk()),
        ("dos", logicals(20, 512)),
        ("dos 4096", logicals(20, 4096)),
        ("labels in dos", labels_in_dos()),
        ("bsd", plain(8 << 20, &[(512, bsd_label(&[(1000, 16, 7), (2000, 1016, 1), (16384, 0, 1)]))])),
        ("bsd in sector 0", plain(8 << 20, &[(64, bsd_label(&[(1000, 16, 7), (16384, 0, 1)]))])),
        ("solaris", plain(8 << 20, &[(512, solaris_label())])),
        ("unixware", plain(8 << 20, &[(29 * 512, unixware_label(0))])),
        ("vol1", dasd),
        ("lnx1", ldl),
        ("cms1", cms),
        ("mac", plain(8 << 20, &[(0, mac), (2048, mac_entry(1, 3)), (4096, mac_entry(64, 100)), (6144, mac_entry(200, 50))])),
        ("sun", plain(8 << 20, &[(0, sun)])),
        ("ps3", plain(8 << 20, &[(0, ps3)])),
    ]
}
