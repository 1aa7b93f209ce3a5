//! path_latency: reads the first block `io_num` times and rates the mean latency on a logarithmic scale between 1 microsecond and
//! 100 seconds with the base `base_num`.
//!
//! Logarithms in fixed point: floats would cost 13 KB of the binary. The mean is that of the logarithms, so that one slow read
//! does not drown the others.

use super::{Cause, Step, Subject, argument};
use crate::engine::checker::{self, directio};
use crate::fault::Errno;
use crate::model::parse_decimal;

/// Slowest latency that has a rank.
const MAX_MICROS: u64 = 100_000_000;
/// Bits behind the point.
const FRACTION: u32 = 24;
/// Fixed point errs by less than this; a latency on a boundary belongs to the better rank.
const TOLERANCE: u64 = 256;

/// What a measurement knows so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mean {
    /// Sum of the logarithms.
    sum: u64,
    done: u16,
}

/// How often to read (20 to 200) and the base in millionths (1.1 to 10); out of range or not said is 100 and 1.778 (a quarter of a
/// decade).
fn settings(args: &str) -> (u16, u64) {
    let reads = match argument(args, "io_num").and_then(parse_decimal) {
        Some(n @ 20..=200) => n as u16,
        _ => 100,
    };
    let base = argument(args, "base_num").and_then(millionths).filter(|n| (1_100_000..=10_000_000).contains(n)).unwrap_or(1_778_000);
    (reads, base)
}

/// `1.778` in millionths; digits past the sixth are dropped.
fn millionths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let whole = u64::from(parse_decimal(whole)?);
    let fraction = fraction.get(..6).unwrap_or(fraction);
    let digits = u32::try_from(fraction.len()).ok()?;
    Some(whole * 1_000_000 + u64::from(parse_decimal(fraction)?) * 10u64.pow(6 - digits))
}

/// Binary logarithm in fixed point; 0 counts as 1.
fn log2(x: u64) -> u64 {
    let x = x.max(1);
    let whole = x.ilog2();
    // Between 1 and 2 with 31 bits behind the point; squaring doubles the logarithm, so each squaring gives one bit.
    let mut mantissa = if whole >= 31 { x >> (whole - 31) } else { x << (31 - whole) };
    let mut out = u64::from(whole);
    for _ in 0..FRACTION {
        mantissa = (mantissa * mantissa) >> 31;
        out <<= 1;
        if mantissa >= 1 << 32 {
            mantissa >>= 1;
            out |= 1;
        }
    }
    out
}

/// Rank of a mean whose logarithm is `mean`: 0 beyond the scale, else 1 more for each factor of `base` below its end.
fn rank(mean: u64, base: u64) -> i32 {
    let end = log2(MAX_MICROS);
    if mean > end + TOLERANCE {
        return 0;
    }
    let step = (log2(base) - log2(1_000_000)).max(1);
    let steps = (end.saturating_sub(mean) + TOLERANCE) / step;
    i32::try_from(steps).map_or(i32::MAX, |n| n.saturating_add(1))
}

impl Mean {
    pub(super) fn start(&mut self, subject: &Subject<'_>) -> Step {
        Step::Read { length: directio::length(subject.facts.block_size) }
    }

    pub(super) fn next(&mut self, subject: &Subject<'_>, result: Result<u32, Errno>, micros: u32) -> Step {
        let wanted = directio::length(subject.facts.block_size);
        match result {
            Ok(got) if got == wanted => {}
            Ok(got) => return Step::undefined(Cause::Reply(checker::Cause::ShortRead(got))),
            Err(errno) => return Step::undefined(Cause::Reply(checker::Cause::Errno(errno))),
        }
        let (reads, base) = settings(subject.args);
        self.sum = self.sum.saturating_add(log2(u64::from(micros)));
        self.done = self.done.saturating_add(1);
        if self.done < reads {
            return Step::Read { length: wanted };
        }
        Step::done(rank(self.sum / u64::from(self.done), base), Cause::Plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms() {
        assert_eq!(log2(0), 0);
        assert_eq!(log2(1 << 20), 20 << FRACTION);
        for x in [3u64, 7, 1_000, 1_778_000, 99_999_999, u64::MAX] {
            let want = (x as f64).log2() * f64::from(1 << FRACTION);
            assert!((log2(x) as f64 - want).abs() < 64.0, "{x}");
        }
    }

    #[test]
    fn ranks_as_the_real_logarithm_has_them() {
        for base in [1.1f64, 1.5, 1.778, 2.0, 3.3, 10.0] {
            let fixed = (base * 1e6).round() as u64;
            for micros in [1u64, 2, 9, 10, 11, 100, 999, 1_000, 12_345, 1_000_000, 99_999_999, 100_000_000] {
                let exact = (1e8f64 / micros as f64).log2() / base.log2() + 1.0;
                let ours = f64::from(rank(log2(micros), fixed));
                // On a boundary either neighbour is right.
                assert!((ours - exact.floor()).abs() < 0.5 || (exact - exact.round()).abs() < 1e-4, "{base} {micros}: {ours} {exact}");
            }
        }
        assert_eq!(rank(log2(100), 10_000_000), 7);
        assert_eq!(rank(log2(1), 10_000_000), 9);
        assert_eq!(rank(log2(200_000_000), 10_000_000), 0);
    }

    #[test]
    fn arguments() {
        assert_eq!(settings(""), (100, 1_778_000));
        assert_eq!(settings("io_num=20 base_num=10"), (20, 10_000_000));
        assert_eq!(settings("io_num=19 base_num=1.0999999"), (100, 1_778_000));
        assert_eq!(settings("base_num=1.1 io_num=200"), (200, 1_100_000));
        assert_eq!(settings("base_num=abc io_num=-3"), (100, 1_778_000));
        assert_eq!(millionths("1."), None);
        assert_eq!(millionths("4294967295.999999"), Some(4_294_967_295_999_999));
    }
}
