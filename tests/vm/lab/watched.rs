//! What must be true of a machine that has come from its initramfs to a root on a map, and stay true: who its root is, who watches it.

use std::time::{Duration, SystemTime};

use super::array::Array;
use super::machine::Guest;

/// A root under its daemon.
#[derive(Debug)]
pub struct Watched {
    /// Number of the partition that is mounted.
    pub partition: u32,
    /// The daemon's process.
    pub pid: u32,
    /// When it was started, in the kernel's ticks: with the pid it is the same process or it is not.
    pub start: u64,
    /// Seconds from power-on to the login marker, by the guest's clock.
    pub login: f64,
    /// Seconds from power-on to the mount of root.
    pub mounted: f64,
}

impl Watched {
    /// Looks at a machine whose agent runs in the real root. Its root must be a partition of a map or in what lies on one, no path may be mounted, the daemon must
    /// have been there before root was, and hold nothing that is on root.
    #[track_caller]
    pub fn of(guest: &Guest) -> Watched {
        let mounts = guest.ok("cat /proc/self/mountinfo");
        let root = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/")).unwrap_or_else(|| panic!("no root in {mounts}"));
        let number = root.split(' ').nth(2).unwrap_or("");
        // Down through what was opened (LUKS, LVM), each on one device.
        let uuid = guest.ok(&format!(
            "d=/sys/dev/block/{number}; for n in 1 2 3; do grep -qE '^(CRYPT|LVM)-' $d/dm/uuid || break; d=$(echo $d/slaves/*); done; cat $d/dm/uuid"
        ));
        let partition = uuid.strip_prefix("part").and_then(|rest| rest.split_once("-mpath-")).map(|(number, _)| number.parse());
        let Some(Ok(partition)) = partition else { panic!("root is no partition of a map but {uuid}: {root}") };
        assert!(!mounts.contains(" /dev/sd"), "a path is mounted: {mounts}");

        let status = guest.ok("corepath status");
        let pid = status.split_once(" pid ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        let pid = pid.unwrap_or_else(|| panic!("no daemon: {status}"));
        let name = guest.ok(&format!("tr '\\0' ' ' </proc/{pid}/cmdline"));
        assert!(name.starts_with('@'), "nothing keeps the daemon from the killing spree: {name}");
        let start = start(guest, pid);
        let log = guest.ok("dmesg");
        let mounted = stamp(&log, "EXT4-fs (dm-").unwrap_or_else(|| panic!("who mounted root?\n{log}"));
        assert!((start as f64) / 100.0 < mounted, "the daemon was started at {start} ticks, root was mounted at {mounted} s");
        let held =
            format!("for f in /proc/{pid}/cwd /proc/{pid}/fd/*; do [ \"$(stat -Lc %d $f)\" != \"$(stat -c %d /)\" ] || ls -l $f; done");
        assert_eq!(guest.ok(&held), "", "the daemon holds files of the root disk");
        let line = guest.console_line("@login", Duration::from_secs(120));
        let login = line.split("@login ").nth(1).and_then(|text| text.trim().parse().ok()).unwrap_or(f64::NAN);
        Watched { partition, pid, start, login, mounted }
    }

    /// The same process still watches.
    #[track_caller]
    pub fn still(&self, guest: &Guest) {
        let status = guest.ok("corepath status");
        assert!(status.contains(&format!(" pid {} ", self.pid)), "another daemon: {status}");
        assert_eq!(start(guest, self.pid), self.start, "another process with the same number");
    }
}

/// Field 22 of /proc/PID/stat; the name before may hold blanks.
fn start(guest: &Guest, pid: u32) -> u64 {
    let text = guest.ok(&format!("cat /proc/{pid}/stat"));
    let rest = text.rsplit(')').next().unwrap_or("");
    rest.split_whitespace().nth(19).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no start time in {text}"))
}

/// The seconds of the kernel log's first line that contains `text`.
pub fn stamp(log: &str, text: &str) -> Option<f64> {
    let line = log.lines().find(|line| line.contains(text))?;
    line.trim_start_matches('[').split(']').next()?.trim().parse().ok()
}

/// Numbers from a seed that is printed, so that a failure can be had again with COREPATH_VM_SEED.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From COREPATH_VM_SEED, else from the clock.
    pub fn new() -> Random {
        let given = std::env::var("COREPATH_VM_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| SystemTime::UNIX_EPOCH.elapsed().map_or(1, |t| t.as_micros() as u64));
        println!("vm: COREPATH_VM_SEED={seed}");
        Random(seed | 1)
    }

    /// A number below `n`, by xorshift64.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n.max(1)
    }
}

/// Takes one of the ports away at a random moment between the first command that it answered and `within` later; says which and when.
#[track_caller]
pub fn pull(array: &Array, random: &mut Random, within: Duration) -> (String, Duration) {
    let port = array.ports[random.below(array.ports.len() as u64) as usize].clone();
    found(array, &port);
    let moment = Duration::from_millis(random.below(within.as_millis() as u64));
    std::thread::sleep(moment);
    array.say(&format!("down {port}"));
    (port, moment)
}

/// Waits until the guest's driver has asked a port for its disks: the initramfs is at work.
#[track_caller]
pub fn found(array: &Array, port: &str) {
    array.say(&format!("wait 120 1 count port={port} op=INQUIRY"));
}
