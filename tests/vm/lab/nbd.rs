//! A block server on a unix socket whose cable a test can pull: QEMU is its client, one connection per path.
//!
//! Speaks the fixed newstyle handshake and simple replies of the NBD protocol (NetworkBlockDevice/nbd doc/proto.md).
//! While the cable is pulled, reads and writes of the path fail with EIO or wait; TEST UNIT READY is answered by QEMU
//! and still succeeds, so such a path needs a checker that reads. For faults of whole arrays see [`super::array`].

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// The state of the cable between the guest and one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cable {
    /// Plugged in.
    Up,
    /// Each command fails with EIO.
    Fails,
    /// Commands wait until the cable is up again.
    Hangs,
}

/// One path's server.
#[derive(Debug)]
pub struct Server {
    /// The socket that QEMU connects to.
    pub socket: PathBuf,
    cable: Arc<(Mutex<Cable>, Condvar)>,
}

/// Serves a file of this size through several paths; the file is made when it does not exist.
pub fn paths(dir: &Path, name: &str, size: u64, count: usize) -> Vec<Server> {
    let path = dir.join(format!("{name}.nbd"));
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.and_then(|file| file.set_len(size).map(|()| Arc::new(file)));
    let file = file.unwrap_or_else(|e| panic!("cannot make {}: {e}", path.display()));
    (0..count).map(|n| Server::new(dir.join(format!("{name}.{n}.sock")), &file, size)).collect()
}

/// The sockets of the servers, for [`super::Vm::lun_nbd`].
pub fn sockets(servers: &[Server]) -> Vec<PathBuf> {
    servers.iter().map(|server| server.socket.clone()).collect()
}

impl Server {
    fn new(socket: PathBuf, file: &Arc<File>, size: u64) -> Server {
        let listener = UnixListener::bind(&socket).unwrap_or_else(|e| panic!("cannot listen on {}: {e}", socket.display()));
        let cable = Arc::new((Mutex::new(Cable::Up), Condvar::new()));
        let (theirs, file) = (Arc::clone(&cable), Arc::clone(file));
        // The threads live as long as the test's process: a listener has no other end.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (cable, file) = (Arc::clone(&theirs), Arc::clone(&file));
                std::thread::spawn(move || serve(stream, &file, size, &cable));
            }
        });
        Server { socket, cable }
    }

    /// Pulls the cable, or plugs it in.
    pub fn set(&self, cable: Cable) {
        *self.cable.0.lock().unwrap_or_else(PoisonError::into_inner) = cable;
        self.cable.1.notify_all();
    }
}

const OPTION: u64 = u64::from_be_bytes(*b"IHAVEOPT");
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const EIO: u32 = 5;

fn serve(mut stream: UnixStream, file: &File, size: u64, cable: &(Mutex<Cable>, Condvar)) -> io::Result<()> {
    let flags: u16 = 1 | 4 | 256; // HAS_FLAGS, SEND_FLUSH, CAN_MULTI_CONN
    stream.write_all(b"NBDMAGICIHAVEOPT\x00\x03")?; // FIXED_NEWSTYLE, NO_ZEROES
    let mut client = [0; 4];
    stream.read_exact(&mut client)?;
    loop {
        let mut head = [0; 16];
        stream.read_exact(&mut head)?;
        let (magic, option, len) = (number(&head, 0, 8), number(&head, 8, 4) as u32, number(&head, 12, 4));
        if magic != OPTION || len > 4096 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut data = vec![0; len as usize];
        stream.read_exact(&mut data)?;
        let mut reply = |kind: u32, data: &[u8]| {
            let mut out = OPTION_REPLY.to_be_bytes().to_vec();
            out.extend(option.to_be_bytes());
            out.extend(kind.to_be_bytes());
            out.extend((data.len() as u32).to_be_bytes());
            out.extend(data);
            stream.write_all(&out)
        };
        match option {
            // NBD_OPT_INFO and NBD_OPT_GO: the size and the flags, then an acknowledgement.
            6 | 7 => {
                let mut info = vec![0, 0];
                info.extend(size.to_be_bytes());
                info.extend(flags.to_be_bytes());
                reply(3, &info)?;
                reply(1, &[])?;
                if option == 7 {
                    break;
                }
            }
            2 => return reply(1, &[]),     // NBD_OPT_ABORT
            _ => reply(0x8000_0001, &[])?, // unsupported
        }
    }
    loop {
        let mut head = [0; 28];
        stream.read_exact(&mut head)?;
        let (magic, command, offset, len) = (number(&head, 0, 4), number(&head, 6, 2), number(&head, 16, 8), number(&head, 24, 4));
        if magic != 0x2560_9513 || len > 64 << 20 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut data = vec![0; if command < 2 { len as usize } else { 0 }];
        if command == 1 {
            stream.read_exact(&mut data)?;
        }
        if command == 2 {
            return Ok(()); // NBD_CMD_DISC
        }
        let state = cable.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = *cable.1.wait_while(state, |state| *state == Cable::Hangs).unwrap_or_else(PoisonError::into_inner);
        let done = match command {
            _ if state == Cable::Fails => Err(io::ErrorKind::Other.into()),
            0 => file.read_exact_at(&mut data, offset),
            1 => file.write_all_at(&data, offset),
            _ => Ok(()), // NBD_CMD_FLUSH: the file is in the host's cache, which outlives the guest
        };
        let mut out = 0x6744_6698_u32.to_be_bytes().to_vec();
        out.extend(if done.is_ok() { 0 } else { EIO }.to_be_bytes());
        out.extend(&head[8..16]);
        if command == 0 && done.is_ok() {
            out.extend(&data);
        }
        stream.write_all(&out)?;
    }
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}
