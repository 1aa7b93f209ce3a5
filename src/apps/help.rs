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
        usage: "[--root SPEC] [--timeout SECONDS] [--only-root] [--min-paths N]",
        summary: "assemble the maps and wait for root's by events; exit 0 done, 1 failed, 2 timed out",
        details: "  --root SPEC        major:minor, WWID, /dev/mapper/NAME, PARTUUID=, PARTLABEL=, UUID= or LABEL=\n  \
                  --timeout SECONDS  give up then (default 60)\n  \
                  --only-root        claim no disk but root's\n  \
                  --min-paths N      root's map counts as live with N usable paths (default 1)\n",
    },
    Row {
        name: "list",
        usage: "[MAP] [--json]",
        summary: "the maps, their groups and paths, as a tree",
        details: "  --json  the peer's JSON document, with strings escaped\n",
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
        name: "config",
        usage: "[--check FILE]",
        summary: "the effective configuration with the origin of each value",
        details: "  --check FILE  report every error of FILE and exit 1 if there is one\n",
    },
    Row { name: "help", usage: "[COMMAND]", summary: "this list, or one command", details: "" },
    Row { name: "version", usage: "", summary: "the version", details: "" },
];

/// The list of commands.
pub fn overview(out: &mut dyn Write) {
    let _ = out
        .write_str("corepath: multipath I/O from bare disks to live maps, in one static binary\n\nusage: corepath COMMAND [OPTIONS]\n\n");
    for row in COMMANDS {
        let _ = writeln!(out, "  {:<12}{}", row.name, row.summary);
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
