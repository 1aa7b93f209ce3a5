//! The disks and maps of arrays on the host as a guest sees them, for scenarios that fail them over and back.

use std::collections::BTreeMap;
use std::time::Duration;

use super::agent::{self, Job};
use super::{Array, Guest};

const LONG: Duration = Duration::from_secs(30);

/// An array's LUNs in a guest. All of it is found by identity: several arrays may be attached to one guest.
pub struct Site<'a> {
    pub array: &'a Array,
    pub guest: &'a Guest,
    /// What its LUNs' WWIDs begin with.
    stem: String,
    luns: u16,
    /// By LUN and relative target port.
    disks: BTreeMap<(u16, u16), String>,
}

impl<'a> Site<'a> {
    /// Waits until every LUN is there through every port. `serial` and `luns` are what the array was started with.
    #[track_caller]
    pub fn find(guest: &'a Guest, array: &'a Array, serial: &str, luns: u16) -> Site<'a> {
        let stem = stem(serial);
        let count = usize::from(luns) * array.ports.len();
        let list = format!("grep -l '^naa.{stem}' /sys/block/sd*/device/wwid");
        guest.until(&format!("[ $({list} | wc -l) = {count} ]"), LONG);
        let mut disks = BTreeMap::new();
        for disk in guest.ok(&list).lines().filter_map(|path| path.split('/').nth(3)) {
            let page = guest.get(&format!("/sys/block/{disk}/device/vpd_pg83"));
            // NAA 6 of the LUN first, its last two bytes the number; then the relative target port, which counts the ports from 1.
            let word = |at: usize| u16::from_be_bytes([page[at], page[at + 1]]);
            disks.insert((word(22), word(30)), disk.to_string());
        }
        Site { array, guest, stem, luns, disks }
    }

    /// The WWID and name of a LUN's map.
    pub fn map(&self, lun: u16) -> String {
        wwid_in(&self.stem, lun)
    }

    /// The kernel's name of LUN `lun` behind a port.
    #[track_caller]
    pub fn disk(&self, lun: u16, port: &str) -> String {
        let number = self.array.ports.iter().position(|p| p == port).unwrap_or_else(|| panic!("no port {port}")) as u16 + 1;
        self.disks.get(&(lun, number)).unwrap_or_else(|| panic!("no LUN {lun} through {port}: {:?}", self.disks)).clone()
    }

    /// Waits until the daemon has every map with `usable` paths.
    #[track_caller]
    pub fn until_usable(&self, usable: usize) {
        let script = format!("[ $(corepath status | grep '^3{}' | grep -c ' {usable} usable') = {} ]", self.stem, self.luns);
        self.guest.until(&script, LONG);
    }

    /// Waits until so many lines of the status say this.
    #[track_caller]
    pub fn until_says(&self, text: &str, count: usize) {
        let began = std::time::Instant::now();
        loop {
            let status = self.guest.ok("corepath status");
            if status.matches(text).count() == count {
                return;
            }
            assert!(began.elapsed() < LONG, "not {count} times {text:?}:\n{status}\n{}", self.guest.ok("dmesg | tail -n 60"));
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The handler in a map's live table; empty for none.
    #[track_caller]
    pub fn handler(&self, lun: u16) -> String {
        let table = format!("lab dm table {}", self.map(lun));
        self.guest.until(&format!("{table} | grep -q multipath"), LONG);
        let table = self.guest.ok(&table);
        let mut words = table.split_ascii_whitespace().skip_while(|word| *word != "multipath").skip(1);
        let features: usize = words.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let mut words = words.skip(features);
        let count: usize = words.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        words.take(count).collect::<Vec<_>>().join(" ")
    }

    /// The paths of each group in table order, as port names.
    #[track_caller]
    pub fn groups(&self, lun: u16) -> Vec<Vec<String>> {
        let status = self.guest.ok("corepath status");
        let mut groups: Vec<Vec<String>> = Vec::new();
        let disks: Vec<(String, String)> = self.array.ports.iter().map(|p| (self.disk(lun, p), p.clone())).collect();
        for line in status.lines().skip_while(|line| !line.starts_with(&self.map(lun))).skip(1).take_while(|line| line.starts_with(' ')) {
            if line.starts_with("  group ") {
                groups.push(Vec::new());
            } else if let Some(group) = groups.last_mut() {
                let name = line.split_ascii_whitespace().next().unwrap_or("");
                let port = disks.iter().find(|d| d.0 == name).map_or_else(|| name.to_string(), |d| d.1.clone());
                group.push(port);
            }
        }
        groups
    }

    /// The number of the group (from 1) that a port's path is in.
    #[track_caller]
    pub fn group_of(&self, lun: u16, port: &str) -> usize {
        let groups = self.groups(lun);
        groups.iter().position(|group| group.iter().any(|p| p == port)).unwrap_or_else(|| panic!("no {port} in {groups:?}")) + 1
    }

    /// How often each LUN moved so far.
    pub fn moves(&self) -> Vec<u64> {
        (0..self.luns).map(|lun| self.array.number(&format!("trespasses {lun}"))).collect()
    }

    /// Waits until each LUN has moved so often in all; fails at once when one did more often.
    #[track_caller]
    pub fn until_moves(&self, wanted: &[u64], limit: Duration) {
        let began = std::time::Instant::now();
        loop {
            let now = self.moves();
            let more = now.iter().zip(wanted).any(|(n, w)| n > w);
            assert!(
                !more && began.elapsed() < limit,
                "moved {now:?}, wanted {wanted:?}\n{}",
                self.guest.ok("corepath status; dmesg | tail -n 60")
            );
            if now == wanted {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Verified writes through the maps of these LUNs, until [`verified`] ends them.
    pub fn writers(&self, luns: &[u16]) -> Vec<Job> {
        let write = |lun: &u16| {
            let node = format!("/dev/mapper/{}", self.map(*lun));
            self.guest.until(&format!("[ -b {node} ]"), LONG);
            self.guest.spawn(&format!("exec lab write {node} --size 2m --direct --rate 200"))
        };
        luns.iter().map(write).collect()
    }

    /// Which SP has a LUN.
    #[track_caller]
    pub fn owner(&self, lun: u16) -> char {
        let luns = self.array.say("luns");
        let line = luns.lines().find(|line| line.contains(&format!("lun={lun} "))).unwrap_or_else(|| panic!("no LUN {lun} in:\n{luns}"));
        let word = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("owner=")).unwrap_or("?");
        word.chars().next().unwrap_or('?').to_ascii_lowercase()
    }
}

/// Ends the writers: no error, nothing lost, nothing wrong. Prints the slowest write of all and gives it in ms.
#[track_caller]
pub fn verified(jobs: Vec<Job>, what: &str) -> u64 {
    for job in &jobs {
        job.signal(15);
    }
    let (count, mut slowest, mut all) = (jobs.len(), 0, 0);
    for job in jobs {
        let output = job.wait(LONG);
        let last = output.text().lines().last().unwrap_or("").to_string();
        assert!(output.code == 0 && last.contains("errors=0 wrong=0"), "{what}: {}", output.text());
        let number = |key| agent::marker(&last, "@written", key).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        assert!(number("written") > 20, "{what}: {last}");
        (slowest, all) = (slowest.max(number("max_ms")), all + number("written"));
    }
    println!("vm: {what}: {count} writers, {all} blocks, slowest write {slowest} ms, no error, none wrong");
    slowest
}

/// The WWID of a LUN of an array with this serial number: its numbering is fixed, so a configuration can name it before a guest runs.
pub fn wwid(serial: &str, lun: u16) -> String {
    wwid_in(&stem(serial), lun)
}

fn wwid_in(stem: &str, lun: u16) -> String {
    format!("3{stem}0000{lun:04x}")
}

/// NAA 6, EMC's company id, the serial hashed (FNV-1a): as tests/array makes them.
fn stem(serial: &str) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in serial.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("60060160{hash:016x}")
}
