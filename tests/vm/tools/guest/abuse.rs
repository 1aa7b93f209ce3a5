//! Those who do not keep to the rules: socket clients that stop half way, lie about lengths, come in crowds or never read; processes
//! that pretend to be the kernel; and the one who listens as a service manager does.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{Options, now_ms};

unsafe extern "C" {
    fn socket(domain: i32, kind: i32, protocol: i32) -> i32;
    fn sendto(fd: i32, data: *const u8, length: usize, flags: i32, to: *const SockaddrNl, size: u32) -> isize;
}

#[repr(C)]
struct SockaddrNl {
    family: u16,
    pad: u16,
    pid: u32,
    groups: u32,
}

/// `listen SOCKET [--secs 60]`: a service manager's end of sd_notify; `@notify t= TEXT` for each datagram, its lines joined by a blank.
pub(crate) fn listen_verb(o: &Options) -> Result<(), String> {
    let _ = std::fs::remove_file(o.device());
    let socket = UnixDatagram::bind(o.device()).map_err(|e| e.to_string())?;
    let end = Instant::now() + Duration::from_secs(o.number("secs", 60));
    socket.set_read_timeout(Some(Duration::from_millis(200))).map_err(|e| e.to_string())?;
    println!("@listening");
    let mut buffer = [0u8; 4096];
    while Instant::now() < end {
        if let Ok(n) = socket.recv(&mut buffer) {
            println!("@notify t={} {}", now_ms(), String::from_utf8_lossy(&buffer[..n]).replace('\n', " "));
        }
    }
    Ok(())
}

/// `client SOCKET half|huge|deaf|crowd [--secs 2]`: breaks the protocol; `@client closed=` 1 when the other end hung up.
pub(crate) fn client_verb(o: &Options) -> Result<(), String> {
    let connect = || UnixStream::connect(o.device()).map_err(|e| format!("{}: {e}", o.device()));
    let pause = Duration::from_secs(o.number("secs", 2));
    let frame = |text: &str| [&(text.len() as u64 + 1).to_ne_bytes()[..], text.as_bytes(), &[0]].concat();
    let mut closed = 0;
    match o.words.get(1).map(String::as_str) {
        Some("half") => {
            let mut stream = connect()?;
            stream.write_all(&frame("show maps json")[..12]).map_err(|e| e.to_string())?;
            sleep(pause);
            closed = i32::from(hung_up(&mut stream));
        }
        Some("huge") => {
            for length in [1u64 << 32, u64::MAX, 0, 513] {
                let mut stream = connect()?;
                let _ = stream.write_all(&length.to_ne_bytes());
                let _ = stream.write_all(&[b'x'; 600]);
                sleep(pause / 4);
                closed += i32::from(hung_up(&mut stream));
            }
        }
        Some("deaf") => {
            let mut stream = connect()?;
            stream.set_write_timeout(Some(Duration::from_millis(100))).map_err(|e| e.to_string())?;
            let end = Instant::now() + pause;
            while Instant::now() < end {
                // One at a time: two that come together are refused, and the connection with them.
                let _ = stream.write_all(&frame("show config"));
                sleep(Duration::from_millis(20));
            }
            closed = i32::from(hung_up(&mut stream));
        }
        Some("crowd") => {
            let mut all = Vec::new();
            for _ in 0..1000 {
                // The queue of the listener holds 64; a connect waits there until it is accepted.
                if let Ok(stream) = connect() {
                    all.push(stream);
                }
            }
            println!("@client connected={} t={}", all.len(), now_ms());
            sleep(pause);
            closed = all.iter_mut().map(|stream| i32::from(hung_up(stream))).sum();
        }
        _ => return Err("client SOCKET half|huge|deaf|crowd".into()),
    }
    println!("@client closed={closed}");
    Ok(())
}

/// Has the other end closed (what it sent before is read away)?
fn hung_up(stream: &mut UnixStream) -> bool {
    let _ = stream.set_nonblocking(true);
    let mut buffer = [0u8; 65536];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
}

/// `lie DEVPATH [--count 1] [--action remove] [--devno 8:0]`: uevents that the kernel never sent, to all who listen to its group.
pub(crate) fn lie_verb(o: &Options) -> Result<(), String> {
    const NETLINK_KOBJECT_UEVENT: i32 = 15;
    let (action, path) = (o.text("action", "remove"), o.device());
    let (major, minor) = o.text("devno", "8:0").split_once(':').map(|(a, b)| (a.to_string(), b.to_string())).unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or("");
    let fields = [
        format!("{action}@{path}"),
        format!("ACTION={action}"),
        format!("DEVPATH={path}"),
        "SUBSYSTEM=block".into(),
        "DEVTYPE=disk".into(),
        format!("MAJOR={major}"),
        format!("MINOR={minor}"),
        format!("DEVNAME={name}"),
    ];
    let text = fields.join("\0") + "\0";
    // SAFETY: plain calls; the address and the text live across them.
    let fd = unsafe { socket(16, 3, NETLINK_KOBJECT_UEVENT) };
    if fd < 0 {
        return Err("no netlink socket".into());
    }
    let to = SockaddrNl { family: 16, pad: 0, pid: 0, groups: 1 };
    let mut sent = 0;
    for _ in 0..o.number("count", 1) {
        // SAFETY: as above.
        sent += i32::from(unsafe { sendto(fd, text.as_ptr(), text.len(), 0, &to, size_of::<SockaddrNl>() as u32) } > 0);
    }
    println!("@lied sent={sent}");
    Ok(())
}

/// `poke FILE [--count 1] [--text change]`: writes a word into a file (of sysfs) again and again.
pub(crate) fn poke_verb(o: &Options) -> Result<(), String> {
    let mut file = OpenOptions::new().write(true).open(o.device()).map_err(|e| e.to_string())?;
    let text = o.text("text", "change");
    for _ in 0..o.number("count", 1) {
        file.write_all(text.as_bytes()).map_err(|e| e.to_string())?;
    }
    println!("@poked t={}", now_ms());
    Ok(())
}
