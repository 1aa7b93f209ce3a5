//! `corepath install` and `corepath install-hooks`: the hooks and units that `initramfs/` holds, carried by the binary itself, so
//! that one file is all a machine needs to be given.

use super::{Cx, DONE, args::Arg};
use crate::files;
use core::fmt::Write;

/// Who wants a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum For {
    Dracut,
    InitramfsTools,
    Mkinitcpio,
    /// systemd and udev, in the image and on the host.
    System,
}

/// One file: who wants it, where it goes below the root, its mode, its text.
struct Piece(For, &'static str, u32, &'static [u8]);

macro_rules! piece {
    ($for:ident, $to:literal, $mode:literal, $from:literal) => {
        Piece(For::$for, $to, $mode, include_bytes!(concat!("../../initramfs/", $from)))
    };
}

const PIECES: &[Piece] = &[
    piece!(Dracut, "usr/lib/dracut/modules.d/70corepath/module-setup.sh", 0o755, "dracut/70corepath/module-setup.sh"),
    piece!(Dracut, "usr/lib/dracut/modules.d/70corepath/corepath.conf", 0o644, "dracut/70corepath/corepath.conf"),
    piece!(Dracut, "usr/lib/dracut/modules.d/70corepath/corepath-start.sh", 0o755, "dracut/70corepath/corepath-start.sh"),
    piece!(Dracut, "usr/lib/dracut/modules.d/70corepath/corepath-wait.sh", 0o755, "dracut/70corepath/corepath-wait.sh"),
    piece!(Dracut, "usr/lib/dracut/modules.d/70corepath/corepath-shutdown.sh", 0o755, "dracut/70corepath/corepath-shutdown.sh"),
    piece!(Dracut, "usr/lib/dracut/dracut.conf.d/70-corepath.conf", 0o644, "dracut/omit-multipath.conf"),
    piece!(InitramfsTools, "usr/share/initramfs-tools/hooks/corepath", 0o755, "initramfs-tools/hooks/corepath"),
    piece!(InitramfsTools, "usr/share/initramfs-tools/scripts/init-top/corepath", 0o755, "initramfs-tools/scripts/init-top/corepath"),
    piece!(InitramfsTools, "usr/share/initramfs-tools/scripts/local-top/corepath", 0o755, "initramfs-tools/scripts/local-top/corepath"),
    piece!(InitramfsTools, "usr/share/initramfs-tools/scripts/local-block/corepath", 0o755, "initramfs-tools/scripts/local-block/corepath"),
    piece!(Mkinitcpio, "usr/lib/initcpio/install/corepath", 0o644, "mkinitcpio/install/corepath"),
    piece!(Mkinitcpio, "usr/lib/initcpio/hooks/corepath", 0o644, "mkinitcpio/hooks/corepath"),
    piece!(System, "usr/lib/systemd/system/corepath.service", 0o644, "systemd/corepath.service"),
    piece!(System, "usr/lib/systemd/system/corepath-wait-root.service", 0o644, "systemd/corepath-wait-root.service"),
    piece!(System, "usr/lib/systemd/system-shutdown/corepath", 0o755, "systemd/corepath-shutdown"),
    piece!(System, "usr/lib/modules-load.d/corepath.conf", 0o644, "systemd/modules-load.conf"),
    piece!(System, "usr/lib/tmpfiles.d/corepath.conf", 0o644, "systemd/tmpfiles.conf"),
    piece!(System, "usr/lib/udev/rules.d/60-corepath.rules", 0o644, "udev/60-corepath.rules"),
];

/// `install-hooks --for dracut|initramfs-tools|mkinitcpio [--root DIR]`
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
                    Some("dracut") => Some(For::Dracut),
                    Some("initramfs-tools") => Some(For::InitramfsTools),
                    Some("mkinitcpio") => Some(For::Mkinitcpio),
                    _ => return cx.fail(format_args!("--for takes dracut, initramfs-tools or mkinitcpio")),
                }
            }
            _ => return cx.fail(format_args!("install-hooks takes --for and --root only")),
        }
    }
    let Some(wanted) = wanted else { return cx.fail(format_args!("--for dracut, initramfs-tools or mkinitcpio is needed")) };
    put(cx, root, &|who| who == wanted || who == For::System)
}

/// `install [--root DIR]`: everything but the binary itself, for packagers.
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
    put(cx, root, &|_| true)
}

fn put(cx: &mut Cx<'_>, root: &str, wanted: &dyn Fn(For) -> bool) -> i32 {
    for Piece(_, to, mode, bytes) in PIECES.iter().filter(|p| wanted(p.0)) {
        if let Err(errno) = files::install(root, to, bytes, *mode) {
            return cx.fail(format_args!("{root}/{to}: {}; nothing after it was written", errno.word().unwrap_or("error")));
        }
        let _ = writeln!(cx.out, "{}/{to}", root.trim_end_matches('/'));
    }
    DONE
}
