//! What `make install`, `make deb` and `corepath install-hooks` put where, the package installed into an empty root beside others, and a man
//! page that knows every command.
#![cfg(feature = "bin")]

#[path = "common/shipped.rs"]
mod shipped;

use shipped::shipped;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Its path, as text.
fn program() -> &'static str {
    shipped().to_str().unwrap()
}

const HERE: &str = env!("CARGO_MANIFEST_DIR");

const DRACUT: &[&str] = &["usr/lib/dracut/modules.d/70corepath/module-setup.sh", "usr/lib/dracut/dracut.conf.d/70-corepath.conf"];
const INITRAMFS_TOOLS: &[&str] = &[
    "usr/share/initramfs-tools/hooks/corepath",
    "usr/share/initramfs-tools/scripts/init-top/corepath",
    "usr/share/initramfs-tools/scripts/local-top/corepath",
    "usr/share/initramfs-tools/scripts/local-block/corepath",
];
const MKINITCPIO: &[&str] = &["usr/lib/initcpio/install/corepath", "usr/lib/initcpio/hooks/corepath"];
const SYSTEM: &[&str] = &[
    "usr/lib/systemd/system/corepath.service",
    "usr/lib/systemd/system/corepath-release.service",
    "usr/lib/systemd/system/sysinit.target.wants/corepath-release.service",
    "usr/lib/systemd/system/corepath-wait-root.service",
    "usr/lib/systemd/system-generators/corepath-generator",
    "usr/lib/systemd/system-shutdown/corepath",
    "usr/lib/modprobe.d/corepath.conf",
    "usr/lib/tmpfiles.d/corepath.conf",
    "usr/lib/udev/rules.d/60-corepath.rules",
];
const NAMES: [&str; 5] = ["multipath", "multipathd", "multipathc", "kpartx", "devmap_name"];

fn run(program: &str, words: &[&str]) -> Output {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    Command::new(program).args(words).env("PATH", path).current_dir(HERE).output().unwrap_or_else(|e| panic!("{program}: {e}"))
}

#[track_caller]
fn must(program: &str, words: &[&str]) -> String {
    let output = run(program, words);
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An empty folder.
fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("packaging").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// Everything below a folder that is no folder.
fn files(root: &Path) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => left.push(entry.path()),
                false => drop(all.insert(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_string())),
            }
        }
    }
    all
}

fn holds(all: &BTreeSet<String>, lists: &[&[&str]]) {
    for path in lists.iter().copied().flatten() {
        assert!(all.contains(*path), "{path} is missing: {all:?}");
    }
}

/// The scripts of one builder and what all need, nothing of the others; each script is one.
#[test]
fn hooks_of_one_builder() {
    for (builder, own, others) in [
        ("dracut", DRACUT, [INITRAMFS_TOOLS, MKINITCPIO]),
        ("initramfs-tools", INITRAMFS_TOOLS, [DRACUT, MKINITCPIO]),
        ("mkinitcpio", MKINITCPIO, [DRACUT, INITRAMFS_TOOLS]),
    ] {
        let root = folder(builder);
        let said = must(program(), &["install-hooks", "--for", builder, "--root", root.to_str().unwrap()]);
        let all = files(&root);
        assert_eq!(said.lines().count(), all.len(), "each file is told");
        holds(&all, &[own, SYSTEM]);
        assert!(others.iter().copied().flatten().all(|path| !all.contains(*path)), "{all:?}");
        for path in all.iter().filter(|path| !root.join(path).is_symlink()) {
            let text = fs::read_to_string(root.join(path)).unwrap();
            if text.starts_with("#!") {
                let shell = if text.starts_with("#!/bin/bash") { "bash" } else { "sh" };
                must(shell, &["-n", root.join(path).to_str().unwrap()]);
            }
        }
        // A second time over what is there.
        must(program(), &["install-hooks", "--for", builder, "--root", root.to_str().unwrap()]);
        assert_eq!(files(&root), all);
    }
    for words in [&["install-hooks"][..], &["install-hooks", "--for", "booster"], &["install", "--root"], &["install", "x"]] {
        assert_eq!(run(program(), words).status.code(), Some(1), "{words:?}");
    }
}

/// What is put in place is what stands under initramfs/, byte for byte and with its mode.
#[test]
fn every_piece_as_it_was_written() {
    use std::os::unix::fs::PermissionsExt;
    let root = folder("pieces");
    let said = must(program(), &["install", "--root", root.to_str().unwrap()]);
    let list = fs::read_to_string(Path::new(HERE).join("initramfs/pieces")).unwrap();
    let mut count = 0;
    for line in list.lines().filter(|line| line.starts_with(['d', 'i', 'm', 's'])) {
        let words: Vec<&str> = line.split(' ').collect();
        let (path, from) = (root.join(words[2]), Path::new(HERE).join("initramfs").join(words[3]));
        assert!(said.lines().any(|line| Path::new(line) == path), "{line}: {said}");
        if words[1] == "link" {
            assert_eq!(fs::read_link(&path).unwrap(), Path::new(words[3]));
        } else {
            assert_eq!(fs::read_to_string(&path).unwrap(), fs::read_to_string(from).unwrap(), "{line}");
            assert_eq!(format!("{:o}", fs::metadata(&path).unwrap().permissions().mode() & 0o777), words[1], "{line}");
        }
        count += 1;
    }
    assert_eq!((said.lines().count(), files(&root).len()), (count, count));
}

#[test]
fn make_install_into_a_folder() {
    let root = folder("install");
    let dest = format!("DESTDIR={}", root.display());
    must("make", &["-s", "install-files", &dest, &format!("BIN={}", self::program())]);
    let all = files(&root);
    holds(
        &all,
        &[DRACUT, INITRAMFS_TOOLS, MKINITCPIO, SYSTEM, &["usr/sbin/corepath", "usr/sbin/@corepath", "usr/share/man/man8/corepath.8"]],
    );
    let program = fs::canonicalize(root.join("usr/sbin/corepath")).unwrap();
    for path in ["usr/sbin/@corepath", "usr/lib/systemd/system-generators/corepath-generator"] {
        assert_eq!(fs::canonicalize(root.join(path)).unwrap(), program, "{path}");
    }
    for name in NAMES {
        assert_eq!(fs::canonicalize(root.join("usr/lib/corepath/bin").join(name)).unwrap(), program, "{name}");
        assert!(!all.contains(&format!("usr/sbin/{name}")), "{name} would hide another package's file");
    }
    must("make", &["-s", "install-files", &dest, &format!("BIN={}", self::program()), "NAMES=/usr/sbin"]);
    for name in NAMES {
        assert_eq!(fs::read_link(root.join("usr/sbin").join(name)).unwrap(), Path::new("corepath"));
    }
    let usage = run(root.join("usr/sbin/kpartx").to_str().unwrap(), &[]);
    assert!(String::from_utf8_lossy(&usage.stdout).starts_with("usage: kpartx"), "its name is its applet");
}

/// A package that has this file and this control data.
fn other(dir: &Path, name: &str, file: &str) -> String {
    let tree = dir.join(name);
    fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    fs::create_dir_all(tree.join(file).parent().unwrap()).unwrap();
    fs::write(tree.join(file), "theirs").unwrap();
    let control = format!("Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x.invalid>\nDescription: x\n");
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    let deb = dir.join(format!("{name}.deb"));
    must("dpkg-deb", &["--build", tree.to_str().unwrap(), deb.to_str().unwrap()]);
    deb.to_str().unwrap().to_string()
}

/// Built, listed, installed into an empty root beside kpartx, not beside multipath-tools, and removed without a trace.
#[test]
fn a_debian_package() {
    let dir = folder("deb");
    must("sh", &["packaging/deb.sh", program(), dir.to_str().unwrap()]);
    let deb = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "deb")).unwrap();
    let deb = deb.to_str().unwrap();
    let field = |name: &str| must("dpkg-deb", &["-f", deb, name]).trim().to_string();
    assert_eq!((field("Package"), field("Version")), ("corepath".into(), env!("CARGO_PKG_VERSION").into()));
    assert_eq!(field("Depends"), "", "one static program");
    assert_eq!(field("Conflicts"), "multipath-tools, multipath-tools-boot");
    assert_eq!(field("Replaces"), "", "dpkg would remove the other by itself, after our files are there");
    assert_eq!(field("Architecture"), must("dpkg", &["--print-architecture"]).trim());
    let listing = must("dpkg-deb", &["-c", deb]);
    assert!(listing.lines().all(|line| line.contains(" root/root ")), "{listing}");
    let there = |line: &str| listing.lines().any(|l| l.ends_with(&format!("./{line}")));
    for path in [DRACUT, INITRAMFS_TOOLS, MKINITCPIO, SYSTEM].into_iter().flatten() {
        let target = if path.contains(".wants/") { "../corepath-release.service" } else { "../../../sbin/corepath" };
        assert!(there(path) || there(&format!("{path} -> {target}")), "{path}: {listing}");
    }
    for path in ["usr/share/man/man8/corepath.8.gz", "usr/share/doc/corepath/copyright", "usr/share/doc/corepath/changelog.gz"] {
        assert!(there(path), "{path}: {listing}");
    }
    assert!(there("usr/sbin/multipathd -> corepath") && !listing.contains("usr/sbin/kpartx"), "{listing}");

    if must("id", &["-u"]).trim() != "0" {
        return eprintln!("not root: the package was not installed");
    }
    let root = folder("root");
    let place = format!("--root={}", root.display());
    // As on every Debian since 12, whose multipath-tools has its files under /sbin: dpkg does not see that they are ours.
    fs::create_dir_all(root.join("usr/sbin")).unwrap();
    std::os::unix::fs::symlink("usr/sbin", root.join("sbin")).unwrap();
    for path in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/log"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    for file in ["status", "available", "lock"] {
        fs::write(root.join("var/lib/dpkg").join(file), "").unwrap();
    }
    let dpkg = |words: &[&str]| run("dpkg", &[&[place.as_str(), "--force-script-chrootless", "--force-not-root"], words].concat());
    let must_dpkg = |words: &[&str]| {
        let output = dpkg(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    must_dpkg(&["-i", &other(&dir, "kpartx", "usr/sbin/kpartx")]);
    let before = files(&root.join("usr"));
    let theirs = other(&dir, "multipath-tools", "sbin/multipath");
    must_dpkg(&["-i", &theirs]);
    let refused = dpkg(&["-i", deb]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("conflict"), "{said}");
    assert_eq!(fs::read_to_string(root.join("usr/sbin/multipath")).unwrap(), "theirs", "dpkg alone changes nothing");
    must_dpkg(&["-r", "multipath-tools"]);
    must_dpkg(&["-i", deb]);
    for name in ["multipath", "multipathd", "multipathc"] {
        assert_eq!(fs::read_link(root.join("usr/sbin").join(name)).unwrap(), Path::new("corepath"));
    }
    assert!(must_dpkg(&["-s", "corepath"]).contains("Status: install ok "));
    assert_eq!(must_dpkg(&["-V", "corepath"]), "", "files as they were packed");
    let version = must(root.join("usr/sbin/corepath").to_str().unwrap(), &["version"]);
    assert_eq!(version.trim(), concat!("corepath ", env!("CARGO_PKG_VERSION")));
    assert_eq!(fs::read_to_string(root.join("usr/sbin/kpartx")).unwrap(), "theirs");
    assert!(root.join("etc/systemd/system/sysinit.target.wants/corepath.service").is_symlink(), "the service is enabled");
    let refused = dpkg(&["-i", &theirs]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("conflict"), "{said}");
    must_dpkg(&["-P", "corepath"]);
    assert_eq!(files(&root.join("usr")), before);
    assert!(!root.join("etc/systemd/system/sysinit.target.wants/corepath.service").is_symlink());
}

/// Every command and every long option of `corepath help` stands in the man page.
#[test]
fn the_man_page_knows_every_command() {
    let page = fs::read_to_string(Path::new(HERE).join("docs/man/corepath.8")).unwrap().replace("\\-", "-");
    let overview = must(program(), &["help"]);
    let commands: BTreeSet<&str> =
        overview.lines().filter(|l| l.starts_with("  ") && !l.starts_with("   ")).filter_map(|l| l.split_whitespace().next()).collect();
    assert!(commands.len() > 20, "{overview}");
    for command in commands {
        assert!(page.lines().any(|line| line.starts_with(".B") && line.contains(command)), "{command} is not in the man page");
        let text = must(program(), &["help", command]);
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).filter(|word| word.starts_with("--") && word.len() > 2) {
            let own = matches!(command, "partitions" | "multipath") && page.contains("OPTIONS");
            assert!(own || page.contains(word), "{command}: {word} is not in the man page");
        }
    }
}

/// mkinitcpio is in no registry that the tests may use, so its install hook is run against the interface of mkinitcpio(8).
#[test]
fn mkinitcpio_gets_what_it_needs() {
    let calls = "for f in add_module add_binary add_symlink add_file add_runscript add_systemd_unit; do eval \"$f() { echo $f \\\"\\$@\\\"; }\"; done\n\
                 . initramfs/mkinitcpio/install/corepath\n";
    let build = |hooks: &str| must("bash", &["-euc", &format!("{calls} HOOKS=({hooks}); build")]);
    let (systemd, udev) = (build("base systemd block corepath"), build("base udev block corepath"));
    for text in [&systemd, &udev] {
        for module in ["dm_multipath", "dm_service_time", "scsi_dh_alua", "scsi_dh_emc", "scsi_dh_rdac", "scsi_dh_hp_sw", "sd_mod"] {
            assert!(text.contains(&format!("add_module {module}\n")), "{module}: {text}");
        }
        assert!(text.contains("add_binary corepath\n") && text.contains("add_symlink /usr/bin/@corepath corepath\n"), "{text}");
        // Each file that it takes from the system is one that `corepath install` puts there.
        let known = |file: &str| SYSTEM.contains(&file.trim_start_matches('/')) || file == "/etc/multipath.conf";
        assert!(text.lines().filter_map(|line| line.strip_prefix("add_file ")).all(known), "{text}");
    }
    assert!(systemd.contains("system-generators/corepath-generator ../../../bin/corepath\n"), "{systemd}");
    assert!(systemd.contains("add_systemd_unit corepath-wait-root.service") && !systemd.contains("add_runscript"), "{systemd}");
    assert!(udev.contains("add_runscript") && !udev.contains("add_systemd_unit"), "{udev}");
    let help = must("bash", &["-euc", &format!("{calls} help")]);
    assert!(help.contains("after 'block'"), "{help}");
    for script in
        ["mkinitcpio/hooks/corepath", "busybox/init", "initramfs-tools/scripts/init-top/corepath", "dracut/70corepath/corepath-start.sh"]
    {
        must("sh", &["-n", &format!("{HERE}/initramfs/{script}")]);
    }
}

/// dracut sources its hooks in each round of its queue, and once more before the mount: root is waited for once, not in the queue where that has
/// to log in first, and with systemd only if our generator had the unit loaded.
#[test]
fn dracut_waits_once() {
    let dir = folder("dracut-waits");
    let script = fs::read_to_string(format!("{HERE}/initramfs/dracut/70corepath/corepath-wait.sh")).unwrap();
    let script = script.replace(" /tmp/", &format!(" {}/", dir.display())).replace(">/tmp/", &format!(">{}/", dir.display()));
    fs::write(dir.join("wait.sh"), script.replace("/run/systemd/generator", dir.to_str().unwrap())).unwrap();
    // What dracut-lib.sh has, on the command line $words.
    let library = r#"
        getarg() { for word in $words; do case $word in "$1"*) echo "${word#"$1"}"; return 0 ;; esac; done; return 1; }
        getargbool() { [ "$(getarg "$2=" || echo "$1")" = 1 ]; }
        corepath() { echo "$where: $*"; return 2; }
        systemctl() { echo "$where: $*"; }
        round() { job=$hook . ./wait.sh || true; }
        where=queue main_loop=0; round; round; main_loop=7; round; unset main_loop; where=mount; round"#;
    let unit = dir.join("initrd-root-device.target.wants/corepath-wait-root.service");
    let said = |words: &str, systemd: &str| {
        let _ = fs::remove_file(dir.join(".corepath-wait"));
        let script = format!("cd {}; DRACUT_SYSTEMD={systemd} words='{words}' hook=x\n{library}", dir.display());
        must("sh", &["-c", &script])
    };
    assert_eq!(said("root=LABEL=x", ""), "queue: boot --cmdline\n");
    for words in ["rd.neednet=1", "rd.iscsi.firmware=1", "ip=dhcp root=x", "netroot=iscsi:x", "fcoe=eth0:nodcb", "rd.nvmf.discover=fc,auto"]
    {
        assert_eq!(said(words, ""), "mount: boot --cmdline\n", "{words}");
    }
    assert_eq!(said("", "1"), "", "the generator was told not to");
    fs::create_dir(unit.parent().unwrap()).unwrap();
    fs::write(unit, "").unwrap();
    assert_eq!(said("", "1"), "queue: start corepath-wait-root.service\n");
    let setup = fs::read_to_string(format!("{HERE}/initramfs/dracut/70corepath/module-setup.sh")).unwrap();
    let calls = "for f in inst_binary ln_r inst_multiple inst_rules inst_simple inst_hook; do eval \"$f() { echo $f \\\"\\$@\\\"; }\"; done; moddir=";
    for (systemd, mount) in [("true", false), ("false", true)] {
        let said = must("bash", &["-c", &format!("{calls}\ndracut_module_included() {{ {systemd}; }}\n{setup}\ninstall")]);
        assert!(said.contains("inst_hook initqueue/settled 00 /corepath-wait.sh\n"), "{said}");
        assert_eq!(said.contains("inst_hook pre-mount 02 /corepath-wait.sh\n"), mount, "{said}");
    }
}

/// What the program makes as `corepath-generator` of a command line, in an initrd or not: paths, with where a link leads.
fn generated(initrd: &str, words: &str) -> Vec<String> {
    let root = folder("generated");
    let dir = root.join("normal");
    fs::create_dir(&dir).unwrap();
    let name = root.join("corepath-generator");
    std::os::unix::fs::symlink(program(), &name).unwrap();
    let mut command = Command::new(name);
    command.env_clear().env("SYSTEMD_IN_INITRD", initrd).env("SYSTEMD_PROC_CMDLINE", words).arg(&dir).args(["/early", "/late"]);
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(fs::read_dir(&root).unwrap().count(), 2, "it writes into the first directory only");
    let told = |path: &String| match fs::read_link(dir.join(path)) {
        Ok(to) => format!("{path} -> {}", to.display()),
        Err(_) => format!("{path}: {}", fs::read_to_string(dir.join(path)).unwrap().trim().replace('\n', " ")),
    };
    files(&dir).iter().map(told).collect()
}

/// An initrd has the daemon and the wait started, and all that opens a disk comes after; one that is told not to, a machine without root
/// on a disk, and a host get less or nothing.
#[test]
fn the_generator_writes_what_is_wanted() {
    let daemon = "sysinit.target.wants/corepath.service -> /usr/lib/systemd/system/corepath.service";
    let wait = "initrd-root-device.target.wants/corepath-wait-root.service -> /usr/lib/systemd/system/corepath-wait-root.service";
    let later = ["lvm-activate-.service", "sysroot-.mount", "systemd-fsck@.service", "systemd-hibernate-resume@.service"]
        .map(|unit| format!("{unit}.d/corepath.conf: [Unit] After=corepath-wait-root.service"));
    let mut all = vec![wait.to_string(), daemon.to_string()];
    all.extend(later);
    all.sort();
    for words in [
        "root=LABEL=x ro",
        "",
        "root=8:1",
        "root=nfs root=block:LABEL=a:b",
        "root=live:LABEL=x",
        "root=iscsi:srv::::iqn.x",
        "rd.corepath=1 root=/dev/disk/by-path/pci-0000:01:0",
        "x=nompath",
    ] {
        assert_eq!(generated("1", words), all, "{words}");
    }
    for words in ["root=nfs:srv:/x", "root=/dev/nfs", "root=LABEL=x root=http://srv/x", "root=tmpfs"] {
        assert_eq!(generated("1", words), [daemon], "{words}");
    }
    for words in ["nompath", "root=LABEL=x multipath=off", "rd.multipath=0 root=8:1", "rd.corepath=no", "rd.corepath=0\n"] {
        assert_eq!(generated("1", words), [""; 0], "{words}");
    }
    assert_eq!(generated("0", "root=LABEL=x"), [""; 0], "the host");
    for dirs in [&[][..], &["/nonexistent/dir"]] {
        let mut command = Command::new(folder("unwritten").join("corepath-generator"));
        std::os::unix::fs::symlink(program(), command.get_program()).unwrap();
        let output = command.env("SYSTEMD_IN_INITRD", "1").env("SYSTEMD_PROC_CMDLINE", "").args(dirs).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
}
