//! Checks of paths by sealed workers: no page fault, few system calls, and what the seal forbids kills.

use crate::{read_facts, roots};
use core::fmt::Write as _;
use corepath::arena::Arena;
use corepath::dmioctl::Page;
use corepath::klog::{Line, Sink};
use corepath::lockdown::{self, STEPS, Seal};
use corepath::model::SysState;
use corepath::raw::{self, AsFd, OwnedFd};
use corepath::sgio::{self, SENSE};
use corepath::sysfs;
use corepath::wait::{self, Poll};
use corepath::wire::scsi::Command;
use corepath::workers::{Completions, Crew, Work, slot};

/// One check of a path: its state, then TEST UNIT READY.
struct Check {
    fds: Option<&'static (OwnedFd, OwnedFd)>,
    page: Page,
    good: bool,
}

impl Work for Check {
    fn work(&mut self) {
        let Some((disk, state)) = self.fds else { return };
        let mut sense = [0u8; SENSE];
        self.good = sysfs::read_state(state.as_fd()) == SysState::Running && {
            let outcome = sgio::execute(disk.as_fd(), &Command::test_unit_ready(), &mut self.page, &mut sense);
            outcome.errno.is_none() && outcome.status == 0
        };
    }
}

fn say(text: core::fmt::Arguments<'_>) {
    let mut line = Line::new();
    let _ = line.write_fmt(text);
    Sink::stderr().write(6, line.text());
}

pub(crate) fn seal(workers: usize, rounds: u32, disks: &[&str]) {
    let roots = roots();
    let fds: Vec<(OwnedFd, OwnedFd)> = disks
        .iter()
        .map(|disk| {
            assert_eq!(read_facts(disk).sys_state, SysState::Running);
            (sgio::open(roots.dev.as_fd(), disk).unwrap(), sysfs::open_state(&roots, disk).unwrap())
        })
        .collect();
    let fds: &'static [(OwnedFd, OwnedFd)] = fds.leak();
    let mut seal = Seal::default();
    lockdown::before_threads(&mut seal);
    lockdown::descriptors(&mut seal, disks.len());
    let mut arena = Arena::map(workers * 16384 + 65536).unwrap();
    let done: &'static Completions = arena.put(Completions::new()).unwrap();
    let slots = arena.take(workers, |i| slot(i, done, Check { fds: None, page: Page::new(), good: false })).unwrap();
    let event = wait::eventfd().unwrap();
    let mut crew = Crew::start(slots, done, event.as_fd(), 64 * 1024).unwrap();
    let poll = Poll::new().unwrap();
    poll.add_edge(event.as_fd(), 1).unwrap();
    let faults = lockdown::open_faults().unwrap();
    lockdown::after_threads(&mut seal, true);
    for (step, word) in STEPS {
        say(format_args!(
            "@step {word} {}",
            match seal.result(step) {
                None => "untaken",
                Some(Ok(())) => "ok",
                Some(Err(_)) => "failed",
            }
        ));
    }

    let mut turn = || {
        let (mut next, mut out, mut good) = (0, 0, 0u32);
        while next < fds.len() || out > 0 {
            while next < fds.len()
                && let Some(worker) = crew.free(u64::MAX)
            {
                crew.job(worker).unwrap().fds = Some(&fds[next]);
                crew.hand_over(worker).unwrap();
                next += 1;
                out += 1;
            }
            crew.wake();
            poll.wait(None, |_| {}).unwrap();
            while let Some((_, job)) = crew.collect() {
                good += u32::from(job.good);
                out -= 1;
            }
        }
        assert_eq!(good as usize, fds.len());
    };
    turn();
    let before = lockdown::faults(&faults).unwrap();
    for _ in 0..rounds {
        turn();
    }
    let after = lockdown::faults(&faults).unwrap();
    say(format_args!("@sealed checks={} minor={} major={}", rounds as usize * fds.len(), after.0 - before.0, after.1 - before.1));
    say(format_args!("@done seal"));
    // Not std's exit: it would unmap, which is forbidden now.
    raw::exit_group(0)
}

/// Does one thing that a sealed process may not do.
pub(crate) fn outlaw(call: &str) {
    let mut seal = Seal::default();
    lockdown::before_threads(&mut seal);
    lockdown::after_threads(&mut seal, true);
    say(format_args!("@outlaw sealed"));
    // x86_64 numbers; the guests are.
    let number = match call {
        "nothing" => raw::exit_group(0),
        "mmap" => 9,
        "brk" => 12,
        "clone" => 56,
        "fork" => 57,
        "vfork" => 58,
        "execve" => 59,
        "clone3" => 435,
        "mount" => 165,
        "finit_module" => 313,
        "x32-write" => 0x4000_0001,
        other => panic!("no call {other}"),
    };
    // SAFETY: the filter kills the process before the call is looked at.
    unsafe { raw::syscall6(number, 0, 0, 0, 0, 0, 0) };
    say(format_args!("@outlaw survived"));
    raw::exit_group(0)
}
