//! Random histories: a world is made from a seed, things happen to it, and the engine must come out right.
//!
//! A failure prints the seed with the parts that were needed; `COREPATH_SEED` tells that history again with every step printed. Seeds
//! that once failed are told again by every run (`REGRESSIONS`).

use crate::config::Config;
use crate::dm::{Disks, KTable};
use crate::rng::Rng;
use crate::world::{Disk, Fault, Faults, Health, Memory, SMALL, World};
use corepath::conf::settings::{AutoResize, Failback, FlushOnLastDel, MarginalPathgroups, NoPathRetry, Policy, Shaky, Timeout};
use corepath::engine::{Ask, Event, Options};
use corepath::fault::Errno;
use corepath::model::{AccessState, DevNo, PathState, Text};
use std::time::Duration;

/// Which history: all of it follows from these.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tale {
    pub daemon: bool,
    pub seed: u64,
    /// Things that happen.
    pub steps: u32,
    pub luns: u32,
    /// Bit mask of what may go wrong in the shell.
    pub faults: u8,
}

impl std::fmt::Display for Tale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{:x}:{}:{}:{:x}", if self.daemon { "daemon" } else { "assembly" }, self.seed, self.steps, self.luns, self.faults)
    }
}

impl Tale {
    pub fn parse(text: &str) -> Option<Tale> {
        let w: Vec<&str> = text.split(':').collect();
        let [kind, seed, steps, luns, faults] = w.as_slice() else { return None };
        Some(Tale {
            daemon: *kind == "daemon",
            seed: u64::from_str_radix(seed, 16).ok()?,
            steps: steps.parse().ok()?,
            luns: luns.parse().ok()?,
            faults: u8::from_str_radix(faults, 16).ok()?,
        })
    }
}

/// Histories that failed once.
const REGRESSIONS: &[&str] = &[
    // Made by a request whose answer was lost, and the last path refused meanwhile.
    "daemon:321b:17:2:f",
    // Settled while a disk that a reload had set free was still being read.
    "daemon:3960:34:4:9",
    // A map without paths that somebody opened: removed again and again without a pause.
    "daemon:2540:6:1:0",
];

fn wwid(n: usize) -> String {
    format!("36001405{n:025x}")
}

const LIMITS: [Option<u32>; 5] = [None, None, Some(64), Some(128), Some(4096)];

fn setup(tale: Tale, rng: &mut Rng) -> (Config, Options) {
    let mut config = Config::default();
    config.map.policy = rng.pick(&[Policy::Multibus, Policy::GroupByPrio, Policy::GroupByPrio, Policy::Failover, Policy::GroupByNodeName]);
    config.map.no_path_retry =
        rng.pick(&[NoPathRetry::Queue, NoPathRetry::Queue, NoPathRetry::Retries(4), NoPathRetry::Fail, NoPathRetry::Unset]);
    config.map.failback = rng.pick(&[Failback::Immediate, Failback::Manual, Failback::After(7), Failback::Followover]);
    config.globals.auto_resize = rng.pick(&[AutoResize::Never, AutoResize::GrowOnly, AutoResize::GrowShrink]);
    config.map.deferred_remove = rng.one_in(4);
    config.map.max_sectors_kb = rng.pick(&LIMITS);
    config.map.flush_on_last_del = rng.pick(&[FlushOnLastDel::Never, FlushOnLastDel::Always, FlushOnLastDel::Unused]);
    config.path.detect_prio = true;
    config.path.detect_checker = true;
    config.path.recheck_wwid = rng.one_in(3);
    config.path.purge_disconnected = rng.one_in(6);
    config.path.fast_io_fail = rng.pick(&[Timeout::Unset, Timeout::Secs(5)]);
    config.globals.pp_balance_paths = rng.one_in(4);
    config.globals.marginal_pathgroups = rng.pick(&[MarginalPathgroups::Off, MarginalPathgroups::On]);
    if rng.one_in(4) {
        config.map.shaky = Shaky {
            san_path_err_threshold: Some(1),
            san_path_err_forget_rate: Some(4),
            san_path_err_recovery_time: Some(20),
            ..Shaky::default()
        };
    } else if rng.one_in(4) {
        config.map.shaky = Shaky {
            marginal_path_err_sample_time: Some(30),
            marginal_path_err_rate_threshold: Some(10),
            marginal_path_err_recheck_gap_time: Some(20),
            marginal_path_double_failed_time: Some(30),
            ..Shaky::default()
        };
    }
    for n in 0..tale.luns as usize {
        if rng.one_in(4) {
            config.aliases.insert(wwid(n), format!("lun{n}"));
        } else if rng.one_in(3) {
            config.named.push(wwid(n));
        }
    }
    let options = Options {
        resident: tale.daemon,
        udev: rng.one_in(3),
        boot: !tale.daemon && rng.one_in(2),
        partitions: rng.one_in(2),
        path_partitions: rng.one_in(3),
        own_activation: rng.one_in(2),
        ..Options::default()
    };
    (config, options)
}

/// What an earlier run, the peer or an administrator may have left in the kernel.
fn leftovers(w: &mut World<'_>, rng: &mut Rng) {
    for lun in 0..w.luns.len() {
        if !rng.one_in(3) {
            continue;
        }
        let uuid = format!("mpath-{}", w.luns[lun].wwid);
        let name = if rng.one_in(3) { format!("old{lun}") } else { w.luns[lun].wwid.clone() };
        let Ok(minor) = w.dm.create(&name, &uuid) else { continue };
        let mut members: Vec<DevNo> = w.disks.iter().filter(|d| d.lun == lun).map(|d| d.devno).collect();
        if members.len() > 1 && rng.one_in(3) {
            members.pop();
        }
        if members.is_empty() || rng.one_in(8) {
            continue; // created, never loaded
        }
        let queue = if rng.one_in(2) { "1 queue_if_no_path" } else { "0" };
        let selector = rng.pick(&["service-time", "round-robin"]);
        let mut line = format!("{queue} 0 1 1 {selector} 0 {} 1", members.len());
        for d in &members {
            line += &format!(" {d} 1");
        }
        struct Any(u64);
        impl Disks for Any {
            fn open(&self, _: DevNo) -> Result<(u64, bool), Errno> {
                Ok((self.0, false))
            }
        }
        let size = w.luns[lun].size;
        let table = w.dm.build(minor, "multipath", &line, size, false, &Any(size)).unwrap();
        w.dm.devices.get_mut(&minor).unwrap().inactive = Some((size, false, table));
        if !rng.one_in(6) {
            w.dm.swap(minor);
        }
        let d = w.dm.devices.get_mut(&minor).unwrap();
        d.suspended = rng.one_in(6);
        d.opens = rng.below(2) as u32;
    }
    if rng.one_in(2) {
        foreign(w, rng);
    }
}

/// Somebody else's device, perhaps with a name that we would like.
fn foreign(w: &mut World<'_>, rng: &mut Rng) {
    let n = rng.below(4);
    let name = rng.pick(&["vg-root".to_string(), wwid(n), format!("lun{n}"), format!("lun{n}1")].each_ref()).clone();
    if let Ok(minor) = w.dm.create(&name, if rng.one_in(2) { "LVM-xyz" } else { "" }) {
        w.foreign.insert(minor, w.dm.devices[&minor].clone());
    }
}

/// Something happens in the world.
fn happen(w: &mut World<'_>, rng: &mut Rng, tale: Tale) -> Result<(), Fault> {
    let any_disk = |w: &World<'_>, rng: &mut Rng| (!w.disks.is_empty()).then(|| rng.below(w.disks.len()));
    let present = |w: &World<'_>, rng: &mut Rng| {
        let all: Vec<usize> = (0..w.disks.len()).filter(|&d| w.disks[d].present).collect();
        (!all.is_empty()).then(|| rng.pick(&all))
    };
    let ours = |w: &World<'_>, rng: &mut Rng| {
        let all: Vec<u32> = w.dm.devices.values().filter(|d| d.uuid.starts_with("mpath-")).map(|d| d.minor).collect();
        (!all.is_empty()).then(|| rng.pick(&all))
    };
    match rng.below(if tale.daemon { 28 } else { 16 }) {
        // A path comes.
        0..3 if w.disks.len() < 24 && !w.luns.is_empty() => {
            let lun = rng.below(w.luns.len());
            let d = w.add_path(lun, rng.below(4) as u32, rng.below(2) as u32);
            if rng.one_in(8) {
                w.disks[d].size += 8;
            }
            if rng.one_in(10) {
                w.disks[d].read_only = true;
            }
            if rng.one_in(8) {
                w.disks[d].blank = true;
                w.disks[d].sizeless = rng.one_in(2);
                w.disks[d].health = rng.pick(&[Health::Good, Health::Failing]);
            }
            let name = w.disks[d].name.clone();
            w.trace(|| format!("{name} appears for lun {lun}"));
            if !rng.one_in(6) {
                w.uevent(&name);
            }
        }
        // A path goes.
        3 | 4 => {
            if let Some(d) = present(w, rng) {
                w.unplug(d);
                let name = w.disks[d].name.clone();
                if !rng.one_in(6) {
                    w.uevent(&name);
                }
            }
        }
        // Health changes.
        5..9 => {
            if let Some(d) = any_disk(w, rng) {
                let health = rng.pick(&[
                    Health::Good,
                    Health::Good,
                    Health::Good,
                    Health::Failing,
                    Health::Failing,
                    Health::Hanging,
                    Health::Offline,
                    Health::Blocked,
                    Health::Standby,
                    Health::Unmapped,
                ]);
                w.set_health(d, health);
            }
        }
        9 => {
            let name = present(w, rng).map(|d| w.disks[d].name.clone());
            if let Some(name) = name {
                w.uevent(&name);
            }
        }
        // A storm of events, lost events.
        10 => {
            let plenty = rng.one_in(3);
            w.memory(plenty);
            for _ in 0..rng.below(50) {
                if let Some(d) = any_disk(w, rng) {
                    let name = w.disks[d].name.clone();
                    w.uevent(&name);
                }
            }
            if rng.one_in(2) {
                w.feed(Event::Overrun);
            }
        }
        11 => {
            let d = w.luns.len();
            if d < 6 {
                let lun = w.add_lun(&wwid(d), 4096);
                for h in 0..1 + rng.below(3) {
                    let p = w.add_path(lun, h as u32, 0);
                    let name = w.disks[p].name.clone();
                    w.uevent(&name);
                }
            }
        }
        // Another administrator.
        12 => {
            if let Some(minor) = ours(w, rng) {
                let name = format!("renamed{}", rng.below(3));
                if w.dm.by_name(&name).is_none() {
                    w.trace(|| format!("somebody renames 253:{minor} to {name}"));
                    let d = w.dm.devices.get_mut(&minor).unwrap();
                    d.name = name;
                    d.event_nr += 1;
                    w.feed(Event::DmEvent);
                }
            }
        }
        13 => {
            if let Some(minor) = ours(w, rng)
                && w.dm.devices[&minor].opens == 0
            {
                w.trace(|| format!("somebody removes 253:{minor}"));
                w.dm.remove(minor);
                if rng.one_in(2) {
                    w.feed(Event::DmEvent);
                }
            }
        }
        14 => foreign(w, rng),
        15 => {
            if let Some(minor) = ours(w, rng) {
                let d = w.dm.devices.get_mut(&minor).unwrap();
                if d.opens < 2 { d.opens += 1 } else { d.opens -= 1 }
            }
        }
        // I/O finds out what is broken.
        16..19 => {
            let uuids: Vec<String> = w.dm.devices.values().filter(|d| d.uuid.starts_with("mpath-")).map(|d| d.uuid.clone()).collect();
            for uuid in uuids {
                let queues = w.dm.by_uuid(&uuid).is_some_and(|d| d.queues());
                let _ = (w.io(&uuid), queues);
            }
            if rng.one_in(2) {
                w.feed(Event::DmEvent);
            }
        }
        // Another LUN behind the same device.
        19 => {
            if let Some(d) = present(w, rng)
                && w.luns.len() > 1
            {
                let other = rng.below(w.luns.len());
                let (wwid, size) = (w.luns[other].wwid.clone(), w.luns[other].size);
                w.trace(|| format!("{d} is lun {other} now"));
                w.disks[d].lun = other;
                w.disks[d].wwid = wwid;
                w.disks[d].size = size;
                let name = w.disks[d].name.clone();
                w.uevent(&name);
            }
        }
        // A LUN grows, its paths tell one after the other.
        20 => {
            if !w.luns.is_empty() {
                let lun = rng.below(w.luns.len());
                let size = w.luns[lun].size + 1024;
                w.luns[lun].size = size;
                w.trace(|| format!("lun {lun} grows to {size}"));
                for d in 0..w.disks.len() {
                    if w.disks[d].lun == lun && w.disks[d].present {
                        w.disks[d].size = size;
                        let name = w.disks[d].name.clone();
                        w.uevent(&name);
                        w.run_for(Duration::from_millis(rng.below(300) as u64))?;
                    }
                }
            }
        }
        21 => {
            w.now = w.now + Duration::from_secs(rng.below(7200) as u64);
            w.trace(|| "the clock jumps".into());
        }
        22 => {
            if w.options.resident {
                w.restart();
            }
        }
        23 => {
            if let Some(minor) = ours(w, rng) {
                w.trace(|| format!("somebody suspends 253:{minor}"));
                w.dm.devices.get_mut(&minor).unwrap().suspended = true;
            }
        }
        24 => ask(w, rng),
        // The array moves a LUN to its other controller.
        25 | 26 => {
            let lun = rng.below(w.luns.len().max(1));
            if lun < w.luns.len() && w.luns[lun].alua.is_some() {
                let states = access(rng);
                w.luns[lun].alua = Some(states);
                w.trace(|| format!("lun {lun}: {states:?}"));
            }
        }
        _ => {
            w.trace(|| "reconfigured".into());
            w.config.map.selector = Text::try_from(rng.pick(&["service-time 0", "round-robin 0", "queue-length 0"])).unwrap();
            w.config.map.max_sectors_kb = rng.pick(&LIMITS);
            w.feed(Event::Reconfigured);
        }
    }
    Ok(())
}

/// What the two controllers of an array say of a LUN.
fn access(rng: &mut Rng) -> [AccessState; 2] {
    use AccessState::*;
    rng.pick(&[[Optimized, NonOptimized], [NonOptimized, Optimized], [Optimized, Standby], [Standby, Optimized], [Optimized, Unavailable]])
}

fn ask(w: &mut World<'_>, rng: &mut Rng) {
    let token = rng.next() as u32;
    let name = match rng.below(w.disks.len().max(1)) {
        d if d < w.disks.len() => w.disks[d].name.clone(),
        _ => "sdzz".into(),
    };
    let map = wwid(rng.below(w.luns.len().max(1)));
    match rng.below(14) {
        0 => w.ask(token, Ask::FailPath(&name)),
        1..3 => w.ask(token, Ask::ReinstatePath(&name)),
        3 => w.ask(token, Ask::SwitchGroup { map: &map, group: 1 + rng.below(2) as u8 }),
        4 => w.ask(token, Ask::Reload(&map)),
        5 => w.ask(token, Ask::Resize(&map)),
        6 => w.ask(token, Ask::DisableQueueing(Some(&map))),
        7 => w.ask(token, Ask::RestoreQueueing(None)),
        8 => w.ask(token, Ask::Suspend(&map)),
        9 => w.ask(token, Ask::Resume(&map)),
        10 => w.ask(token, Ask::SetMarginal(&name)),
        11 => w.ask(token, Ask::HurryQueueing(true)),
        12 => w.ask(token, Ask::HurryQueueing(false)),
        _ => w.ask(token, Ask::UnsetMarginal(&map)),
    }
}

/// Tells one history; the world's log is given back with the complaint.
pub fn tell(tale: Tale, log: bool) -> Result<(), (Fault, Vec<String>)> {
    let mut memory: Vec<Memory> = (0..3).map(|_| Memory::new(SMALL)).collect();
    let spare = memory.iter_mut().map(Memory::storage).collect();
    let mut rng = Rng::part(tale.seed, 0);
    let (config, options) = setup(tale, &mut rng);
    let mut w = World::new(spare, config, options, tale.seed);
    w.keep_log = log;
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| history(&mut w, tale, &mut rng)));
    let result = caught.unwrap_or_else(|e| {
        let text = e.downcast_ref::<String>().cloned().or_else(|| e.downcast_ref::<&str>().map(|s| s.to_string()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    });
    result.map_err(|fault| (fault, std::mem::take(&mut w.log)))
}

fn history(w: &mut World<'_>, tale: Tale, rng: &mut Rng) -> Result<(), Fault> {
    for n in 0..tale.luns as usize {
        let lun = w.add_lun(&wwid(n), 2048 + 1024 * n as u64);
        if rng.one_in(2) {
            w.luns[lun].partitions = vec![(1, 64, 512), (2, 1024, 256)];
        }
        if rng.one_in(2) {
            w.luns[lun].alua = Some(access(rng));
            w.luns[lun].explicit = rng.one_in(2);
        }
        for h in 0..rng.below(4) {
            let d = w.add_path(lun, h as u32, rng.below(2) as u32);
            if rng.one_in(6) {
                w.disks[d].health = rng.pick(&[Health::Failing, Health::Offline, Health::Hanging, Health::Standby]);
            }
        }
    }
    leftovers(w, rng);
    let bit = |n: u8| tale.faults & 1 << n != 0;
    w.faults = Faults { late: bit(0), lost: bit(1), doubled: bit(2), errors: bit(3), full: bit(4) };
    if tale.seed % 4 == 1 {
        // A small machine; what is lost there would be lost to it for good.
        (w.workers, w.faults.lost) = (4, false);
    }
    for step in 0..tale.steps {
        let mut rng = Rng::part(tale.seed, 1 + u64::from(step));
        let pause = match rng.below(6) {
            0 => 0,
            1..4 => rng.below(400),
            4 => rng.below(5_000),
            _ => rng.below(40_000),
        };
        w.run_for(Duration::from_millis(pause as u64))?;
        happen(w, &mut rng, tale)?;
    }
    // Peace: nothing goes wrong any more, disks answer or say that they do not, and the engine has its time.
    w.faults = Faults::default();
    w.memory(false);
    w.trace(|| "peace".into());
    for d in 0..w.disks.len() {
        if matches!(w.disks[d].health, Health::Hanging | Health::Blocked) {
            w.set_health(d, Health::Good);
        }
        // One that never said who it is is nobody's.
        w.disks[d].blank &= w.disks[d].health == Health::Good;
    }
    // What administrators held is let go.
    w.ask(1, Ask::RestoreQueueing(None));
    let maps: Vec<String> = w.luns.iter().map(|l| l.wwid.clone()).collect();
    for map in &maps {
        w.ask(2, Ask::Resume(map));
        w.ask(3, Ask::UnsetMarginal(map));
        w.run_for(Duration::from_millis(10))?;
    }
    for d in 0..w.disks.len() {
        let name = w.disks[d].name.clone();
        w.ask(4, Ask::ReinstatePath(&name));
        w.run_for(Duration::from_millis(10))?;
    }
    w.feed(Event::Overrun);
    w.run_for(Duration::from_secs(150))?;
    w.feed(Event::Overrun);
    w.settle(Duration::from_secs(300))?;
    right(w)
}

/// Is everything as it should be, by the world's own eyes?
fn right(w: &World<'_>) -> Result<(), Fault> {
    for (n, lun) in w.luns.iter().enumerate() {
        let uuid = format!("mpath-{}", lun.wwid);
        // What another map's live table still holds cannot be had.
        let held = |d: DevNo| w.dm.devices.values().any(|o| o.uuid != uuid && o.members().contains(&d));
        let disks: Vec<_> = w.disks.iter().filter(|d| d.present && d.wwid == lun.wwid && !held(d.devno)).collect();
        let found = w.dm.by_uuid(&uuid);
        let Some(dev) = found else {
            let ways: std::collections::BTreeSet<_> = disks.iter().map(|d| (d.hctl.host, d.hctl.target)).collect();
            let named = w.config.aliases.contains_key(&lun.wwid) || w.config.named.contains(&lun.wwid);
            // A command does not wait for a second answer where the first was lost.
            let heard = |d: &Disk| w.options.resident || w.engine.find_path(&d.name).is_none_or(|p| p.state() != PathState::Timeout);
            let able = disks.iter().any(|d| d.health == Health::Good && heard(d));
            let wanted = (named && !disks.is_empty()) || ways.len() > 1;
            if wanted && able && w.engine.starved() == 0 {
                return Err(format!("lun {n} has paths {:?} and no map", disks.iter().map(|d| &d.name).collect::<Vec<_>>()));
            }
            continue;
        };
        let view = w.engine.find_map(&lun.wwid);
        let stuck = w.engine.starved() > 0 && !w.options.boot || view.is_some_and(|v| v.last_error().is_some());
        if dev.suspended && dev.live.is_some() && !stuck {
            return Err(format!("lun {n}: left suspended"));
        }
        if dev.inactive.is_some() && !stuck {
            return Err(format!("lun {n}: a table left in the inactive slot"));
        }
        if stuck {
            continue;
        }
        let Some((size, _, KTable::Multipath { queue, .. })) = &dev.live else {
            if disks.iter().any(|d| d.health == Health::Good) {
                return Err(format!("lun {n}: no live table"));
            }
            continue;
        };
        let members = dev.members();
        for d in &disks {
            let inside = members.contains(&d.devno);
            let fits = d.size == *size || (inside && d.size >= *size);
            let should = fits && d.health == Health::Good;
            if should && !inside {
                return Err(format!("lun {n}: {} answers and is not in the map", d.name));
            }
            if inside && !fits {
                let others = disks.iter().any(|o| o.size >= *size && members.contains(&o.devno));
                if others {
                    return Err(format!("lun {n}: {} of another size is in the map", d.name));
                }
            }
            let Some(p) = dev.path(d.devno) else { continue };
            // What is held back for failing too often, and what stands by where nothing works, is out as well.
            let seen = w.engine.find_path(&d.name).map_or(PathState::Wild, |p| p.state());
            let good = matches!(d.health, Health::Good | Health::Standby);
            let excused = seen == PathState::Delayed || (seen == PathState::Ghost && !w.luns[d.lun].explicit);
            // A one-shot run judges once; a daemon keeps judging.
            if w.options.resident && p.active != good && !excused {
                return Err(format!(
                    "lun {n}: {} is {:?} but the kernel has it {}",
                    d.name,
                    d.health,
                    if p.active { "active" } else { "failed" }
                ));
            }
        }
        for m in &members {
            let mine = w.disks.iter().any(|d| d.present && d.devno == *m && d.wwid == lun.wwid);
            if !mine && disks.iter().any(|d| d.health == Health::Good && d.size == *size) {
                return Err(format!("lun {n}: {m} is in the map and not of this lun"));
            }
        }
        // (A map without a path we know has no settings but those it came with.)
        if w.options.resident && !disks.is_empty() {
            let usable = view.is_some_and(|v| v.usable() > 0);
            // A LUN that the array says is gone is not queued for for ever.
            let gone = disks.iter().all(|d| d.health == Health::Unmapped);
            let wanted = match w.config.map.no_path_retry {
                _ if gone => None,
                NoPathRetry::Queue if usable => Some(true),
                // The clock is at its end after the peace.
                NoPathRetry::Retries(_) => Some(usable),
                NoPathRetry::Fail => Some(false),
                _ => None,
            };
            if wanted.is_some_and(|q| q != *queue) {
                return Err(format!("lun {n}: queueing is {queue}"));
            }
        }
    }
    groups_right(w)
}

/// Is the group in use the best one, and do only equals stand together?
fn groups_right(w: &World<'_>) -> Result<(), Fault> {
    if !w.options.resident || w.config.map.failback != Failback::Immediate || w.engine.starved() > 0 {
        return Ok(());
    }
    for (n, lun) in w.luns.iter().enumerate() {
        let Some(dev) = w.dm.by_uuid(&format!("mpath-{}", lun.wwid)) else { continue };
        let Some((_, _, KTable::Multipath { groups, next, current, .. })) = &dev.live else { continue };
        let Some(view) = w.engine.find_map(&lun.wwid) else { continue };
        let calm = view.paths().all(|p| !p.marginal() && p.state() != PathState::Delayed) && view.last_error().is_none();
        if lun.alua.is_none() || view.failback_held().is_some() || !calm {
            continue;
        }
        let worth = |d: &DevNo| {
            let usable = |h: Health| matches!(h, Health::Good | Health::Standby);
            let disk = w.disks.iter().find(|x| x.present && x.devno == *d && x.wwid == lun.wwid && usable(x.health))?;
            w.access(disk)
        };
        let inside = |g: usize| groups[g].paths.iter().filter_map(|p| worth(&p.devno)).collect::<Vec<_>>();
        let optimal = |g: usize| inside(g).contains(&AccessState::Optimized);
        let used = current.unwrap_or(*next);
        // Out of a group without a path the kernel goes by itself, with the next I/O.
        let alive = groups.get(used).is_some_and(|g| g.paths.iter().any(|p| p.active));
        if (0..groups.len()).any(optimal) && alive && !optimal(used) {
            return Err(format!("lun {n}: group {} is used, though another is optimized: {groups:?}", used + 1));
        }
        if w.config.map.policy == Policy::GroupByPrio {
            for g in 0..groups.len() {
                let mut all = inside(g);
                all.dedup();
                if all.len() > 1 {
                    return Err(format!("lun {n}: group {} mixes {all:?}", g + 1));
                }
            }
        }
    }
    Ok(())
}

/// Takes away what a failure does not need.
fn shrink(mut tale: Tale) -> Tale {
    let fails = |t: Tale| tell(t, false).is_err();
    loop {
        let mut smaller = Vec::new();
        for bit in 0..5 {
            if tale.faults & 1 << bit != 0 {
                smaller.push(Tale { faults: tale.faults & !(1 << bit), ..tale });
            }
        }
        for less in [tale.steps / 2, tale.steps.saturating_sub(3), tale.steps.saturating_sub(1)] {
            if less < tale.steps {
                smaller.push(Tale { steps: less, ..tale });
            }
        }
        if tale.luns > 1 {
            smaller.push(Tale { luns: tale.luns - 1, ..tale });
        }
        match smaller.into_iter().find(|&t| fails(t)) {
            Some(t) => tale = t,
            None => return tale,
        }
    }
}

fn complain(tale: Tale) -> ! {
    std::panic::set_hook(Box::new(|_| {}));
    let small = shrink(tale);
    let _ = std::panic::take_hook();
    let (fault, log) = tell(small, true).expect_err("it failed a moment ago");
    for line in log.iter().rev().take(150).rev() {
        println!("{line}");
    }
    panic!("{fault}\ntell it again: COREPATH_SEED={small} (first seen as {tale})");
}

fn tale(daemon: bool, n: u64) -> Tale {
    let mut rng = Rng::part(n, 77);
    Tale {
        daemon,
        seed: n,
        steps: if daemon { 5 + rng.below(30) } else { rng.below(12) } as u32,
        luns: 1 + rng.below(4) as u32,
        faults: if rng.one_in(3) { 0 } else { rng.below(32) as u8 },
    }
}

fn many(daemon: bool, count: u64) {
    if let Ok(text) = std::env::var("COREPATH_SEED") {
        let tale = Tale::parse(&text).expect("kind:seed:steps:luns:faults");
        if tale.daemon == daemon
            && let Err((fault, log)) = tell(tale, true)
        {
            log.iter().for_each(|l| println!("{l}"));
            panic!("{fault}");
        }
        return;
    }
    for text in REGRESSIONS {
        let tale = Tale::parse(text).unwrap();
        if tale.daemon == daemon && tell(tale, false).is_err() {
            complain(tale);
        }
    }
    let count = std::env::var("COREPATH_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(count);
    for n in 0..count {
        let t = tale(daemon, n);
        if tell(t, false).is_err() {
            complain(t);
        }
    }
    println!("{count} histories");
}

#[test]
fn assembly() {
    many(false, 20_000);
}

#[test]
fn daemon_life() {
    many(true, 50_000);
}
