//! What the commands that end share: run the machinery until something is so, tell what happened on standard error.

use super::reading::Configuration;
use super::runtime::{Audience, Hands};
use super::{Cx, say};
use crate::conf::complaint;
use crate::conf::settings::Lookup;
use crate::engine::{Engine, Note, Refusal, Subject};
use crate::fault::Errno;
use crate::klog::{Line, Sink};
use crate::model::Instant;
use core::fmt::Write;

/// Prints notes up to a level, keeps the last answer.
pub struct Teller {
    /// Highest syslog level that is told.
    pub level: u8,
    pub answers: u32,
    pub refused: Option<Refusal>,
    /// Notes of level 4 (warning) and worse.
    pub warnings: u32,
}

impl Teller {
    /// `verbosity` as the peer counts it: 0 errors, 2 what changes, 3 all.
    pub fn new(verbosity: u8) -> Teller {
        Teller { level: verbosity.saturating_add(2), answers: 0, refused: None, warnings: 0 }
    }
}

impl Audience for Teller {
    fn note(&mut self, _now: Instant, note: &Note, subject: &Subject<'_>) {
        let level = say::level(&note.what);
        self.warnings += u32::from(level <= 4);
        if level <= self.level {
            let mut line = Line::new();
            let _ = say::sentence(note, subject, &mut line);
            Sink::stderr().write(level, line.text());
        }
    }

    fn answer(&mut self, _token: u32, result: Result<(), Refusal>) {
        self.answers += 1;
        if let Err(refusal) = result {
            self.refused = Some(refusal);
        }
    }
}

/// Why a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Done,
    TimedOut,
    Failed(Errno),
}

/// Is what a run waits for so?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ready {
    Yes,
    No,
    /// Then it will be, if nothing happens before: nothing else may wake the loop.
    At(Instant),
}

impl From<bool> for Ready {
    fn from(yes: bool) -> Ready {
        if yes { Ready::Yes } else { Ready::No }
    }
}

/// Turns until `done` says so or `deadline` has come.
pub fn run(
    engine: &mut Engine<'static>,
    hands: &mut Hands,
    settings: &dyn Lookup,
    audience: &mut dyn Audience,
    deadline: Instant,
    done: &mut dyn FnMut(&Engine<'static>, &Hands) -> Ready,
) -> End {
    loop {
        hands.advance(engine, settings, audience);
        let until = match done(engine, hands) {
            Ready::Yes => return End::Done,
            Ready::No => deadline,
            Ready::At(then) => then.min(deadline),
        };
        if crate::wait::now() >= deadline {
            return End::TimedOut;
        }
        if let Err(errno) = hands.listen(engine, settings, audience, Some(until), &mut |_| {}) {
            return End::Failed(errno);
        }
    }
}

/// Everything that can be done has been done, and nothing is under way.
pub fn settled(engine: &Engine<'static>, hands: &Hands) -> bool {
    engine.settled() && hands.quiet()
}

/// Tells the complaints about the configuration; true when one is an error.
pub fn complain(cx: &mut Cx<'_>, configuration: &Configuration<'_>) -> bool {
    for c in configuration.report.kept {
        let file = configuration.files.get(usize::from(c.file)).map_or("configuration", |f| f.name);
        let _ = complaint::emit(cx.err, file, c);
        let _ = cx.err.write_str("\n");
    }
    if configuration.report.lost > 0 {
        let _ = writeln!(cx.err, "corepath: and {} more complaints about the configuration", configuration.report.lost);
    }
    configuration.report.errors > 0
}
