//! One path: what is known of its disk, whether it is ours, and where its checks stand. Data only; the life is in intake.rs,
//! checks.rs and pathsteps.rs.
//!
//! Texts that many paths share live elsewhere: names of the port in [`PortSlot`], vendor, product and settings in [`ProfileSlot`]. What
//! is left is what 4,096 of them can afford in 12 MB.

use super::Reason;
use super::checker::PathMemory;
use super::event::Ticket;
use super::marginal::History;
use super::note::Cause;
use super::schedule::Port;
use super::storage::{Head, List, NONE, Slot};
use crate::conf::settings::{CheckerKind, PathSettings, PrioKind, Verdict};
use crate::model::{
    AccessState, Bus, DevName, DevNo, DmPathState, Hctl, Holder, Instant, PathFacts, PathState, Prio, Protocol, Sectors, SysState, Text,
    Tpgs, Wwid, WwidOrigin,
};

/// File descriptors of a path, held by the shell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Fds {
    #[default]
    Closed,
    Open,
    /// The shell was told to close them, and has not.
    Closing,
}

/// `max_sectors_kb`: a map takes the least of its paths' limits when its table is loaded, and a request that was made larger than what a path
/// takes fails. So the limit comes before the table or not at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Limit {
    /// As it was.
    #[default]
    Open,
    /// Being written.
    Asked,
    /// Being written, and no longer what is wanted.
    Stale,
    /// In force.
    Set,
    /// Not to be had, or no longer.
    Refused,
}

impl Limit {
    /// Another is wanted, or none.
    pub(super) fn renewed(self) -> Limit {
        if matches!(self, Limit::Asked | Limit::Stale) { Limit::Stale } else { Limit::Open }
    }
}

/// The kernel's own partitions of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Nodes {
    /// As the kernel made them.
    #[default]
    There,
    /// They are being taken away.
    Asked,
    /// Taken away, but for those in use.
    Gone,
    /// Likewise, and an event may have brought them back: to be looked at once more.
    Again,
}

/// The one job of a path that may be under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Job {
    #[default]
    None,
    Open,
    /// A command, read or state of the running probe.
    Probe,
    Write,
    /// A read to see how shaky it is.
    Sample,
    /// The map's partition table is read through this path, which does nothing else.
    Partitions,
}

/// What an administrator decided about a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Admin {
    #[default]
    Nothing,
    /// Taken although the claim policy would not.
    Asked,
    TakenOut,
}

/// Who holds the disk, in short.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Held {
    #[default]
    Nobody,
    /// A multipath map of ours.
    Ours(DevNo),
    /// Another dm device, md, a mount, swap.
    Others,
}

/// One path.
#[repr(C)]
pub struct PathSlot {
    pub(super) head: Head,
    pub(super) devno: DevNo,
    pub(super) diskseq: u64,
    pub(super) bus: Bus,
    pub(super) protocol: Protocol,
    pub(super) wwid_origin: WwidOrigin,
    pub(super) size: Sectors,
    pub(super) block_size: u32,
    pub(super) read_only: bool,
    pub(super) removable: bool,
    pub(super) hidden: bool,
    pub(super) usb: bool,
    pub(super) tpgs: Tpgs,
    pub(super) target_port_group: Option<u16>,
    pub(super) relative_port: Option<u16>,
    pub(super) access: Option<AccessState>,
    pub(super) preferred: bool,
    pub(super) sys: SysState,
    pub(super) timeout_secs: u32,
    pub(super) held: Held,
    pub(super) port: u32,
    pub(super) profile: u32,
    /// The settings' serial number they were derived under; 0 is never.
    pub(super) settings_of: u32,
    pub(super) found_at: Instant,
    /// The map it is wanted in.
    pub(super) map: u32,
    /// The map whose live table holds it.
    pub(super) live_in: u32,
    /// sysfs has it no more; the slot stays until no live table and no job needs it.
    pub(super) gone: bool,
    /// It became another disk while that table held it.
    pub(super) exchanged: bool,
    /// It was let in before it was asked what it is worth.
    pub(super) prio_owed: bool,
    /// Last scan that saw it.
    pub(super) seen: u32,
    pub(super) verdict: Verdict,
    pub(super) reason: Reason,
    pub(super) admin: Admin,
    /// An administrator failed it; kept from the kernel until reinstated, whatever `admin` says of whose it is.
    pub(super) failed_by_admin: bool,
    pub(super) job: Job,
    pub(super) ticket: Ticket,
    pub(super) deadline: Instant,
    pub(super) failures_to_open: u8,
    /// The running probe, while there is one.
    pub(super) probe: u32,
    pub(super) state: PathState,
    pub(super) cause: Cause,
    pub(super) prio: Prio,
    /// The last check brought bad news for the first time, and is repeated.
    pub(super) doubted: bool,
    pub(super) marginal: bool,
    pub(super) marginal_by_admin: bool,
    pub(super) next_check: Instant,
    pub(super) interval_secs: u16,
    /// Checked at least once since it became ours.
    pub(super) judged: bool,
    /// The kernel's state was seen to change after the last check: what that check said is stale.
    pub(super) stale: bool,
    /// The kernel has failed it though its checks are good; failback has not weighed that yet.
    pub(super) dipped: bool,
    pub(super) dipped_at: Instant,
    /// How often in a row, within seconds.
    pub(super) dips: u8,
    /// Its port is down and its check was put off once.
    pub(super) put_off: bool,
    /// Its WWID was that of a crowd when it was judged.
    pub(super) crowded: bool,
    /// The kernel's state as last seen in its map's status.
    pub(super) dm: DmPathState,
    pub(super) fail_count: u32,
    /// Times the checker found it bad after good.
    pub(super) failures: u32,
    pub(super) checker: CheckerKind,
    pub(super) prio_kind: PrioKind,
    /// The configured `prio_args` are for the prioritizer in use.
    pub(super) keep_args: bool,
    /// The device is to be asked which checker and prioritizer suit it.
    pub(super) undetected: bool,
    /// Nothing came back through the port when it was last asked.
    pub(super) silent: bool,
    pub(super) shaky: bool,
    /// The array says the LUN is gone and the configuration wants the device removed.
    pub(super) purge: bool,
    /// It was said that it is left out of its map's table.
    pub(super) told_odd: bool,
    /// How many of the attributes in `tuning::plan` are written.
    pub(super) tuned: u8,
    pub(super) tune_failures: u8,
    /// sysfs is to be read again.
    pub(super) look: bool,
    /// Its size is asked for, and has not been read since.
    pub(super) unmeasured: bool,
    /// It was away, and who it is now has not been read yet.
    pub(super) unsure: bool,
    /// The kernel's own partitions of it.
    pub(super) nodes: Nodes,
    /// It was said that one of them is in use.
    pub(super) told_nodes: bool,
    /// udev knows it for a path of a map, as far as we know: what an event tells is who holds it then.
    pub(super) announced: bool,
    pub(super) limit: Limit,
    /// Counted among those without a first verdict.
    pub(super) open: bool,

    // The large ones come last: what is near the front is reached with shorter instructions (`repr(C)` keeps the order).
    /// Smart mode waits for a second path until then.
    pub(super) smart_until: Option<Instant>,
    /// A job that was given up; its answer, should it come, says that the device answers again.
    pub(super) overdue: Option<Ticket>,
    pub(super) retry_at: Option<Instant>,
    /// Since when the shell says that this path's worker is away.
    pub(super) busy_since: Option<Instant>,
    pub(super) last_good: Option<Instant>,
    pub(super) prio_at: Option<Instant>,
    pub(super) hctl: Option<Hctl>,
    pub(super) history: History,
    pub(super) memory: PathMemory,
    pub(super) fds: Fds,
    pub(super) name: DevName,
    pub(super) handler: Text<16>,
    pub(super) serial: Text<64>,
    pub(super) wwid: Wwid,
}

impl Default for PathSlot {
    fn default() -> PathSlot {
        PathSlot {
            head: Head::default(),
            name: DevName::new(),
            devno: DevNo::default(),
            diskseq: 0,
            bus: Bus::Other,
            protocol: Protocol::Undefined,
            hctl: None,
            serial: Text::new(),
            wwid: Wwid::new(),
            wwid_origin: WwidOrigin::Nowhere,
            size: Sectors(0),
            block_size: 0,
            read_only: false,
            removable: false,
            hidden: false,
            usb: false,
            tpgs: Tpgs::Unknown,
            target_port_group: None,
            relative_port: None,
            access: None,
            preferred: false,
            sys: SysState::Unknown,
            handler: Text::new(),
            timeout_secs: 0,
            held: Held::Nobody,
            port: NONE,
            profile: NONE,
            settings_of: 0,
            found_at: Instant::ZERO,
            map: NONE,
            live_in: NONE,
            gone: false,
            exchanged: false,
            prio_owed: false,
            seen: 0,
            verdict: Verdict::Accepted,
            reason: Reason::Unknown,
            admin: Admin::Nothing,
            failed_by_admin: false,
            smart_until: None,
            fds: Fds::Closed,
            job: Job::None,
            ticket: Ticket(0),
            deadline: Instant::ZERO,
            overdue: None,
            retry_at: None,
            busy_since: None,
            failures_to_open: 0,
            probe: NONE,
            memory: PathMemory::default(),
            checker: CheckerKind::None,
            prio_kind: PrioKind::Const,
            keep_args: true,
            undetected: false,
            prio_at: None,
            silent: false,
            history: History::new(),
            shaky: false,
            purge: false,
            told_odd: false,
            tuned: 0,
            tune_failures: 0,
            look: false,
            unmeasured: false,
            unsure: false,
            nodes: Nodes::There,
            told_nodes: false,
            announced: false,
            limit: Limit::Open,
            state: PathState::Unchecked,
            cause: Cause::Unknown,
            prio: Prio::UNDEFINED,
            doubted: false,
            marginal: false,
            marginal_by_admin: false,
            next_check: Instant::ZERO,
            interval_secs: 0,
            judged: false,
            stale: false,
            dipped: false,
            dipped_at: Instant::ZERO,
            dips: 0,
            last_good: None,
            put_off: false,
            crowded: false,
            dm: DmPathState::Undefined,
            fail_count: 0,
            failures: 0,
            open: false,
        }
    }
}

impl Slot for PathSlot {
    fn head(&self) -> Head {
        self.head
    }
    fn head_mut(&mut self) -> &mut Head {
        &mut self.head
    }
}

impl PathSlot {
    /// Takes over what sysfs said; not the WWID, whose change is an event of its own.
    pub(super) fn absorb(&mut self, f: &PathFacts) {
        self.name = f.name.clone();
        self.devno = f.devno;
        self.diskseq = f.diskseq;
        self.bus = f.bus;
        self.protocol = f.protocol;
        self.hctl = f.hctl;
        // What is known of its pages comes together; a path that shows none keeps what it had.
        if !f.wwid.is_empty() || self.wwid.is_empty() {
            self.serial = f.serial.clone();
            self.target_port_group = f.target_port_group;
            self.relative_port = f.relative_port;
        }
        self.size = f.size;
        self.block_size = f.block_size;
        self.read_only = f.read_only;
        self.removable = f.removable;
        self.hidden = f.hidden;
        self.usb = f.usb;
        self.tpgs = f.tpgs;
        self.access = f.access;
        self.preferred = f.preferred;
        self.sys = f.sys_state;
        self.handler = f.handler.clone();
        self.timeout_secs = f.timeout_secs;
        self.held = match &f.holder {
            Holder::Nobody => Held::Nobody,
            Holder::Map { devno, uuid } if uuid.starts_with(crate::model::UUID_PREFIX) => Held::Ours(*devno),
            Holder::Map { .. } | Holder::Device(_) | Holder::Mounted(_) => Held::Others,
        };
    }

    /// May the kernel be told to use it?
    pub(super) fn usable(&self) -> bool {
        self.stands() && !self.stale && !self.unsure
    }

    /// Usable by its last check, though the kernel may have failed it since. When another host moves a LUN the kernel fails paths that
    /// have nothing.
    pub(super) fn stands(&self) -> bool {
        self.state.usable() && !self.gone && !self.failed_by_admin
    }

    /// Not to be relied on, but all there is: the kernel may go on with it.
    pub(super) fn shaky_only(&self, others: bool) -> bool {
        self.state == PathState::Shaky && !others && !self.gone && !self.unsure && !self.failed_by_admin
    }
}

/// One I_T nexus: this host's port and the target's. Paths that share it fail together.
pub struct PortSlot {
    pub(super) head: Head,
    pub(super) nexus: Option<super::claim::Nexus>,
    pub(super) host_node: Text<64>,
    pub(super) host_port: Text<64>,
    pub(super) target_node: Text<224>,
    pub(super) target_port: Text<64>,
    pub(super) adapter: Text<32>,
    pub(super) paths: List,
    /// Jobs under way.
    pub(super) busy: u16,
    /// Jobs that were given up and may still hold a worker.
    pub(super) lost: u16,
    /// Paths waiting for a share of the pool.
    pub(super) waiting: List,
    pub(super) silence: Port,
    /// The next of its paths to be asked because it answers again.
    pub(super) rousing: u32,
    /// Maps that lead with a path of this port (`pp_balance_paths`).
    pub(super) leads: u32,
    /// Hash of the transport attributes last written for it; 0 for none.
    pub(super) tuned: u32,
}

impl Default for PortSlot {
    fn default() -> PortSlot {
        PortSlot {
            head: Head::default(),
            nexus: None,
            host_node: Text::new(),
            host_port: Text::new(),
            target_node: Text::new(),
            target_port: Text::new(),
            adapter: Text::new(),
            paths: List::EMPTY,
            busy: 0,
            lost: 0,
            waiting: List::EMPTY,
            silence: Port::new(),
            rousing: NONE,
            leads: 0,
            tuned: 0,
        }
    }
}

impl Slot for PortSlot {
    fn head(&self) -> Head {
        self.head
    }
    fn head_mut(&mut self) -> &mut Head {
        &mut self.head
    }
}

/// What all paths of one array model share.
#[derive(Default)]
pub struct ProfileSlot {
    pub(super) head: Head,
    pub(super) vendor: Text<40>,
    pub(super) product: Text<40>,
    pub(super) revision: Text<16>,
    /// Default settings unless `ours`.
    pub(super) settings: PathSettings,
    pub(super) ours: bool,
    pub(super) users: u32,
    pub(super) hash: u32,
}

impl Slot for ProfileSlot {
    fn head(&self) -> Head {
        self.head
    }
    fn head_mut(&mut self) -> &mut Head {
        &mut self.head
    }
}
