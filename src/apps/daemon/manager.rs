//! The service manager: sd_notify(3), and its watchdog.

use crate::apps::Cx;
use crate::model::{Instant, parse_unsigned};
use crate::sock::Notify;
use core::fmt::Write;
use core::time::Duration;

/// The service manager, where there is one.
pub(super) struct Manager {
    notify: Option<Notify>,
    watchdog: Option<Duration>,
    next: Instant,
}

impl Manager {
    pub(super) fn open(cx: &Cx<'_>, now: Instant) -> Manager {
        let notify = cx.invocation.variable("NOTIFY_SOCKET").and_then(|address| Notify::open(address).ok());
        let watchdog = cx.invocation.variable("WATCHDOG_USEC").and_then(parse_unsigned::<u64>).filter(|n| *n > 0);
        Manager { notify, watchdog: watchdog.map(|n| Duration::from_micros(n / 2)), next: now }
    }

    pub(super) fn tell(&self, text: &str) {
        if let Some(notify) = &self.notify {
            let _ = notify.send(text);
        }
    }

    /// RELOADING=1 with the time since boot that sd_notify(3) asks for, then READY=1 when it is over.
    pub(super) fn reloading(&self, now: Instant) {
        let mut text = crate::model::Text::<64>::new();
        let _ = write!(text, "RELOADING=1\nMONOTONIC_USEC={}", now.as_micros());
        self.tell(&text);
    }

    /// Half the watchdog's time has passed: says that we live. When to say it next.
    pub(super) fn alive(&mut self, now: Instant) -> Option<Instant> {
        let interval = self.watchdog?;
        if now >= self.next {
            self.tell("WATCHDOG=1");
            self.next = now + interval;
        }
        Some(self.next)
    }
}
