//! One target port on one vhost-user-scsi socket: rings in, rings out, and the commands it keeps.
//!
//! Lock order: the port, then the array. A command is entered into `held` under the same lock under
//! which the array said "held", so that a release that comes in between never misses it.

use super::Hub;
use super::request::{Slot, Task, event_address, pop};
use super::ring::{Memory, Ring};
use crate::array::{EventKind, Held, Outcome};
use crate::fault::Link;
use crate::scsi::{Command, Reply, response};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::{VhostUserBackend, VringT};
use virtio_bindings::{virtio_config as config, virtio_ring as ring, virtio_scsi as scsi};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};

const CONTROL: usize = 0;
const EVENT: usize = 1;
/// Control, event and up to eight request queues.
const QUEUES: usize = 10;
/// vhost_user.rst: bit 30 of the features says that protocol features may be asked for.
const PROTOCOL_FEATURES: u32 = 30;

struct Pending {
    slot: Slot,
    tag: u64,
    cmd: Command,
    held: Held,
}

struct Late {
    due: u64,
    slot: Slot,
    cmd: Command,
    seq: u64,
    reply: Reply,
}

#[derive(Default)]
pub(super) struct State {
    held: Vec<Pending>,
    late: Vec<Late>,
    tasks: Vec<Slot>,
    events: Option<Ring>,
    /// Events for which the guest had no buffer.
    waiting: VecDeque<(u16, EventKind)>,
    memory: Option<Memory>,
}

#[derive(Default)]
pub(super) struct PortBus(Mutex<State>);

impl PortBus {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the earliest delayed answer is due.
    pub(super) fn due(&self) -> Option<u64> {
        self.lock().late.iter().map(|l| l.due).min()
    }

    /// Goes on with what need not wait any longer: delayed answers, held commands, task management.
    pub(super) fn poke(&self, hub: &Hub, port: usize, now: u64) {
        let mut state = self.lock();
        let link = hub.array().faults.link(port);
        let late = std::mem::take(&mut state.late);
        for l in late {
            match link {
                Link::Down(code) => {
                    // On its way when the cable went: it never arrives.
                    let reply = Reply::transport(code);
                    hub.array().log.finish(now, l.seq, &l.cmd, &reply);
                    l.slot.complete(&reply, l.cmd.room);
                }
                Link::Up if l.due <= now => drop(l.slot.complete(&l.reply, l.cmd.room)),
                Link::Up | Link::Hung { .. } => state.late.push(l),
            }
        }
        let held = std::mem::take(&mut state.held);
        for p in held {
            match hub.array().retry(now, &p.cmd, &p.held) {
                None => state.held.push(p),
                Some(outcome) => state.settle(p.slot, p.tag, p.cmd, outcome, now),
            }
        }
        if !matches!(link, Link::Hung { .. }) {
            let tasks = std::mem::take(&mut state.tasks);
            for slot in tasks {
                state.task(hub, port, slot, now);
            }
        }
    }

    pub(super) fn event(&self, lun: u16, kind: EventKind) {
        let mut state = self.lock();
        state.waiting.push_back((lun, kind));
        state.send_events();
    }

    /// Forgets everything of `queue` (None: of the connection): the guest reset or went away, its
    /// memory is not ours to write to any more.
    fn drop_all(&self, hub: &Hub, queue: Option<usize>) {
        let mut state = self.lock();
        let gone = |q: usize| queue.is_none_or(|x| x == q);
        let now = hub.now();
        let mut array = hub.array();
        state.held.retain(|p| {
            if gone(p.slot.queue) {
                array.forget(now, &p.held);
            }
            !gone(p.slot.queue)
        });
        state.late.retain(|l| {
            if gone(l.slot.queue) {
                array.log.drop_held(now, l.seq);
            }
            !gone(l.slot.queue)
        });
        state.tasks.retain(|s| !gone(s.queue));
        if gone(EVENT) {
            state.events = None;
            state.waiting.clear();
        }
    }
}

impl State {
    fn settle(&mut self, slot: Slot, tag: u64, cmd: Command, outcome: Outcome, now: u64) {
        match outcome {
            Outcome::Answer { reply, delay, seq } => {
                if delay == 0 {
                    slot.complete(&reply, cmd.room);
                } else {
                    let due = now.saturating_add(delay);
                    self.late.push(Late { due, slot, cmd, seq, reply });
                }
            }
            Outcome::Held(held) => self.held.push(Pending { slot, tag, cmd, held }),
        }
    }

    fn command(&mut self, hub: &Hub, port: usize, slot: Slot) -> bool {
        match slot.command(port) {
            Err(code) => {
                slot.complete(&Reply::transport(code), 0);
                false
            }
            Ok((tag, cmd)) => {
                let now = hub.now();
                let outcome = hub.array().execute(now, &cmd);
                self.settle(slot, tag, cmd, outcome, now);
                !self.late.is_empty()
            }
        }
    }

    /// Task management ends held commands (virtio 1.2, 5.6.6.2). A hung port answers none of it.
    fn task(&mut self, hub: &Hub, port: usize, slot: Slot, now: u64) {
        let link = hub.array().faults.link(port);
        match (slot.task(), link) {
            (_, Link::Hung { .. }) => self.tasks.push(slot),
            (Task::Notify, _) => drop(slot.complete_raw(&[0, 0, 0, 0, response::OK])),
            (Task::Unknown, _) => drop(slot.complete_raw(&[response::FAILURE])),
            (Task::Manage(..), Link::Down(code)) => drop(slot.complete_raw(&[code])),
            (Task::Manage(_, None, _), _) => drop(slot.complete_raw(&[response::BAD_TARGET])),
            (Task::Manage(subtype, Some(lun), tag), Link::Up) => {
                let held = std::mem::take(&mut self.held);
                for p in held {
                    match ended_by(subtype, lun, tag, p.cmd.lun, p.tag) {
                        None => self.held.push(p),
                        Some(code) => {
                            let reply = Reply::transport(code);
                            hub.array().log.finish(now, p.held.seq, &p.cmd, &reply);
                            p.slot.complete(&reply, p.cmd.room);
                        }
                    }
                }
                slot.complete_raw(&[response::OK]);
            }
        }
    }

    fn send_events(&mut self) {
        let (Some(ring), Some(memory)) = (self.events.clone(), self.memory.clone()) else {
            return;
        };
        while let Some((lun, kind)) = self.waiting.front().copied() {
            let Some(slot) = pop(&ring, EVENT, &memory) else {
                return; // sent when the guest gives buffers back
            };
            self.waiting.pop_front();
            let (event, reason) = match kind {
                EventKind::Rescan => (scsi::VIRTIO_SCSI_T_TRANSPORT_RESET, scsi::VIRTIO_SCSI_EVT_RESET_RESCAN),
                EventKind::Removed => (scsi::VIRTIO_SCSI_T_TRANSPORT_RESET, scsi::VIRTIO_SCSI_EVT_RESET_REMOVED),
                EventKind::Changed(asc, ascq) => (scsi::VIRTIO_SCSI_T_PARAM_CHANGE, u32::from(asc) | u32::from(ascq) << 8),
            };
            let mut b = event.to_le_bytes().to_vec();
            b.extend_from_slice(&event_address(lun));
            b.extend_from_slice(&reason.to_le_bytes());
            slot.complete_raw(&b);
        }
    }
}

/// The response that ends a held command, None when the function does not mean it.
fn ended_by(subtype: u32, lun: u16, tag: u64, held_lun: u16, held_tag: u64) -> Option<u8> {
    let here = held_lun == lun;
    match subtype {
        scsi::VIRTIO_SCSI_T_TMF_ABORT_TASK => (here && held_tag == tag).then_some(response::ABORTED),
        scsi::VIRTIO_SCSI_T_TMF_ABORT_TASK_SET | scsi::VIRTIO_SCSI_T_TMF_CLEAR_TASK_SET => here.then_some(response::ABORTED),
        scsi::VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET => here.then_some(response::RESET),
        scsi::VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET => Some(response::RESET),
        _ => None,
    }
}

/// What the vhost-user library calls, one per connection.
pub(super) struct Backend {
    pub(super) hub: Arc<Hub>,
    pub(super) port: usize,
}

impl Backend {
    fn bus(&self) -> io::Result<&PortBus> {
        self.hub.port(self.port).ok_or(io::ErrorKind::NotFound.into())
    }

    pub(super) fn disconnected(&self) {
        if let Ok(bus) = self.bus() {
            bus.drop_all(&self.hub, None);
            bus.lock().memory = None;
        }
    }
}

impl VhostUserBackend for Backend {
    type Bitmap = ();
    type Vring = Ring;

    fn num_queues(&self) -> usize {
        QUEUES
    }

    fn max_queue_size(&self) -> usize {
        1024
    }

    fn features(&self) -> u64 {
        [
            config::VIRTIO_F_VERSION_1,
            config::VIRTIO_F_NOTIFY_ON_EMPTY,
            config::VIRTIO_F_ANY_LAYOUT,
            ring::VIRTIO_RING_F_INDIRECT_DESC,
            ring::VIRTIO_RING_F_EVENT_IDX,
            scsi::VIRTIO_SCSI_F_HOTPLUG,
            scsi::VIRTIO_SCSI_F_CHANGE,
            PROTOCOL_FEATURES,
        ]
        .iter()
        .fold(0, |bits, b| bits | 1 << b)
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK
    }

    fn set_event_idx(&self, _enabled: bool) {} // the library keeps it in each ring

    fn update_memory(&self, mem: Memory) -> io::Result<()> {
        self.bus()?.lock().memory = Some(mem);
        Ok(())
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::CLOEXEC | EventFlag::NONBLOCK).ok()
    }

    /// The driver was reset. For the array that is a new login: power-on attentions, as every fabric gives them.
    /// scsi_dh_alua of 6.12 even depends on it: it asks for the groups' states when it sees 29/00, not when it attaches.
    fn stop_vring(&self, queue: u32) -> io::Result<()> {
        let queue = queue as usize;
        self.bus()?.drop_all(&self.hub, Some(queue));
        if queue > EVENT {
            self.hub.array().power_on(self.port);
        }
        Ok(())
    }

    fn handle_event(&self, queue: u16, _: EventSet, rings: &[Ring], _: usize) -> io::Result<()> {
        let queue = usize::from(queue);
        let ring = rings.get(queue).ok_or(io::ErrorKind::NotFound)?;
        let bus = self.bus()?;
        if queue == EVENT {
            let mut state = bus.lock();
            state.events = Some(ring.clone());
            state.send_events();
            return Ok(());
        }
        let mut wake = false;
        loop {
            ring.disable_notification().map_err(io::Error::other)?;
            let mut state = bus.lock();
            let Some(memory) = state.memory.clone() else {
                return Ok(());
            };
            while let Some(slot) = pop(ring, queue, &memory) {
                if queue == CONTROL {
                    let now = self.hub.now();
                    state.task(&self.hub, self.port, slot, now);
                } else {
                    wake |= state.command(&self.hub, self.port, slot);
                }
            }
            drop(state);
            if !ring.enable_notification().map_err(io::Error::other)? {
                break;
            }
        }
        if wake || self.hub.wants_tick() {
            self.hub.wake();
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "port_tests.rs"]
mod tests;
