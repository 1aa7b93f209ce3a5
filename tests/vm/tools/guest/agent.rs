//! The agent: takes framed commands from the host through a virtio-serial port (the frames: lab/agent.rs).

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, PipeReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::{ioctl, kill, now_ms};

fn port() -> Result<File, String> {
    for _ in 0..500 {
        for entry in std::fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten() {
            let name = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if name.trim() == "lab" {
                let path = std::path::Path::new("/dev").join(entry.file_name());
                if let Ok(file) = OpenOptions::new().read(true).write(true).open(&path) {
                    return Ok(file);
                }
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err("there is no virtio-serial port called lab".to_string())
}

pub(crate) fn agent() -> Result<(), String> {
    let port = port()?;
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    let out = Arc::new(Mutex::new(port.try_clone().map_err(|e| e.to_string())?));
    frame(&out, &format!("hello {}", now_ms()), &[]);
    let pids: Arc<Mutex<HashMap<u64, i32>>> = Arc::default();
    let mut reader = BufReader::new(port);
    loop {
        let mut head = String::new();
        match reader.read_line(&mut head) {
            Ok(0) => {
                thread::sleep(Duration::from_millis(50)); // The host has not connected, or has gone.
                continue;
            }
            Ok(_) => {}
            Err(e) => return Err(format!("the port: {e}")),
        }
        let words: Vec<String> = head.split_whitespace().map(str::to_string).collect();
        let number = |n: usize| words.get(n).and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
        let mut bytes = |n: u64| {
            let mut data = vec![0; n as usize];
            reader.read_exact(&mut data).map(|()| data).map_err(|e| format!("the port: {e}"))
        };
        match words.first().map(String::as_str) {
            Some("run") => {
                let script = String::from_utf8_lossy(&bytes(number(2))?).into_owned();
                let (id, out, pids) = (number(1), Arc::clone(&out), Arc::clone(&pids));
                let job = move || run(id, &script, &out, &pids);
                thread::Builder::new().stack_size(128 << 10).spawn(job).map_err(|e| e.to_string())?;
            }
            Some("put") => {
                let path = String::from_utf8_lossy(&bytes(number(2))?).into_owned();
                let data = bytes(number(3))?;
                let code = store(&path, number(1) as u32, &data).map_or_else(|e| e.raw_os_error().unwrap_or(5), |()| 0);
                frame(&out, &format!("stored {code}"), &[]);
            }
            Some("signal") => {
                if let Some(pid) = pids.lock().unwrap().get(&number(1)) {
                    // SAFETY: a system call without pointers; the group is one that this agent made.
                    unsafe { kill(-pid, number(2) as i32) };
                }
            }
            _ => eprintln!("lab agent: odd frame {head:?}"),
        }
    }
}

fn store(path: &str, mode: u32, data: &[u8]) -> std::io::Result<()> {
    if let Some(dir) = std::path::Path::new(path).parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(path, data)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode))
}

fn frame(out: &Mutex<File>, head: &str, data: &[u8]) {
    let mut whole = format!("{head}\n").into_bytes();
    whole.extend_from_slice(data);
    let mut out = out.lock().unwrap();
    let _ = out.write_all(&whole);
}

fn run(id: u64, script: &str, out: &Arc<Mutex<File>>, pids: &Mutex<HashMap<u64, i32>>) {
    let start = now_ms();
    let failed = |what: &str, e: std::io::Error| {
        let text = format!("{what}: {e}\n");
        frame(out, &format!("out {id} {}", text.len()), text.as_bytes());
        frame(out, &format!("exit {id} 127 {start} {}", now_ms()), &[]);
    };
    let (reader, writer) = match std::io::pipe() {
        Ok(ends) => ends,
        Err(e) => return failed("pipe", e),
    };
    let fd = reader.as_raw_fd();
    // SAFETY: FIONBIO reads one int.
    unsafe { ioctl(fd, 0x5421, &1_i32) };
    let errors = match writer.try_clone() {
        Ok(errors) => errors,
        Err(e) => return failed("pipe", e),
    };
    let mut command = Command::new("/bin/sh");
    // The agent is never to be killed by the kernel for its memory; what it runs may be.
    command.arg("-c").arg(format!("echo 0 >/proc/self/oom_score_adj\n{script}"));
    command.stdin(Stdio::null()).stdout(writer).stderr(errors).process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => return failed("/bin/sh", e),
    };
    drop(command); // It holds the writing ends of the pipe.
    pids.lock().unwrap().insert(id, child.id() as i32);
    // Whoever reads from the pipe also sends it on before the next one reads: between two readings nothing is on its way.
    let source = Arc::new(Mutex::new(reader));
    let (theirs, sink) = (Arc::clone(&source), Arc::clone(out));
    let drain = move || while readable(fd) && pass_on(id, &theirs, &sink) {};
    let spawned = thread::Builder::new().stack_size(128 << 10).spawn(drain);
    if let Err(e) = spawned {
        return failed("thread", e);
    }
    let status = child.wait();
    pids.lock().unwrap().remove(&id);
    // All that the command itself wrote is in the pipe by now, and comes before its exit. A daemon that it left behind may
    // keep the pipe open: it is not waited for.
    pass_on(id, &source, out);
    let code = status.map_or(127, |s| s.code().unwrap_or_else(|| 128 + s.signal().unwrap_or(0)));
    frame(out, &format!("exit {id} {code} {start} {}", now_ms()), &[]);
}

/// Waits until there is something to read from a pipe, or its last writer has gone.
fn readable(fd: i32) -> bool {
    let mut wanted = PollFd { fd, events: 1, revents: 0 };
    // SAFETY: one entry, which poll fills in.
    unsafe { poll(&mut wanted, 1, -1) >= 0 || std::io::Error::last_os_error().kind() == ErrorKind::Interrupted }
}

/// What a pipe holds at most.
const PIPE: usize = 64 << 10;

/// Sends on what can be read now. False at the end.
fn pass_on(id: u64, source: &Mutex<PipeReader>, out: &Mutex<File>) -> bool {
    let mut source = source.lock().unwrap();
    let mut buffer = vec![0; 16 << 10];
    let mut passed = 0;
    while passed < PIPE {
        match source.read(&mut buffer) {
            Ok(0) => return false,
            Ok(n) => {
                frame(out, &format!("out {id} {n}"), &buffer[..n]);
                passed += n;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return e.kind() == ErrorKind::WouldBlock,
        }
    }
    true
}

#[repr(C)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

unsafe extern "C" {
    fn poll(wanted: *mut PollFd, count: u64, timeout: i32) -> i32;
}
