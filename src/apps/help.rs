//! `corepath help [COMMAND]`: one row per command, the text a person at a serial console needs.

use super::{Cx, DONE, args::Arg};
use core::fmt::Write;

/// One command: its name, its usage after the name, one line on what it does, and the options.
pub struct Row {
    pub name: &'static str,
    pub usage: &'static str,
    pub summary: &'static str,
    pub details: &'static str,
}

/// Every command, in the order in which a newcomer meets them.
pub const COMMANDS: &[Row] = &[
    Row {
        name: "scan",
        usage: "[--json]",
        summary: "what is there and what would be done; changes nothing",
        details: "  --json  one document instead of lines\n",
    },
    Row {
        name: "boot",
        usage: "[--root SPEC | --cmdline] [--timeout SECONDS] [--only-root] [--links] [--min-paths N] [--device]",
        summary: "assemble the maps and wait for root's by events; exit 0 done, 1 failed, 2 timed out",
        details: "  --root SPEC        major:minor, WWID, /dev/mapper/NAME, PARTUUID=, PARTLABEL=, UUID= or LABEL=\n  \
                  --cmdline          root=, rd.corepath.timeout= and rd.corepath.min_paths= of the kernel's command line\n  \
                  --timeout SECONDS  give up then (default 60)\n  \
                  --device           print root's device and nothing else, for a script that mounts it\n  \
                  --only-root        claim no disk but root's\n  \
                  --links            make udev's links under /dev/disk for the maps (where no udev runs)\n  \
                  --min-paths N      root's map counts as live with N usable paths (default 1)\n",
    },
    Row {
        name: "list",
        usage: "[MAP] [--json]",
        summary: "the maps, their groups and paths, as a tree",
        details: "  --json  the peer's JSON document, with strings escaped\n",
    },
    Row {
        name: "rescue",
        usage: "[--root SPEC] [--go] [--timeout SECONDS] [--unsealed]",
        summary: "what is there, why root is not, what would help; needs no daemon and no file",
        details: "  --root SPEC        as for boot (default root= of the kernel's command line, then what \"/\" is mounted from)\n  \
                  --go               do what would help, and wait until root is there\n  \
                  --timeout SECONDS  give up then (default 30)\n  \
                  --unsealed         also where memory cannot be locked; may hang with the disk\n",
    },
    Row { name: "remove", usage: "MAP...", summary: "remove unused maps with their partitions", details: "  --all  every unused map\n" },
    Row {
        name: "partitions",
        usage: "list|add|delete [OPTIONS] DEVICE",
        summary: "the partition table of a disk, map or image; its partition maps made and removed",
        details: "  --json             list: one document\n  \
                  --type T           only this kind: gpt dos bsd solaris unixware dasd mac sun ps3\n  \
                  --force-gpt        a GPT without its protective MBR\n  \
                  --block-size N     list: of an image (default 512)\n  \
                  --delimiter D      between name and number (default p after a digit, else nothing)\n  \
                  --read-only        add: read-only maps\n  \
                  --links            add: also the links of udev under /dev/disk (where no udev runs)\n",
    },
    Row {
        name: "name",
        usage: "MAJOR:MINOR|DEVICE|MAP",
        summary: "the map's name for a device; number and kernel name for a map",
        details: "",
    },
    Row { name: "why", usage: "DEV", summary: "why a disk is claimed or refused: the reason code and the rule behind it", details: "" },
    Row {
        name: "probe",
        usage: "DEV [--json]",
        summary: "one screen on a path, asked anew: identity, VPD pages, controllers and owner, groups, checker, what would be done",
        details: "  DEV     sda, 8:0, or a device node or link\n  --json  one document\n",
    },
    Row {
        name: "config",
        usage: "[--plain] [--keywords | KEYWORD] [--check [FILE]]",
        summary: "the effective configuration with the origin of each value",
        details: "  --check FILE  report every error of FILE (or of all files) and exit 1 if there is one\n  \
                  --plain       without origins, as multipath -t\n  --keywords    every keyword with its meaning and default\n",
    },
    Row {
        name: "daemon",
        usage: "[--strict] [--own-activation] [--take-over] [--socket NAME]",
        summary: "watch the paths for ever, from locked memory; in the foreground",
        details: "  --strict          refuse to run when a step of the seal fails\n  \
                  --own-activation  trespass or set target port groups where the kernel has no handler\n  \
                  --take-over       ask the daemon that runs to leave, when all is known\n  \
                  --socket NAME     listen there only (@NAME: abstract)\n  \
                  --no-filter       without the system call filter, for debugging\n",
    },
    Row {
        name: "status",
        usage: "[--json] [--watch[=SECONDS]]",
        summary: "what the daemon knows, from memory: maps, groups, paths, countdowns, the seal",
        details: "  --json   one document\n  --watch  a live screen\n",
    },
    Row { name: "metrics", usage: "", summary: "the daemon's counters as a monitoring system scrapes them", details: "" },
    Row { name: "log", usage: "", summary: "the daemon's latest lines, with the second since boot, from its memory", details: "" },
    Row { name: "show", usage: "MAP|PATH", summary: "one map's tree, or one path's state, from the daemon", details: "" },
    Row { name: "fail", usage: "PATH", summary: "take a path out until it is reinstated", details: "" },
    Row { name: "reinstate", usage: "PATH", summary: "take it in again", details: "" },
    Row { name: "switch-group", usage: "MAP N", summary: "use group N of a map", details: "" },
    Row { name: "suspend", usage: "MAP", summary: "hold a map's I/O (resume lets it go)", details: "" },
    Row { name: "resume", usage: "MAP", summary: "let a map's I/O go on", details: "" },
    Row { name: "reload", usage: "MAP", summary: "load a map's table again", details: "" },
    Row { name: "resize", usage: "MAP", summary: "take over the size its paths agree on", details: "" },
    Row { name: "reconfigure", usage: "", summary: "make the daemon read its configuration again", details: "" },
    Row { name: "stop", usage: "", summary: "end the daemon; the maps stay", details: "" },
    Row { name: "release", usage: "", summary: "no map queues or stays suspended; needs no daemon, shutdown runs it", details: "" },
    Row { name: "kpartx", usage: "-a|-d|-l|-u [OPTIONS] DEVICE", summary: "partition maps as kpartx makes them", details: "" },
    Row {
        name: "install-hooks",
        usage: "--for dracut|initramfs-tools|mkinitcpio [--root DIR]",
        summary: "put the hooks of one initramfs builder in place",
        details: "",
    },
    Row { name: "install", usage: "[--root DIR]", summary: "put all hooks, units and rules in place, for packagers", details: "" },
    Row { name: "help", usage: "[COMMAND]", summary: "this list, or one command", details: "" },
    Row { name: "version", usage: "", summary: "the version", details: "" },
];

/// The list of commands.
pub fn overview(out: &mut dyn Write) {
    let _ = out
        .write_str("corepath: multipath I/O from bare disks to live maps, in one static binary\n\nusage: corepath COMMAND [OPTIONS]\n\n");
    for row in COMMANDS {
        let _ = writeln!(out, "  {:<14}{}", row.name, row.summary);
    }
    let _ = out.write_str(
        "\n'corepath help COMMAND' tells more. Options of all commands: --config FILE, --config-dir DIR, --sysfs DIR, --dev DIR, -v.\n\
         Started as multipath, multipathd, kpartx or devmap_name it takes their options.\n",
    );
}

/// One command's page.
pub fn page(row: &Row, out: &mut dyn Write) {
    let _ = writeln!(out, "usage: corepath {} {}\n\n{}", row.name, row.usage, row.summary);
    if !row.details.is_empty() {
        let _ = write!(out, "\n{}", row.details);
    }
}

pub fn run(cx: &mut Cx<'_>) -> i32 {
    match cx.args.next() {
        None => overview(cx.out),
        Some(Arg::Word(name)) => match COMMANDS.iter().find(|row| row.name == name) {
            Some(row) => page(row, cx.out),
            None => return cx.fail(format_args!("no command '{name}'; 'corepath help' lists them")),
        },
        Some(_) => return cx.fail(format_args!("help takes the name of a command")),
    }
    DONE
}
