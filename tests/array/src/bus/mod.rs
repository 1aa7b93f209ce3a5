//! From QEMU to the array and back: vhost-user-scsi sockets, timers, events.
//!
//! Threads: per port one for its socket and (made by the library) one for its rings; one ticker for
//! timers and delayed answers. All of them meet in `Hub`.

mod port;
mod request;
mod ring;

use crate::array::Array;
use crate::control;
use crate::fault::Link;
use port::{Backend, PortBus};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vhost::vhost_user::Listener;
use vhost_user_backend::VhostUserDaemon;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

pub struct Hub {
    array: Mutex<Array>,
    ports: Vec<PortBus>,
    start: Instant,
    tick: Mutex<bool>,
    ticked: Condvar,
}

impl Hub {
    pub fn new(array: Array) -> Arc<Hub> {
        let ports = array.site.ports.iter().map(|_| PortBus::default()).collect();
        Arc::new(Hub { array: Mutex::new(array), ports, start: Instant::now(), tick: Mutex::new(false), ticked: Condvar::new() })
    }

    /// Milliseconds since the start.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub fn array(&self) -> MutexGuard<'_, Array> {
        self.array.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn port(&self, index: usize) -> Option<&PortBus> {
        self.ports.get(index)
    }

    /// Runs a control line and lets everything go on that it set free before it answers: after
    /// `release` was answered, the held commands have been executed.
    pub fn control(&self, line: &str) -> Result<String, String> {
        let answer = control::run(&mut self.array(), self.now(), line);
        self.poke();
        self.wake();
        answer
    }

    fn wants_tick(&self) -> bool {
        let array = self.array();
        array.log.sink.is_some() || !array.events.is_empty()
    }

    fn wake(&self) {
        *self.tick.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ticked.notify_one();
    }

    fn poke(&self) {
        for (i, p) in self.ports.iter().enumerate() {
            p.poke(self, i, self.now());
        }
        loop {
            let Some(event) = self.array().events.pop_front() else {
                break;
            };
            if let Some(p) = self.ports.get(event.port) {
                p.event(event.lun, event.kind);
            }
        }
    }

    /// The ticker: runs timers when they are due, sends delayed answers, writes the log file.
    pub fn run_ticker(&self, mut log_file: Option<std::fs::File>) {
        loop {
            let now = self.now();
            let mut array = self.array();
            control::run_timers(&mut array, now);
            array.settle(now);
            let lines = array.take_log_lines();
            drop(array);
            self.poke();
            if let Some(f) = &mut log_file
                && !lines.is_empty()
            {
                let _ = f.write_all(lines.as_bytes());
            }
            let array = self.array();
            let mut due = [array.timers.due(), array.persona.due()].into_iter().flatten().min();
            // What a hung port keeps is not due: a release wakes us.
            let hung = |i: usize| matches!(array.faults.link(i), Link::Hung { .. });
            let awake: Vec<usize> = (0..self.ports.len()).filter(|i| !hung(*i)).collect();
            drop(array);
            for p in awake.iter().filter_map(|i| self.ports.get(*i)) {
                due = due.into_iter().chain(p.due()).min();
            }
            let wait = due.map_or(10_000, |d| d.saturating_sub(self.now()));
            let flag = self.tick.lock().unwrap_or_else(PoisonError::into_inner);
            let timeout = Duration::from_millis(wait.min(10_000));
            let (mut flag, _) = self.ticked.wait_timeout_while(flag, timeout, |f| !*f).unwrap_or_else(PoisonError::into_inner);
            *flag = false;
        }
    }
}

/// Serves one port for ever: one connection after the other, each a guest that was just switched on.
pub fn serve_port(hub: Arc<Hub>, port: usize, path: &Path) -> io::Result<()> {
    let other = |e: &dyn std::fmt::Display| io::Error::other(e.to_string());
    let mut listener = Listener::new(path, true).map_err(|e| other(&e))?;
    loop {
        let backend = Arc::new(Backend { hub: hub.clone(), port });
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let name = format!("port {port}");
        let mut daemon = VhostUserDaemon::new(name, backend.clone(), memory).map_err(|e| other(&e))?;
        daemon.start(&mut listener).map_err(|e| other(&e))?;
        let now = hub.now();
        let mut array = hub.array();
        array.power_on(port);
        array.log.note(now, &format!("port={port} connected"));
        drop(array);
        let _ = daemon.wait(); // an error here is QEMU's end
        for handler in daemon.get_epoll_handlers() {
            handler.send_exit_event();
        }
        backend.disconnected();
        hub.array().log.note(hub.now(), &format!("port={port} disconnected"));
    }
}
