//! Which transport attributes of a path are to be written, with which value, in which order.
//!
//! Pure: settings in, a short list out; the writes are the caller's, one at a time, and a write that fails (EBUSY while the port is
//! blocked) is tried again with those after it. The order is the kernel's rule (scsi_transport_fc.c, scsi_transport_srp.c):
//! fast_io_fail_tmo below dev_loss_tmo and at most 600; dev_loss_tmo above 600 only while fast_io_fail_tmo is set. Never looks at a
//! device: what is there now is not asked, for writing the same value again changes nothing.

use super::Attribute;
use crate::conf::settings::{NoPathRetry, Timeout};
use crate::model::Protocol;
use core::time::Duration;
use heapless::Vec;

/// SCSI_DEVICE_BLOCK_MAX_TIMEOUT (scsi_device.h): seconds.
const BLOCK_MAX: i64 = 600;
/// `infinity`.
const FOREVER: i64 = i32::MAX as i64;
/// I_T nexus loss timeouts of SAS are a u16 (scsi_transport_sas.c).
const SAS_MAX: i64 = u16::MAX as i64;
/// `off` in the attributes that know it.
const OFF: i64 = -1;

/// One write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Write {
    pub attribute: Attribute,
    pub value: i64,
}

/// At most this many for one path.
pub const WRITES: usize = 5;

/// What the settings say of one path and its map.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wish {
    pub fast_io_fail: Timeout,
    pub dev_loss: Timeout,
    pub eh_deadline: Timeout,
    /// Retries of the whole process's `max_retries`.
    pub max_retries: Timeout,
    pub no_path_retry: NoPathRetry,
    pub polling_interval: Duration,
}

/// What was put right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mended {
    /// dev_loss_tmo was raised: the port must outlive the queueing.
    pub raised: bool,
    /// fast_io_fail_tmo was lowered to what the kernel takes.
    pub lowered: bool,
    /// dev_loss_tmo was cut to 600, as fast_io_fail_tmo is off.
    pub cut: bool,
}

/// The writes for a path of this transport, in order.
pub fn plan(wish: &Wish, protocol: Protocol) -> (Vec<Write, WRITES, u8>, Mended) {
    let mut writes = Vec::new();
    let mut mended = Mended::default();
    match protocol {
        Protocol::ScsiFcp | Protocol::ScsiSrp => remote_port(wish, &mut writes, &mut mended),
        Protocol::ScsiIscsi => match wish.fast_io_fail {
            // A session that never gives up would hold every command for ever; what is there stays.
            Timeout::Unset | Timeout::Off => (),
            Timeout::Secs(n) => push(&mut writes, Attribute::RecoveryTmo, i64::from(n).min(FOREVER)),
            Timeout::Infinity => push(&mut writes, Attribute::RecoveryTmo, FOREVER),
        },
        Protocol::ScsiSas => {
            let loss = device_loss(wish, &mut mended);
            if let Some(loss) = loss {
                push(&mut writes, Attribute::DevLoss, loss.min(SAS_MAX));
            }
        }
        _ => (),
    }
    let scsi = protocol.word().starts_with("scsi:");
    if scsi {
        match wish.eh_deadline {
            Timeout::Unset => (),
            Timeout::Off => push(&mut writes, Attribute::EhDeadline, OFF),
            Timeout::Secs(n) => push(&mut writes, Attribute::EhDeadline, i64::from(n)),
            Timeout::Infinity => push(&mut writes, Attribute::EhDeadline, OFF),
        }
        match wish.max_retries {
            Timeout::Unset | Timeout::Infinity => (),
            Timeout::Off => push(&mut writes, Attribute::MaxRetries, 0),
            Timeout::Secs(n) => push(&mut writes, Attribute::MaxRetries, i64::from(n.min(5))),
        }
    }
    (writes, mended)
}

fn push(writes: &mut Vec<Write, WRITES, u8>, attribute: Attribute, value: i64) {
    // WRITES is the longest list there is: three for the port, one each for the rest.
    let _ = writes.push(Write { attribute, value });
}

/// dev_loss_tmo as it should be: configured, and long enough that the port outlives the queueing; a port that is removed takes its
/// disks with it, and a map without disks has nothing to return to.
fn device_loss(wish: &Wish, mended: &mut Mended) -> Option<i64> {
    let configured = match wish.dev_loss {
        Timeout::Unset | Timeout::Off => None,
        Timeout::Secs(n) => Some(i64::from(n).clamp(1, FOREVER)),
        Timeout::Infinity => Some(FOREVER),
    };
    let interval = i64::try_from(wish.polling_interval.as_secs()).unwrap_or(FOREVER).max(1);
    let least = match wish.no_path_retry {
        NoPathRetry::Unset | NoPathRetry::Fail => return configured,
        NoPathRetry::Queue => FOREVER,
        // One interval more, so that the last check still finds the port.
        NoPathRetry::Retries(n) => i64::from(n).saturating_add(1).saturating_mul(interval).min(FOREVER),
    };
    // Where nothing is configured the kernel's 60 s or the driver's own value is there, which may be more.
    if configured.is_none() && least <= 60 {
        return None;
    }
    mended.raised = configured.is_none_or(|c| c < least);
    Some(configured.unwrap_or(least).max(least))
}

fn remote_port(wish: &Wish, writes: &mut Vec<Write, WRITES, u8>, mended: &mut Mended) {
    let mut loss = device_loss(wish, mended);
    let mut fast = match wish.fast_io_fail {
        Timeout::Unset => None,
        Timeout::Off | Timeout::Infinity => Some(OFF),
        Timeout::Secs(n) => Some(i64::from(n)),
    };
    if fast == Some(OFF)
        && let Some(l) = loss.filter(|&l| l > BLOCK_MAX)
    {
        mended.cut = l > BLOCK_MAX;
        loss = Some(BLOCK_MAX);
    }
    if let Some(f) = fast.filter(|&f| f != OFF) {
        // 599, so that the 600 written before it is above it.
        let most = loss.unwrap_or(BLOCK_MAX).min(BLOCK_MAX) - 1;
        mended.lowered = f > most;
        fast = Some(f.min(most));
    }
    match (fast, loss) {
        (None, None) => (),
        (Some(f), None) => push(writes, Attribute::FastIoFail, f),
        (None, Some(l)) => push(writes, Attribute::DevLoss, l),
        (Some(f), Some(l)) => {
            // First what is allowed whatever is there now and above any fast_io_fail; then the two, the smaller first.
            push(writes, Attribute::DevLoss, BLOCK_MAX);
            push(writes, Attribute::FastIoFail, f);
            if l != BLOCK_MAX {
                push(writes, Attribute::DevLoss, l);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Attribute::*;
    use std::vec;
    use std::vec::Vec as StdVec;

    fn wish() -> Wish {
        Wish { fast_io_fail: Timeout::Secs(5), polling_interval: Duration::from_secs(5), ..Wish::default() }
    }

    fn list(w: Wish, p: Protocol) -> (StdVec<(Attribute, i64)>, Mended) {
        let (writes, mended) = plan(&w, p);
        (writes.iter().map(|w| (w.attribute, w.value)).collect(), mended)
    }

    /// The attributes of one FC remote port, with the kernel's checks.
    struct RemotePort {
        fast: i64,
        loss: i64,
    }

    impl RemotePort {
        fn write(&mut self, attribute: Attribute, value: i64) -> Result<(), &'static str> {
            match attribute {
                FastIoFail if value == OFF => self.fast = OFF,
                FastIoFail if value > BLOCK_MAX || value >= self.loss || value < 0 => return Err("fast_io_fail"),
                FastIoFail => self.fast = value,
                DevLoss if value < 0 || value > i64::from(u32::MAX) => return Err("range"),
                DevLoss if self.fast == OFF && value > BLOCK_MAX => return Err("dev_loss without fast_io_fail"),
                DevLoss if self.fast != OFF && value <= self.fast => return Err("dev_loss below fast_io_fail"),
                DevLoss => self.loss = value,
                _ => (),
            }
            Ok(())
        }
    }

    #[test]
    fn the_kernel_takes_every_plan_whatever_was_there() {
        let timeouts = [
            Timeout::Unset,
            Timeout::Off,
            Timeout::Secs(0),
            Timeout::Secs(5),
            Timeout::Secs(599),
            Timeout::Secs(600),
            Timeout::Secs(601),
            Timeout::Secs(u32::MAX),
            Timeout::Infinity,
        ];
        let retries = [NoPathRetry::Unset, NoPathRetry::Fail, NoPathRetry::Queue, NoPathRetry::Retries(12), NoPathRetry::Retries(u32::MAX)];
        let mut tried = 0;
        for fast in timeouts {
            for loss in timeouts {
                for retry in retries {
                    let w = Wish { fast_io_fail: fast, dev_loss: loss, no_path_retry: retry, ..wish() };
                    // With only one of the two given, the other may stand in its way, and the kernel says so.
                    let both = [FastIoFail, DevLoss].iter().all(|a| plan(&w, Protocol::ScsiFcp).0.iter().any(|w| w.attribute == *a));
                    if !both {
                        continue;
                    }
                    tried += 1;
                    for (old_fast, old_loss) in [(OFF, 60), (5, 60), (5, FOREVER), (50, 60), (OFF, 600), (598, 599)] {
                        let mut port = RemotePort { fast: old_fast, loss: old_loss };
                        for write in plan(&w, Protocol::ScsiFcp).0 {
                            assert_eq!(port.write(write.attribute, write.value), Ok(()), "{w:?} over {old_fast} {old_loss}");
                        }
                    }
                }
            }
        }
        assert!(tried > 200, "{tried}");
    }

    #[test]
    fn fibre_channel() {
        let (l, m) = list(wish(), Protocol::ScsiFcp);
        assert_eq!((l, m), (vec![(FastIoFail, 5)], Mended::default()));
        let queue = Wish { no_path_retry: NoPathRetry::Queue, ..wish() };
        let (l, m) = list(queue, Protocol::ScsiFcp);
        assert_eq!((l, m.raised), (vec![(DevLoss, 600), (FastIoFail, 5), (DevLoss, FOREVER)], true));
        let (l, m) = list(Wish { fast_io_fail: Timeout::Off, ..queue }, Protocol::ScsiFcp);
        assert_eq!((l, m.cut), (vec![(DevLoss, 600), (FastIoFail, OFF)], true));
        let short = Wish { dev_loss: Timeout::Secs(10), no_path_retry: NoPathRetry::Retries(12), ..wish() };
        let (l, m) = list(short, Protocol::ScsiSrp);
        assert_eq!((l, m.raised), (vec![(DevLoss, 600), (FastIoFail, 5), (DevLoss, 65)], true));
        let long = Wish { dev_loss: Timeout::Secs(300), ..short };
        let (l, m) = list(long, Protocol::ScsiFcp);
        assert_eq!((l, m.raised), (vec![(DevLoss, 600), (FastIoFail, 5), (DevLoss, 300)], false));
        let slow = Wish { fast_io_fail: Timeout::Secs(400), dev_loss: Timeout::Secs(300), ..wish() };
        let (l, m) = list(slow, Protocol::ScsiFcp);
        assert_eq!((l, m.lowered), (vec![(DevLoss, 600), (FastIoFail, 299), (DevLoss, 300)], true));
        let few = Wish { no_path_retry: NoPathRetry::Retries(3), ..wish() };
        assert_eq!(list(few, Protocol::ScsiFcp).0, [(FastIoFail, 5)], "the kernel's 60 s cover it");
    }

    #[test]
    fn other_transports() {
        let all = Wish { dev_loss: Timeout::Infinity, eh_deadline: Timeout::Off, max_retries: Timeout::Secs(3), ..wish() };
        let rest = [(EhDeadline, -1), (MaxRetries, 3)];
        let with = |first: &[(Attribute, i64)]| first.iter().chain(&rest).copied().collect::<StdVec<_>>();
        assert_eq!(list(all, Protocol::ScsiIscsi).0, with(&[(RecoveryTmo, 5)]));
        assert_eq!(list(all, Protocol::ScsiSas).0, with(&[(DevLoss, 65_535)]));
        assert_eq!(list(all, Protocol::ScsiAta).0, with(&[]));
        assert_eq!(list(all, Protocol::ScsiFcp).0.len(), WRITES);
        assert_eq!(list(all, Protocol::NvmeTcp).0, []);
        let iscsi = |fast| list(Wish { fast_io_fail: fast, ..wish() }, Protocol::ScsiIscsi).0;
        assert_eq!(iscsi(Timeout::Off), []);
        assert_eq!(iscsi(Timeout::Secs(0)), [(RecoveryTmo, 0)]);
        assert_eq!(list(Wish::default(), Protocol::ScsiFcp).0, []);
    }
}
