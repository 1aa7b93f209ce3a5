//! `corepath-generator`: the program under this name is a generator of systemd's, which starts it before it reads any unit, in the initrd
//! and on the host. Rule: systemd.generator(7).
//!
//! In an initrd whose kernel is not told to leave multipath alone it has the daemon and the wait for root started, and puts the wait before
//! those openers of disks whose units have no fixed name, which no unit file could list. Everywhere else it writes nothing, and neither
//! unit is loaded. It never waits and never looks at a disk.

use super::setup::{self, COMMAND_LINE};
use super::{Cx, DONE, install};

/// Is root on no disk at all? `root=nfs`, and `scheme:...` as dracut writes what comes from elsewhere. Named one by one: `iscsi:` is a disk,
/// and `zfs:` or `live:` may be on one.
fn no_disk(root: &str) -> bool {
    let scheme = root.split_once(':').map_or(root, |(scheme, _)| scheme);
    matches!(
        scheme,
        "nfs" | "nfs4" | "/dev/nfs" | "cifs" | "/dev/cifs" | "nbd" | "virtiofs" | "9p" | "tmpfs" | "http" | "https" | "ftp" | "tftp"
    )
}

/// `corepath-generator NORMAL [EARLY LATE]`
#[inline(never)]
pub fn run(cx: &mut Cx<'_>) -> i32 {
    let Some(dir) = cx.args.value() else { return cx.fail(format_args!("a generator is given directories by systemd")) };
    // Both variables are of systemd's interface; the first came with version 251, the second is how a generator is tried.
    let initrd = cx.invocation.variable("SYSTEMD_IN_INITRD").map_or_else(setup::in_initramfs, |word| word == "1");
    if !initrd {
        return DONE;
    }
    let mut room = [0; COMMAND_LINE];
    let mut root = "";
    for word in
        cx.invocation.variable("SYSTEMD_PROC_CMDLINE").unwrap_or_else(|| setup::kernel_words("/proc", &mut room)).split_ascii_whitespace()
    {
        if setup::switches_off(word, true) {
            return DONE;
        }
        root = word.strip_prefix("root=").unwrap_or(root);
    }
    install::generated(cx, dir, !no_disk(root))
}
