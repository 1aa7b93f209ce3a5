//! Taking over from another path manager without a gap: the newcomer listens and looks first, changing nothing, and asks the one before it
//! to leave only when it knows every map and path itself. Until then that one goes on; should it not leave, the newcomer does.

use super::Ears;
use super::prepare::Plan;
use crate::apps::client;
use crate::apps::session::{self, Ready};
use crate::apps::setup::Machine;
use crate::conf::settings::Lookup;
use crate::engine::{Context, Event};
use crate::fault::Errno;
use crate::raw::OwnedFd;
use crate::sock::{self, Address};
use crate::wait;
use core::time::Duration;

/// EADDRINUSE.
const TAKEN: Errno = Errno(98);
/// How long the first look may take: paths that hang are not waited for longer.
const LOOK: Duration = Duration::from_secs(20);
/// How long the other may take to leave.
const LEAVE: Duration = Duration::from_secs(30);

pub(super) type Listeners = heapless::Vec<OwnedFd, 2>;

/// Where a daemon with this socket listens.
fn places<'a>(socket: &'a str) -> impl Iterator<Item = Address<'a>> {
    // With a name of its own it leaves the common one to others.
    [Some(Address::parse(socket)), (socket == sock::NAMED).then_some(Address::Abstract(sock::ABSTRACT))].into_iter().flatten()
}

/// Does another one manage the paths?
pub(super) fn expected(plan: &Plan<'_>) -> bool {
    plan.take_over && places(plan.socket).any(sock::answers)
}

/// The control sockets. [`TAKEN`]: somebody answers on one of them.
pub(super) fn listen(socket: &str, failed: &mut dyn FnMut(Errno)) -> Result<Listeners, Errno> {
    let mut listeners = Listeners::new();
    for place in places(socket) {
        match sock::listen(place) {
            Ok(listener) => drop(listeners.push(listener)),
            Err(TAKEN) => return Err(TAKEN),
            Err(errno) => failed(errno),
        }
    }
    Ok(listeners)
}

/// Asks for the place: a daemon of ours leaves queueing as it is. Another knows `shutdown` only, and would have the kernel fail I/O without a
/// path from then on (queue_without_daemon), after its sockets are gone and unseen by us: it is told before to leave that. What it answers
/// decides nothing, for it may be gone before it has: its sockets tell.
fn ask(socket: &str) {
    for words in ["handover", "forcequeueing daemon", "shutdown"] {
        let mut agreed = false;
        for place in places(socket) {
            if !agreed && let Ok(other) = sock::connect(place) {
                let _ = client::request(&other, words, client::SHORT, &mut |bytes| agreed |= bytes.starts_with(b"ok"));
            }
        }
        if agreed && words == "handover" {
            break;
        }
    }
}

/// Looks, asks, waits for the other's sockets and takes them.
#[inline(never)]
pub(super) fn succeed(machine: &mut Machine, settings: &dyn Lookup, ears: &mut Ears, plan: &Plan<'_>) -> Result<Listeners, Errno> {
    let Machine { engine, hands, .. } = machine;
    let until = wait::now() + LOOK;
    session::run(engine, hands, settings, ears, until, &mut |engine, hands| session::settled(engine, hands).into());
    ask(plan.socket);
    let until = wait::now() + LEAVE;
    let mut listeners = listen(plan.socket, &mut |_| {});
    while listeners.is_err() && wait::now() < until {
        let next = wait::now() + Duration::from_millis(20);
        session::run(engine, hands, settings, ears, next, &mut |_, _| Ready::No);
        listeners = listen(plan.socket, &mut |_| {});
    }
    let listeners = listeners?;
    engine.end_dry_run();
    hands.dry = false;
    let cx = Context { now: wait::now(), settings };
    // What the other did to the end is not known; nor is what of all this was kept from doing.
    for event in [Event::Reconfigured, Event::Overrun, Event::DmEvent] {
        engine.process(&cx, event);
    }
    ears.say(5, "took over from another path manager");
    Ok(listeners)
}
