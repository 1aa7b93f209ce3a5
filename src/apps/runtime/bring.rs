//! What workers have done, as events: each finished job's answer is given to the engine, and what the job was lent is taken back.

use super::job::{Answer, INSIDE, NO_MATCH, Task};
use super::{Audience, Hands, Held, LOAD, live};
use crate::engine::{Context, DmAnswer, Engine, Event, PartitionSlot};
use crate::fault::Errno;
use crate::wire::scsi::Reply;
use core::time::Duration;

impl Hands {
    /// Takes one finished job to the engine.
    #[inline(never)]
    pub(super) fn bring(&mut self, engine: &mut Engine<'_>, cx: &Context<'_>, audience: &mut dyn Audience) -> bool {
        let Hands { crew, paths, big, rooms, loaded, scan, survey, wanted, reading, peeks, peeking, peek_again, asked, .. } = self;
        let Some((worker, job)) = crew.collect() else { return false };
        let task = core::mem::take(&mut job.task);
        if let Task::Open { path, .. }
        | Task::Close { path }
        | Task::State { path, .. }
        | Task::Scsi { path, .. }
        | Task::Admin { path, .. }
        | Task::Read { path, .. }
        | Task::Write { path, .. }
        | Task::Partitions { path, through: None, .. }
        | Task::PathPartitions { path, .. } = task
            && let Some(desk) = paths.get_mut(path.index as usize)
        {
            desk.away = false;
            desk.fds = job.fds.take();
        }
        let result = job.result;
        match task {
            Task::Close { path } => engine.process(cx, Event::Closed { path }),
            Task::Nothing | Task::PathPartitions { keep: true, .. } | Task::Node { .. } | Task::Log { .. } => {}
            Task::PathPartitions { path, .. } => engine.process(cx, Event::PathPartitions { path, in_use: result.unwrap_or(0) }),
            Task::Open { path, ticket } => engine.process(cx, Event::Opened { path, ticket, result: result.map(|_| ()) }),
            Task::State { path, ticket } => {
                engine.process(cx, Event::State { path, ticket, state: job.state.unwrap_or_default() });
            }
            Task::Scsi { path, ticket, .. } => match job.state.take() {
                Some(state) => engine.process(cx, Event::State { path, ticket, state }),
                None => {
                    let reply = job.outcome.reply(job.page, &job.sense);
                    engine.process(cx, Event::Scsi { path, ticket, reply: &reply });
                }
            },
            Task::Keep { .. } => audience.kept(result),
            Task::Configuration => audience.read(result, job.big.take()),
            Task::Ask { .. } => match (job.state.take(), result) {
                (Some(state), _) => audience.asked(Err(state)),
                (None, Ok(_)) => audience.asked(Ok(&job.outcome.reply(job.page, &job.sense))),
                (None, Err(errno)) => audience.asked(Ok(&Reply::failed(errno))),
            },
            Task::Admin { path, ticket, .. } => match job.state.take() {
                Some(state) => engine.process(cx, Event::State { path, ticket, state }),
                None => {
                    let result = result.map(|n| job.page.0.get(..n as usize).unwrap_or(&[]));
                    engine.process(cx, Event::Admin { path, ticket, result });
                }
            },
            Task::Read { path, ticket, .. } => match job.state.take() {
                Some(state) => engine.process(cx, Event::State { path, ticket, state }),
                None => engine.process(cx, Event::Read { path, ticket, result }),
            },
            Task::Write { path, ticket, .. } => engine.process(cx, Event::Written { path, ticket, result: result.map(|_| ()) }),
            Task::Facts | Task::Identify { .. } => {
                let sysfs = task == Task::Facts;
                if sysfs {
                    scan.out = scan.out.saturating_sub(1);
                    reading.retain(|name| *name != job.name);
                } else if !asked.answered(worker, cx.now) {
                    return true;
                }
                match result {
                    Ok(_) => {
                        let udev = job.udev.and_then(|n| job.page.0.get(..n));
                        engine.process(cx, Event::Facts { facts: &job.facts, udev, own: !sysfs && job.asked });
                    }
                    Err(_) if !sysfs => {}
                    Err(Errno::NOENT | Errno::NODEV | Errno::NXIO) => engine.process(cx, Event::Gone { name: &job.name }),
                    // Unreadable for now: looked at again by a scan after a pause, never taken for gone.
                    Err(_) if !scan.running => engine.process(cx, Event::ScanDone { complete: false }),
                    Err(_) => scan.complete = false,
                }
                let mut asked_next = false;
                if let Some(path) = engine.find_path(&job.name)
                    && let Some(desk) = paths.get_mut(path.id().index as usize)
                {
                    if !sysfs {
                        desk.blank.heard(asked, &path, job, cx.now);
                    } else if result.is_ok() {
                        asked_next = desk.blank.read(asked, &path, &job.facts, cx.now);
                    }
                }
                // One that is asked who it is is looked into after that.
                if result.is_ok() && !asked_next && audience.disk(&job.facts) {
                    let _ = peeks.push(&job.facts.name);
                }
            }
            Task::Peek => {
                *peeking = peeking.saturating_sub(1);
                if job.facts.wwid.is_empty()
                    && let Some(path) = engine.find_path(&job.facts.name)
                {
                    // What it said of itself when it was asked. The same capacity on both sides: it fits.
                    let _ = job.facts.wwid.push_str(path.wwid());
                }
                let wwid = &job.facts.wwid;
                let claimed = engine.find_path(&job.facts.name).is_some_and(|path| path.map().is_some());
                let several = claimed || (!wwid.is_empty() && engine.paths().filter(|p| p.wwid() == wwid.as_str()).nth(1).is_some());
                let found = match result {
                    Ok(NO_MATCH) => Ok(Held::Nothing),
                    Ok(INSIDE) => Ok(Held::Openable),
                    Ok(number) => Ok(Held::Root(number)),
                    Err(Errno::NOENT | Errno::NODEV | Errno::NXIO | Errno::INVAL) => Ok(Held::Nothing),
                    Err(errno) => {
                        // No event tells when a passive controller, or one that starts, begins to answer reads.
                        peeks.put_off(&job.name);
                        let pause = Duration::from_millis(500 + peeks.later as u64);
                        *peek_again = Some(peek_again.map_or(cx.now + pause, |at| at.min(cx.now + pause)));
                        Err(errno)
                    }
                };
                if job.facts.name == job.name && audience.looked_into(&job.facts, several, found) {
                    let _ = wanted.push(&job.name);
                }
            }
            Task::Dm { map, ticket, answer, opcode } => match (result, answer) {
                (Err(errno), _) => engine.process(cx, Event::Dm { map, ticket, result: Err(errno) }),
                (Ok(_), Answer::Done) => {
                    *loaded |= opcode == LOAD;
                    engine.process(cx, Event::Dm { map, ticket, result: Ok(DmAnswer::Done) });
                }
                (Ok(_), Answer::Created) => match live::devno(job.page) {
                    Some(devno) => engine.process(cx, Event::Dm { map, ticket, result: Ok(DmAnswer::Created(devno)) }),
                    None => engine.process(cx, Event::Dm { map, ticket, result: Err(Errno::IO) }),
                },
                (Ok(_), Answer::Status | Answer::Table) => live::with(job.page, answer == Answer::Table, None, &mut |live| {
                    let result = live.map(DmAnswer::Live);
                    engine.process(cx, Event::Dm { map, ticket, result });
                }),
            },
            Task::Rename { map, ticket, .. } => {
                engine.process(cx, Event::Dm { map, ticket, result: result.map(|_| DmAnswer::Done) });
            }
            Task::Look { .. } => {
                survey.out = survey.out.saturating_sub(1);
                match result {
                    Ok(_) => live::with(job.page, false, Some(job.more), &mut |live| {
                        if let Ok(live) = live {
                            engine.process(cx, Event::Live(live));
                        }
                    }),
                    // Removed between list and look.
                    Err(Errno::NXIO) => {}
                    Err(_) => survey.complete = false,
                }
            }
            Task::List { survey: whole } => {
                *big = job.big.take();
                survey.complete = result.is_ok();
                if !whole {
                    survey.running = false;
                    if let (Ok(_), Some(big)) = (result, big.as_deref()) {
                        survey.complete &= live::each(big, &mut |devno, name, event_nr| {
                            engine.process(cx, Event::Listed { devno, name, event_nr });
                        });
                    }
                    engine.process(cx, Event::ListDone { complete: survey.complete });
                } else if result.is_err() {
                    survey.running = false;
                    engine.process(cx, Event::SurveyDone { complete: false });
                } else {
                    survey.complete = big.as_deref().is_some_and(live::complete);
                }
            }
            Task::Partitions { map, ticket, .. } => {
                let Some(lent) = job.room.take() else { return true };
                live::partitions(lent, &mut |slots: &[PartitionSlot]| {
                    engine.process(cx, Event::Partitions { map, ticket, result: result.map(|_| slots) });
                });
                let _ = rooms.push(lent);
            }
        }
        true
    }
}
