#![allow(unsafe_code)]
//! The worker pool: threads made once, before the seal, each with a fixed guarded stack and one job slot. Everything that can sleep on
//! a device runs here; the main thread only hands over and collects.
//!
//! A hung job parks its worker: it cannot be cancelled (no system call takes a command back from the block layer). So the pool is
//! divided into kinds, and who may use how much of it is the caller's policy. All workers sleep on one futex word, each under a bit of
//! its own, so that any number of hand-offs is one system call ([`Crew::wake`]); completions are one bit each in a shared word and one
//! eventfd write until the main thread looks. Of a batch that nobody waits for (the checks of one round) only the last one writes: that
//! saves most of the main thread's turns. One that hangs must not keep the others' answers: [`Crew::hurry`] ends the batch. A check of a
//! path then costs its two reads of the device, one wait, and its share of the rest.
//!
//! System calls: mmap, mprotect, munmap, clone (at start only); futex, write (eventfd).
//!
//! # Safety
//! A slot's job is touched by the main thread in states IDLE and DONE only, by its worker in BUSY only; the state word changes hands
//! with release and acquire. Stacks and slots live as long as the process and are never moved.

use crate::fault::{Errno, Full};
use crate::raw::{self, LARGEST_PAGE};
use core::cell::UnsafeCell;
use core::num::NonZeroU32;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use rustix::thread::futex;

/// Most workers one pool may have: a bit each in the completion word.
pub const MOST: usize = 64;

const IDLE: u32 = 0;
const BUSY: u32 = 1;
const DONE: u32 = 2;

/// What a worker does with a job. Runs on the worker's stack; may sleep, may not panic, allocate or touch what the main thread owns.
pub trait Work: 'static {
    fn work(&mut self);
}

/// One worker's job slot.
#[repr(align(64))]
pub struct Slot<J> {
    state: AtomicU32,
    index: u32,
    done: &'static Completions,
    job: UnsafeCell<J>,
}

// SAFETY: `job` is reached by one thread at a time, as the module head says.
unsafe impl<J: Send> Sync for Slot<J> {}

/// What main thread and workers share: which slots are done and not yet collected, the eventfd that tells of it, and the words the
/// workers sleep on (a futex has 32 bits to tell sleepers apart, hence two).
pub struct Completions {
    bits: AtomicU64,
    /// Slots whose end is told of by the last of them.
    batch: AtomicU64,
    /// The eventfd was written, and the main thread has not looked since.
    told: AtomicBool,
    event: AtomicI32,
    bells: [AtomicU32; 2],
}

/// The word a worker sleeps on, and its bit there.
fn bell(index: u32) -> (usize, NonZeroU32) {
    let bit = NonZeroU32::new(1 << (index % 32)).unwrap_or(NonZeroU32::MIN);
    (usize::from(index >= 32), bit)
}

impl Completions {
    pub const fn new() -> Completions {
        Completions {
            bits: AtomicU64::new(0),
            batch: AtomicU64::new(0),
            told: AtomicBool::new(false),
            event: AtomicI32::new(-1),
            bells: [AtomicU32::new(0), AtomicU32::new(0)],
        }
    }

    fn tell(&self, index: u32) {
        let bit = 1 << index;
        // Done first, then out of the batch: whoever finds himself the last of it tells of all that were done before.
        self.bits.fetch_or(bit, Ordering::Release);
        let batch = self.batch.fetch_and(!bit, Ordering::AcqRel);
        if batch & bit != 0 && batch != bit {
            return;
        }
        if !self.told.swap(true, Ordering::AcqRel) {
            let event = self.event.load(Ordering::Relaxed);
            if event >= 0 {
                // SAFETY: the eventfd is open for the life of the process; a failed write only delays collection to the next turn.
                let _ = rustix::io::write(unsafe { BorrowedFd::borrow_raw(event) }, &1u64.to_ne_bytes());
            }
        }
    }
}

impl Default for Completions {
    fn default() -> Completions {
        Completions::new()
    }
}

/// The pool, as the main thread sees it.
pub struct Crew<J: 'static> {
    slots: &'static [Slot<J>],
    done: &'static Completions,
    /// Bit set: handed over and not collected.
    out: u64,
    /// Bit set: a thread runs it.
    alive: u64,
    /// Bit set: handed over, its worker not woken yet.
    asleep: u64,
}

/// Makes one slot; the caller keeps all of them in one slice of the arena.
pub fn slot<J>(index: usize, done: &'static Completions, job: J) -> Slot<J> {
    Slot { state: AtomicU32::new(IDLE), index: index as u32, done, job: UnsafeCell::new(job) }
}

extern "C" fn run<J: Work>(slot: usize) -> ! {
    // SAFETY: `start` passes the address of a slot that lives for ever.
    let slot = unsafe { &*(slot as *const Slot<J>) };
    let (word, bit) = bell(slot.index);
    loop {
        // The word is read before the state: a hand-over in between has rung it, and the wait ends at once.
        let mut heard = slot.done.bells[word].load(Ordering::Acquire);
        while slot.state.load(Ordering::Acquire) != BUSY {
            let _ = futex::wait_bitset(&slot.done.bells[word], futex::Flags::PRIVATE, heard, None, bit);
            heard = slot.done.bells[word].load(Ordering::Acquire);
        }
        // SAFETY: state BUSY: the main thread gave the job away with release and does not touch it until DONE.
        unsafe { (*slot.job.get()).work() };
        slot.state.store(DONE, Ordering::Release);
        slot.done.tell(slot.index);
    }
}

impl<J: Work + Send> Crew<J> {
    /// Starts one thread per slot with `stack` bytes each (a guard page below comes on top). `event` is the eventfd the main loop waits
    /// on. Gives up at the first thread that cannot be made: a pool smaller than promised could leave its reserved workers out.
    pub fn start(slots: &'static [Slot<J>], done: &'static Completions, event: BorrowedFd<'_>, stack: usize) -> Result<Crew<J>, Errno> {
        if slots.len() > MOST {
            return Err(Errno::NOSPC);
        }
        done.event.store(event.as_fd().as_raw_fd(), Ordering::Relaxed);
        let stack = stack.next_multiple_of(LARGEST_PAGE);
        let mut crew = Crew { slots, done, out: 0, alive: 0, asleep: 0 };
        let each = stack + LARGEST_PAGE;
        // SAFETY: a fresh mapping becomes the threads' stacks for ever. Below each is a page that is made unreachable before its thread
        // exists: below the lowest by protection, below the others as a hole, because a protected page is locked with the rest. Nothing
        // can fill the holes: they lie between stacks, and what is mapped later (arena::map) has two pages at least.
        unsafe {
            let errno = |e: rustix::io::Errno| Errno(e.raw_os_error() as u16);
            let base = rustix::mm::mmap_anonymous(
                core::ptr::null_mut(),
                each * slots.len(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::STACK,
            )
            .map_err(errno)?;
            rustix::mm::mprotect(base, LARGEST_PAGE, MprotectFlags::empty()).map_err(errno)?;
            for (at, slot) in slots.iter().enumerate() {
                let guard = base.cast::<u8>().add(at * each);
                if at > 0 {
                    rustix::mm::munmap(guard.cast(), LARGEST_PAGE).map_err(errno)?;
                }
                raw::spawn(guard.add(each), run::<J>, slot as *const Slot<J> as usize)?;
                crew.alive |= 1 << slot.index;
            }
        }
        Ok(crew)
    }

    pub fn workers(&self) -> usize {
        self.slots.len()
    }

    /// Is this worker free?
    pub fn idle(&self, index: usize) -> bool {
        index < self.slots.len() && self.out & (1 << index) == 0
    }

    /// A free worker among `kind`, a bit mask of workers.
    pub fn free(&self, kind: u64) -> Option<usize> {
        let candidates = self.alive & kind & !self.out;
        (candidates != 0).then(|| candidates.trailing_zeros() as usize)
    }

    /// How many of `kind` are free.
    pub fn free_count(&self, kind: u64) -> u32 {
        (self.alive & kind & !self.out).count_ones()
    }

    /// The job of a worker that is free, to be filled before [`Crew::submit`].
    pub fn job(&mut self, index: usize) -> Result<&mut J, Full> {
        if !self.idle(index) {
            return Err(Full);
        }
        // SAFETY: not handed over, so the worker does not touch it; `&mut self` keeps it to one borrow.
        Ok(unsafe { &mut *self.slots[index].job.get() })
    }

    /// Hands the filled job over and wakes its worker.
    pub fn submit(&mut self, index: usize) -> Result<(), Full> {
        self.hand_over(index)?;
        self.wake();
        Ok(())
    }

    /// Hands the filled job over without a system call: [`Crew::wake`] must follow before the caller waits for anything.
    pub fn hand_over(&mut self, index: usize) -> Result<(), Full> {
        self.give(index, 0)
    }

    /// The same with a job that may be told of when all that were handed over so are done. Nobody tells before that: the caller must not
    /// wait for long, and then call [`Crew::hurry`].
    pub fn hand_over_in_batch(&mut self, index: usize) -> Result<(), Full> {
        self.give(index, 1 << index)
    }

    fn give(&mut self, index: usize, batch: u64) -> Result<(), Full> {
        let slot = self.slots.get(index).filter(|_| self.idle(index)).ok_or(Full)?;
        // Before the worker can see the job, which it may do unwoken.
        self.done.batch.fetch_or(batch, Ordering::AcqRel);
        self.out |= 1 << index;
        self.asleep |= 1 << index;
        slot.state.store(BUSY, Ordering::Release);
        Ok(())
    }

    /// Wakes every worker that was handed a job since the last time: one system call for up to 32 of them, none for none.
    pub fn wake(&mut self) {
        let asleep = core::mem::take(&mut self.asleep);
        for (word, bits) in self.done.bells.iter().zip([asleep as u32, (asleep >> 32) as u32]) {
            if let Some(bits) = NonZeroU32::new(bits) {
                // Rung after the jobs are there: who reads the new word sees them.
                word.fetch_add(1, Ordering::Release);
                let _ = futex::wake_bitset(word, futex::Flags::PRIVATE, i32::MAX as u32, bits);
            }
        }
    }

    /// Is there a batch that is not done?
    pub fn batch(&self) -> bool {
        self.done.batch.load(Ordering::Acquire) != 0
    }

    /// From now on each job tells of its own end; what has ended already is to be collected, for nobody may have told of it.
    pub fn hurry(&mut self) {
        self.done.batch.swap(0, Ordering::AcqRel);
    }

    /// The next finished job, with its worker's index. The job stays the caller's until it is submitted again.
    pub fn collect(&mut self) -> Option<(usize, &mut J)> {
        // Before the look: who is done after it tells again.
        self.done.told.swap(false, Ordering::AcqRel);
        let done = self.done.bits.load(Ordering::Acquire) & self.out;
        if done == 0 {
            return None;
        }
        let index = done.trailing_zeros() as usize;
        self.done.bits.fetch_and(!(1 << index), Ordering::AcqRel);
        let slot = self.slots.get(index)?;
        if slot.state.load(Ordering::Acquire) != DONE {
            return None;
        }
        slot.state.store(IDLE, Ordering::Relaxed);
        self.out &= !(1 << index);
        // SAFETY: DONE was seen with acquire: the worker has let go of the job.
        Some((index, unsafe { &mut *slot.job.get() }))
    }

    /// Workers that have been handed a job which is not collected yet.
    pub fn busy(&self) -> u64 {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;
    use std::time::{Duration, Instant};

    struct Sum {
        from: u64,
        to: u64,
        total: u64,
        hang: i32,
        /// Where its stack is.
        place: usize,
    }

    impl Work for Sum {
        fn work(&mut self) {
            let here = 0u8;
            self.place = core::hint::black_box(&raw const here) as usize;
            if self.hang >= 0 {
                let mut byte = [0u8];
                // SAFETY: the test keeps the pipe open.
                let _ = rustix::io::read(unsafe { BorrowedFd::borrow_raw(self.hang) }, &mut byte);
            }
            self.total = (self.from..self.to).sum();
        }
    }

    fn crew(n: usize) -> (Crew<Sum>, rustix::fd::OwnedFd) {
        let mut arena = Arena::map(n * 256 + 4096).unwrap();
        let done = arena.put(Completions::new()).unwrap();
        let done: &'static Completions = done;
        let slots = arena.take(n, |i| slot(i, done, Sum { from: 0, to: 0, total: 0, hang: -1, place: 0 })).unwrap();
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        (Crew::start(slots, done, event.as_fd(), 64 * 1024).unwrap(), event)
    }

    fn wait(event: &rustix::fd::OwnedFd) {
        let mut count = [0u8; 8];
        rustix::io::read(event, &mut count).unwrap();
    }

    #[test]
    fn every_job_comes_back_once() {
        let (mut crew, event) = crew(4);
        let (mut sent, mut got) = (0u64, 0u64);
        while got < 100_000 {
            while sent < 100_000
                && let Some(i) = crew.free(u64::MAX)
            {
                let job = crew.job(i).unwrap();
                (job.from, job.to) = (sent, sent + 2);
                crew.submit(i).unwrap();
                sent += 1;
            }
            wait(&event);
            while let Some((_, job)) = crew.collect() {
                assert_eq!(job.total, job.from * 2 + 1);
                got += 1;
            }
        }
        assert_eq!(crew.busy(), 0);
    }

    /// All workers, both words, changing subsets: every hand-over that one call wakes is done, and nothing else.
    #[test]
    fn many_are_woken_at_once() {
        let (mut crew, event) = crew(MOST);
        let mut got = 0;
        for round in 0..200u64 {
            let some = (0..MOST).filter(|i| !(i * 7 + round as usize).is_multiple_of(3));
            for i in some.clone() {
                let job = crew.job(i).unwrap();
                (job.from, job.to) = (round, round + 3);
                crew.hand_over(i).unwrap();
                assert!(crew.hand_over(i).is_err() && crew.job(i).is_err());
            }
            crew.wake();
            crew.wake();
            let mut left = some.count();
            while left > 0 {
                wait(&event);
                while let Some((_, job)) = crew.collect() {
                    assert_eq!(job.total, round * 3 + 3);
                    left -= 1;
                    got += 1;
                }
            }
        }
        assert_eq!((crew.busy(), got > 8000), (0, true));
    }

    /// A batch is told of once, by its last; one that hangs keeps the others until the caller loses patience, and him only.
    #[test]
    fn a_batch_is_told_of_once() {
        let (mut crew, event) = crew(8);
        let told = |millis: i64| {
            let mut fds = [rustix::event::PollFd::new(&event, rustix::event::PollFlags::IN)];
            let time = rustix::time::Timespec { tv_sec: 0, tv_nsec: millis * 1_000_000 };
            rustix::event::poll(&mut fds, Some(&time)).unwrap() == 1
        };
        // However early some are done (a worker may find its job before it is woken): none is left untold.
        for _ in 0..2000 {
            for i in 0..8 {
                crew.hand_over_in_batch(i).unwrap();
            }
            crew.wake();
            let mut got = 0;
            while got < 8 {
                wait(&event);
                while crew.collect().is_some() {
                    got += 1;
                }
            }
            assert!(!crew.batch());
        }

        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let start = |crew: &mut Crew<Sum>| {
            // The one that hangs first: the batch is not done before it.
            for i in [3, 0, 1, 2, 4, 5, 6, 7] {
                crew.job(i).unwrap().hang = if i == 3 { reader.as_raw_fd() } else { -1 };
                crew.hand_over_in_batch(i).unwrap();
            }
            crew.wake();
        };
        while told(0) {
            wait(&event);
        }
        start(&mut crew);
        assert!(!told(50) && crew.batch());
        rustix::io::write(&writer, b"x").unwrap();
        let mut got = 0;
        while got < 8 {
            wait(&event);
            while crew.collect().is_some() {
                got += 1;
            }
        }
        while told(0) {
            wait(&event);
        }
        start(&mut crew);
        assert!(!told(50) && crew.batch());
        crew.hurry();
        let begin = Instant::now();
        let mut got = 0;
        // They have had 50 ms; on a busy machine one may still be on its way, and tells for itself now.
        while got < 7 && begin.elapsed() < Duration::from_secs(20) {
            while let Some((i, _)) = crew.collect() {
                assert_ne!(i, 3);
                got += 1;
            }
        }
        assert_eq!((got, crew.busy()), (7, 1 << 3));
        // Another job meanwhile is not kept by the one that hangs, in a batch or not.
        crew.hand_over_in_batch(5).unwrap();
        crew.wake();
        wait(&event);
        assert_eq!(crew.collect().unwrap().0, 5);
        rustix::io::write(&writer, b"x").unwrap();
        wait(&event);
        assert_eq!(crew.collect().unwrap().0, 3);
    }

    #[test]
    fn a_hung_job_parks_its_worker_only() {
        let (mut crew, event) = crew(3);
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        crew.job(0).unwrap().hang = reader.as_raw_fd();
        crew.submit(0).unwrap();
        let begin = Instant::now();
        for n in 0..100 {
            let i = crew.free(!1).unwrap();
            crew.job(i).unwrap().to = n;
            crew.submit(i).unwrap();
            wait(&event);
            while let Some((i, _)) = crew.collect() {
                assert_ne!(i, 0);
            }
        }
        assert!(begin.elapsed() < Duration::from_secs(20));
        assert!(crew.job(0).is_err() && crew.submit(0).is_err());
        assert_eq!(crew.free(1), None);
        rustix::io::write(&writer, b"x").unwrap();
        wait(&event);
        assert_eq!(crew.collect().unwrap().0, 0);
    }
    /// Who overruns his stack meets a page that is not there, not his neighbour's stack.
    #[test]
    fn below_each_stack_is_nothing() {
        let (mut crew, event) = crew(8);
        for i in 0..8 {
            crew.submit(i).unwrap();
        }
        let mut places = std::vec::Vec::new();
        while places.len() < 8 {
            wait(&event);
            while let Some((_, job)) = crew.collect() {
                places.push(job.place);
            }
        }
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let number = |text: &str| usize::from_str_radix(text, 16).unwrap();
        let reachable = maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|flags| flags.starts_with("rw")));
        let ranges: std::vec::Vec<_> =
            reachable.map(|line| line.split([' ', '-'])).map(|mut w| (number(w.next().unwrap()), number(w.next().unwrap()))).collect();
        for place in places {
            let (from, to) = *ranges.iter().find(|(from, to)| (from..to).contains(&&place)).unwrap();
            // The highest may adjoin what was mapped before it; none adjoins anything below.
            assert!(place - from < 64 * 1024, "{place:x} in {from:x}-{to:x}");
            assert!(ranges.iter().all(|range| range.1 != from), "{from:x}");
        }
    }
}
