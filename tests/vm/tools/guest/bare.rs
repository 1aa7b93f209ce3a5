//! The bare system calls: device-mapper ioctls, TEST UNIT READY, and the smallest loop that keeps a multipath map
//! alive. It is what corepath is measured against: no policy, no library, nothing between the test and the kernel.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Options, ioctl, lock_memory, now_ms, on_signals, say, stopped};

const O_NONBLOCK: i32 = 0x800;

/// linux/dm-ioctl.h: the 312-byte head, then the data. One page: larger buffers make the kernel allocate.
#[repr(C, align(8))]
struct Dm([u8; 4096]);

const HEAD: usize = 312;
const CREATE: u64 = 3;
const REMOVE: u64 = 4;
const SUSPEND: u64 = 6;
const LOAD: u64 = 9;
const STATUS: u64 = 12;
const MESSAGE: u64 = 14;
const FLAG_SUSPEND: u32 = 1 << 1;
const FLAG_TABLE: u32 = 1 << 4;
const FLAG_SKIP_LOCKFS: u32 = 1 << 10;
const FLAG_NOFLUSH: u32 = 1 << 11;

impl Dm {
    fn new(name: &str, flags: u32) -> Dm {
        let mut dm = Dm([0; 4096]);
        dm.put(0, &[4, 0, 0]); // version
        dm.put(12, &[4096, HEAD as u32]); // data_size, data_start
        dm.put(28, &[flags]);
        dm.0[48..48 + name.len().min(127)].copy_from_slice(&name.as_bytes()[..name.len().min(127)]);
        dm
    }

    fn put(&mut self, at: usize, words: &[u32]) {
        for (n, word) in words.iter().enumerate() {
            self.0[at + 4 * n..at + 4 * n + 4].copy_from_slice(&word.to_le_bytes());
        }
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    fn text(&self, at: usize) -> String {
        let bytes = self.0.get(at..).unwrap_or(&[]);
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    fn call(&mut self, control: &File, command: u64) -> Result<(), String> {
        // SAFETY: the kernel reads and writes at most data_size (4096) bytes, which the buffer has.
        let failed = unsafe { ioctl(control.as_raw_fd(), 0xc138_fd00 | command, self.0.as_mut_ptr()) } != 0;
        if failed { Err(format!("dm ioctl {command}: {}", std::io::Error::last_os_error())) } else { Ok(()) }
    }
}

fn control() -> Result<File, String> {
    let path = "/dev/mapper/control";
    OpenOptions::new().read(true).write(true).open(path).map_err(|e| format!("{path}: {e}"))
}

/// The text of each target of a map: its status, or its table.
fn table_status(control: &File, name: &str, table: bool) -> Result<Vec<String>, String> {
    let mut dm = Dm::new(name, if table { FLAG_TABLE | FLAG_NOFLUSH } else { FLAG_NOFLUSH });
    dm.call(control, STATUS)?;
    let mut at = dm.word(16).min(4096) as usize; // data_start
    let start = at;
    let mut lines = Vec::new();
    for _ in 0..dm.word(20) {
        // dm_target_spec: start, length (sectors), status, next (from the first spec), type[16]
        if at + 40 > 4096 {
            break;
        }
        let sectors = u64::from(dm.word(at + 8)) | u64::from(dm.word(at + 12)) << 32;
        lines.push(format!("{} {sectors} {} {}", dm.word(at), dm.text(at + 24), dm.text(at + 40)));
        at = start + dm.word(at + 20) as usize;
    }
    Ok(lines)
}

/// `dm create NAME --table "0 SECTORS TYPE ARGS"`, `dm reload NAME --table ..`, `dm remove NAME`, `dm message NAME
/// --say TEXT`, `dm status NAME`, `dm table NAME`. `create` makes /dev/mapper/NAME a link, as udev would.
pub(crate) fn dm_verb(o: &Options) -> Result<(), String> {
    let [verb, name] = o.words.as_slice() else { return Err("dm VERB NAME".to_string()) };
    let control = control()?;
    let link = format!("/dev/mapper/{name}");
    match verb.as_str() {
        "create" => create(&control, name, &o.text("table", "")),
        "reload" => {
            load(&control, name, &o.text("table", ""))?;
            Dm::new(name, FLAG_SUSPEND | FLAG_NOFLUSH | FLAG_SKIP_LOCKFS).call(&control, SUSPEND)?;
            Dm::new(name, 0).call(&control, SUSPEND)
        }
        "remove" => {
            Dm::new(name, 0).call(&control, REMOVE)?;
            let _ = std::fs::remove_file(&link);
            Ok(())
        }
        "message" => message(&control, name, &o.text("say", "")),
        "status" | "table" => {
            for line in table_status(&control, name, verb == "table")? {
                println!("{line}");
            }
            Ok(())
        }
        _ => Err(format!("dm {verb} is unknown")),
    }
}

fn load(control: &File, name: &str, table: &str) -> Result<(), String> {
    let mut words = table.splitn(4, ' ');
    let mut number = || words.next().and_then(|w| w.parse::<u64>().ok()).ok_or("--table \"START SECTORS TYPE ARGS\"");
    let (start, sectors) = (number()?, number()?);
    let (kind, args) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let mut dm = Dm::new(name, 0);
    if kind.len() > 15 || HEAD + 40 + args.len() >= 4096 {
        return Err("the table is too long".to_string());
    }
    dm.put(20, &[1]); // target_count
    dm.put(HEAD, &[start as u32, (start >> 32) as u32, sectors as u32, (sectors >> 32) as u32]);
    dm.0[HEAD + 24..HEAD + 24 + kind.len()].copy_from_slice(kind.as_bytes());
    dm.0[HEAD + 40..HEAD + 40 + args.len()].copy_from_slice(args.as_bytes());
    dm.call(control, LOAD)
}

fn message(control: &File, name: &str, text: &str) -> Result<(), String> {
    let mut dm = Dm::new(name, 0);
    if HEAD + 8 + text.len() >= 4096 {
        return Err("the message is too long".to_string());
    }
    dm.0[HEAD + 8..HEAD + 8 + text.len()].copy_from_slice(text.as_bytes());
    dm.call(control, MESSAGE)
}

/// scsi/sg.h
#[repr(C)]
struct SgIo {
    interface: i32,
    direction: i32,
    cdb_len: u8,
    sense_max: u8,
    iovecs: u16,
    data_len: u32,
    data: *mut u8,
    cdb: *mut u8,
    sense: *mut u8,
    timeout_ms: u32,
    flags: u32,
    pack_id: i32,
    user: *mut u8,
    status: u8,
    masked_status: u8,
    msg_status: u8,
    sense_len: u8,
    host_status: u16,
    driver_status: u16,
    resid: i32,
    duration: u32,
    info: u32,
}

/// TEST UNIT READY: (SCSI status, host status, sense key, ASC, ASCQ).
fn tur(device: &File, timeout_ms: u32) -> Result<(u8, u16, [u8; 3]), String> {
    let mut cdb = [0u8; 6];
    let mut sense = [0u8; 32];
    let mut io = SgIo {
        interface: i32::from(b'S'),
        direction: -1,
        cdb_len: 6,
        sense_max: 32,
        iovecs: 0,
        data_len: 0,
        data: std::ptr::null_mut(),
        cdb: cdb.as_mut_ptr(),
        sense: sense.as_mut_ptr(),
        timeout_ms,
        flags: 0,
        pack_id: 0,
        user: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        msg_status: 0,
        sense_len: 0,
        host_status: 0,
        driver_status: 0,
        resid: 0,
        duration: 0,
        info: 0,
    };
    // SAFETY: SG_IO reads 6 bytes of the CDB and writes at most 32 of sense; both live until it returns.
    if unsafe { ioctl(device.as_raw_fd(), 0x2285, &raw mut io) } != 0 {
        return Err(format!("SG_IO: {}", std::io::Error::last_os_error()));
    }
    let key = match sense[0] & 0x7f {
        0x70 | 0x71 => [sense[2] & 0xf, sense[12], sense[13]],
        0x72 | 0x73 => [sense[1] & 0xf, sense[2], sense[3]],
        _ => [0, 0, 0],
    };
    Ok((io.status, io.host_status, key))
}

fn open(path: &str) -> Result<File, String> {
    OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).map_err(|e| format!("{path}: {e}"))
}

/// `tur DEVICE [--timeout 5000]`: exit 0 when the unit is ready.
pub(crate) fn tur_verb(o: &Options) -> Result<(), String> {
    let (status, host, [key, asc, ascq]) = tur(&open(o.device())?, o.number("timeout", 5000) as u32)?;
    let line = format!("@tur t={} status={status:02x} host={host:02x} sense={key:02x}/{asc:02x}/{ascq:02x}", now_ms());
    if status == 0 && host == 0 {
        println!("{line}");
        Ok(())
    } else {
        Err(line)
    }
}

/// `keep MAP ... [--every 1000] [--to FILE]`: locked in memory, all files opened before, asks each failed path of the maps
/// with TEST UNIT READY and reinstates those that answer, until SIGTERM. Prints `@reinstated map= dev=`.
pub(crate) fn keep_verb(o: &Options) -> Result<(), String> {
    on_signals();
    let out = o.out()?;
    let control = control()?;
    let mut paths = Vec::new();
    for map in &o.words {
        for line in table_status(&control, map, true)? {
            for dev in line.split(' ').filter(|word| is_devno(word)) {
                let link = std::fs::read_link(format!("/sys/dev/block/{dev}")).map_err(|e| format!("{dev}: {e}"))?;
                let name = link.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
                paths.push((map.clone(), dev.to_string(), open(&format!("/dev/{name}"))?));
            }
        }
    }
    lock_memory(&out);
    say(&out, &format!("@keeping t={} maps={} paths={}", now_ms(), o.words.len(), paths.len()));
    let every = Duration::from_millis(o.number("every", 1000));
    while !stopped() {
        let begin = Instant::now();
        for map in &o.words {
            let status = table_status(&control, map, false)?.join(" ");
            let words: Vec<&str> = status.split(' ').collect();
            for pair in words.windows(2).filter(|pair| is_devno(pair[0]) && pair[1] == "F") {
                let Some((_, dev, file)) = paths.iter().find(|(m, dev, _)| m == map && dev == pair[0]) else { continue };
                if tur(file, 2000).is_ok_and(|(status, host, _)| status == 0 && host == 0) {
                    match message(&control, map, &format!("reinstate_path {dev}")) {
                        Ok(()) => say(&out, &format!("@reinstated t={} map={map} dev={dev}", now_ms())),
                        Err(e) => say(&out, &format!("@error t={} map={map} dev={dev} {e}", now_ms())),
                    }
                }
            }
        }
        while !stopped() && begin.elapsed() < every {
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

fn is_devno(word: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    word.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
}

/// `assemble [--prefix bare-] [--features "0"]`: a multipath map for each identity that SCSI disks show in sysfs, one group
/// of all its paths, by one process and three ioctls a map. Nothing is checked: this is what assembly costs the kernel.
/// Prints `@assembled ms= maps= paths=`.
pub(crate) fn assemble_verb(o: &Options) -> Result<(), String> {
    let control = control()?;
    let begin = Instant::now();
    let mut luns: std::collections::BTreeMap<String, (String, Vec<String>)> = std::collections::BTreeMap::new();
    let read = |path: String| std::fs::read_to_string(path).map(|text| text.trim().to_string());
    for entry in std::fs::read_dir("/sys/block").map_err(|e| format!("/sys/block: {e}"))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(wwid) = read(format!("/sys/block/{name}/device/wwid")) else { continue };
        let file = |what: &str| read(format!("/sys/block/{name}/{what}")).map_err(|e| format!("{name}/{what}: {e}"));
        let lun = luns.entry(wwid).or_default();
        lun.0 = file("size")?;
        lun.1.push(file("dev")?);
    }
    let (mut maps, mut paths) = (0, 0);
    let (prefix, features) = (o.text("prefix", "bare-"), o.text("features", "0"));
    for (size, devs) in luns.values() {
        let name = format!("{prefix}{maps}");
        let members: Vec<String> = devs.iter().map(|dev| format!("{dev} 1")).collect();
        let args = format!("{features} 0 1 1 service-time 0 {} 1 {}", devs.len(), members.join(" "));
        create(&control, &name, &format!("0 {size} multipath {args}"))?;
        maps += 1;
        paths += devs.len();
    }
    println!("@assembled t={} ms={} maps={maps} paths={paths}", now_ms(), begin.elapsed().as_millis());
    Ok(())
}

/// Creates, loads, resumes; then the link that udev would make.
fn create(control: &File, name: &str, table: &str) -> Result<(), String> {
    Dm::new(name, 0).call(control, CREATE)?;
    load(control, name, table)?;
    let mut resumed = Dm::new(name, 0);
    resumed.call(control, SUSPEND)?;
    let dev = resumed.word(40);
    let minor = (dev & 0xff) | (dev >> 12 & 0xf_ff00);
    let link = format!("/dev/mapper/{name}");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(format!("../dm-{minor}"), &link).map_err(|e| format!("{link}: {e}"))
}
