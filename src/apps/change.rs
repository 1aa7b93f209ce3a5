//! Commands that change the maps they name and no other: `remove`, `multipath -f`, `multipath MAP`.

use super::args::Arg;
use super::runtime::live;
use super::session::{self, End, Teller};
use super::setup::{self, Common, Wish};
use super::{Cx, DONE, FAILED, TIMED_OUT, client, say};
use crate::arena::Arena;
use crate::dmioctl::{Control, Failure, Page};
use crate::engine::{Ask, Context, Event, Options};
use crate::fault::Errno;
use crate::files;
use crate::model::Text;
use crate::raw::AsFd;
use crate::wire::dm::{Cookie, Flags, Message, Request, Target};
use core::fmt::Write;
use core::time::Duration;

/// `remove MAP... | --all`
#[inline(never)]
pub fn remove(cx: &mut Cx<'_>) -> i32 {
    let mut common = Common::default();
    let mut all = false;
    let mut maps = heapless::Vec::<&str, 64>::new();
    while let Some(arg) = cx.args.next() {
        match common.take(arg, &mut cx.args) {
            Ok(true) => continue,
            Ok(false) => {}
            Err(what) => return cx.fail(format_args!("remove: {what}")),
        }
        match arg {
            Arg::Long("all") => all = true,
            Arg::Word(name) => {
                let name = name.strip_prefix("/dev/mapper/").or_else(|| name.strip_prefix("/dev/")).unwrap_or(name);
                if maps.push(name).is_err() {
                    return cx.fail(format_args!("remove: more than 64 maps at once; use --all"));
                }
            }
            _ => return cx.fail(format_args!("remove: unknown option; 'corepath help remove' lists them")),
        }
    }
    if all != maps.is_empty() {
        return cx.fail(format_args!("remove: which map? Or --all for every unused one"));
    }
    dismiss(cx, "remove", &common, &maps)
}

/// Removes these maps; with none, every unused one. A daemon that runs does it itself: it would make again what others remove.
pub fn dismiss(cx: &mut Cx<'_>, command: &str, common: &Common<'_>, maps: &[&str]) -> i32 {
    if common.dev == "/dev" && client::connect(cx).is_ok() {
        if maps.is_empty() {
            return client::converse(cx, "remove maps", true);
        }
        let mut status = DONE;
        for map in maps {
            let mut text = Text::<160>::new();
            status = match write!(text.as_mut_view(), "remove map {map}") {
                Ok(()) => status.max(client::converse(cx, &text, true)),
                Err(_) => cx.fail(format_args!("no map has so long a name")),
            };
        }
        return status;
    }
    ask(cx, command, common, Options::default(), &mut |push| {
        if maps.is_empty() {
            push(Ask::RemoveMaps);
        }
        for map in maps {
            push(Ask::RemoveMap(map));
        }
    })
}

/// Hands its requests, one by one, to what it is given.
pub type Requests<'r> = dyn FnMut(&mut dyn FnMut(Ask<'_>)) + 'r;

/// Looks at everything, then carries the requests out one after the other. Maps that they do not name are left as they are.
pub fn ask(cx: &mut Cx<'_>, command: &str, common: &Common<'_>, options: Options, requests: &mut Requests<'_>) -> i32 {
    let configuration = match cx.configuration(command, common) {
        Ok(configuration) => configuration,
        Err(status) => return status,
    };
    let options = Options { errand: true, ..options };
    let mut machine = match setup::machine(common, Wish { options, uevents: true, sink: (false, true), control: true, peeks: false }) {
        Ok(machine) => machine,
        Err(trouble) => return cx.trouble(command, trouble),
    };
    let mut teller = Teller::new(common.verbosity);
    let settings = &configuration.settings;
    let deadline = crate::wait::now() + Duration::from_secs(20);
    let (engine, hands) = (&mut machine.engine, &mut machine.hands);
    let end = session::run(engine, hands, settings, &mut teller, deadline, &mut |e, h| session::settled(e, h).into());
    if let End::Failed(errno) = end {
        return cx.trouble(command, setup::Trouble::Loop(errno));
    }
    let mut status = DONE;
    requests(&mut |ask| {
        teller.answers = 0;
        teller.refused = None;
        engine.process(&Context { now: crate::wait::now(), settings }, Event::Ask { token: 1, ask });
        let mut answered = 0;
        while answered == 0 {
            hands.advance(engine, settings, &mut teller);
            answered = teller.answers;
            if answered == 0
                && (crate::wait::now() >= deadline || hands.listen(engine, settings, &mut teller, Some(deadline), &mut |_| {}).is_err())
            {
                break;
            }
        }
        if answered == 0 {
            cx.speak(command);
            let _ = writeln!(cx.err, "no answer within 20 s; what was asked may still be under way in the kernel");
            status = TIMED_OUT;
        } else if let Some(refused) = teller.refused {
            cx.speak(command);
            let _ = say::refusal(refused, cx.err);
            let _ = cx.err.write_str("\n");
            status = FAILED;
        }
    });
    // What follows a request (links that go with their maps, partitions that come with them) is done before we leave.
    match session::run(engine, hands, settings, &mut teller, deadline, &mut |e, h| session::settled(e, h).into()) {
        End::Done => status,
        _ => status.max(TIMED_OUT),
    }
}

/// `release`: no map queues or is suspended any longer. Needs no daemon and no configuration, for shutdown runs it. `--starved`, which runs first:
/// a daemon sees to those that have no path, until the machine is off; without one nobody brings a path back, and none is waited for.
#[inline(never)]
pub fn release(cx: &mut Cx<'_>) -> i32 {
    let mut dev = "/dev";
    let mut starved = false;
    while let Some(arg) = cx.args.next() {
        match (arg, cx.args.clone().value()) {
            (Arg::Long("starved"), _) if !cx.args.stray_value() => starved = true,
            (Arg::Long("dev"), Some(_)) => dev = cx.args.value().unwrap_or(dev),
            _ => return cx.fail(format_args!("release: unknown option; 'corepath help release' lists them")),
        }
    }
    if starved
        && dev == "/dev"
        && let Ok(socket) = client::connect(cx)
    {
        let mut done = false;
        match client::request(&socket, "disablequeueing starved", client::SHORT, &mut |bytes| done = bytes == b"ok\n") {
            Ok(_) => {
                // One that is ending, or another's, ends queueing itself when it is stopped, or was told not to.
                let _ = writeln!(cx.out, "release: {}", if done { "the daemon lets no map wait long" } else { "left to the daemon there" });
                return DONE;
            }
            Err(_) => drop(writeln!(cx.err, "corepath release: the daemon gives no answer: done without it")),
        }
    }
    let Ok(root) = files::open_dir(dev) else { return cx.fail(format_args!("release: {dev} cannot be opened")) };
    let control = match Control::open(root.as_fd()) {
        Ok(control) => control,
        // No device mapper, nothing that queues.
        Err(_) => return DONE,
    };
    let Ok(memory) = Arena::map(1 << 20).and_then(|mut arena| arena.pages(1 << 20 & !4095).map_err(|_| Errno::NOMEM)) else {
        return cx.fail(format_args!("release: no memory for the list of maps"));
    };
    if let Err(failure) = control.list(Target::NONE, memory) {
        return cx.fail(format_args!("release: the maps cannot be listed: {}", failure.errno().word().unwrap_or("error")));
    }
    let mut failed = false;
    let mut released = 0;
    let mut at = 0;
    while let Some((devno, ours)) = live::entry(memory, at) {
        at += 1;
        if !ours {
            continue;
        }
        match let_go(&control, devno, !starved) {
            Ok(done) => released += u32::from(done),
            Err(failure) => {
                failed = true;
                let _ = writeln!(cx.err, "corepath release: dm-{}: {}", devno.minor, failure.errno().word().unwrap_or("error"));
            }
        }
    }
    let _ = writeln!(cx.out, "release: {released} maps queue no longer");
    if failed { FAILED } else { DONE }
}

/// One map queues no longer, and is not suspended, unless who did that may still be at work; false where it is none of ours.
#[inline(never)]
fn let_go(control: &Control, devno: crate::model::DevNo, resume: bool) -> Result<bool, Failure> {
    let mut page = Page::new();
    let Some(flags) = multipath(control, devno, &mut page) else { return Ok(false) };
    if flags.suspended() {
        if !resume {
            return Ok(false);
        }
        // It holds I/O back whether paths answer or not, and takes no message. A table that was left half way must not come with it.
        let _ = control.submit(Target::Device(devno), &Request::Clear, &mut page);
        control.submit(Target::Device(devno), &Request::Resume { cookie: Cookie(0) }, &mut page)?;
    }
    control.submit(Target::Device(devno), &Request::Message(Message::FailIfNoPath), &mut page).map(|_| true)
}

/// The flags of one of our multipath maps; `None` for a partition of one, or something foreign.
fn multipath(control: &Control, devno: crate::model::DevNo, page: &mut Page) -> Option<Flags> {
    let reply = control.submit(Target::Device(devno), &Request::Info, page).ok()?;
    let info = reply.info();
    info.uuid.starts_with(crate::model::UUID_PREFIX.as_bytes()).then_some(info.flags)
}
