//! Feature words of a multipath table: `3 queue_if_no_path pg_init_retries 50`, in the table and in the configuration.
//!
//! The kernel compares words without regard to case (dm-mpath.c, parse_features). Words this version does not know are carried.

use super::{TableError, push_joined};
use crate::fault::{Full, Malformed};
use crate::model::{Text, parse_decimal, same_word};
use crate::wire::cursor::{Cursor, Words};

/// Feature words of a multipath table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Features {
    pub queue_if_no_path: bool,
    pub retain_attached_hw_handler: bool,
    pub pg_init_retries: Option<u32>,
    pub pg_init_delay_msecs: Option<u32>,
    /// `queue_mode bio|rq|mq`; empty when not given.
    pub queue_mode: Text<4>,
    /// Words this version does not know, kept in order and blank separated, so that a newer table survives being read and written.
    pub other: Text<64>,
}

const QUEUE: &str = "queue_if_no_path";
const RETAIN: &str = "retain_attached_hw_handler";
const RETRIES: &str = "pg_init_retries";
const DELAY: &str = "pg_init_delay_msecs";
const MODE: &str = "queue_mode";

impl Features {
    /// `<count> word...`; the count must hold and nothing may follow.
    pub fn parse(text: &str) -> Result<Features, TableError> {
        let mut words = Words::new(text);
        let count = words.number()?;
        let features = Features::parse_words(&mut words, count)?;
        words.end()?;
        Ok(features)
    }

    /// Takes exactly `count` words.
    pub(super) fn parse_words(words: &mut Words<'_>, count: u32) -> Result<Features, TableError> {
        let mut features = Features::default();
        let mut left = count;
        while left > 0 {
            left -= features.take(words, left)?;
        }
        Ok(features)
    }

    /// Takes one feature with its argument, of `left` words at most; returns how many it took.
    fn take(&mut self, words: &mut Words<'_>, left: u32) -> Result<u32, TableError> {
        let word = words.word()?;
        let mut argument = || if left < 2 { Err(Malformed) } else { words.word() };
        let number = |word: &str| parse_decimal(word).ok_or(Malformed);
        if same_word(word, QUEUE) {
            self.queue_if_no_path = true;
            Ok(1)
        } else if same_word(word, RETAIN) {
            self.retain_attached_hw_handler = true;
            Ok(1)
        } else if same_word(word, RETRIES) {
            self.pg_init_retries = Some(number(argument()?)?);
            Ok(2)
        } else if same_word(word, DELAY) {
            self.pg_init_delay_msecs = Some(number(argument()?)?);
            Ok(2)
        } else if same_word(word, MODE) {
            let given = argument()?;
            let known = ["bio", "rq", "mq"].into_iter().find(|mode| same_word(given, mode)).ok_or(Malformed)?;
            self.queue_mode.clear();
            self.queue_mode.push_str(known).map_err(|_| TableError::TooBig)?;
            Ok(2)
        } else {
            push_joined(&mut self.other, word)?;
            Ok(1)
        }
    }

    /// `<count> word...` in the kernel's order; returns the length in bytes.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, Full> {
        let mut line = Cursor::new(out);
        self.emit_into(&mut line)?;
        Ok(line.len())
    }

    pub(super) fn emit_into(&self, line: &mut Cursor<'_>) -> Result<(), Full> {
        let known = u64::from(self.queue_if_no_path)
            + u64::from(self.retain_attached_hw_handler)
            + 2 * u64::from(self.pg_init_retries.is_some())
            + 2 * u64::from(self.pg_init_delay_msecs.is_some())
            + 2 * u64::from(!self.queue_mode.is_empty());
        line.push_number(known + Words::new(&self.other).count() as u64)?;
        if self.queue_if_no_path {
            line.push_word(QUEUE)?;
        }
        if let Some(retries) = self.pg_init_retries {
            line.push_word(RETRIES)?;
            line.push_number(u64::from(retries))?;
        }
        if let Some(delay) = self.pg_init_delay_msecs {
            line.push_word(DELAY)?;
            line.push_number(u64::from(delay))?;
        }
        if self.retain_attached_hw_handler {
            line.push_word(RETAIN)?;
        }
        if !self.queue_mode.is_empty() {
            line.push_word(MODE)?;
            line.push_word(&self.queue_mode)?;
        }
        for word in Words::new(&self.other) {
            line.push_word(word)?;
        }
        Ok(())
    }

    /// Adds one feature with its arguments, as configuration writes it; one that is there already changes nothing (a known word takes
    /// the new argument). Text that starts with a blank is malformed, as the peer has it. On an error nothing changes.
    pub fn add(&mut self, text: &str) -> Result<(), TableError> {
        if text.is_empty() || text.starts_with(|c: char| c.is_ascii_whitespace()) {
            return Err(TableError::Malformed);
        }
        let count = u32::try_from(Words::new(text).count()).map_err(|_| TableError::TooBig)?;
        let new = Features::parse_words(&mut Words::new(text), count)?;
        let mut merged = self.clone();
        merged.queue_if_no_path |= new.queue_if_no_path;
        merged.retain_attached_hw_handler |= new.retain_attached_hw_handler;
        merged.pg_init_retries = new.pg_init_retries.or(merged.pg_init_retries);
        merged.pg_init_delay_msecs = new.pg_init_delay_msecs.or(merged.pg_init_delay_msecs);
        if !new.queue_mode.is_empty() {
            merged.queue_mode = new.queue_mode;
        }
        if find(&merged.other, &new.other).is_none() {
            for word in Words::new(&new.other) {
                push_joined(&mut merged.other, word)?;
            }
        }
        *self = merged;
        Ok(())
    }

    /// Takes one feature with its arguments away; one that is not there changes nothing. Whole words only.
    pub fn remove(&mut self, text: &str) -> Result<(), TableError> {
        if text.is_empty() || text.starts_with(|c: char| c.is_ascii_whitespace()) {
            return Err(TableError::Malformed);
        }
        let count = u32::try_from(Words::new(text).count()).map_err(|_| TableError::TooBig)?;
        let old = Features::parse_words(&mut Words::new(text), count)?;
        self.queue_if_no_path &= !old.queue_if_no_path;
        self.retain_attached_hw_handler &= !old.retain_attached_hw_handler;
        if old.pg_init_retries.is_some() {
            self.pg_init_retries = None;
        }
        if old.pg_init_delay_msecs.is_some() {
            self.pg_init_delay_msecs = None;
        }
        if !old.queue_mode.is_empty() {
            self.queue_mode.clear();
        }
        if let Some(at) = find(&self.other, &old.other) {
            let length = Words::new(&old.other).count();
            let mut kept = Text::<64>::new();
            for (index, word) in Words::new(&self.other).enumerate() {
                if index < at || index >= at + length {
                    push_joined(&mut kept, word)?;
                }
            }
            self.other = kept;
        }
        Ok(())
    }

    /// Bio-based maps have no hardware handler and no request queue.
    pub fn bio(&self) -> bool {
        self.queue_mode == "bio"
    }

    /// As [`super::Table::agrees_with`], for the features: what stays as loaded.
    pub(super) fn agrees_with(&self, live: &Features) -> bool {
        self.pg_init_retries.unwrap_or(0) == live.pg_init_retries.unwrap_or(0)
            && self.pg_init_delay_msecs == live.pg_init_delay_msecs
            && self.bio() == live.bio()
            && self.other == live.other
    }
}

/// Where the words of `part` stand in `whole`, in words; `None` when absent or when there is nothing to find.
fn find(whole: &str, part: &str) -> Option<usize> {
    let length = Words::new(part).count();
    if length == 0 {
        return None;
    }
    let total = Words::new(whole).count();
    (0..=total.checked_sub(length)?).find(|&at| Words::new(whole).skip(at).take(length).eq(Words::new(part)))
}
