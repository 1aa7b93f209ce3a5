//! A small Debian system as a root disk, and the initramfs that the suite's own builder makes for it: what a person gets who follows
//! README's "Put it into your initramfs" on a fresh machine.
//!
//! Packages are unpacked (no maintainer script runs), corepath's hooks are put in place by `corepath install`, the builder runs in a
//! chroot. All of it is cached by its inputs; the corepath under test is laid over image and disk each time.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::build;
use super::cpio::Cpio;
use super::disk::{self, Part};
use super::host;
use super::image;
use super::kernel::{Kernel, MODULES};
use super::machine::Vm;

/// Who makes the initramfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builder {
    Dracut,
    InitramfsTools,
    /// dracut with what opens LUKS and LVM.
    Opener,
    /// dracut with multipath-tools beside corepath: to be weighed, not booted.
    Scales,
}

/// What root's file system is inside of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inside {
    Luks,
    Lvm,
}

/// The container's own identity, for the words of the command line; and what opens it.
pub const LUKS: &str = "5f0c9c43-2b4e-4ed0-8f3b-6d1d2e8d4a11";
pub const SECRET: &[u8] = b"of the test, and of nobody else";

/// What an image of dracut's holds, or holds more than another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// Files that are no kernel modules.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The whole image, kernel modules included.
    pub whole: u64,
    /// The same by gzip.
    pub packed: u64,
}

impl std::ops::Sub for Weight {
    type Output = Weight;
    fn sub(self, other: Weight) -> Weight {
        Weight {
            files: self.files.saturating_sub(other.files),
            bytes: self.bytes.saturating_sub(other.bytes),
            whole: self.whole.saturating_sub(other.whole),
            packed: self.packed.saturating_sub(other.packed),
        }
    }
}

/// A system in the cache.
#[derive(Debug)]
pub struct Root {
    dir: PathBuf,
    kernel: Kernel,
}

/// What every root has. The service manager is Debian's, so are the login prompt and the shell.
const PACKAGES: [&str; 19] = [
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "dmsetup",
    "dpkg",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "libc-bin",
    "login",
    "mount",
    "sed",
    "systemd-sysv",
    "udev",
    "util-linux",
    "zstd",
];

/// What neither the boot nor the builder needs.
const UNUSED: [&str; 5] = ["adduser", "debconf", "openssl-provider-legacy", "perl", "tar"];

/// Runs in the root as process of its service manager: the lab's agent, and the line that a person waits for.
const UNITS: [(&str, &str); 2] = [
    (
        "lab.service",
        "[Unit]\nDefaultDependencies=no\nAfter=systemd-remount-fs.service\nStartLimitIntervalSec=0\n[Service]\n\
         ExecStart=/usr/bin/lab agent\nRestart=on-failure\n[Install]\nWantedBy=sysinit.target\n",
    ),
    (
        "login-marker.service",
        "[Unit]\nAfter=multi-user.target getty.target\n[Service]\nType=oneshot\n\
         ExecStart=/bin/sh -c 'echo \"@login $$(cut -d\" \" -f1 /proc/uptime)\" >/dev/console'\n[Install]\nWantedBy=multi-user.target\n",
    ),
];

impl Root {
    /// The system of this kernel's suite with this builder. Made on first use.
    pub fn get(kernel: &Kernel, builder: Builder) -> Root {
        host::tools();
        let word = match builder {
            Builder::Dracut => "dracut-core",
            Builder::InitramfsTools => "initramfs-tools",
            Builder::Opener => "lvm2",
            Builder::Scales => "multipath-tools",
        };
        let mut packages = PACKAGES.to_vec();
        packages.push(word);
        if builder == Builder::Opener {
            packages.extend(["dracut-core", "cryptsetup-bin"]);
            // A package of its own since Debian 13.
            packages.extend((kernel.label != "6.1").then_some("systemd-cryptsetup"));
        }
        if builder == Builder::Scales {
            packages.extend(["dracut-core", "kpartx"]);
        }
        let debs = kernel.suite.debs_without(&packages, &UNUSED);
        let hooks = hooks();
        let parts = [debs.id.as_bytes(), kernel.release.as_bytes(), hooks.as_bytes(), include_bytes!("root.rs")];
        let dir = host::cache().join("roots").join(format!("{}-{word}-{}", kernel.label, host::digest(parts)));
        let root = Root { dir, kernel: kernel.clone() };
        let _lock = host::Lock::wait(&format!("root-{}-{word}", kernel.label));
        if !root.dir.join("ready").exists() {
            // A new text of a hook makes a new root: the one before is of no use to anybody.
            let old = fs::read_dir(host::cache().join("roots")).into_iter().flatten().flatten().map(|entry| entry.path());
            for old in
                old.filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&format!("{}-{word}-", kernel.label))))
            {
                let _ = fs::remove_dir_all(old);
            }
            host::make_dir(&root.tree());
            for package in &debs.roots {
                lay_over(package, &root.tree());
            }
            root.furnish(builder);
            root.make_image(builder);
            host::write_whole(&root.dir.join("ready"), b"");
        }
        root
    }

    /// The folder that holds the whole system.
    pub fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    /// The initramfs as its builder wrote it, unpacked.
    pub fn initramfs(&self) -> PathBuf {
        self.dir.join("initramfs")
    }

    /// Is a file of this name in the initramfs? The image is one archive or several (cpio, newc), not compressed.
    pub fn image_holds(&self, name: &str) -> bool {
        let image = fs::read(self.initramfs()).unwrap_or_else(|e| panic!("no initramfs: {e}"));
        let magic = b"070701";
        let heads = (0..image.len()).filter(|at| image[*at..].starts_with(magic));
        // The name follows the head of 110 bytes and ends in NUL.
        let mut names = heads.filter_map(|at| image.get(at + 110..)?.split(|b| *b == 0).next());
        names.any(|found| found.strip_prefix(b"./").unwrap_or(found) == name.as_bytes())
    }

    /// A machine that boots from this root, once its disks are given: the builder's image with the corepath under test in it.
    pub fn vm(&self) -> Vm {
        let corepath = build::corepath(&self.kernel);
        Vm::new(&self.kernel).memory(1024).initrd(&self.initramfs()).copy(&corepath, "/usr/sbin/corepath", 0o755)
    }

    /// Writes a disk: a GPT with a small partition and this root (label `sanroot`) behind it, the corepath under test in place.
    pub fn disk(&self, path: &Path) {
        let base = self.dir.join("disk");
        {
            let _lock = host::Lock::wait("root-disk");
            if !base.exists() {
                let part = host::part(&base);
                let parts = [Part { mib: 8, ext4: None }, Part { mib: 300, ext4: Some(("sanroot", &self.tree())) }];
                disk::partitioned(&part, 310, "gpt", &parts);
                fs::rename(&part, &base).unwrap_or_else(|e| panic!("cannot make {}: {e}", base.display()));
            }
        }
        host::must(Command::new("cp").arg("--sparse=always").arg(&base).arg(path));
        let scratch = host::Scratch::new();
        let (corepath, lab) = (scratch.path("corepath"), scratch.path("lab"));
        let copied = fs::copy(build::corepath(&self.kernel), &corepath).and_then(|_| fs::write(&lab, build::guest_helper()));
        copied.unwrap_or_else(|e| panic!("cannot copy: {e}"));
        let mut script = String::new();
        for (from, to) in [(&corepath, "/usr/sbin/corepath"), (&lab, "/usr/bin/lab")] {
            script += &format!("rm {to}\nwrite {} {to}\nsif {to} mode 0100755\n", from.display());
        }
        fs::write(scratch.path("script"), script).unwrap_or_else(|e| panic!("cannot write: {e}"));
        let image = format!("{}?offset={}", path.display(), 9 << 20);
        host::must(Command::new(host::program("debugfs")).args(["-w", "-f"]).arg(scratch.path("script")).arg(image));
    }

    /// Writes a disk like [`Root::disk`]'s, but root's file system is in a LUKS volume or a logical volume in the second partition. A machine
    /// makes it with the programs of its suite.
    pub fn disk_inside(&self, inside: Inside, path: &Path) {
        let place = Vm::new(&self.kernel);
        let plain = place.scratch().join("plain.img");
        self.disk(&plain);
        disk::partitioned(path, 350, "gpt", &[Part { mib: 8, ext4: None }, Part { mib: 340, ext4: None }]);
        let drive = |path: &Path| format!("file={},format=raw,if=virtio,file.locking=off,cache=unsafe", path.display());
        let guest = Vm::new(&self.kernel)
            .debs(&["cryptsetup-bin", "lvm2"])
            .modules(&["virtio_blk", "dm_crypt", "xts", "aesni_intel", "algif_skcipher"])
            .file("/secret", 0o400, SECRET)
            .qemu(&["-drive", &drive(&plain), "-drive", &drive(path)])
            .limit(std::time::Duration::from_secs(300))
            .boot();
        guest.ok("export DM_DISABLE_UDEV=1; modprobe -a virtio_blk dm_mod dm_crypt; until [ -b /dev/vda2 ] && [ -b /dev/vdb2 ]; do usleep 10000; done");
        let (open, node, close) = match inside {
            Inside::Luks => (
                format!(
                    "cryptsetup luksFormat -q --type luks2 --uuid {LUKS} --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file /secret /dev/vdb2\n\
                     cryptsetup open --key-file /secret /dev/vdb2 opened"
                ),
                "/dev/mapper/opened",
                "cryptsetup close opened",
            ),
            Inside::Lvm => (
                "pvcreate -q /dev/vdb2 && vgcreate -q san /dev/vdb2 && lvcreate -q -y -Wn -Zn -L 304m -n root san".to_string(),
                "/dev/mapper/san-root",
                "vgchange -an san",
            ),
        };
        guest
            .spawn(&format!("set -e; export DM_DISABLE_UDEV=1; {open}; dd if=/dev/vda2 of={node} bs=1M conv=fsync; {close}"))
            .wait(std::time::Duration::from_secs(240))
            .ok();
        guest.ok("sync");
    }

    /// Runs a script in the root, as root, with /dev, /proc and /sys.
    pub fn chroot(&self, script: &str) -> String {
        chroot(&self.tree(), script)
    }

    /// What dracut's image weighs with these modules and without those. Only for [`Builder::Scales`].
    pub fn weigh(&self, add: &str, omit: &str) -> Weight {
        let corepath = self.tree().join("usr/sbin/corepath");
        fs::copy(build::shipped(), corepath).unwrap_or_else(|e| panic!("cannot copy corepath: {e}"));
        let add = if add.is_empty() { String::new() } else { format!("--add {add}") };
        // Without the configuration that `corepath install` leaves: it says which of the two is in.
        let said = self.chroot(&format!(
            "mkdir -p /weigh/none && cd /weigh && rm -rf tree image /usr/lib/dracut/dracut.conf.d/70-corepath.conf && mkdir tree\n\
             dracut --conf /dev/null --confdir /weigh/none --force --no-compress --no-hostonly {add} --omit '{omit}' --kver {} image >log 2>&1 || {{ cat log; exit 1; }}\n\
             cd tree && cpio -id --quiet <../image && find . -type f ! -path '*/lib/modules/*' -printf 'f %s\\n'\n\
             echo w $(stat -c %s ../image); echo p $(gzip -c ../image | wc -c); cd ..; rm -rf tree image",
            self.kernel.release
        ));
        let sum = |key: &str| said.lines().filter_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok()).sum();
        Weight {
            files: said.lines().filter(|line| line.starts_with("f ")).count() as u64,
            bytes: sum("f "),
            whole: sum("w "),
            packed: sum("p "),
        }
    }

    fn furnish(&self, builder: Builder) {
        let tree = self.tree();
        let put = |path: &str, text: &[u8]| {
            let path = tree.join(path);
            host::make_dir(path.parent().unwrap_or(&tree));
            fs::write(&path, text).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
        };
        for name in ["passwd", "group"] {
            let text = fs::read(tree.join(format!("usr/share/base-passwd/{name}.master"))).unwrap_or_default();
            put(&format!("etc/{name}"), &text);
        }
        put("etc/machine-id", b"c0ae1a70000000000000000000000001\n");
        put("etc/hostname", b"san\n");
        put("etc/fstab", b"");
        observe(&tree);
        // Consoles that the machine does not have.
        let _ = symlink("/dev/null", tree.join("etc/systemd/system/getty-static.service"));
        let release = &self.kernel.release;
        let modules: Vec<&str> = MODULES
            .iter()
            .copied()
            .chain(["autofs4", "ata_piix", "dm_crypt", "xts", "aesni_intel"])
            .filter(|module| self.kernel.has(module))
            .collect();
        image::modules_below(&tree, &self.kernel, &self.kernel.closure(&modules));
        let config =
            self.kernel.modules_dir().ancestors().nth(3).map(|root| root.join(format!("boot/config-{release}"))).unwrap_or_default();
        host::make_dir(&tree.join("boot"));
        let _ = fs::copy(config, tree.join(format!("boot/config-{release}")));
        // `make install`, without the build.
        let corepath = build::corepath(&self.kernel);
        let sbin = tree.join("usr/sbin");
        fs::copy(&corepath, sbin.join("corepath")).unwrap_or_else(|e| panic!("cannot copy {}: {e}", corepath.display()));
        let names = ["@corepath", "multipath", "multipathd", "multipathc", "kpartx", "devmap_name"];
        for name in names.iter().take(if builder == Builder::Scales { 1 } else { names.len() }) {
            let _ = fs::remove_file(sbin.join(name));
            let _ = symlink("corepath", sbin.join(name));
        }
        host::must(Command::new(&corepath).args(["install", "--root"]).arg(&tree));
        self.chroot("ldconfig");
        // Nothing is to be rebuilt at the first boot: that is its time stamp's say.
        for name in ["etc/.updated", "var/.updated"] {
            put(name, b"");
        }
    }

    fn make_image(&self, builder: Builder) {
        let release = &self.kernel.release;
        match builder {
            // Debian 12's systemd has all that dracut's crypt module asks for, which then brings dmsetup into every image. Root is not
            // encrypted here, and comes without.
            Builder::Dracut => self.chroot(&format!("dracut --force --no-compress --omit crypt --kver {release} /boot/initramfs")),
            Builder::Opener => self.chroot(&format!("dracut --force --no-compress --add 'crypt lvm' --kver {release} /boot/initramfs")),
            Builder::InitramfsTools => self.chroot(&format!("COMPRESS=zstd mkinitramfs -o /boot/initramfs {release}")),
            Builder::Scales => return,
        };
        let made = self.tree().join("boot/initramfs");
        // Unpacked here: an emulated machine takes its time over it.
        match builder {
            Builder::Dracut | Builder::Opener => {
                fs::copy(&made, self.initramfs()).map(|_| ()).unwrap_or_else(|e| panic!("no initramfs was made: {e}"))
            }
            _ => {
                host::must(Command::new(host::program("zstd")).args(["-dfq"]).arg(&made).arg("-o").arg(self.initramfs()));
            }
        }
        let _ = fs::remove_file(made);
    }
}

/// Gives a system the units that the lab looks at it by, and their program; it is to boot to a login prompt.
pub fn observe(tree: &Path) {
    let units = tree.join("etc/systemd/system");
    for (name, text) in UNITS {
        let wanted = if text.contains("sysinit.target\n") { "sysinit" } else { "multi-user" };
        let dir = units.join(format!("{wanted}.target.wants"));
        host::make_dir(&dir);
        fs::write(units.join(name), text).unwrap_or_else(|e| panic!("cannot write {name}: {e}"));
        let _ = symlink(format!("../{name}"), dir.join(name));
    }
    let _ = symlink("/usr/lib/systemd/system/multi-user.target", units.join("default.target"));
    let lab = tree.join("usr/bin/lab");
    fs::write(&lab, build::guest_helper())
        .and_then(|()| fs::set_permissions(&lab, PermissionsExt::from_mode(0o755)))
        .unwrap_or_else(|e| panic!("cannot write {}: {e}", lab.display()));
}

/// Writes a disk like [`Root::disk`]'s whose root is busybox: its init prints the login marker and starts the agent.
pub fn busybox_disk(kernel: &Kernel, path: &Path) {
    let scratch = host::Scratch::new();
    let tree = scratch.path("tree");
    let init = "#!/bin/sh\nexport PATH=/bin\n[ ! -e /mnt/virtio_console.ko ] || insmod /mnt/virtio_console.ko\n\
                echo \"@login $(cut -d' ' -f1 /proc/uptime)\" >/dev/console\nlab agent &\nwait $!\npoweroff -f\n";
    let busybox = image::busybox_program(kernel);
    disk::root_tree(&tree, &busybox, init);
    let list = host::must(Command::new(tree.join("bin/busybox")).arg("--list"));
    for applet in String::from_utf8_lossy(&list).lines() {
        let _ = symlink("busybox", tree.join("bin").join(applet));
    }
    host::make_dir(&tree.join("mnt"));
    let copied =
        fs::copy(build::corepath(kernel), tree.join("bin/corepath")).and_then(|_| fs::write(tree.join("bin/lab"), build::guest_helper()));
    copied
        .and_then(|()| fs::set_permissions(tree.join("bin/lab"), PermissionsExt::from_mode(0o755)))
        .unwrap_or_else(|e| panic!("cannot copy: {e}"));
    if let Some(file) = kernel.closure(&["virtio_console"]).iter().find(|file| file.contains("virtio_console")) {
        fs::write(tree.join("mnt/virtio_console.ko"), kernel.module(file)).unwrap_or_else(|e| panic!("cannot write: {e}"));
    }
    let parts = [Part { mib: 8, ext4: None }, Part { mib: 48, ext4: Some(("sanroot", &tree)) }];
    disk::partitioned(path, 58, "gpt", &parts);
}

/// The id of a partition in the table of an image, as `root=PARTUUID=` takes it.
pub fn part_uuid(image: &Path, number: u32) -> String {
    let said = host::must(Command::new(host::program("sfdisk")).arg("--part-uuid").arg(image).arg(number.to_string()));
    String::from_utf8_lossy(&said).trim().to_lowercase()
}

/// All texts below initramfs/: what `corepath install` puts in place.
fn hooks() -> String {
    let mut cpio = Cpio::new();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("initramfs");
    cpio.tree(&dir, &|path| Some(path.to_string())).unwrap_or_else(|e| panic!("{e}"));
    host::digest([cpio.finish().as_slice()])
}

/// Lays a package over a root whose /bin, /lib and /sbin are links to those of /usr, as its folders may not know.
fn lay_over(package: &Path, root: &Path) {
    for name in ["bin", "sbin", "lib", "lib64"] {
        host::make_dir(&root.join("usr").join(name));
        let _ = symlink(format!("usr/{name}"), root.join(name));
    }
    let tar = host::program("tar");
    let unread = ["doc", "man", "locale", "info", "lintian"].map(|name| format!("--exclude=./usr/share/{name}"));
    let mut from = Command::new(&tar)
        .arg("-C")
        .arg(package)
        .args(unread)
        .args(["-c", "."])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start tar: {e}"));
    let stream = from.stdout.take().expect("the stream was asked for");
    let to = Command::new(&tar).arg("-C").arg(root).args(["--keep-directory-symlink", "-x"]).stdin(stream).status();
    assert!(
        to.is_ok_and(|status| status.success()) && from.wait().is_ok_and(|status| status.success()),
        "{} cannot be unpacked",
        package.display()
    );
}

/// Runs a script in a root of its own, in mount and process namespaces that end with it; who is not root becomes one in a user namespace.
pub fn chroot(tree: &Path, script: &str) -> String {
    chroot_with(tree, &[], script)
}

/// The same, with folders of this machine in it: (here, there).
pub fn chroot_with(tree: &Path, folders: &[(&Path, &str)], script: &str) -> String {
    let enter = "t=$1 s=$2; shift 2; while [ $# != 0 ]; do mkdir -p \"$t$2\"; mount --bind \"$1\" \"$t$2\"; shift 2; done\n\
                 mount --rbind /dev \"$t/dev\" && mount -t proc proc \"$t/proc\" && mount --rbind /sys \"$t/sys\" && exec chroot \"$t\" /bin/sh -ec \"$s\"";
    let mut command = Command::new(host::program("unshare"));
    command.args(if host::is_root() { &["-mpf"][..] } else { &["-rmpf"] }).args(["sh", "-ec", enter, "sh"]).arg(tree).arg(script);
    for (here, there) in folders {
        command.arg(here).arg(there);
    }
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    String::from_utf8_lossy(&host::must(&mut command)).into_owned()
}
