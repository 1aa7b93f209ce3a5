//! The keywords of multipath.conf: one row each, and everything that is known of a keyword is in its row.
//!
//! The parser, the printers, the defaults, `config --help` and the manual's list come from this table; nothing else knows a name.
//! Shared with build.rs, which checks the array table with it.

/// Where a line stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Place {
    Top,
    Defaults,
    Blacklist,
    Exceptions,
    BlacklistDevice,
    ExceptionsDevice,
    Devices,
    Device,
    Overrides,
    Protocol,
    Multipaths,
    Multipath,
}

impl Place {
    pub const fn bit(self) -> u16 {
        1 << self as u16
    }
    /// The block that this one stands in.
    pub const fn parent(self) -> Place {
        match self {
            Place::BlacklistDevice => Place::Blacklist,
            Place::ExceptionsDevice => Place::Exceptions,
            Place::Device => Place::Devices,
            Place::Protocol => Place::Overrides,
            Place::Multipath => Place::Multipaths,
            _ => Place::Top,
        }
    }
    /// How many blocks are open.
    pub const fn depth(self) -> usize {
        match self {
            Place::Top => 0,
            _ => 1 + self.parent().depth(),
        }
    }
    /// The block that keyword `key` opens here.
    pub const fn child(self, key: Key) -> Place {
        match (self, key) {
            (_, Key::Defaults) => Place::Defaults,
            (_, Key::Blacklist) => Place::Blacklist,
            (_, Key::BlacklistExceptions) => Place::Exceptions,
            (_, Key::Devices) => Place::Devices,
            (_, Key::Overrides) => Place::Overrides,
            (_, Key::Multipaths) => Place::Multipaths,
            (Place::Blacklist, _) => Place::BlacklistDevice,
            (Place::Exceptions, _) => Place::ExceptionsDevice,
            (Place::Devices, _) => Place::Device,
            (Place::Overrides, _) => Place::Protocol,
            _ => Place::Multipath,
        }
    }
    /// The section's name, `devices/device` for an inner one.
    pub const fn word(self) -> &'static str {
        match self {
            Place::Top => "the top level",
            Place::Defaults => "defaults",
            Place::Blacklist => "blacklist",
            Place::Exceptions => "blacklist_exceptions",
            Place::BlacklistDevice => "blacklist/device",
            Place::ExceptionsDevice => "blacklist_exceptions/device",
            Place::Devices => "devices",
            Place::Device => "devices/device",
            Place::Overrides => "overrides",
            Place::Protocol => "overrides/protocol",
            Place::Multipaths => "multipaths",
            Place::Multipath => "multipaths/multipath",
        }
    }
    pub const ALL: [Place; 12] = [
        Place::Top,
        Place::Defaults,
        Place::Blacklist,
        Place::Exceptions,
        Place::BlacklistDevice,
        Place::ExceptionsDevice,
        Place::Devices,
        Place::Device,
        Place::Overrides,
        Place::Protocol,
        Place::Multipaths,
        Place::Multipath,
    ];
}

// Letters of the places, as the table below writes them.
const T: u16 = Place::Top.bit();
const D: u16 = Place::Defaults.bit();
const B: u16 = Place::Blacklist.bit();
const E: u16 = Place::Exceptions.bit();
const BD: u16 = Place::BlacklistDevice.bit();
const ED: u16 = Place::ExceptionsDevice.bit();
const S: u16 = Place::Devices.bit();
const V: u16 = Place::Device.bit();
const O: u16 = Place::Overrides.bit();
const P: u16 = Place::Protocol.bit();
const L: u16 = Place::Multipaths.bit();
const M: u16 = Place::Multipath.bit();

/// Codes that words stand for where numbers are allowed too: above every number (2147483647 is the largest one accepted).
pub const OFF: u32 = 0x8000_0000;
pub const QUEUE: u32 = 0x8000_0001;
pub const FAIL: u32 = 0x8000_0002;
pub const IMMEDIATE: u32 = 0x8000_0003;
pub const FOLLOWOVER: u32 = 0x8000_0004;
pub const MANUAL: u32 = 0x8000_0005;
/// dev_loss_tmo: the kernel's own notation.
pub const INFINITY: u32 = u32::MAX;
/// The largest number but for dev_loss_tmo.
pub const LARGEST: u32 = 0x7fff_ffff;
/// In a word's code: an old spelling, accepted with a complaint.
pub const OLD: u32 = 1 << 29;

/// A word and what it stands for. The first word with a code is the one printed.
pub type Word = (&'static str, u32);

/// What a keyword's value may be.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Opens a block.
    Block,
    /// One of the words, or a number of the range.
    Choice { words: &'static [Word], numbers: Option<(i32, u32)>, style: Style },
    /// Octal digits up to the bound.
    Octal(u32),
    /// `root` or a number: a user or group id.
    Owner,
    /// Text of at most so many bytes.
    Text(u8),
    /// The same without `/`.
    Name(u8),
    /// A word count and that many words; `at` words stand before the count.
    Counted { at: u8, most: u8 },
    /// `prefix:ATTRIBUTE` pairs.
    Pairs,
    /// POSIX extended regular expression.
    Pattern,
    /// The same, inverted by a leading `!`.
    Inverting,
    /// A reservation key.
    ReservationKey,
    /// Another spelling of a keyword.
    Same(Key),
    /// Accepted, complained about, without effect.
    Ignored,
}

/// Particulars of a [`Kind::Choice`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    /// 0 is "not set": it takes nothing away from other sections.
    ZeroUnset,
    /// Words are printed without quotation marks.
    Bare,
}

/// A row of the table. Its texts stand in `TEXTS`, and many rows have the same kind: a reference has 8 bytes, a text 16, a kind 40.
pub struct Keyword {
    pub key: Key,
    pub places: u16,
    pub kind: &'static Kind,
}

impl Keyword {
    fn text(&self, number: usize) -> &'static str {
        let from = STARTS[self.key as usize];
        TEXTS.get(from.into()..).and_then(|texts| texts.split('\0').nth(number)).unwrap_or("")
    }
    pub fn name(&self) -> &'static str {
        self.text(0)
    }
    /// As it would be written in the defaults section; empty for none.
    pub fn default(&self) -> &'static str {
        self.text(1)
    }
    pub fn doc(&self) -> &'static str {
        self.text(2)
    }
}

macro_rules! keywords {
    ($($key:ident $name:literal $places:expr, $kind:expr, $default:literal, $doc:literal;)*) => {
        /// Names a row of [`KEYWORDS`].
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Key { $($key),* }
        /// All keywords, in the order they are printed.
        pub static KEYWORDS: [Keyword; Key::COUNT] = [
            $(Keyword { key: Key::$key, places: $places, kind: &$kind }),*
        ];
        /// The three texts of each row, each with a NUL after it.
        const TEXTS: &str = concat!($($name, "\0", $default, "\0", $doc, "\0"),*);
        impl Key {
            pub const COUNT: usize = [$(Key::$key),*].len();
        }
    };
}

const YES_NO: Kind = words(&[("yes", 1), ("no", 0), ("1", 1), ("0", 0)]);
const OFF_NUMBER: Kind = Kind::Choice { words: &[("no", OFF), ("0", OFF)], numbers: Some((1, LARGEST)), style: Style::Plain };
const OFF_SECONDS: Kind = Kind::Choice { words: &[("off", OFF), ("0", 0)], numbers: Some((1, LARGEST)), style: Style::Bare };
const fn words(words: &'static [Word]) -> Kind {
    Kind::Choice { words, numbers: None, style: Style::Plain }
}
const fn number(least: i32, most: u32) -> Kind {
    Kind::Choice { words: &[], numbers: Some((least, most)), style: Style::Plain }
}
const OPTIONAL_NUMBER: Kind = Kind::Choice { words: &[], numbers: Some((0, LARGEST)), style: Style::ZeroUnset };

pub const POLICIES: [Word; 6] =
    [("failover", 0), ("multibus", 1), ("group_by_serial", 2), ("group_by_prio", 3), ("group_by_node_name", 4), ("group_by_tpg", 5)];
pub const PRIOS: [Word; 14] = [
    ("const", 0),
    ("alua", 1),
    ("sysfs", 2),
    ("ana", 3),
    ("rdac", 4),
    ("emc", 5),
    ("hp_sw", 6),
    ("hds", 7),
    ("ontap", 8),
    ("datacore", 9),
    ("iet", 10),
    ("random", 11),
    ("weightedpath", 12),
    ("path_latency", 13),
];
pub const CHECKERS: [Word; 8] =
    [("tur", 0), ("directio", 1), ("readsector0", 2), ("rdac", 3), ("emc_clariion", 4), ("hp_sw", 5), ("cciss_tur", 6), ("none", 7)];
/// The words of model::Protocol.
pub const PROTOCOLS: [Word; 21] = [
    ("undef", 0),
    ("scsi:fcp", 1),
    ("scsi:spi", 2),
    ("scsi:ssa", 3),
    ("scsi:sbp", 4),
    ("scsi:srp", 5),
    ("scsi:iscsi", 6),
    ("scsi:sas", 7),
    ("scsi:adt", 8),
    ("scsi:ata", 9),
    ("scsi:usb", 10),
    ("scsi:unspec", 11),
    ("nvme:pcie", 12),
    ("nvme:rdma", 13),
    ("nvme:fc", 14),
    ("nvme:tcp", 15),
    ("nvme:loop", 16),
    ("nvme:apple-nvme", 17),
    ("nvme:unspec", 18),
    ("ccw", 19),
    ("cciss", 20),
];

const BLOCK: Kind = Kind::Block;
const IGNORED: Kind = Kind::Ignored;

keywords! {
    Type "type" P, words(&PROTOCOLS), "", "the transport that the block is for";
    MapWwid "wwid" M, Kind::Text(122), "", "the map's WWID, exact";
    Alias "alias" M, Kind::Name(127), "", "the map's name";
    Vendor "vendor" V, Kind::Pattern, "", "vendor of the device";
    Product "product" V, Kind::Pattern, "", "product of the device";
    Revision "revision" V, Kind::Pattern, "", "revision of the device; unset: any";
    BlacklistVendor "vendor" BD | ED, Kind::Inverting, "", "vendor of the device";
    BlacklistProduct "product" BD | ED, Kind::Inverting, "", "product of the device";
    ProductBlacklist "product_blacklist" V, Kind::Pattern, "", "products of this vendor that are never paths";
    Devnode "devnode" B | E, Kind::Inverting, "", "kernel device names";
    Wwid "wwid" B | E, Kind::Inverting, "", "WWIDs";
    Property "property" B | E, Kind::Inverting, "", "names of udev properties";
    BlacklistProtocol "protocol" B | E, Kind::Inverting, "", "transports, such as scsi:fcp";
    Device "device" B | E | S, BLOCK, "", "a device by vendor and product";
    Verbosity "verbosity" D, number(0, 4), "2", "log and listing detail; -v on the command line wins";
    PollingInterval "polling_interval" D, number(1, LARGEST), "5", "shortest seconds between two checks of a path, and the unit of no_path_retry";
    MaxPollingInterval "max_polling_interval" D, OPTIONAL_NUMBER, "", "longest seconds between two checks of a healthy path; unset: 4 x polling_interval";
    ReassignMaps "reassign_maps" D, YES_NO, "no", "after creating a map, repoint holders of its paths to the map";
    MultipathDir "multipath_dir" D, IGNORED, "", "plugin directory";
    PathSelector "path_selector" D | V | O | M, Kind::Counted { at: 1, most: 64 }, "service-time 0", "dm path selector, its argument count and arguments";
    PathGroupingPolicy "path_grouping_policy" D | V | O | M, words(&POLICIES), "failover", "how paths are split into groups";
    UidAttrs "uid_attrs" D, Kind::Pairs, "", "udev property holding the WWID, by prefix of the device name; not read, see uid_attribute";
    UidAttribute "uid_attribute" D | V | O, Kind::Text(32), "", "udev property holding the WWID; not read: it is always what ID_SERIAL, ID_WWN (NVMe) or ID_UID (DASD) has, made from the disk itself";
    GetuidCallout "getuid_callout" D | V | O, IGNORED, "", "external WWID program";
    Prio "prio" D | V | O | M, words(&PRIOS), "const", "prioritizer; detect_prio normally replaces it";
    PrioArgs "prio_args" D | V | O | M, Kind::Text(128), "", "arguments of the prioritizer, taken from the section that names it";
    Features "features" D | V | O | M, Kind::Counted { at: 0, most: 64 }, "0", "dm-multipath feature words with their count";
    PathChecker "path_checker" D | V | O, words(&CHECKERS), "tur", "path checker; detect_checker normally replaces it";
    Checker "checker" D | V | O, Kind::Same(Key::PathChecker), "", "second spelling of path_checker";
    AliasPrefix "alias_prefix" D | V | O, Kind::Name(64), "mpath", "prefix of user friendly names";
    Failback "failback" D | V | O | M,
        Kind::Choice { words: &[("manual", MANUAL), ("immediate", IMMEDIATE), ("followover", FOLLOWOVER)], numbers: Some((0, LARGEST)), style: Style::ZeroUnset },
        "manual", "when to return to the best group; a number delays it by seconds";
    RrMinIo "rr_min_io" D | V | O | M, OPTIONAL_NUMBER, "1000", "I/Os on a path before the next one, bio-based maps";
    RrMinIoRq "rr_min_io_rq" D | V | O | M, OPTIONAL_NUMBER, "1", "I/Os on a path before the next one, request-based maps";
    MaxFds "max_fds" D, Kind::Choice { words: &[("max", LARGEST)], numbers: Some((0, LARGEST)), style: Style::ZeroUnset }, "max", "open files of the daemon";
    RrWeight "rr_weight" D | V | O | M, words(&[("uniform", 0), ("priorities", 1)]), "uniform", "priorities: multiply the repeat count by the path's priority";
    NoPathRetry "no_path_retry" D | V | O | M,
        Kind::Choice { words: &[("fail", FAIL), ("queue", QUEUE), ("0", FAIL)], numbers: Some((1, LARGEST)), style: Style::Plain },
        "", "when no path is usable: fail, queue, or queue for so many polling intervals";
    QueueWithoutDaemon "queue_without_daemon" D, YES_NO, "no", "keep queueing when the daemon stops";
    CheckerTimeout "checker_timeout" D, OPTIONAL_NUMBER, "", "seconds for checkers and prioritizers; unset: the device's own timeout";
    AllowUsbDevices "allow_usb_devices" D, YES_NO, "no", "consider USB disks";
    PgTimeout "pg_timeout" D | V | M, IGNORED, "", "obsolete kernel feature";
    FlushOnLastDel "flush_on_last_del" D | V | O | M,
        words(&[("never", 0), ("always", 1), ("unused", 2), ("yes", OLD | 1), ("1", OLD | 1), ("no", OLD | 2), ("0", OLD | 2)]),
        "unused", "stop queueing when the last path is deleted";
    UserFriendlyNames "user_friendly_names" D | V | O | M, YES_NO, "no", "names from the bindings file instead of the WWID";
    Mode "mode" D | M, Kind::Octal(0o777), "", "permissions of the device node";
    Uid "uid" D | M, Kind::Owner, "", "owner of the device node";
    Gid "gid" D | M, Kind::Owner, "", "group of the device node";
    FastIoFailTmo "fast_io_fail_tmo" D | V | O | P, OFF_SECONDS, "5", "seconds until the transport fails I/O of a lost port";
    DevLossTmo "dev_loss_tmo" D | V | O | P,
        Kind::Choice { words: &[("infinity", INFINITY)], numbers: Some((0, INFINITY)), style: Style::ZeroUnset },
        "", "seconds until the transport removes a lost port";
    EhDeadline "eh_deadline" D | V | O | P, OFF_SECONDS, "", "seconds the SCSI error handler may take";
    MaxRetries "max_retries" D, Kind::Choice { words: &[("off", OFF), ("0", 0)], numbers: Some((1, 5)), style: Style::Bare }, "", "max_retries of SCSI disks";
    BindingsFile "bindings_file" D, IGNORED, "", "place of the bindings file";
    WwidsFile "wwids_file" D, IGNORED, "", "place of the wwids file";
    PrkeysFile "prkeys_file" D, IGNORED, "", "place of the reservation key file";
    LogCheckerErr "log_checker_err" D, words(&[("once", 1), ("always", 0)]), "always", "log a repeated checker failure once or always";
    Reservation "reservation_key" D | M, Kind::ReservationKey, "", "persistent reservation key, or file";
    AllTgPt "all_tg_pt" D | V | O, YES_NO, "no", "register keys on all target ports";
    RetainAttachedHwHandler "retain_attached_hw_handler" D | V | O, YES_NO, "yes", "keep the device handler that the kernel attached";
    DetectPrio "detect_prio" D | V | O, YES_NO, "yes", "choose the prioritizer by what the device says";
    DetectChecker "detect_checker" D | V | O, YES_NO, "yes", "choose the checker by what the device says";
    DetectPgpolicy "detect_pgpolicy" D | V | O, YES_NO, "yes", "group by priority where all paths have access states";
    DetectPgpolicyUseTpg "detect_pgpolicy_use_tpg" D | V | O, YES_NO, "no", "with detect_pgpolicy: group by target port group";
    ForceSync "force_sync" D, YES_NO, "no", "run checkers one after another";
    StrictTiming "strict_timing" D, YES_NO, "no", "align checks to the second";
    DeferredRemove "deferred_remove" D | V | O | M, YES_NO, "no", "remove a busy map when its last user closes it";
    PartitionDelimiter "partition_delimiter" D, Kind::Name(16), "", "between a map's name and a partition number; unset: p after a digit";
    ConfigDir "config_dir" D, IGNORED, "", "drop-in directory";
    DelayWatchChecks "delay_watch_checks" D | V | O | M, OFF_NUMBER, "no", "old form of san_path_err_forget_rate";
    DelayWaitChecks "delay_wait_checks" D | V | O | M, OFF_NUMBER, "no", "old form of san_path_err_recovery_time";
    SanPathErrThreshold "san_path_err_threshold" D | V | O | M, OFF_NUMBER, "no", "failures after which a path is held back";
    SanPathErrForgetRate "san_path_err_forget_rate" D | V | O | M, OFF_NUMBER, "no", "good checks after which one failure is forgotten";
    SanPathErrRecoveryTime "san_path_err_recovery_time" D | V | O | M, OFF_NUMBER, "no", "seconds a flaky path is held back";
    MarginalPathErrSampleTime "marginal_path_err_sample_time" D | V | O | M, OFF_NUMBER, "no", "seconds a suspicious path is sampled, at least 120";
    MarginalPathErrRateThreshold "marginal_path_err_rate_threshold" D | V | O | M, OFF_NUMBER, "no", "errors per 1000 above which a path stays out";
    MarginalPathErrRecheckGapTime "marginal_path_err_recheck_gap_time" D | V | O | M, OFF_NUMBER, "no", "seconds until a marginal path is sampled again";
    MarginalPathDoubleFailedTime "marginal_path_double_failed_time" D | V | O | M, OFF_NUMBER, "no", "two failures within this many seconds start sampling";
    FindMultipaths "find_multipaths" D,
        words(&[("off", 0), ("on", 1), ("strict", 2), ("greedy", 3), ("smart", 4), ("no", 0), ("yes", 1), ("0", 0), ("1", 1)]),
        "strict", "which disks may become paths; unset is strict, but two paths through two ports are enough";
    UxsockTimeout "uxsock_timeout" D, number(4000, LARGEST), "4000", "milliseconds for a request on the control socket";
    RetriggerTries "retrigger_tries" D, number(0, LARGEST), "3", "how often missing udev data is asked for";
    RetriggerDelay "retrigger_delay" D, number(0, LARGEST), "10", "seconds between two such requests";
    MissingUevWaitTimeout "missing_uev_wait_timeout" D, number(0, LARGEST), "30", "seconds to wait for the uevent of a new map";
    SkipKpartx "skip_kpartx" D | V | O | M, YES_NO, "no", "no partition maps";
    PurgeDisconnected "purge_disconnected" D | V | O | M, YES_NO, "no", "delete disks whose LUN the array says is gone";
    DisableChangedWwids "disable_changed_wwids" D, IGNORED, "", "old policy for changed WWIDs";
    RemoveRetries "remove_retries" D, number(0, LARGEST), "0", "extra attempts, one a second, to remove a busy map";
    MaxSectorsKb "max_sectors_kb" D | V | O | M, OPTIONAL_NUMBER, "", "max_sectors_kb of a map's paths";
    GhostDelay "ghost_delay" D | V | O | M, OFF_NUMBER, "no", "seconds a new map with only standby paths is kept not ready";
    AutoResize "auto_resize" D, words(&[("never", 0), ("grow_only", 1), ("grow_shrink", 2)]), "never", "resize the map when all its paths have changed size";
    FindMultipathsTimeout "find_multipaths_timeout" D,
        Kind::Choice { words: &[], numbers: Some((-(LARGEST as i32), LARGEST)), style: Style::ZeroUnset },
        "-10", "seconds that find_multipaths smart waits; negative: only for known arrays";
    EnableForeign "enable_foreign" D, Kind::Text(64), "NONE", "foreign multipath libraries; none exist here";
    MarginalPathgroups "marginal_pathgroups" D, words(&[("off", 0), ("on", 1), ("fpin", 2), ("no", 0), ("yes", 1), ("0", 0), ("1", 1)]), "off", "marginal paths form separate last groups";
    RecheckWwid "recheck_wwid" D | V | O, YES_NO, "no", "read the WWID again when a path returns";
    PpBalancePaths "pp_balance_paths" D, YES_NO, "", "spread the paths in use evenly over the target ports of an array";
    HardwareHandler "hardware_handler" V, Kind::Counted { at: 0, most: 64 }, "", "dm hardware handler with its word count; what the kernel attached wins";
    VpdVendor "vpd_vendor" V, words(&[("hp3par", 1)]), "", "vendor VPD page to read";
    Defaults "defaults" T, BLOCK, "", "values for everything";
    Blacklist "blacklist" T, BLOCK, "", "devices that are never paths";
    BlacklistExceptions "blacklist_exceptions" T, BLOCK, "", "devices that are paths though blacklisted";
    Devices "devices" T, BLOCK, "", "values by kind of array";
    Overrides "overrides" T, BLOCK, "", "values that beat those of devices";
    ProtocolBlock "protocol" O, BLOCK, "", "values by transport";
    Multipaths "multipaths" T, BLOCK, "", "values by WWID";
    Multipath "multipath" L, BLOCK, "", "one map";
}

/// Where the texts of each row begin.
static STARTS: [u16; Key::COUNT] = {
    let mut starts = [0; Key::COUNT];
    let (mut at, mut texts) = (0, 0);
    while at < TEXTS.len() {
        if TEXTS.as_bytes()[at] == 0 {
            texts += 1;
            if texts % 3 == 0 && texts / 3 < Key::COUNT {
                starts[texts / 3] = at as u16 + 1;
            }
        }
        at += 1;
    }
    starts
};

// The sets of keywords seen are u128.
const _: () = assert!(Key::COUNT <= 128);

impl Key {
    pub fn row(self) -> &'static Keyword {
        &KEYWORDS[self as usize]
    }
    pub const fn bit(self) -> u128 {
        1 << self as u32
    }
    /// May stand more than once in a block.
    pub const fn repeats(self) -> bool {
        matches!(
            self,
            Key::Devnode | Key::Wwid | Key::Property | Key::BlacklistProtocol | Key::Device | Key::ProtocolBlock | Key::Multipath
        )
    }
}

/// What a name means at a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    Known(Key),
    /// A keyword, but not here.
    Elsewhere(Key),
    Unknown,
}

/// Looks a name up. Another spelling gives its own row ([`Kind::Same`]).
pub fn find(name: &[u8], place: Place) -> Meaning {
    let mut elsewhere = Meaning::Unknown;
    for row in &KEYWORDS {
        if row.name().as_bytes() != name {
            continue;
        }
        if row.places & place.bit() == 0 {
            elsewhere = Meaning::Elsewhere(row.key);
            continue;
        }
        return Meaning::Known(row.key);
    }
    elsewhere
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_order_and_unique() {
        for (i, row) in KEYWORDS.iter().enumerate() {
            assert_eq!(row.key as usize, i);
            assert!(row.places != 0 && !row.doc().is_empty());
            for other in &KEYWORDS[i + 1..] {
                assert!(row.name() != other.name() || row.places & other.places == 0, "{} twice in one place", row.name());
            }
        }
    }

    #[test]
    fn names() {
        assert_eq!(find(b"checker", Place::Defaults), Meaning::Known(Key::Checker));
        assert_eq!(find(b"wwid", Place::Multipath), Meaning::Known(Key::MapWwid));
        assert_eq!(find(b"wwid", Place::Blacklist), Meaning::Known(Key::Wwid));
        assert!(matches!(find(b"vendor", Place::Defaults), Meaning::Elsewhere(_)));
        assert_eq!(find(b"VENDOR", Place::Device), Meaning::Unknown);
        assert_eq!(Place::Device.depth(), 2);
    }

    #[test]
    fn protocol_words_are_the_models() {
        use crate::model::Protocol;
        for (word, code) in PROTOCOLS {
            let known = [
                Protocol::Undefined,
                Protocol::ScsiFcp,
                Protocol::ScsiSpi,
                Protocol::ScsiSsa,
                Protocol::ScsiSbp,
                Protocol::ScsiSrp,
                Protocol::ScsiIscsi,
                Protocol::ScsiSas,
                Protocol::ScsiAdt,
                Protocol::ScsiAta,
                Protocol::ScsiUsb,
                Protocol::ScsiUnspec,
                Protocol::NvmePcie,
                Protocol::NvmeRdma,
                Protocol::NvmeFc,
                Protocol::NvmeTcp,
                Protocol::NvmeLoop,
                Protocol::NvmeApple,
                Protocol::NvmeUnspec,
                Protocol::Ccw,
                Protocol::Cciss,
            ];
            assert_eq!(known[code as usize].word(), word);
        }
    }
}
