//! What can be wrong with a configuration, as values.

use super::ere;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    LineTooLong,
    /// Control bytes, or a value that is not UTF-8.
    Binary,
    /// Bytes outside ASCII count as blanks outside quotation marks.
    NonAscii,
    MissingValue,
    /// A section's name without `{` behind it.
    MissingOpen,
    /// `{` where no section begins.
    StrayOpen,
    ExtraText,
    MissingQuote,
    UnknownKeyword,
    /// A keyword that belongs elsewhere.
    WrongPlace,
    /// A block of an unknown or misplaced keyword: skipped with all it holds.
    UnknownBlock,
    UnmatchedClose,
    Unclosed,
    /// The keyword stood before in the same block.
    Duplicate,
    BadValue,
    Capped,
    BadCount,
    BadPair,
    Slash,
    TooLong,
    BadPattern(ere::Error),
    BadKey,
    Deprecated,
    /// A property of udev's that another WWID than ours stands in.
    NotRead,
    /// A device without vendor or product, a multipath without wwid, a protocol without type.
    Incomplete,
    DuplicateDevice,
    DuplicateMultipath,
    /// Two maps want one alias: the one with the greater WWID does without.
    DuplicateAlias,
    /// No room for more sections, values or text.
    Full,
}

impl What {
    /// A remark rather than an error: what was written is in force as it was meant, or nothing hangs on it.
    pub fn is_remark(self) -> bool {
        use What::*;
        matches!(self, Duplicate | Deprecated | NotRead | DuplicateDevice | DuplicateMultipath | MissingOpen)
    }
}
