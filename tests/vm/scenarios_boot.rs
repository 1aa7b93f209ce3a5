//! From power-on to the real root without udev: `initramfs/busybox/init` word for word, a kernel, busybox and corepath.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lab::watched::{self, Random, Watched};
use crate::lab::{Array, Guest, Kernel, Vm, agent, root, rounds, site};
use crate::scenario;

const INIT: &str = include_str!("../../initramfs/busybox/init");
const TIED: &str = include_str!("../../initramfs/modprobe.conf");

/// The machine of the README: its initramfs is the file under initramfs/, and nothing in it knows the storage.
fn machine(kernel: &Kernel) -> Vm {
    Vm::new(kernel).corepath().link("/usr/bin/@corepath", "corepath").init(INIT).limit(Duration::from_secs(120))
}

fn disk(kernel: &Kernel, vm: &Vm) -> PathBuf {
    let image = vm.scratch().join("root.img");
    root::busybox_disk(kernel, &image);
    image
}

fn clariion(image: &Path, ports: &[&str], lun: u32) -> Array {
    Array::start("clariion", ports, &format!("--lun {lun},file={}", image.display()))
}

/// Waits for the real root and asserts that it is the second partition of a map, under the daemon of the initramfs.
#[track_caller]
fn arrived(guest: &Guest) -> Watched {
    guest.console_line("@login", Duration::from_secs(90));
    guest.agent_within(1, Duration::from_secs(60));
    let watched = Watched::of(guest);
    assert_eq!(watched.partition, 2);
    watched
}

/// Waits until root's map has so many usable paths.
#[track_caller]
fn has_paths(guest: &Guest, usable: usize) {
    let script = format!("corepath status >/run/status; grep -q ', {usable} usable' /run/status || {{ cat /run/status; dmesg; false; }}");
    guest.until(&script, Duration::from_secs(40));
}

scenario! {
    /// The same initramfs: four paths; one path; the passive SP seen first and a port dead; another LUN id. `root=` by label, by partition id, by WWID link. Each time a port is pulled at a random moment on the way.
    fn busybox_boots_root_whatever_the_storage(kernel) {
        let place = Vm::new(kernel);
        let image = disk(kernel, &place);
        let uuid = root::part_uuid(&image, 2);
        let mut random = Random::new();
        for _ in 0..rounds(1, 5) {
            for (case, ports, lun, words) in [
                ("four paths", &["a0", "a1", "b0", "b1"][..], 0, "root=LABEL=sanroot".to_string()),
                ("one path", &["a0"], 3, format!("root=PARTUUID={uuid}")),
                ("the passive SP first, a path dead", &["b0", "a0", "a1"], 0, format!("root=/dev/disk/by-partuuid/{uuid}")),
            ] {
                let array = clariion(&image, ports, lun);
                let dead = case.starts_with("the passive");
                if dead {
                    array.say("down a0");
                }
                let guest = machine(kernel).array(&array).cmdline(&words).boot();
                // With more than one port, one of them goes at some moment of the boot.
                let pulled = (ports.len() > 1 && !dead).then(|| watched::pull(&array, &mut random, Duration::from_secs(6)));
                let watched = arrived(&guest);
                let usable = ports.len() - usize::from(dead) - usize::from(pulled.is_some());
                has_paths(&guest, usable);
                if let Some((port, _)) = &pulled {
                    array.say(&format!("up {port}"));
                }
                if dead {
                    // It answered nothing when it was looked for: it has to log in.
                    array.say("up a0");
                    array.say("event a0 rescan lun=0");
                }
                has_paths(&guest, ports.len());
                watched.still(&guest);
                println!("vm: {} busybox, {case}: login after {} s, pulled {pulled:?}", kernel.release, watched.login);
            }
        }
    }
}

scenario! {
    /// Root's LUN comes late, and root is mounted all the same; how long after its first path is printed. The image's own configuration is
    /// not said to have changed when the image is emptied, and from then on that of the real root is what `reconfigure` reads, with another alias for root.
    fn root_appears_late(kernel) {
        let place = Vm::new(kernel);
        let image = disk(kernel, &place);
        let late = rounds(5, 20);
        let array = clariion(&image, &["a0", "b0"], 0);
        array.say("lun 0 unmap quiet");
        let wwid = site::wwid("CPA0001", 0);
        let conf = |interval: u32, alias: &str| {
            format!(
                "defaults {{\n\tpolling_interval {interval}\n}}\nmultipaths {{\n\tmultipath {{\n\t\twwid {wwid}\n\t\talias {alias}\n\t}}\n}}\n"
            )
        };
        let vm = machine(kernel).array(&array).cmdline("root=LABEL=sanroot").file("/etc/multipath.conf", 0o644, conf(3, "image").as_bytes());
        let guest = vm.boot();
        watched::found(&array, "b0");
        std::thread::sleep(Duration::from_secs(late.into()));
        array.say("lun 0 map quiet");
        array.say("event a0 rescan lun=0");
        array.say("event b0 rescan lun=0");
        let watched = arrived(&guest);
        let log = guest.ok("dmesg");
        let at = |text: &str| watched::stamp(&log, text).unwrap_or_else(|| panic!("no `{text}` in {log}"));
        let (seen, mounted) = (at("[sda] Attached SCSI disk").min(at("[sdb] Attached SCSI disk")), at("EXT4-fs (dm-"));
        println!("vm: {} root mounted {:.3} s after its first path appeared", kernel.release, mounted - seen);
        assert!(mounted > seen);

        // Root's map has the image's name for it until the host's is read, then that; it stays the device that is mounted.
        let names = "stat -c %d /; cat /sys/block/dm-*/dm/name | sort | xargs";
        let before = guest.ok(names);
        assert!(before.ends_with("image image1 image2"), "{before}");
        let interval = "corepath raw list config | grep -m 1 polling_interval";
        assert!(guest.ok(interval).contains('3'));
        guest.until("dmesg | grep -q 'the configuration is that of the initramfs'", Duration::from_secs(20));
        let said = guest.ok("corepath status; dmesg");
        assert!(!said.contains("has changed") && !said.contains("have changed"), "{said}");
        guest.ok(&format!("mount -o remount,rw / && mkdir -p /etc && printf '{}' >/etc/multipath.conf", conf(4, "host").replace('\n', "\\n")));
        guest.ok("corepath reconfigure");
        assert!(guest.ok(interval).contains('4'));
        guest.until("[ -b /dev/mapper/host2 ] && [ ! -e /dev/mapper/image2 ]", Duration::from_secs(20));
        assert_eq!(guest.ok(names), before.replace("image", "host"));
        watched.still(&guest);
        // What it looked into it does not hold.
        assert_eq!(Watched::of(&guest).pid, watched.pid);
    }
}

scenario! {
    /// Root never appears: after its time one line says why, and a shell is there.
    fn root_never_appears(kernel) {
        let array = Array::start("clariion", &["a0", "b0"], "--luns 1,size=8M");
        let guest = machine(kernel).array(&array).cmdline("root=LABEL=sanroot rd.corepath.timeout=3").boot();
        let line = guest.console_line("did not appear within 3 s", Duration::from_secs(60));
        assert!(line.contains("boot: LABEL=sanroot did not appear within 3 s: 2 disks seen"), "{line}");
        guest.console_line("sda", Duration::from_secs(20)); // corepath scan
        assert!(!guest.console().contains("panic"));
    }
}

scenario! {
    /// Boots under load, one path delayed by up to 10 s: root is never mounted through a path. A hundred in all, for a release.
    fn a_path_delayed_under_load(kernel) {
        let place = Vm::new(kernel);
        let image = disk(kernel, &place);
        let mut random = Random::new();
        // Processes that never sleep, from before the first module to the end.
        let load = "mkdir -p /run /root\nfor n in 1 2 3 4; do (while :; do :; done) & done\n";
        for _ in 0..rounds(1, 50) {
            let array = clariion(&image, &["a0", "b0"], 0);
            let (port, delay) = (["a0", "b0"][random.below(2) as usize], random.below(10_000));
            array.say(&format!("lun 0 unmap {port} quiet"));
            let guest = machine(kernel).init(&INIT.replace("mkdir -p /run /root\n", load)).array(&array).cmdline("root=LABEL=sanroot").boot();
            watched::found(&array, port);
            std::thread::sleep(Duration::from_millis(delay));
            array.say(&format!("lun 0 map {port} quiet"));
            array.say(&format!("event {port} rescan lun=0"));
            let watched = arrived(&guest);
            has_paths(&guest, 2);
            watched.still(&guest);
            println!("vm: {} under load, {port} {delay} ms late: root mounted at {} s", kernel.release, watched.mounted);
        }
    }
}

scenario! {
    /// Root's only paths are passive, and nothing on them can be read: the disk is claimed all the same, I/O through its map moves it, and
    /// root boots. With one path and with two, by label and by WWID.
    fn passive_paths_only(kernel) {
        let place = Vm::new(kernel);
        let image = disk(kernel, &place);
        for (ports, by_wwid) in [(&["b0"][..], false), (&["b0", "b1"][..], false), (&["b0", "b1"][..], true)] {
            // One path is the hard case.
            if ports.len() > 1 && rounds(0, 1) == 0 {
                continue;
            }
            let array = clariion(&image, ports, 0);
            let words = if by_wwid { format!("root=/dev/mapper/{}p2", site::wwid("CPA0001", 0)) } else { "root=LABEL=sanroot".to_string() };
            let guest = machine(kernel).array(&array).cmdline(&words).boot();
            let watched = arrived(&guest);
            has_paths(&guest, ports.len());
            assert_eq!(array.number("trespasses 0"), 1, "{words}");
            println!("vm: {} {} passive paths, {words}: login after {} s", kernel.release, ports.len(), watched.login);
        }
    }
}

scenario! {
    /// Root's file system is inside what others open. On a map: the wait ends when the map is there. On a disk with one way to it: a while after
    /// the last disk. With nothing that could be opened it is root that is waited for, whatever the words say: its disk may be late.
    fn root_is_on_top_of_a_map(kernel) {
        let uuid = "root=UUID=5f0c9c43-2b4e-4ed0-8f3b-6d1d2e8d4a11";
        let luks = "printf 'LUKS\\272\\276' | dd of=/dev/sda conv=notrunc 2>/dev/null; sync";
        let lvm = "printf LABELONE | dd of=/dev/sda bs=512 seek=1 conv=notrunc 2>/dev/null; printf 'LVM2 001' | dd of=/dev/sda bs=1 seek=536 conv=notrunc 2>/dev/null; sync";
        for (paths, put, words, says) in [
            (2, luks, "rd.corepath.timeout=8", Ok("not waited for; 1 maps with 2 usable paths")),
            (1, lvm, "rd.corepath.timeout=40", Ok("not waited for; 0 maps with 0 usable paths")),
            (2, "true", "rd.luks.uuid=luks-1f rd.corepath.timeout=8", Err("did not appear within 8 s")),
        ] {
            let guest = Vm::new(kernel).corepath().lun("a", 16 << 20, paths).cmdline(&format!("{uuid} {words}")).boot();
            guest.ok("modprobe -a dm_multipath dm_service_time");
            guest.until(&format!("[ $(ls -d /sys/block/sd* | wc -l) = {paths} ]"), Duration::from_secs(20));
            guest.ok(put);
            let boot = guest.run("corepath boot --cmdline");
            let (code, text) = says.map_or_else(|text| (2, text), |text| (0, text));
            assert!(boot.code == code && boot.text().contains(text), "{words}: {} {}", boot.code, boot.text());
        }
    }
}

scenario! {
    /// The kernel's device mapper is a module that no machine needs before its first map: neither the daemon nor the commands that look have it
    /// loaded. With the first disk that becomes a path it comes, and what it tells of is heard from then on.
    fn the_device_mapper_comes_with_the_first_map(kernel) {
        let conf = "defaults {\n\tfind_multipaths yes\n\tpath_checker tur\n\tpolling_interval 20\n\tmax_polling_interval 20\n}\n";
        let guest = Vm::new(kernel).corepath().lun_later("a", 16 << 20, 2, 1).file("/etc/multipath.conf", 0o644, conf.as_bytes()).boot();
        guest.until("[ -e /sys/block/sda ]", Duration::from_secs(20));
        let loaded = "ls -d /sys/class/misc/device-mapper /sys/module/dm_multipath 2>/dev/null; true";
        guest.ok("corepath list; corepath scan; corepath boot --timeout 0 || true");
        let _daemon = guest.spawn("exec corepath daemon --strict");
        guest.until("corepath status", Duration::from_secs(20));
        guest.ok("corepath list; multipath -ll; corepath scan");
        assert_eq!(guest.ok(loaded), "", "no disk has two paths");
        guest.plug("a.1");
        // Paths are usable before their map is made; the modules come with that.
        guest.until(&format!("[ $({{ {loaded}; }} | wc -l) = 2 ]"), Duration::from_secs(20));
        guest.until("corepath status | grep -q '2 usable'", Duration::from_secs(20));
        guest.until("[ $(ls /dev/mapper | grep -vc control) = 1 ]", Duration::from_secs(10));
        // Its events wake the loop: one of the two descriptors is in the epoll set.
        let open = "cd /proc/$(pidof corepath); for fd in $(ls -l fd | awk '/mapper.control/ { print $(NF-2) }'); do grep -hc \"tfd: *$fd \" fdinfo/$(ls -l fd | awk '/eventpoll/ { print $(NF-2) }'); done | sort | tr '\\n' ' '";
        assert_eq!(guest.run(open).text().trim(), "0 1");
        guest.ok("lab dm message $(ls /dev/mapper | grep -v control) --say \"fail_path $(cat /sys/block/sda/dev)\"");
        guest.until("dmesg | grep 'corepath: .*reinstated'", Duration::from_secs(10));
        guest.until("corepath status | grep -q '2 usable'", Duration::from_secs(30));
        guest.ok("corepath remove $(ls /dev/mapper | grep -v control)");
        guest.until("[ $(ls /dev/mapper | grep -vc control) = 0 ]", Duration::from_secs(10));
    }
}

/// What the initramfs of the README costs a machine without a SAN: everything that is there without corepath too is done first. The modules
/// are those that `initramfs/modprobe.conf` ties to the driver of root's disk.
fn costs(root: &str) -> String {
    let (head, tail) = INIT.split_once("# The handlers first").unwrap_or_else(|| panic!("another init: {INIT}"));
    let (_, tail) = tail.split_once("; done\n").unwrap_or_default();
    let modules = TIED.lines().find_map(|line| line.strip_prefix("softdep virtio_scsi pre: ")).unwrap_or_else(|| panic!("{TIED}"));
    let modules = if root == "sda2" { modules } else { "virtio_blk" };
    let (wait, rest) = tail.split_once("mount -o ro").unwrap_or_default();
    assert!(wait.contains("@corepath daemon") && wait.contains("corepath boot"), "{wait}");
    format!(
        "{head}modprobe -qa ext4 sd_mod virtio_pci virtio_scsi virtio_blk\nuntil [ -e /sys/class/block/{root} ]; do :; done\n\
         z=$(lab clock); a=$(lab clock)\nmodprobe -qa {modules}\nb=$(lab clock)\n{wait}c=$(lab clock)\n\
         echo \"@cost modules=$((b-a)) boot=$((c-b)) clock=$((a-z))\" >/dev/console\nmount -o ro{rest}"
    )
}

scenario! {
    /// No SAN: a local SCSI disk, and a virtual one that no path manager has to do with. No map is made, nothing is waited for; what it costs
    /// by the guest's clock is printed, beside the start of the smallest program there.
    fn a_boot_without_a_san(kernel) {
        let place = Vm::new(kernel);
        let image = disk(kernel, &place);
        let drive = format!("file={},format=raw,if=virtio,file.locking=off", image.display());
        // Once more by a clock that counts instructions, two nanoseconds each: what the emulator takes to translate them is none of the
        // machine's time. 6.1 does not come up with it.
        let counted = ["sda2", "vda2"].map(|name| (name, "root=LABEL=sanroot", &["-icount", "shift=1"][..]));
        for (name, words, clocked) in
            [("sda2", "root=LABEL=sanroot", &[][..]), ("sda2", "root=8:2", &[]), ("vda2", "root=/dev/vda2", &[]), ("vda2", "root=LABEL=sanroot", &[])].into_iter().chain(counted)
        {
            let by = if clocked.is_empty() { "the emulator's clock" } else { "500 million instructions a second" };
            if !clocked.is_empty() && (kernel.label != "6.12" || rounds(0, 1) == 0) {
                continue;
            }
            let mut times = Vec::new();
            for _ in 0..rounds(u32::from(words != "root=/dev/vda2"), 5) {
                let vm = machine(kernel).modules(&["virtio_blk"]).init(&costs(name)).cmdline(words).qemu(clocked);
                let guest = if name == "sda2" { vm.lun_image("local", &image, 1) } else { vm.qemu(&["-drive", &drive]) }.boot();
                let line = guest.console_line("@cost", Duration::from_secs(90));
                guest.console_line("@login", Duration::from_secs(60));
                guest.agent_within(1, Duration::from_secs(60));
                assert_eq!(guest.ok("ls /sys/block | grep -c dm- || true"), "0", "a map on a machine without a SAN");
                let mapper = guest.ok("ls -d /sys/class/misc/device-mapper 2>/dev/null; true");
                assert_eq!(mapper.is_empty(), name == "vda2", "the device mapper, for nothing");
                assert!(guest.ok("cat /proc/self/mountinfo").contains(&format!("/dev/{name}")));
                let number = |key: &str| agent::marker(&line, "@cost", key).and_then(|n| n.parse::<u64>().ok()).unwrap_or_else(|| panic!("{line}"));
                let clock = number("clock");
                times.push((number("boot").saturating_sub(clock), number("modules").saturating_sub(clock), clock));
            }
            times.sort_unstable();
            if let Some((boot, modules, clock)) = times.get(times.len() / 2) {
                println!(
                    "vm: {} {name} {words}: daemon and boot took {boot} ms, modules {modules} ms, a program's start {clock} ms (median of {}, by {by})",
                    kernel.release,
                    times.len()
                );
            }
        }
    }
}
