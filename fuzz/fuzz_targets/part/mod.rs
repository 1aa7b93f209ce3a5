//! A disk made of the fuzzer's bytes, and what must hold of every answer of a partition reader.

use corepath::fault::Errno;
use corepath::wire::partition::{self, Complaint, Found, Kind, Options, Partition, ReadAt, dasd::Geometry};

/// Four bytes say how large disk and blocks are and where reads fail; the rest is the disk's content, repeated to its end so that chains and
/// backups lead somewhere.
pub struct Disk<'a> {
    size: u64,
    block_size: u32,
    bad: Option<u64>,
    content: &'a [u8],
    reads: u32,
    bytes: usize,
    budget: usize,
}

impl<'a> Disk<'a> {
    pub fn new(data: &'a [u8]) -> Option<(u8, Disk<'a>)> {
        let (&[flags, power, length, bad], content) = data.split_first_chunk::<4>()?;
        let budget = if length == u8::MAX { usize::MAX } else { 40 << 10 };
        let size = match length {
            0..16 => u64::from(length) * 256,
            16..200 => u64::from(length) << 16,
            200..250 => 1 << (length - 200 + 9),
            _ => u64::MAX,
        };
        let bad = bad.checked_sub(128).map(u64::from);
        Some((flags, Disk { size, block_size: 512 << (power % 5), bad, content, reads: 0, bytes: 0, budget }))
    }
}

impl ReadAt for Disk<'_> {
    fn size(&self) -> u64 {
        self.size
    }
    fn block_size(&self) -> u32 {
        self.block_size
    }
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Errno> {
        assert!(offset.is_multiple_of(512) && into.len().is_multiple_of(512) && !into.is_empty() && into.len() <= 4096);
        assert!(offset.checked_add(into.len() as u64).is_some_and(|end| end <= self.size));
        self.reads += 1;
        self.bytes += into.len();
        assert!(self.reads < 5000, "too many reads");
        // The largest tables take milliseconds to go through: most disks die before, and the number of executions is worth more.
        if self.bytes > self.budget {
            return Err(Errno::IO);
        }
        if self.bad.is_some_and(|bad| (offset / 512..(offset + into.len() as u64) / 512).contains(&bad)) {
            return Err(Errno::IO);
        }
        let period = (self.content.len() as u64).next_multiple_of(512).max(512);
        for (i, sector) in into.chunks_mut(512).enumerate() {
            let at = ((offset % period + 512 * i as u64) % period) as usize;
            let have = self.content.get(at..).unwrap_or_default();
            let len = have.len().min(512);
            sector[..len].copy_from_slice(&have[..len]);
            sector[len..].fill(0);
        }
        Ok(())
    }
}

/// Reads with one reader (or all) and checks the answer.
#[allow(dead_code)]
pub fn check(only: Option<Kind>, data: &[u8]) {
    let Some((flags, mut disk)) = Disk::new(data) else { return };
    let dasd = (flags & 2 != 0).then_some(Geometry {
        cylinders: u32::from(flags) << 24 | 100,
        heads: if flags & 4 != 0 { u16::MAX } else { 15 },
        sectors: if flags & 8 != 0 { u16::MAX } else { 12 },
        label_block: if flags & 16 != 0 { u32::MAX } else { 2 },
        label_in_sectors: flags & 32 != 0,
        eckd: flags & 64 != 0,
        ldl: flags & 128 != 0,
    });
    let options = Options { only, force_gpt: flags & 1 != 0, dasd };
    let mut partitions = heapless::Vec::<Partition, 256>::new();
    let mut complaints = heapless::Vec::<Complaint, 64>::new();
    let mut found = Found::new(&mut partitions, &mut complaints);
    let kind = partition::read(&mut disk, &options, &mut found);
    let all = found.partitions();
    assert!(matches!(kind, Ok(Some(_))) || all.is_empty());
    for (i, p) in all.iter().enumerate() {
        assert!((1..=256).contains(&p.number) && p.length.0 > 0 && p.span >= p.length);
        assert!(p.start.0.checked_add(p.length.0).is_some_and(|end| end <= disk.size / 512));
        assert!(p.container != p.number);
        let end = p.start.0.saturating_add(p.span.0);
        for q in &all[i + 1..] {
            assert!(p.number < q.number);
            let q_end = q.start.0.saturating_add(q.span.0);
            let nested = (p.start <= q.start && q_end <= end) || (q.start <= p.start && end <= q_end);
            let apart = end <= q.start.0 || q_end <= p.start.0;
            assert!(apart || (nested && kind != Ok(Some(Kind::Gpt))));
        }
    }
}
