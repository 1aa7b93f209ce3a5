//! `corepath install` and `corepath install-hooks`: the hooks and units that `initramfs/` holds, carried by the binary itself, so
//! that one file is all a machine needs to be given.
//!
//! build.rs packs them: as they are they would take 8 KB more of an executable that is in every image.

use super::texts::unpack;
use super::{Cx, DONE, args::Arg};
use crate::files;
use core::fmt::Write;

include!(concat!(env!("OUT_DIR"), "/pieces.rs"));

/// The mode of a piece that is a symbolic link; its text is where that leads.
const LINK: u32 = 0o777;

/// One file: who wants it (a letter of initramfs/pieces), its mode, where it goes below the root, its text.
struct Piece<'a> {
    who: u8,
    mode: u32,
    path: &'a str,
    text: &'a [u8],
}

/// Takes the first piece off.
fn piece<'a>(rest: &mut &'a [u8]) -> Option<Piece<'a>> {
    let (&[who, mode, path, low, high], more) = rest.split_first_chunk::<5>()?;
    let (path, more) = more.split_at_checked(path.into())?;
    let (text, more) = more.split_at_checked(usize::from(low) | usize::from(high) << 7)?;
    *rest = more;
    let mode = match mode {
        0 => 0o644,
        1 => 0o755,
        _ => LINK,
    };
    Some(Piece { who, mode, path: core::str::from_utf8(path).ok()?, text })
}

/// `install-hooks --for dracut|initramfs-tools|mkinitcpio [--root DIR]`
#[inline(never)]
pub fn hooks(cx: &mut Cx<'_>) -> i32 {
    let (mut root, mut wanted) = ("/", None);
    while let Some(arg) = cx.args.next() {
        match arg {
            Arg::Long("root") => match cx.args.value() {
                Some(dir) => root = dir,
                None => return cx.fail(format_args!("--root takes a directory")),
            },
            Arg::Long("for") => {
                wanted = match cx.args.value() {
                    Some("dracut") => Some(b"ds"),
                    Some("initramfs-tools") => Some(b"is"),
                    Some("mkinitcpio") => Some(b"ms"),
                    _ => return cx.fail(format_args!("--for takes dracut, initramfs-tools or mkinitcpio")),
                }
            }
            _ => return cx.fail(format_args!("install-hooks takes --for and --root only")),
        }
    }
    let Some(wanted) = wanted else { return cx.fail(format_args!("--for dracut, initramfs-tools or mkinitcpio is needed")) };
    put(cx, root, wanted)
}

/// `install [--root DIR]`: everything but the binary itself, for packagers.
#[inline(never)]
pub fn everything(cx: &mut Cx<'_>) -> i32 {
    let mut root = "/";
    while let Some(arg) = cx.args.next() {
        match arg {
            Arg::Long("root") => match cx.args.value() {
                Some(dir) => root = dir,
                None => return cx.fail(format_args!("--root takes a directory")),
            },
            _ => return cx.fail(format_args!("install takes --root only")),
        }
    }
    put(cx, root, b"dims")
}

/// What a generator of systemd's puts into an initrd; tells nothing.
pub fn generated(cx: &mut Cx<'_>, dir: &str, waits: bool) -> i32 {
    put(cx, dir, if waits { b"gw" } else { b"g" })
}

#[inline(never)]
fn put(cx: &mut Cx<'_>, root: &str, wanted: &[u8]) -> i32 {
    let mut room = [0; UNPACKED];
    unpack(PACKED, &mut room);
    let mut rest = &room[..];
    while let Some(Piece { who, mode, path, text }) = piece(&mut rest) {
        if !wanted.contains(&who) {
            continue;
        }
        let done = match core::str::from_utf8(text) {
            Ok(target) if mode == LINK => files::link(root, path, target),
            _ => files::install(root, path, text, mode),
        };
        if let Err(errno) = done {
            return cx.fail(format_args!("{root}/{path}: {}; nothing after it was written", errno.word().unwrap_or("error")));
        }
        if !wanted.starts_with(b"g") {
            let _ = writeln!(cx.out, "{}/{path}", root.trim_end_matches('/'));
        }
    }
    DONE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacked_whole_and_never_out_of_bounds() {
        let mut room = [0; UNPACKED];
        unpack(PACKED, &mut room);
        let (mut rest, mut count) = (&room[..], 0);
        while let Some(piece) = piece(&mut rest) {
            assert!(b"dimsgw".contains(&piece.who) && !piece.text.is_empty(), "{}", piece.path);
            count += 1;
        }
        assert!(rest.is_empty() && count > 20, "{count}, {} left", rest.len());
        // Cut or changed anywhere: an end, or other text.
        for at in 0..PACKED.len() {
            unpack(&PACKED[..at], &mut room);
            let mut bad = PACKED.to_vec();
            bad[at] ^= 0xff;
            unpack(&bad, &mut room);
        }
    }
}
