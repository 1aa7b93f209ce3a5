//! The commands that move blocks (SBC-3): READ, WRITE, READ CAPACITY. Never more bytes than the guest
//! gave room for, never a block outside the LUN.

use crate::lun::Lun;
use crate::scsi::{self, Command, Reply, Sense, be16, be32, be64, byte, op, put};

/// First block and number of blocks of a READ or WRITE; None for any other command.
pub fn extent(cdb: &[u8]) -> Option<(u64, u64)> {
    Some(match byte(cdb, 0) {
        op::READ_6 | op::WRITE_6 => {
            let lba = u64::from(be32(cdb, 0) & 0x001f_ffff);
            // SBC-3: a transfer length of 0 means 256 blocks, in the 6-byte form only.
            let n = match byte(cdb, 4) {
                0 => 256,
                n => u64::from(n),
            };
            (lba, n)
        }
        op::READ_10 | op::WRITE_10 => (u64::from(be32(cdb, 2)), u64::from(be16(cdb, 7))),
        op::READ_12 | op::WRITE_12 => (u64::from(be32(cdb, 2)), u64::from(be32(cdb, 6))),
        op::READ_16 | op::WRITE_16 => (be64(cdb, 2), u64::from(be32(cdb, 10))),
        _ => return None,
    })
}

pub fn read_write(lun: &Lun, cmd: &Command) -> Reply {
    let Some((lba, n)) = extent(&cmd.cdb) else {
        return Sense::BAD_OPCODE.into();
    };
    match lba.checked_add(n) {
        Some(end) if end <= lun.blocks() => {}
        _ => return Sense::BAD_LBA.into(),
    }
    let block = u64::from(lun.block);
    let (at, len) = (lba * block, n * block);
    if scsi::is_write(&cmd.cdb) {
        if lun.read_only {
            return Sense::new(7, 0x27, 0).into();
        }
        // Fewer bytes than announced: refuse the whole, a torn write would be our invention.
        let Some(data) = usize::try_from(len).ok().and_then(|l| cmd.out.get(..l)) else {
            return Sense::new(0xb, 0x4b, 0).into();
        };
        return match lun.store.write(at, data) {
            Ok(()) => Reply::good(),
            Err(_) => Sense::new(3, 0x0c, 0).into(),
        };
    }
    let len = usize::try_from(len).map_or(cmd.room, |l| l.min(cmd.room));
    match lun.store.read(at, len) {
        Ok(data) => Reply::data(data),
        Err(_) => Sense::new(3, 0x11, 0).into(),
    }
}

pub fn capacity_10(lun: &Lun) -> Reply {
    let last = lun.blocks().saturating_sub(1);
    let mut d = vec![0u8; 8];
    // SBC-3: FFFFFFFFh sends the initiator to READ CAPACITY(16).
    let last = u32::try_from(last).unwrap_or(u32::MAX);
    put(&mut d, 0, &last.to_be_bytes());
    put(&mut d, 4, &lun.block.to_be_bytes());
    Reply::data(d)
}

pub fn capacity_16(lun: &Lun, cdb: &[u8]) -> Reply {
    let mut d = vec![0u8; 32];
    put(&mut d, 0, &lun.blocks().saturating_sub(1).to_be_bytes());
    put(&mut d, 8, &lun.block.to_be_bytes());
    Reply::data(d).cut(be32(cdb, 10) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn lun() -> Lun {
        let site = crate::site::tests::site();
        Lun::new(&site, 0, 512, Store::memory(1 << 20).unwrap(), 0)
    }

    fn cmd(cdb: &[u8], out: &[u8], room: usize) -> Command {
        Command { port: 0, lun: 0, cdb: cdb.to_vec(), out: out.to_vec(), room }
    }

    #[test]
    fn every_size_of_read_and_write_finds_the_same_block() {
        let l = lun();
        let data = [0x5a; 512];
        let w = cmd(&[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0], &data, 0);
        assert_eq!(read_write(&l, &w), Reply::good());
        let reads: [&[u8]; 4] = [
            &[0x08, 0, 0, 7, 1, 0],
            &[0x28, 0, 0, 0, 0, 7, 0, 0, 1, 0],
            &[0xa8, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0],
            &[0x88, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0],
        ];
        for r in reads {
            assert_eq!(read_write(&l, &cmd(r, &[], 512)).data, data);
        }
    }

    #[test]
    fn blocks_outside_are_refused_and_short_writes_change_nothing() {
        let l = lun();
        let last = [0x28, 0, 0, 0, 0x08, 0x00, 0, 0, 1, 0];
        let r = read_write(&l, &cmd(&last, &[], 512));
        assert_eq!(Sense::parse(&r.sense), Some(Sense::BAD_LBA));
        let huge = [0x88, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0];
        let r = read_write(&l, &cmd(&huge, &[], 512));
        assert_eq!(Sense::parse(&r.sense), Some(Sense::BAD_LBA));
        let short = cmd(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 2, 0], &[1; 512], 0);
        assert_eq!(read_write(&l, &short).status, scsi::CHECK_CONDITION);
        assert_eq!(l.store.read(0, 4).unwrap(), [0; 4]);
    }

    #[test]
    fn capacity_is_the_last_block() {
        let l = lun();
        assert_eq!(capacity_10(&l).data, [0, 0, 7, 255, 0, 0, 2, 0]);
        let cdb = [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0];
        let d = capacity_16(&l, &cdb).data;
        assert_eq!(d, [0, 0, 0, 0, 0, 0, 7, 255, 0, 0, 2, 0]);
    }
}
