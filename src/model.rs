//! The nouns every room shares: device numbers, ids with generations, times, states and what is known of a path.
//!
//! Holds no behaviour beyond conversion and never refers to another room. Names are the field's own (SAM/SPC, dm-mpath).

use core::fmt;
use core::num::NonZeroU64;
use core::time::Duration;

/// Bounded text. Full is an answer: `push_str` gives an error and leaves the text as it was.
pub type Text<const N: usize> = heapless::String<N>;

/// Takes away what was written behind the first `len` bytes; without a panic, unlike `truncate`.
pub fn shorten(text: &mut heapless::string::StringView, len: usize) {
    while text.len() > len && text.pop().is_some() {}
}

/// Longest World Wide Id, as the peer and dm's 128 byte uuid field (less `mpath-`) allow.
pub const WWID_LEN: usize = 122;
/// A LUN's identity as text (`3600...`, `nvme.…`); empty when unknown.
pub type Wwid = Text<WWID_LEN>;
/// Longest dm name: 128 bytes with the NUL (dm-ioctl.h, DM_NAME_LEN).
pub const NAME_LEN: usize = 127;
/// A dm device's name.
pub type MapName = Text<NAME_LEN>;
/// A kernel block device name such as `sda` (DISK_NAME_LEN 32 with the NUL).
pub type DevName = Text<32>;
/// Prefix of the dm uuid of a multipath map; the WWID follows.
pub const UUID_PREFIX: &str = "mpath-";
/// Most paths one map holds: what one page of table text carries with room to spare.
pub const MAP_PATHS: usize = 64;

/// A point on the monotonic clock, in microseconds. Only the shell reads clocks; everywhere else time is an argument.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Instant {
    /// One more than the microseconds: `Option<Instant>`, of which each slot has a dozen, is one word then.
    ticks: NonZeroU64,
}

impl Default for Instant {
    fn default() -> Instant {
        Instant::ZERO
    }
}

impl Instant {
    pub const ZERO: Instant = Instant::from_micros(0);

    pub const fn from_micros(micros: u64) -> Instant {
        Instant { ticks: NonZeroU64::MIN.saturating_add(micros) }
    }
    pub const fn from_millis(millis: u64) -> Instant {
        Instant::from_micros(millis.saturating_mul(1000))
    }
    pub const fn from_secs(secs: u64) -> Instant {
        Instant::from_micros(secs.saturating_mul(1_000_000))
    }
    pub const fn as_micros(self) -> u64 {
        self.ticks.get() - 1
    }
    pub const fn as_millis(self) -> u64 {
        self.as_micros() / 1000
    }
    pub const fn as_secs(self) -> u64 {
        self.as_micros() / 1_000_000
    }
    /// Time from `earlier` to `self`; zero when the clock did not advance.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.ticks.get().saturating_sub(earlier.ticks.get()))
    }
}

impl core::ops::Add<Duration> for Instant {
    type Output = Instant;
    /// Saturates: a deadline past the end of the clock is "never".
    fn add(self, d: Duration) -> Instant {
        let micros = d.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(d.subsec_micros()));
        Instant { ticks: self.ticks.saturating_add(micros) }
    }
}

/// A block device number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct DevNo {
    pub major: u32,
    pub minor: u32,
}

impl DevNo {
    pub const fn new(major: u32, minor: u32) -> DevNo {
        DevNo { major, minor }
    }
    /// `8:16`, as sysfs `dev` files and dm tables write it; trailing newline allowed. `None` for anything else.
    pub fn parse(text: &str) -> Option<DevNo> {
        let (major, minor) = text.trim_ascii_end().split_once(':')?;
        Some(DevNo { major: parse_decimal(major)?, minor: parse_decimal(minor)? })
    }
    /// The kernel's `huge_encode_dev` form used in dm ioctls (kdev_t.h).
    pub const fn to_kernel(self) -> u64 {
        ((self.minor & 0xff) | (self.major << 8) | ((self.minor & !0xff) << 12)) as u64
    }
    pub const fn from_kernel(dev: u64) -> DevNo {
        let dev = dev as u32;
        DevNo { major: (dev & 0xfff00) >> 8, minor: (dev & 0xff) | ((dev >> 12) & 0xfff00) }
    }
}

impl fmt::Display for DevNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// Plain decimal digits only (no sign, no blank), without overflow.
pub fn parse_decimal(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    parse_unsigned(text)
}

/// As `str::parse`, which has half a kilobyte of code for each size of number.
#[inline]
pub fn parse_unsigned<T: TryFrom<u64>>(text: &str) -> Option<T> {
    text.parse::<u64>().ok().and_then(|number| T::try_from(number).ok())
}

/// As `str::rsplit_once` with an ASCII character, which brings a kilobyte of searching from the end.
pub fn split_last(text: &str, at: u8) -> Option<(&str, &str)> {
    let place = text.bytes().rposition(|byte| byte == at)?;
    Some((text.get(..place)?, text.get(place + 1..)?))
}

/// The last component of a path.
pub fn last_part(path: &str) -> &str {
    split_last(path, b'/').map_or(path, |(_, name)| name)
}

/// As `str::eq_ignore_ascii_case`, which is made for long texts.
pub fn same_word(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).all(|(a, b)| a.eq_ignore_ascii_case(&b))
}

/// A length or offset in 512-byte sectors, dm's unit whatever the disk's block size is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Sectors(pub u64);

impl Sectors {
    /// Bytes; saturates.
    pub const fn bytes(self) -> u64 {
        self.0.saturating_mul(512)
    }
}

/// A path's priority as the prioritizers give it; higher is better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Prio(pub i32);

impl Prio {
    /// Not known (yet): not counted in a group's mean.
    pub const UNDEFINED: Prio = Prio(-1);
}

impl Default for Prio {
    fn default() -> Prio {
        Prio::UNDEFINED
    }
}

/// Names one path slot at one time. An answer that carries an old generation belongs to a path that is gone and is dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct PathId {
    pub index: u32,
    pub generation: u32,
}

/// Names one map slot at one time, as [`PathId`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct MapId {
    pub index: u32,
    pub generation: u32,
}

/// SCSI address host:channel:target:lun as sysfs prints it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Hctl {
    pub host: u32,
    pub channel: u32,
    pub target: u32,
    pub lun: u64,
}

impl Hctl {
    /// `2:0:1:7`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Hctl> {
        let mut parts = text.trim_ascii_end().split(':');
        let host = parse_decimal(parts.next()?)?;
        let channel = parse_decimal(parts.next()?)?;
        let target = parse_decimal(parts.next()?)?;
        let lun = parts.next()?;
        if parts.next().is_some() || lun.is_empty() || !lun.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(Hctl { host, channel, target, lun: parse_unsigned(lun)? })
    }
}

impl fmt::Display for Hctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.host, self.channel, self.target, self.lun)
    }
}

/// What a checker says of a path. The words people know are in [`PathState::word`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum PathState {
    /// The checker could not judge; the result is ignored.
    Wild,
    /// Never checked.
    #[default]
    Unchecked,
    Down,
    Up,
    /// Up, but not to be relied on (array upgrade in progress).
    Shaky,
    /// Alive but standby: usable after activation.
    Ghost,
    /// A check is in flight or the device is blocked; the old state stands.
    Pending,
    /// No answer within the checker's time.
    Timeout,
    Removed,
    /// Up again, held back for having failed too often.
    Delayed,
    /// The array says the LUN is gone (05/25/00).
    Disconnected,
}

impl PathState {
    /// The peer's `%T` word.
    pub const fn word(self) -> &'static str {
        match self {
            PathState::Wild | PathState::Unchecked | PathState::Removed => "undef",
            PathState::Down => "faulty",
            PathState::Up => "ready",
            PathState::Shaky => "shaky",
            PathState::Ghost => "ghost",
            PathState::Pending => "i/o pending",
            PathState::Timeout => "i/o timeout",
            PathState::Delayed => "delayed",
            PathState::Disconnected => "disconnected",
        }
    }
    /// May the kernel be told to use this path?
    pub const fn usable(self) -> bool {
        matches!(self, PathState::Up | PathState::Ghost)
    }
}

/// The SCSI device's (or NVMe controller's) state in sysfs, read before anything is sent to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum SysState {
    #[default]
    Unknown,
    Created,
    Running,
    Offline,
    TransportOffline,
    /// `blocked`, `created-blocked`: commands are held and no timeout runs.
    Blocked,
    Quiesce,
    /// `cancel`, `deleted`, or the attribute is gone.
    Deleted,
}

/// A path inside its map, as the kernel sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum DmPathState {
    #[default]
    Undefined,
    Active,
    Failed,
}

/// A path group inside its map, as the kernel sees it (`A`, `E`, `D` of the status line).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum GroupState {
    #[default]
    Undefined,
    Enabled,
    Disabled,
    Active,
}

/// Which command set a path speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Bus {
    #[default]
    Other,
    Scsi,
    Nvme,
    Dasd,
}

/// Transport, with the peer's words in [`Protocol::word`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Protocol {
    #[default]
    Undefined,
    ScsiFcp,
    ScsiSpi,
    ScsiSsa,
    ScsiSbp,
    ScsiSrp,
    ScsiIscsi,
    ScsiSas,
    ScsiAdt,
    ScsiAta,
    ScsiUsb,
    ScsiUnspec,
    NvmePcie,
    NvmeRdma,
    NvmeFc,
    NvmeTcp,
    NvmeLoop,
    NvmeApple,
    NvmeUnspec,
    Ccw,
    Cciss,
}

impl Protocol {
    /// The word that configuration and listings use.
    pub const fn word(self) -> &'static str {
        match self {
            Protocol::Undefined => "undef",
            Protocol::ScsiFcp => "scsi:fcp",
            Protocol::ScsiSpi => "scsi:spi",
            Protocol::ScsiSsa => "scsi:ssa",
            Protocol::ScsiSbp => "scsi:sbp",
            Protocol::ScsiSrp => "scsi:srp",
            Protocol::ScsiIscsi => "scsi:iscsi",
            Protocol::ScsiSas => "scsi:sas",
            Protocol::ScsiAdt => "scsi:adt",
            Protocol::ScsiAta => "scsi:ata",
            Protocol::ScsiUsb => "scsi:usb",
            Protocol::ScsiUnspec => "scsi:unspec",
            Protocol::NvmePcie => "nvme:pcie",
            Protocol::NvmeRdma => "nvme:rdma",
            Protocol::NvmeFc => "nvme:fc",
            Protocol::NvmeTcp => "nvme:tcp",
            Protocol::NvmeLoop => "nvme:loop",
            Protocol::NvmeApple => "nvme:apple-nvme",
            Protocol::NvmeUnspec => "nvme:unspec",
            Protocol::Ccw => "ccw",
            Protocol::Cciss => "cciss",
        }
    }
}

/// Asymmetric access state (SPC-6 REPORT TARGET PORT GROUPS); codes we do not know are carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum AccessState {
    Optimized,
    NonOptimized,
    Standby,
    Unavailable,
    LbaDependent,
    Offline,
    Transitioning,
    Unknown(u8),
}

/// TPGS bits of the standard INQUIRY data (byte 5, bits 5..4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Tpgs {
    /// No INQUIRY data seen.
    #[default]
    Unknown,
    None,
    Implicit,
    Explicit,
    Both,
}

/// Where a WWID came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum WwidOrigin {
    #[default]
    Nowhere,
    /// VPD 0x83 kept by the kernel in sysfs, or asked by us.
    Vpd83,
    Vpd80,
    NvmeSysfs,
    DasdUid,
    /// A property of udev's database that the configuration names.
    Udev,
}

/// Who has a path open exclusively, as sysfs and mountinfo tell.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Holder {
    #[default]
    Nobody,
    /// A dm device (`holders/dm-N`); its uuid says whether it is one of ours.
    Map { devno: DevNo, uuid: Text<128> },
    /// md, bcache, ...: the holder's kernel name.
    Device(DevName),
    /// The disk or one of its partitions is mounted or swapped on: where.
    Mounted(Text<64>),
}

/// Everything the shell found out about one disk without asking the engine. Text from devices is already cleaned: printable ASCII,
/// trailing blanks cut.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PathFacts {
    pub name: DevName,
    pub devno: DevNo,
    /// Tells a re-used kernel name from the old one; 0 where the kernel has none (before 5.15).
    pub diskseq: u64,
    pub bus: Bus,
    pub protocol: Protocol,
    pub hctl: Option<Hctl>,
    pub vendor: Text<40>,
    pub product: Text<40>,
    pub revision: Text<16>,
    pub serial: Text<64>,
    /// There are blanks before it in its page.
    pub serial_indented: bool,
    pub wwid: Wwid,
    pub wwid_origin: WwidOrigin,
    pub size: Sectors,
    /// Logical block size in bytes.
    pub block_size: u32,
    pub read_only: bool,
    pub removable: bool,
    /// `hidden` in sysfs (paths under native NVMe multipath): never ours.
    pub hidden: bool,
    pub usb: bool,
    pub tpgs: Tpgs,
    /// VPD 0x83 designator type 5.
    pub target_port_group: Option<u16>,
    /// VPD 0x83 designator type 4.
    pub relative_port: Option<u16>,
    pub host_node: Text<64>,
    pub host_port: Text<64>,
    /// Target node name (FC WWNN, iSCSI target name, SAS address, SRP id); empty when unknown.
    pub target_node: Text<224>,
    pub target_port: Text<64>,
    /// Kernel name of the host's parent (PCI address), for "host adapter".
    pub adapter: Text<32>,
    pub sys_state: SysState,
    /// `dh_state`: empty when detached or absent.
    pub handler: Text<16>,
    /// `access_state`, where the kernel has a handler attached.
    pub access: Option<AccessState>,
    pub preferred: bool,
    /// The SCSI device's command timeout in seconds; 0 when unknown.
    pub timeout_secs: u32,
    pub holder: Holder,
}
/// sysfs attributes that shape a path's error handling. Where each lives differs by transport; in which order they are written is the
/// engine's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attribute {
    /// Seconds; -1 is `off`. FC and SRP remote ports.
    FastIoFail,
    /// Seconds. FC and SRP remote ports, SAS end devices.
    DevLoss,
    /// Seconds. iSCSI sessions.
    RecoveryTmo,
    /// Seconds; -1 is `off`. The SCSI host.
    EhDeadline,
    /// The block queue of the path. Negative: is it no more than that already? Nothing is written.
    MaxSectorsKb,
    /// scsi_disk; -1 is the kernel's default.
    MaxRetries,
    /// Makes the kernel read capacity and INQUIRY data again; value 1.
    Rescan,
    /// Removes the SCSI device (purge_disconnected); value 1.
    Delete,
    /// Has the kernel tell udev that something about the disk has changed; value 1.
    Announce,
    /// Takes a SCSI device into use again that is offline; value 1. Asked by an administrator only.
    Online,
    /// Makes a SCSI host look for devices; value 1. Of a host, not of a path, and asked by an administrator only.
    Scan,
}
