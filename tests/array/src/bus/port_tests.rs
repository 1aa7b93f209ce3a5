//! A driver's side in a page of memory: chains in any cut, answers, resets, task management, events.

use super::*;
use crate::bus::Hub;
use crate::config;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};

const REQUESTS: usize = 2;
/// One page each for table, available and used ring of a queue; buffers from here on.
const BUFFERS: u64 = 0x10_0000;

struct Guest {
    hub: Arc<Hub>,
    backend: Backend,
    memory: Memory,
    rings: Vec<Ring>,
    avail: [u16; QUEUES],
    next: u64,
    next_desc: u16,
}

fn guest(persona: &str) -> Guest {
    let args = format!("--persona {persona} --port a0=x --port b0=y --lun 0,size=1M");
    let args: Vec<String> = args.split_whitespace().map(str::to_string).collect();
    let hub = Hub::new(config::parse(&args).unwrap().1);
    let map = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x40_0000)]).unwrap();
    let memory = GuestMemoryAtomic::new(map);
    let rings: Vec<Ring> = (0..QUEUES).map(|_| Ring::new(memory.clone(), 64).unwrap()).collect();
    for (i, r) in rings.iter().enumerate() {
        let base = i as u64 * 0x4000;
        r.set_queue_size(64);
        r.set_queue_info(base, base + 0x1000, base + 0x2000).unwrap();
        r.set_queue_ready(true);
        r.set_enabled(true);
    }
    let backend = Backend { hub: hub.clone(), port: 0 };
    backend.update_memory(memory.clone()).unwrap();
    Guest { hub, backend, memory, rings, avail: [0; QUEUES], next: BUFFERS, next_desc: 0 }
}

impl Guest {
    fn write(&self, at: u64, bytes: &[u8]) {
        self.memory.memory().write_slice(bytes, GuestAddress(at)).unwrap();
    }

    fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut b = vec![0; len];
        self.memory.memory().read_slice(&mut b, GuestAddress(at)).unwrap();
        b
    }

    /// A chain of readable bytes, cut as `cuts` says, and writable room; gives the room's address.
    fn post(&mut self, queue: usize, out: &[u8], cuts: &[usize], room: usize) -> u64 {
        let base = queue as u64 * 0x4000;
        let head = self.next_desc;
        let mut parts: Vec<(u64, usize, u16)> = Vec::new();
        let mut rest = out;
        for cut in cuts.iter().copied().chain([usize::MAX]) {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            if !now.is_empty() {
                self.write(self.next, now);
                parts.push((self.next, now.len(), 0));
                self.next += now.len() as u64 + 64;
            }
            rest = later;
        }
        let answer = self.next;
        let mut done = 0;
        for cut in cuts.iter().copied().chain([usize::MAX]) {
            let len = cut.min(room - done);
            if len > 0 {
                parts.push((self.next, len, 2));
                self.next += len as u64;
                done += len;
            }
        }
        for (i, (at, len, flags)) in parts.iter().enumerate() {
            let more = i + 1 < parts.len();
            let desc = (self.next_desc % 64) as u64 * 16 + base;
            self.write(desc, &at.to_le_bytes());
            self.write(desc + 8, &(*len as u32).to_le_bytes());
            let next = (self.next_desc + 1) % 64;
            self.write(desc + 12, &(flags | u16::from(more)).to_le_bytes());
            self.write(desc + 14, &next.to_le_bytes());
            self.next_desc = next;
        }
        let slot = u64::from(self.avail[queue] % 64);
        self.write(base + 0x1000 + 4 + 2 * slot, &head.to_le_bytes());
        self.avail[queue] += 1;
        self.write(base + 0x1000 + 2, &self.avail[queue].to_le_bytes());
        answer
    }

    fn kick(&self, queue: usize) {
        self.backend.handle_event(queue as u16, EventSet::IN, &self.rings, 0).unwrap();
    }

    fn used(&self, queue: usize) -> u16 {
        let b = self.read(queue as u64 * 0x4000 + 0x2000 + 2, 2);
        u16::from_le_bytes([b[0], b[1]])
    }

    fn command(&mut self, tag: u64, cdb: &[u8], out: &[u8], room: usize, cuts: &[usize]) -> u64 {
        let mut head = event_address(0).to_vec();
        head.extend_from_slice(&tag.to_le_bytes());
        head.extend_from_slice(&[0; 3]);
        head.extend_from_slice(cdb);
        head.resize(51, 0);
        head.extend_from_slice(out);
        self.post(REQUESTS, &head, cuts, 108 + room)
    }

    /// (sense length, residual, status, response)
    fn answer(&self, at: u64) -> (u32, u32, u8, u8) {
        let b = self.read(at, 12);
        let word = |i: usize| u32::from_le_bytes(b[i..i + 4].try_into().unwrap());
        (word(0), word(4), b[10], b[11])
    }
}

const TUR: &[u8] = &[0; 6];
const INQUIRY: &[u8] = &[0x12, 0, 0, 0, 96, 0];

#[test]
fn a_command_is_answered_however_its_chain_is_cut() {
    for cuts in [&[][..], &[51, 108], &[1, 1, 1, 7], &[50, 3, 107]] {
        let mut g = guest("plain");
        let at = g.command(1, INQUIRY, &[], 128, cuts);
        g.kick(REQUESTS);
        assert_eq!(g.used(REQUESTS), 1);
        assert_eq!(g.answer(at), (0, 32, 0, 0), "{cuts:?}");
        assert_eq!(g.read(at + 108 + 8, 8), b"COREPATH");
        let at = g.command(2, TUR, &[], 0, cuts);
        g.kick(REQUESTS);
        let (sense, _, status, response) = g.answer(at);
        assert_eq!((sense, status, response), (18, 2, 0)); // power on
        assert_eq!(g.read(at + 12 + 12, 1), [0x29]);
        let write = [0x2a, 0, 0, 0, 0, 3, 0, 0, 1, 0];
        let at = g.command(3, &write, &[0xab; 512], 0, cuts);
        g.kick(REQUESTS);
        assert_eq!(g.answer(at), (0, 0, 0, 0));
        let read = [0x28, 0, 0, 0, 0, 3, 0, 0, 1, 0];
        let at = g.command(4, &read, &[], 512, cuts);
        g.kick(REQUESTS);
        assert_eq!(g.read(at + 108, 512), [0xab; 512]);
        assert_eq!(g.used(REQUESTS), 4);
    }
}

#[test]
fn other_targets_and_broken_requests_are_refused() {
    let mut g = guest("plain");
    let mut head = [0u8; 51];
    head[..2].copy_from_slice(&[1, 7]);
    let at = g.post(REQUESTS, &head, &[], 108);
    g.kick(REQUESTS);
    assert_eq!(g.answer(at).3, response::BAD_TARGET);
    let at = g.post(REQUESTS, &head[..20], &[], 108); // a header cut short
    g.kick(REQUESTS);
    assert_eq!(g.answer(at).3, response::FAILURE);
    g.post(REQUESTS, &head, &[], 20); // no room for an answer
    g.kick(REQUESTS);
    assert_eq!(g.used(REQUESTS), 3);
}

#[test]
fn a_new_call_descriptor_is_signalled_at_once() {
    let g = guest("plain");
    // Any descriptor that takes eight bytes will do for an eventfd.
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut count = [0; 8];
    assert!(ours.read_exact(&mut count).is_err(), "nothing yet");
    g.rings[REQUESTS].set_call(Some(File::from(OwnedFd::from(theirs))));
    assert!(ours.read_exact(&mut count).is_ok());
    assert_eq!(u64::from_ne_bytes(count), 1);
}

#[test]
fn what_a_hung_port_keeps_is_answered_on_release_and_on_down() {
    let mut g = guest("plain");
    g.hub.control("hang a0").unwrap();
    let at = g.command(1, INQUIRY, &[], 96, &[]);
    g.kick(REQUESTS);
    assert_eq!(g.used(REQUESTS), 0);
    g.hub.control("release a0").unwrap();
    assert_eq!((g.used(REQUESTS), g.answer(at).3), (1, 0));
    g.hub.control("hang a0").unwrap();
    let at = g.command(2, INQUIRY, &[], 96, &[]);
    g.kick(REQUESTS);
    g.hub.control("down a0 response=6").unwrap();
    assert_eq!((g.used(REQUESTS), g.answer(at).3), (2, 6));
}

#[test]
fn a_reset_forgets_what_was_kept() {
    let mut g = guest("plain");
    g.hub.control("hang a0").unwrap();
    let at = g.command(1, INQUIRY, &[], 96, &[]);
    g.write(at, &[0x55; 12]);
    g.kick(REQUESTS);
    g.backend.stop_vring(REQUESTS as u32).unwrap();
    g.hub.control("release a0").unwrap();
    assert_eq!(g.used(REQUESTS), 0);
    assert_eq!(g.read(at, 12), [0x55; 12], "its memory is not ours any more");
    assert!(g.hub.control("log").unwrap().contains("dropped"));
}

#[test]
fn an_abort_ends_one_command_and_a_hung_port_answers_no_abort() {
    let mut g = guest("plain");
    g.hub.control("rule add op=INQUIRY do hold").unwrap();
    let first = g.command(0x11, INQUIRY, &[], 96, &[]);
    let second = g.command(0x22, INQUIRY, &[], 96, &[]);
    g.kick(REQUESTS);
    let mut tmf = vec![0u8; 8]; // type TMF, subtype ABORT TASK
    tmf.extend_from_slice(&event_address(0));
    tmf.extend_from_slice(&0x22u64.to_le_bytes());
    g.hub.control("hang a0").unwrap();
    let told = g.post(CONTROL, &tmf, &[], 1);
    g.write(told, &[0xee]);
    g.kick(CONTROL);
    assert_eq!((g.used(CONTROL), g.used(REQUESTS)), (0, 0));
    g.hub.control("release a0").unwrap();
    assert_eq!((g.used(CONTROL), g.read(told, 1)), (1, vec![0]));
    assert_eq!((g.used(REQUESTS), g.answer(second).3), (1, response::ABORTED));
    let mut reset = vec![0, 0, 0, 0, 5, 0, 0, 0];
    reset.extend_from_slice(&event_address(0));
    reset.extend_from_slice(&[0; 8]);
    g.post(CONTROL, &reset, &[], 1);
    g.kick(CONTROL);
    assert_eq!((g.used(REQUESTS), g.answer(first).3), (2, response::RESET));
    // Asynchronous notification is not offered, nonsense is refused.
    g.post(CONTROL, &[1, 0, 0, 0], &[], 5);
    let odd = g.post(CONTROL, &[9, 9, 9, 9], &[], 1);
    g.kick(CONTROL);
    assert_eq!((g.used(CONTROL), g.read(odd, 1)), (4, vec![response::FAILURE]));
}

#[test]
fn events_wait_for_a_buffer() {
    let mut g = guest("plain");
    g.hub.control("event a0 rescan lun=3").unwrap();
    assert_eq!(g.used(EVENT), 0);
    let at = g.post(EVENT, &[], &[], 16);
    g.kick(EVENT);
    assert_eq!(g.used(EVENT), 1);
    assert_eq!(g.read(at, 16), [1, 0, 0, 0, 1, 0, 0, 3, 0, 0, 0, 0, 1, 0, 0, 0]);
    let at = g.post(EVENT, &[], &[], 16);
    g.kick(EVENT);
    g.hub.control("lun 0 resize 2M event").unwrap();
    assert_eq!(g.read(at, 16), [3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x2a, 9, 0, 0]);
}

#[test]
fn a_delay_is_kept_by_the_ticker() {
    let mut g = guest("plain");
    let hub = g.hub.clone();
    std::thread::spawn(move || hub.run_ticker(None));
    g.hub.control("delay 30 op=INQUIRY").unwrap();
    let start = std::time::Instant::now();
    let at = g.command(1, INQUIRY, &[], 96, &[]);
    g.kick(REQUESTS);
    assert_eq!(g.used(REQUESTS), 0);
    while g.used(REQUESTS) == 0 {
        assert!(start.elapsed().as_secs() < 10);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(start.elapsed().as_millis() >= 30);
    assert_eq!(g.answer(at).3, 0);
    assert_eq!(g.rings[REQUESTS].get_ref().get_queue().next_used(), 1);
}

#[test]
fn a_delayed_answer_does_not_pass_a_link_that_went_down_or_hangs() {
    let mut g = guest("plain");
    g.hub.control("delay 1 op=INQUIRY").unwrap();
    let at = g.command(1, INQUIRY, &[], 96, &[]);
    g.kick(REQUESTS);
    g.hub.control("hang a0").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(5));
    g.hub.control("status").unwrap();
    assert_eq!(g.used(REQUESTS), 0);
    g.hub.control("down a0").unwrap();
    assert_eq!((g.used(REQUESTS), g.answer(at).3), (1, response::BAD_TARGET));
}
