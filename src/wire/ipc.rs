//! multipathd's socket protocol: frames of a length and a text, both ways, and the command language in them.
//!
//! Incremental: a frame may arrive byte by byte. Never reads a socket; never keeps more than the longest request. A length out of
//! range ends the connection, as there is no way back into step. The length is the native 8 byte `size_t` of a 64 bit peer and counts
//! the closing NUL.

mod command;

pub use command::{Command, MapsView, Persistent, Refused, Scratch};

use crate::fault::Malformed;

/// Longest request, NUL included.
pub const REQUEST_LEN: usize = 512;
/// Longest reply a client reads, NUL included.
pub const REPLY_LEN: usize = 32 << 20;
/// Bytes in front of each text.
pub const HEADER_LEN: usize = 8;

/// The header of a text of `len` bytes, its NUL not counted; the text and one NUL follow.
pub const fn header(len: usize) -> [u8; HEADER_LEN] {
    (len as u64 + 1).to_ne_bytes()
}

/// Bytes that follow a header, NUL included; `Malformed` when there are none or more than `limit`.
pub fn parse_header(header: [u8; HEADER_LEN], limit: usize) -> Result<usize, Malformed> {
    match usize::try_from(u64::from_ne_bytes(header)) {
        Ok(len) if (1..=limit).contains(&len) => Ok(len),
        _ => Err(Malformed),
    }
}

/// Collects one request from pieces.
#[derive(Clone, Debug)]
pub struct Decoder {
    header: [u8; HEADER_LEN],
    have: usize,
    text: [u8; REQUEST_LEN],
    /// Bytes of the text, once the header is whole.
    want: usize,
    got: usize,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

impl Decoder {
    pub const fn new() -> Decoder {
        Decoder { header: [0; HEADER_LEN], have: 0, text: [0; REQUEST_LEN], want: 0, got: 0 }
    }

    /// Takes bytes as far as they belong to the request under way and says how many. What is left over belongs to the next one: feed it
    /// after [`Decoder::clear`]. `Malformed`: close the connection.
    pub fn feed(&mut self, input: &[u8]) -> Result<usize, Malformed> {
        let mut used = 0;
        if self.have < HEADER_LEN {
            used = take(&mut self.header, &mut self.have, input);
            if self.have < HEADER_LEN {
                return Ok(used);
            }
            self.want = parse_header(self.header, REQUEST_LEN)?;
        }
        let place = self.text.get_mut(..self.want).ok_or(Malformed)?;
        used += take(place, &mut self.got, input.get(used..).unwrap_or(&[]));
        Ok(used)
    }

    /// The request, once it is whole: up to its first NUL.
    pub fn request(&self) -> Option<&[u8]> {
        if self.want == 0 || self.got < self.want {
            return None;
        }
        self.text.get(..self.want)?.split(|&b| b == 0).next()
    }

    /// Has a request begun? Its time limit runs from then on.
    pub fn begun(&self) -> bool {
        self.have > 0
    }

    /// Ready for the next request.
    pub fn clear(&mut self) {
        (self.have, self.want, self.got) = (0, 0, 0);
    }
}

/// Fills `place` from `have` on; gives how many bytes were taken.
fn take(place: &mut [u8], have: &mut usize, input: &[u8]) -> usize {
    let room = place.get_mut(*have..).unwrap_or(&mut []);
    let n = room.len().min(input.len());
    for (to, from) in room.iter_mut().zip(input) {
        *to = *from;
    }
    *have += n;
    n
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn frame(text: &[u8]) -> Vec<u8> {
        let mut out = header(text.len()).to_vec();
        out.extend(text);
        out.push(0);
        out
    }

    #[test]
    fn lengths() {
        assert_eq!(parse_header(header(0), REQUEST_LEN), Ok(1));
        assert_eq!(parse_header(0u64.to_ne_bytes(), REQUEST_LEN), Err(Malformed));
        assert_eq!(parse_header(513u64.to_ne_bytes(), REQUEST_LEN), Err(Malformed));
        assert_eq!(parse_header(u64::MAX.to_ne_bytes(), REPLY_LEN), Err(Malformed));
        let mut d = Decoder::new();
        assert_eq!(d.feed(&513u64.to_ne_bytes()), Err(Malformed));
    }

    #[test]
    fn without_nul() {
        let mut d = Decoder::new();
        assert_eq!(d.feed(&4u64.to_ne_bytes()), Ok(8));
        assert_eq!((d.feed(b"quitlist"), d.request()), (Ok(4), Some(&b"quit"[..])));
    }

    proptest! {
        #[test]
        fn any_pieces(texts in proptest::collection::vec(proptest::collection::vec(1u8.., 0..511), 1..4), sizes in proptest::collection::vec(1usize..64, 1..40)) {
            let stream: Vec<u8> = texts.iter().flat_map(|t| frame(t)).collect();
            let (mut d, mut seen, mut at, mut turn) = (Decoder::new(), Vec::new(), 0, 0);
            while at < stream.len() {
                let piece = &stream[at..(at + sizes[turn % sizes.len()]).min(stream.len())];
                turn += 1;
                at += d.feed(piece).unwrap();
                if let Some(r) = d.request() {
                    seen.push(r.to_vec());
                    d.clear();
                }
            }
            prop_assert_eq!(seen, texts);
        }

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut d = Decoder::new();
            let mut rest = &bytes[..];
            while let Ok(n) = d.feed(rest) {
                prop_assert!(n <= rest.len());
                rest = &rest[n..];
                if d.request().is_some() {
                    d.clear();
                } else if rest.is_empty() || n == 0 {
                    break;
                }
            }
        }
    }
}
