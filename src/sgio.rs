#![allow(unsafe_code)]
//! What is asked of a disk through its open node: one SCSI command (SG_IO v3), one NVMe admin command, one direct read, its sizes, its kernel partitions. No
//! meaning, no policy, no retries: the mid-layer does not retry pass-through, and whether we do is the checker's.
//!
//! Everything here may sleep on the device for as long as the device likes (kernel-side timeouts do not run while a transport is
//! blocked), so workers call it. Timeouts below 7 s are raised to 7 s by the kernel (BLK_MIN_SG_TIMEOUT).
//!
//! System calls: openat, fstat, ioctl, pread64.
//!
//! # Safety
//! Structures are those of scsi/sg.h, linux/nvme_ioctl.h and linux/blkpg.h, their sizes asserted; every pointer in them is to memory that outlives the call.

use crate::dmioctl::Page;
use crate::fault::Errno;
use crate::model::{DevNo, Sectors};
use crate::raw::{self, errno};
use crate::wire::cursor::put;
use crate::wire::nvme::{Admin, Namespace};
use crate::wire::scsi::{Command, Reply, Transfer};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, OFlags};

/// Most sense data kept.
pub const SENSE: usize = 64;

#[repr(C)]
struct SgIoHdr {
    interface_id: i32,
    dxfer_direction: i32,
    cmd_len: u8,
    mx_sb_len: u8,
    iovec_count: u16,
    dxfer_len: u32,
    dxferp: *mut u8,
    cmdp: *const u8,
    sbp: *mut u8,
    timeout: u32,
    flags: u32,
    pack_id: i32,
    usr_ptr: *mut u8,
    status: u8,
    masked_status: u8,
    msg_status: u8,
    sb_len_wr: u8,
    host_status: u16,
    driver_status: u16,
    resid: i32,
    duration: u32,
    info: u32,
}

const _: () = assert!(size_of::<SgIoHdr>() == 88);

const SG_IO: u32 = 0x2285;
const DIRECTION_NONE: i32 = -1;
const DIRECTION_OUT: i32 = -2;
const DIRECTION_IN: i32 = -3;

/// What came of a command; [`Outcome::reply`] joins it with the buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    pub status: u8,
    pub host: u16,
    pub driver: u16,
    pub sense_length: u8,
    pub data_length: u16,
    pub errno: Option<Errno>,
    /// Milliseconds the command took.
    pub millis: u32,
}

impl Outcome {
    pub fn reply<'a>(&self, page: &'a Page, sense: &'a [u8; SENSE]) -> Reply<'a> {
        Reply {
            status: self.status,
            host: self.host,
            driver: self.driver,
            sense: sense.get(..usize::from(self.sense_length)).unwrap_or(sense),
            data: page.0.get(..usize::from(self.data_length)).unwrap_or(&page.0),
            errno: self.errno,
        }
    }
}

/// Opens a disk below the held /dev for commands and direct reads. Read-only: closing a descriptor opened for writing makes udev look
/// at the disk again, and CAP_SYS_RAWIO lets every command through all the same.
pub fn open(dev: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    // sysfs writes '!' for a '/' in a name (cciss!c0d0).
    let mut path = crate::model::DevName::new();
    for c in name.chars() {
        path.as_mut_view().push(if c == '!' { '/' } else { c }).map_err(|_| Errno::NAMETOOLONG)?;
    }
    crate::files::open_at(dev, &path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::DIRECT)
}

/// As [`open`], and makes sure that it is that disk: a node left over from one that went, or no block device, is `ENODEV`.
pub fn open_disk(dev: BorrowedFd<'_>, name: &str, devno: DevNo) -> Result<OwnedFd, Errno> {
    let fd = open(dev, name)?;
    let stat = rustix::fs::fstat(&fd).map_err(errno)?;
    let same = stat.st_rdev == rustix::fs::makedev(devno.major, devno.minor);
    if same && FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice { Ok(fd) } else { Err(Errno::NODEV) }
}

/// Sends one command. Data comes to and goes from the page, which is page-aligned: no bounce buffer is allocated for it.
pub fn execute(fd: BorrowedFd<'_>, command: &Command, page: &mut Page, sense: &mut [u8; SENSE]) -> Outcome {
    let (direction, length) = match command.transfer {
        Transfer::None => (DIRECTION_NONE, 0),
        Transfer::In(n) => (DIRECTION_IN, usize::from(n).min(page.0.len())),
        Transfer::Out(_) => {
            let out = command.parameters();
            put(&mut page.0, 0, out);
            (DIRECTION_OUT, out.len())
        }
    };
    if direction == DIRECTION_IN {
        // What a device does not fill must not be what the last one said.
        page.0.iter_mut().take(length).for_each(|byte| *byte = 0);
    }
    let mut header = SgIoHdr {
        interface_id: i32::from(b'S'),
        dxfer_direction: direction,
        cmd_len: command.cdb_len.min(16),
        mx_sb_len: SENSE as u8,
        iovec_count: 0,
        dxfer_len: length as u32,
        dxferp: page.0.as_mut_ptr(),
        cmdp: command.cdb.as_ptr(),
        sbp: sense.as_mut_ptr(),
        timeout: u32::from(command.timeout_secs).saturating_mul(1000),
        flags: 0,
        pack_id: 0,
        usr_ptr: core::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        msg_status: 0,
        sb_len_wr: 0,
        host_status: 0,
        driver_status: 0,
        resid: 0,
        duration: 0,
        info: 0,
    };
    // SAFETY: the header and all it points to live until the call returns; lengths are those of the buffers.
    let result = unsafe { raw::ioctl(fd, SG_IO, &raw mut header as usize) };
    let left = u32::try_from(header.resid).unwrap_or(0);
    Outcome {
        status: header.status,
        host: header.host_status,
        driver: header.driver_status,
        sense_length: header.sb_len_wr.min(SENSE as u8),
        data_length: if direction == DIRECTION_IN { (length as u32).saturating_sub(left) as u16 } else { 0 },
        errno: result.err(),
        millis: header.duration,
    }
}

#[repr(C)]
struct NvmePassthru {
    opcode: u8,
    flags: u8,
    reserved: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    address: u64,
    metadata_length: u32,
    length: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_millis: u32,
    result: u32,
}

const _: () = assert!(size_of::<NvmePassthru>() == 72);

/// Sends one NVMe admin command that reads data (linux/nvme_ioctl.h, NVME_IOCTL_ADMIN_CMD); returns the bytes asked for. A status other
/// than success is EIO: what the controller said beyond that nobody asks.
pub fn admin(fd: BorrowedFd<'_>, command: &Admin, page: &mut Page) -> Result<usize, Errno> {
    const NVME_IOCTL_ID: u32 = 0x4e40;
    const NVME_IOCTL_ADMIN_CMD: u32 = 0xc048_4e41;
    const TIMEOUT_MILLIS: u32 = 30_000;
    let nsid = match command.namespace {
        Namespace::None => 0,
        Namespace::All => u32::MAX,
        // SAFETY: takes no argument.
        Namespace::Own => unsafe { raw::ioctl(fd, NVME_IOCTL_ID, 0) }? as u32,
    };
    let length = usize::from(command.length).min(page.0.len());
    page.0.iter_mut().take(length).for_each(|byte| *byte = 0);
    let mut header = NvmePassthru {
        opcode: command.opcode,
        flags: 0,
        reserved: 0,
        nsid,
        cdw2: 0,
        cdw3: 0,
        metadata: 0,
        address: page.0.as_mut_ptr() as u64,
        metadata_length: 0,
        length: length as u32,
        cdw10: command.cdw10,
        cdw11: command.cdw11,
        cdw12: command.cdw12,
        cdw13: 0,
        cdw14: 0,
        cdw15: 0,
        timeout_millis: TIMEOUT_MILLIS,
        result: 0,
    };
    // SAFETY: the header and the page live until the call returns; the length is within the page.
    let status = unsafe { raw::ioctl(fd, NVME_IOCTL_ADMIN_CMD, &raw mut header as usize) }?;
    if status == 0 { Ok(length) } else { Err(Errno::IO) }
}

/// Reads `length` bytes (a multiple of the block size) past the page cache.
pub fn read(fd: BorrowedFd<'_>, offset: u64, length: usize, page: &mut Page) -> Result<usize, Errno> {
    let room = page.0.get_mut(..length).ok_or(Errno::INVAL)?;
    loop {
        match rustix::io::pread(fd, &mut *room, offset) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map_err(errno),
        }
    }
}

/// Size of the disk.
pub fn size(fd: BorrowedFd<'_>) -> Result<Sectors, Errno> {
    const BLKGETSIZE64: u32 = 0x8008_1272;
    let mut bytes = 0u64;
    // SAFETY: the kernel writes one u64.
    unsafe { raw::ioctl(fd, BLKGETSIZE64, &raw mut bytes as usize) }?;
    Ok(Sectors(bytes / 512))
}

/// Logical block size in bytes.
pub fn block_size(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    const BLKSSZGET: u32 = 0x1268;
    let mut bytes = 0u32;
    // SAFETY: the kernel writes one int.
    unsafe { raw::ioctl(fd, BLKSSZGET, &raw mut bytes as usize) }?;
    Ok(bytes)
}

#[repr(C)]
struct BlkpgArg {
    operation: i32,
    flags: i32,
    length: i32,
    data: *const BlkpgPartition,
}

#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: i32,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

const _: () = assert!(size_of::<BlkpgArg>() == 24 && size_of::<BlkpgPartition>() == 152);

/// Takes one of the kernel's own partitions of a disk away: `EBUSY` when it is open, `ENXIO` when there is none of that number.
pub fn delete_partition(fd: BorrowedFd<'_>, number: u32) -> Result<(), Errno> {
    const BLKPG: u32 = 0x1269;
    const DELETE: i32 = 2;
    let number = i32::try_from(number).map_err(|_| Errno::INVAL)?;
    let partition = BlkpgPartition { start: 0, length: 0, number, device_name: [0; 64], volume_name: [0; 64] };
    let argument = BlkpgArg { operation: DELETE, flags: 0, length: size_of::<BlkpgPartition>() as i32, data: &raw const partition };
    // SAFETY: both structures live until the call returns; the kernel only reads them.
    unsafe { raw::ioctl(fd, BLKPG, &raw const argument as usize) }.map(|_| ())
}

/// Makes the kernel read the disk's partition table again: `EBUSY` when one of its partitions is open.
pub fn reread_partitions(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    const BLKRRPART: u32 = 0x125f;
    // SAFETY: takes no argument.
    unsafe { raw::ioctl(fd, BLKRRPART, 0) }.map(|_| ())
}

/// A borrow for the functions above.
pub fn borrow(fd: &OwnedFd) -> BorrowedFd<'_> {
    fd.as_fd()
}
