//! Clients of the control socket: frames in, replies out, nobody waits for anybody. Small replies live with the client; a large one borrows
//! the one large buffer, where it is packed, and whose reader is given a time limit; the next that needs it waits.

use super::packed::Packed;
use crate::fault::Errno;
use crate::model::Instant;
use crate::raw::{AsFd, OwnedFd};
use crate::sock::{self, Peer};
use crate::wait::{Hears, Poll};
use crate::wire::cursor::{put, try_put};
use crate::wire::ipc::{self, Decoder};
use core::fmt::{self, Write};
use core::time::Duration;

/// Clients at a time; when a newcomer finds all taken, the one that was silent longest makes room.
pub const CLIENTS: usize = 16;
/// Bytes of a client's own reply buffer.
const SMALL: usize = 2048;
/// A client that does not read for so long is let go.
const PATIENCE: Duration = Duration::from_secs(5);
/// Nor does one that reads keep the large buffer for longer: others wait for it.
const LENT: Duration = Duration::from_secs(30);
/// If root is who waits, anybody else: root's client gives up after 5 s.
const LENT_BY_ROOT: Duration = Duration::from_secs(2);

/// Where a client stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Reading,
    /// The engine works on its request: nothing is heard of it but its end.
    Waiting,
    /// Its request is kept until the large buffer is free.
    Queued,
    /// So many bytes of so many are sent, from the large buffer or its own.
    Writing {
        at: usize,
        end: usize,
        large: bool,
    },
}

pub struct Client {
    socket: OwnedFd,
    peer: Peer,
    decoder: Decoder,
    small: [u8; SMALL],
    stage: Stage,
    touched: Instant,
    /// When it was lent the large buffer.
    lent: Instant,
    generation: u32,
}

/// All clients.
pub struct Clients {
    /// [`CLIENTS`] of them, in the arena: on the stack they would be copied with everything that holds them.
    slots: &'static mut [Option<Client>],
    large: Packed,
    large_taken: bool,
    generation: u32,
    first_token: u64,
    /// Turned away or let go.
    pub dropped: u32,
    /// Memory is short, and what is sent takes some (unix_stream_sendmsg allocates with GFP_KERNEL, which MSG_DONTWAIT does not change, and as
    /// PR_SET_IO_FLUSHER keeps us from being helped by the OOM killer it may try for ever): who is to be answered is let go instead.
    pub mute: bool,
}

/// Text that counts on beyond its end: the reply is then known to be too long.
struct Page<'a> {
    room: &'a mut [u8],
    used: usize,
}

impl fmt::Write for Page<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // What does not fit is counted on.
        let _ = try_put(self.room, self.used, text.as_bytes());
        self.used += text.len();
        Ok(())
    }
}

/// Given each whole request, writes the reply; false when that comes later, by [`Clients::reply`].
pub type Serve<'s> = dyn FnMut(Caller, &[u8], &mut dyn fmt::Write) -> bool + 's;

/// What a request asked for; carried back by [`Clients::reply`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    pub index: usize,
    generation: u32,
    pub root: bool,
}

impl Caller {
    /// Fits an engine token; never 0.
    pub fn token(self) -> u32 {
        (self.generation << 8) | (self.index as u32 + 1)
    }
}

/// The client in a slot, if there is one.
fn at(slots: &mut [Option<Client>], index: usize) -> Option<&mut Client> {
    slots.get_mut(index)?.as_mut()
}

impl Clients {
    /// `slots`: [`CLIENTS`] empty ones.
    pub fn new(slots: &'static mut [Option<Client>], large: Packed, first_token: u64) -> Clients {
        Clients { slots, large, large_taken: false, generation: 0, first_token, dropped: 0, mute: false }
    }

    /// Takes all newcomers of a listener. An error: none can be taken now, though there may be some.
    pub fn accept(&mut self, listener: &OwnedFd, poll: &Poll, now: Instant) -> Result<(), Errno> {
        // Bounded: a flood of connects must not keep the loop.
        for _ in 0..64 {
            let Some((socket, peer)) = sock::accept(listener)? else { break };
            let place = match self.slots.iter().position(Option::is_none) {
                Some(place) => place,
                None => {
                    let reading = self.slots.iter().enumerate().filter_map(|(i, slot)| Some((i, slot.as_ref()?)));
                    let reading = reading.filter(|(_, client)| matches!(client.stage, Stage::Reading | Stage::Queued));
                    // Whoever may look cannot keep root out.
                    let Some((oldest, _)) = reading.min_by_key(|(_, client)| (client.peer.uid == 0, client.touched)) else {
                        self.dropped = self.dropped.saturating_add(1);
                        continue;
                    };
                    self.close(oldest, poll);
                    oldest
                }
            };
            if poll.add(socket.as_fd(), self.first_token + place as u64).is_err() {
                self.dropped = self.dropped.saturating_add(1);
                continue;
            }
            self.generation = (self.generation + 1) & 0x00ff_ffff;
            let generation = self.generation;
            if let Some(slot) = self.slots.get_mut(place) {
                *slot = Some(Client {
                    socket,
                    peer,
                    decoder: Decoder::new(),
                    small: [0; SMALL],
                    stage: Stage::Reading,
                    touched: now,
                    lent: now,
                    generation,
                });
            }
        }
        Ok(())
    }

    /// Lets go of one that has not had all it came for.
    fn close(&mut self, index: usize, poll: &Poll) {
        self.dropped = self.dropped.saturating_add(1);
        self.leave(index, poll);
    }

    fn leave(&mut self, index: usize, poll: &Poll) {
        if let Some(client) = self.slots.get_mut(index).and_then(Option::take) {
            poll.remove(client.socket.as_fd());
            if let Stage::Writing { large: true, .. } = client.stage {
                self.large_taken = false;
            }
        }
    }

    /// A client's socket is ready: reads what came, or goes on writing. `serve` is given each whole request and writes the reply;
    /// `Ok(false)` means that the reply comes later, by [`Clients::reply`].
    #[inline(never)]
    pub fn ready(&mut self, index: usize, poll: &Poll, now: Instant, serve: &mut Serve<'_>) {
        if self.mute && at(self.slots, index).is_some() {
            return self.close(index, poll);
        }
        self.push(index, poll, now);
        let Some(client) = at(self.slots, index) else { return };
        match client.stage {
            Stage::Reading => {}
            Stage::Queued if !self.large_taken => return self.serve(index, poll, now, serve),
            Stage::Waiting | Stage::Queued => return self.close(index, poll),
            Stage::Writing { .. } => return,
        }
        let mut buffer = [0u8; 1024];
        let length = match sock::receive(&client.socket, &mut buffer) {
            // With its answer.
            Ok(0) if !client.decoder.begun() => return self.leave(index, poll),
            Ok(0) => return self.close(index, poll),
            Ok(length) => length,
            Err(Errno::AGAIN) => return,
            Err(_) => return self.close(index, poll),
        };
        client.touched = now;
        let input = buffer.get(..length).unwrap_or(&[]);
        // One request at a time: who sends the next before the reply waits in the socket, and what came with it is refused.
        match client.decoder.feed(input) {
            Err(_) => return self.close(index, poll),
            Ok(used) if used < length => return self.close(index, poll),
            Ok(_) => {}
        }
        self.serve(index, poll, now, serve);
    }

    #[inline(never)]
    fn serve(&mut self, index: usize, poll: &Poll, now: Instant, serve: &mut Serve<'_>) {
        let Some(client) = at(self.slots, index) else { return };
        let Some(request) = client.decoder.request() else { return };
        let caller = Caller { index, generation: client.generation, root: client.peer.uid == 0 };
        let mut text = [0u8; ipc::REQUEST_LEN];
        let length = request.len().min(text.len());
        put(&mut text, 0, request.get(..length).unwrap_or(&[]));
        // Into the large buffer if it is free, as the length is not known before; a reply that fits is then moved to the client's own.
        let free = !self.large_taken;
        const ROOM: usize = SMALL - ipc::HEADER_LEN - 1;
        let (complete, used) = if free {
            self.large.begin();
            let complete = serve(caller, &text[..length], &mut self.large);
            // With its NUL: it is sent as a part of the text.
            let _ = self.large.write_str("\0");
            (complete, self.large.end().map(|used| used - 1))
        } else {
            let mut page = Page { room: &mut client.small[ipc::HEADER_LEN..SMALL - 1], used: 0 };
            let complete = serve(caller, &text[..length], &mut page);
            (complete, Some(page.used).filter(|used| *used <= ROOM))
        };
        if !complete || (used.is_none() && !free) {
            // Too long for its own buffer: it is served again, which moves nothing as the reply was complete.
            client.stage = if complete { Stage::Queued } else { Stage::Waiting };
            let _ = poll.listen(client.socket.as_fd(), self.first_token + index as u64, Hears::Nothing);
            return;
        }
        client.decoder.clear();
        let Some(used) = used else {
            return self.reply(caller, "fail\nthe reply is too long for its buffer; ask for one map\n", poll, now);
        };
        let end = ipc::HEADER_LEN + used + 1;
        put(&mut client.small, 0, &ipc::header(used));
        let large = free && used > ROOM;
        if !large {
            let mut at = ipc::HEADER_LEN;
            while free && at < end {
                let rest = self.large.rest();
                let rest = rest.get(..end - at).unwrap_or(rest);
                let count = rest.len();
                put(&mut client.small, at, rest);
                self.large.take(count);
                at += count;
            }
            put(&mut client.small, end - 1, &[0]);
        }
        client.stage = Stage::Writing { at: 0, end, large };
        client.lent = now;
        self.large_taken |= large;
        self.push(index, poll, now);
    }

    /// Whose request can be served now that waited for the large buffer, if any; root's first. To be told as [`Clients::ready`].
    pub fn queued(&self) -> Option<usize> {
        let mut first = None;
        for (index, client) in self.slots.iter().enumerate().filter_map(|(i, slot)| Some((i, slot.as_ref()?))) {
            let turn = u64::from(client.peer.uid != 0) << 63 | client.touched.as_micros();
            if client.stage == Stage::Queued && !self.large_taken && first.is_none_or(|(earlier, _)| turn < earlier) {
                first = Some((turn, index));
            }
        }
        first.map(|(_, index)| index)
    }

    /// Sends a short reply to a caller that is still there.
    pub fn reply(&mut self, caller: Caller, text: &str, poll: &Poll, now: Instant) {
        let Some(client) = at(self.slots, caller.index).filter(|c| c.generation == caller.generation) else { return };
        client.decoder.clear();
        let text = text.as_bytes();
        let text = text.get(..SMALL - ipc::HEADER_LEN - 1).unwrap_or(text);
        let end = ipc::HEADER_LEN + text.len() + 1;
        put(&mut client.small, 0, &ipc::header(text.len()));
        put(&mut client.small, ipc::HEADER_LEN, text);
        put(&mut client.small, end - 1, &[0]);
        client.stage = Stage::Writing { at: 0, end, large: false };
        self.push(caller.index, poll, now);
    }

    /// The caller that a token was made for.
    pub fn caller(&self, token: u32) -> Option<Caller> {
        let index = (token & 0xff).checked_sub(1)? as usize;
        let client = self.slots.get(index)?.as_ref()?;
        (client.generation == token >> 8).then_some(Caller { index, generation: client.generation, root: client.peer.uid == 0 })
    }

    /// Writes on, as far as the socket takes it.
    fn push(&mut self, index: usize, poll: &Poll, now: Instant) {
        let Some(client) = at(self.slots, index) else { return };
        let Stage::Writing { mut at, end, large } = client.stage else { return };
        if self.mute {
            return self.close(index, poll);
        }
        while at < end {
            // The header of a large one stands in the client's own buffer.
            let packed = large && at >= ipc::HEADER_LEN;
            let own = if large { ipc::HEADER_LEN } else { end };
            let bytes = if packed { self.large.rest() } else { client.small.get(at..own).unwrap_or(&[]) };
            match sock::send(&client.socket, bytes) {
                Ok(n) => {
                    at += n;
                    if packed {
                        self.large.take(n);
                    }
                    client.touched = now;
                }
                Err(Errno::AGAIN) => {
                    client.stage = Stage::Writing { at, end, large };
                    let _ = poll.listen(client.socket.as_fd(), self.first_token + index as u64, Hears::Room);
                    return;
                }
                Err(_) => return self.close(index, poll),
            }
        }
        client.stage = Stage::Reading;
        if large {
            self.large_taken = false;
        }
        let _ = poll.listen(client.socket.as_fd(), self.first_token + index as u64, Hears::Input);
    }

    /// Lets go of clients that do not read their replies or do not finish a request; when to look again.
    pub fn expire(&mut self, poll: &Poll, now: Instant, answer: Duration) -> Option<Instant> {
        let mut next = None;
        let root_waits = self.slots.iter().flatten().any(|client| client.stage == Stage::Queued && client.peer.uid == 0);
        for index in 0..self.slots.len() {
            let Some(client) = at(self.slots, index) else { continue };
            let waits = client.stage == Stage::Waiting;
            let hanging = matches!(client.stage, Stage::Writing { .. }) || (client.stage == Stage::Reading && client.decoder.begun());
            if !hanging && !waits {
                continue;
            }
            let mut until = client.touched + if waits { answer } else { PATIENCE };
            if let Stage::Writing { large: true, .. } = client.stage {
                until = until.min(client.lent + if root_waits && client.peer.uid != 0 { LENT_BY_ROOT } else { LENT });
            }
            if until <= now && waits {
                // What was asked goes on; its answer is nobody's any more.
                self.generation = (self.generation + 1) & 0x00ff_ffff;
                client.generation = self.generation;
                let caller = Caller { index, generation: self.generation, root: false };
                self.reply(caller, "fail\ntimeout\n", poll, now);
            } else if until <= now {
                self.close(index, poll);
            } else {
                next = Some(next.map_or(until, |n: Instant| n.min(until)));
            }
        }
        if self.queued().is_some() { Some(now) } else { next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sock::Address;
    use crate::wait::now;
    use std::boxed::Box;
    use std::string::String;
    use std::vec::Vec;
    use std::{format, vec};

    /// Clients of a socket of their own.
    struct Hall {
        clients: Clients,
        poll: Poll,
        listener: OwnedFd,
        name: String,
    }

    fn leak<T: Clone>(value: T, count: usize) -> &'static mut [T] {
        vec![value; count].leak()
    }

    fn hall(name: &str) -> Hall {
        let slots = Box::leak((0..CLIENTS).map(|_| None).collect::<Box<[_]>>());
        let large = Packed::new(
            leak(0, 1 << 20),
            Box::leak(Box::new([0; super::super::packed::WINDOW])),
            Box::leak(Box::new([0; super::super::packed::PLACES])),
        );
        let name = format!("corepath-clients-{name}-{}", std::process::id());
        let listener = sock::listen(Address::Abstract(&name)).unwrap();
        Hall { clients: Clients::new(slots, large, 100), poll: Poll::new().unwrap(), listener, name }
    }

    impl Hall {
        /// A client that has sent this.
        fn client(&mut self, request: &str) -> OwnedFd {
            let client = sock::connect(Address::Abstract(&self.name)).unwrap();
            self.clients.accept(&self.listener, &self.poll, now()).unwrap();
            sock::send_all(&client, &ipc::header(request.len())).unwrap();
            sock::send_all(&client, request.as_bytes()).unwrap();
            sock::send_all(&client, b"\0").unwrap();
            client
        }

        /// Turns until nothing happens for a while; how many there were. `serve` writes the reply, or says that it comes later.
        fn turns(&mut self, at: Instant, serve: &mut dyn FnMut(&str, &mut dyn Write) -> bool) -> u32 {
            for turn in 0..1000 {
                let mut tokens = Vec::new();
                self.poll.wait(Some(now() + Duration::from_millis(20)), |token| tokens.push(token)).unwrap();
                for token in &tokens {
                    self.clients.ready((token - 100) as usize, &self.poll, at, &mut |_, request, out| {
                        serve(core::str::from_utf8(request).unwrap(), out)
                    });
                }
                if tokens.is_empty() {
                    return turn;
                }
            }
            1000
        }

        fn there(&self) -> usize {
            self.clients.slots.iter().flatten().count()
        }
    }

    #[test]
    fn who_left_while_the_request_waits_is_let_go() {
        let mut hall = hall("left");
        let client = hall.client("del map x");
        assert!(hall.turns(now(), &mut |_, _| false) < 5);
        // What it sends meanwhile stays where it is.
        sock::send_all(&client, b"more").unwrap();
        assert_eq!((hall.turns(now(), &mut |_, _| false), hall.there()), (0, 1));
        let caller = hall.clients.caller(1 << 8 | 1).unwrap();
        drop(client);
        assert!(hall.turns(now(), &mut |_, _| false) < 5);
        assert_eq!(hall.there(), 0);
        // The answer finds nobody, nor the next one in that place.
        let next = hall.client("x");
        hall.clients.reply(caller, "ok\n", &hall.poll, now());
        assert_eq!(hall.clients.caller(caller.token()), None);
        drop(next);
    }

    /// More than a socket holds, every time.
    fn long(_: &str, out: &mut dyn Write) -> bool {
        (0..40_000).for_each(|_| out.write_str("a line of a listing that is as long as this one is, or so\n").unwrap());
        true
    }

    /// Reads as much as is there; how much that was, with the header and the end.
    fn read(client: &OwnedFd, most: usize) -> usize {
        let mut buffer = vec![0; most];
        let mut got = 0;
        while got < most
            && sock::wait_readable(client, 20)
            && let Ok(n @ 1..) = sock::receive(client, &mut buffer[got..])
        {
            got += n;
        }
        got
    }

    #[test]
    fn nothing_is_sent_while_memory_is_short() {
        let mut hall = hall("mute");
        let waits = hall.client("del map x");
        assert!(hall.turns(now(), &mut |_, _| false) < 5);
        let asks = hall.client("list");
        let caller = hall.clients.caller(1 << 8 | 1).unwrap();
        hall.clients.mute = true;
        hall.clients.reply(caller, "ok\n", &hall.poll, now());
        let mut served = 0;
        let turns = hall.turns(now(), &mut |_, out| {
            served += 1;
            out.write_str("x\n").is_ok()
        });
        assert!(turns < 5, "and nobody's silence keeps the loop");
        assert_eq!((read(&waits, 100), read(&asks, 100), served, hall.there(), hall.clients.dropped), (0, 0, 0, 0, 2));
        hall.clients.mute = false;
        let asks = hall.client("list");
        hall.turns(now(), &mut |_, out| out.write_str("x\n").is_ok());
        assert_eq!(read(&asks, 100), ipc::HEADER_LEN + 3);
    }

    /// Longer than anything here takes.
    const ANSWER: Duration = Duration::from_secs(1000);

    #[test]
    fn what_takes_too_long_is_said() {
        let mut hall = hall("late");
        let client = hall.client("resize map x");
        let begin = now();
        assert!(hall.turns(begin, &mut |_, _| false) < 5);
        let caller = hall.clients.caller(1 << 8 | 1).unwrap();
        let limit = Duration::from_secs(4);
        assert_eq!(hall.clients.expire(&hall.poll, begin, limit), Some(begin + limit));
        assert_eq!((hall.clients.expire(&hall.poll, begin + limit, limit), hall.there()), (None, 1));
        let text = "fail\ntimeout\n";
        assert_eq!(read(&client, 100), ipc::HEADER_LEN + text.len() + 1);
        // The answer to it, when it comes at last, is not one to the next request.
        sock::send_all(&client, &ipc::header(1)).and_then(|()| sock::send_all(&client, b"y\0")).unwrap();
        assert!(hall.turns(begin, &mut |_, _| false) < 5);
        hall.clients.reply(caller, "ok\n", &hall.poll, begin);
        assert_eq!(read(&client, 100), 0);
    }

    #[test]
    fn a_second_long_reply_waits_for_the_first() {
        let mut hall = hall("second");
        let begin = now();
        let slow = hall.client("list");
        assert!(hall.turns(begin, &mut long) < 5 && hall.clients.large_taken);
        let second = hall.client("list");
        let short = hall.client("short");
        let mut serve =
            |request: &str, out: &mut dyn Write| if request == "short" { out.write_str("x\n").is_ok() } else { long(request, out) };
        assert!(hall.turns(begin, &mut serve) < 8);
        // What fits is not kept waiting, what does not is told nothing wrong.
        assert_eq!((read(&short, 100), read(&second, 100), hall.clients.queued()), (ipc::HEADER_LEN + 3, 0, None));
        // A slow reader has its time renewed whenever there is room again, and an end all the same.
        for second in 0..30 {
            let at = begin + Duration::from_secs(second);
            assert!(read(&slow, 48 << 10) == 48 << 10 && hall.turns(at, &mut long) < 5);
            assert!(hall.clients.expire(&hall.poll, at, ANSWER).is_some_and(|next| next > at));
            assert_eq!((hall.there(), hall.clients.queued()), (3, None));
        }
        let at = begin + LENT;
        assert_eq!(hall.clients.expire(&hall.poll, at, ANSWER), Some(at), "the next is to be served at once");
        assert_eq!((hall.there(), hall.clients.queued()), (2, Some(1)));
        hall.clients.ready(1, &hall.poll, at, &mut |_, _, out| long("", out));
        let mut got = 0;
        while hall.clients.large_taken {
            got += read(&second, 1 << 20);
            hall.turns(at, &mut long);
        }
        got += read(&second, 1 << 20);
        assert_eq!(got, ipc::HEADER_LEN + 40_000 * 58 + 1);
        // Root does not wait for others so long.
        let other = hall.client("list");
        hall.turns(at, &mut long);
        let root = hall.client("list");
        hall.turns(at, &mut long);
        for (place, uid) in [(0, 1000), (3, 0)] {
            hall.clients.slots[place].as_mut().unwrap().peer.uid = uid;
        }
        assert_eq!(hall.clients.expire(&hall.poll, at, ANSWER), Some(at + LENT_BY_ROOT));
        assert_eq!(hall.clients.expire(&hall.poll, at + LENT_BY_ROOT, ANSWER), Some(at + LENT_BY_ROOT));
        assert_eq!((hall.there(), hall.clients.queued().is_some()), (3, true));
        drop((other, root));
        // And the connection is good for another.
        sock::send_all(&second, &ipc::header(5)).unwrap();
        sock::send_all(&second, b"short\0").unwrap();
        assert!(hall.turns(at, &mut serve) < 5 && read(&second, 100) == ipc::HEADER_LEN + 3);
    }
}
