//! What the kernel's command line says, in an initramfs and outside of one; names that the files of an image and of its host see differently.

use std::time::Duration;

use crate::lab::Vm;
use crate::scenario;

const LONG: Duration = Duration::from_secs(30);

scenario! {
    /// Two LUNs, one with two paths, one with one. Each word does what it says, for `boot` and for the daemon; words that begin with `rd.`
    /// are for an initramfs only.
    fn words_of_the_command_line(kernel) {
        let guest = Vm::new(kernel).corepath().lun("a", 16 << 20, 2).lun("b", 16 << 20, 1).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time; mkdir -p /p /q /new/dev /new/sys /new/run /new/bin");
        guest.ok("ln -s /proc/self /p/self; ln -s /proc/1 /p/1; [ -e /init ]");
        let (a, b) = (guest.disk("a.0").unwrap(), guest.disk("b.0").unwrap());
        let wwid = |disk: &str| guest.ok(&format!("cat /sys/block/{disk}/device/wwid")).trim().replacen("naa.", "3", 1);
        let (a, b) = (wwid(&a), wwid(&b));
        // Runs under this command line, gives the output and the names of the maps, and takes them away.
        let under = |words: &str, command: &str| {
            guest.ok(&format!("echo 'quiet {words}' >/p/cmdline"));
            let run = guest.run(&format!("{command} 2>&1"));
            let maps = guest.ok("ls /dev/mapper | grep -v control || true");
            guest.ok("corepath remove --all >/run/removed 2>&1; ls /dev/mapper | grep -qv control && cat /run/removed && exit 1; true");
            (run.code, run.text().to_string(), maps)
        };
        let boot = "corepath boot --cmdline --proc /p --timeout 10";

        for word in ["nompath", "multipath=off", "rd.multipath=0", "rd.corepath=0", "rd.corepath=off"] {
            let (code, said, maps) = under(word, boot);
            assert!(code == 0 && said.contains(&format!("nothing is done: {word} on the kernel's command line")) && maps.is_empty(), "{word}: {said} {maps}");
            let (code, said, maps) = under(word, "timeout 20 corepath daemon --proc /p");
            assert!(code == 0 && said.contains(&format!("nothing is done: {word}")) && maps.is_empty(), "{word}: {code} {said} {maps}");
            // A script that mounts what it is told has root= as it stands.
            let (code, said, _) = under(&format!("{word} root=/dev/sda2"), &format!("{boot} --device"));
            assert!(code == 0 && said.trim() == "/dev/sda2", "{word}: {said}");
        }
        for words in ["", "rd.multipath=default", "rd.corepath=1 multipath=on"] {
            let (code, said, maps) = under(words, boot);
            assert!(code == 0 && maps == a, "{words:?}: {said} {maps}");
        }
        let both = [a.as_str(), b.as_str()].join("\n");
        for key in ["mpath.wwid", "rd.corepath.wwid"] {
            let (code, said, maps) = under(&format!("{key}={b}"), boot);
            assert!(code == 0 && maps == both, "{key}: {said} {maps}");
        }
        // Named, and not there: it is waited for.
        let (code, said, _) = under("mpath.wwid=35000000000000001 rd.corepath.timeout=1", "corepath boot --cmdline --proc /p");
        assert!(code == 2 && said.contains("within 1 s"), "{code} {said}");
        // Root by its WWID needs no other word; with fewer paths than asked for it does not count as there.
        let root = format!("root=/dev/mapper/{b} rd.corepath.timeout=2");
        let (code, said, maps) = under(&root, "corepath boot --cmdline --proc /p");
        assert!(code == 0 && maps.contains(&b), "{said} {maps}");
        let (code, said, _) = under(&format!("{root} rd.corepath.min_paths=2"), "corepath boot --cmdline --proc /p");
        assert!(code == 2 && said.contains("did not appear within 2 s"), "{code} {said}");

        // In the real root (no /init, no /etc/initrd-release) what was meant for the initramfs says nothing.
        guest.ok("for d in dev sys run; do mount --bind /$d /new/$d; done; cp /usr/bin/corepath /new/bin; mkdir /new/p; cp -a /p/self /p/1 /new/p");
        for (word, obeyed) in [("rd.multipath=0", false), ("rd.corepath=0", false), ("nompath", true), ("multipath=off", true)] {
            let (code, said, maps) = under(word, &format!("echo {word} >/new/p/cmdline; chroot /new /bin/corepath boot --cmdline --proc /p --timeout 10"));
            assert!(code == 0 && said.contains("nothing is done") == obeyed && maps.is_empty() == obeyed, "{word}: {said} {maps}");
        }
    }
}

scenario! {
    /// The image's files and the host's name the same LUN differently, and one of them gives its name to another LUN: the live map keeps its
    /// name and its partition stays mounted, through `boot`, a daemon, and `reconfigure`.
    fn names_never_move_a_live_map(kernel) {
        let guest = Vm::new(kernel).corepath().lun("a", 16 << 20, 2).lun_later("b", 16 << 20, 2, 0).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time; mkdir -p /etc/multipath");
        let wwid = guest.ok(&format!("cat /sys/block/{}/device/wwid", guest.disk("a.0").unwrap())).trim().replacen("naa.", "3", 1);
        let conf = |more: &str| guest.put("/etc/multipath.conf", 0o644, format!("defaults {{\n\tuser_friendly_names yes\n}}\n{more}").as_bytes());
        conf("");
        guest.put("/etc/multipath/bindings", 0o644, format!("mpatha {wwid}\n").as_bytes());
        guest.ok("corepath boot --timeout 10");
        let hold = guest.spawn("exec 3<>/dev/mapper/mpatha && echo @held && sleep 600");
        hold.line("@held", LONG);

        // The host's view: mpatha is another LUN, this one is mpathq, and then it has an alias of the configuration.
        guest.plug("b.0");
        guest.plug("b.1");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 4 ]", LONG);
        let other = guest.ok(&format!("cat /sys/block/{}/device/wwid", guest.disk("b.0").unwrap())).trim().replacen("naa.", "3", 1);
        guest.put("/etc/multipath/bindings", 0o644, format!("mpatha {other}\nmpathq {wwid}\n").as_bytes());
        let named = |uuid: &str| guest.ok(&format!("for d in /sys/block/dm-*; do [ $(cat $d/dm/uuid) = mpath-{uuid} ] && cat $d/dm/name; done; true"));
        let said = guest.run("corepath boot --timeout 10 2>&1").text().to_string();
        assert_eq!(named(&wwid), "mpatha", "{said}");
        assert!(!named(&other).is_empty() && named(&other) != "mpatha", "{said}: {}", named(&other));
        let daemon = guest.spawn("exec corepath daemon --strict");
        guest.until("[ $(corepath status | grep -c '2 usable') = 2 ]", LONG);
        conf(&format!("multipaths {{\n\tmultipath {{\n\t\twwid {other}\n\t\talias mpatha\n\t}}\n}}\n"));
        guest.ok("corepath reconfigure");
        guest.until("corepath log | grep -q 'read again'", LONG);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(named(&wwid), "mpatha");
        assert!(named(&other) != "mpatha" && guest.ok("corepath status").matches("2 usable").count() == 2);
        drop((daemon, hold));
    }
}

scenario! {
    /// `user_friendly_names`: an alias that was given once stays with its LUN, in whatever order disks appear, as the daemon has written it
    /// down; so are those of maps that it finds live. Where it cannot write, no alias is given that the next start would not know.
    fn aliases_are_kept(kernel) {
        let guest = Vm::new(kernel).corepath().lun("a", 16 << 20, 2).lun_later("b", 16 << 20, 2, 0).boot();
        // With it this would be an initramfs, whose files nobody keeps.
        guest.ok("modprobe dm_multipath; modprobe dm_service_time; rm /init; ! [ -e /etc/multipath ]");
        guest.put("/etc/multipath.conf", 0o644, b"defaults {\n\tuser_friendly_names yes\n\tpolling_interval 1\n\tno_path_retry queue\n}\n");
        let wwid = |name: &str| guest.ok(&format!("cat /sys/block/{}/device/wwid", guest.disk(name).unwrap())).trim().replacen("naa.", "3", 1);
        let name = |uuid: &str| guest.ok(&format!("for d in /sys/block/dm-*; do [ $(cat $d/dm/uuid) = mpath-{uuid} ] && cat $d/dm/name; done; true"));
        let start = |maps: u32| {
            let daemon = guest.spawn("exec corepath daemon --strict");
            guest.until(&format!("[ $(corepath status | grep -c '2 usable') = {maps} ]"), LONG);
            daemon
        };
        let plug = |lun: &str| [0, 1].iter().for_each(|n| guest.plug(&format!("{lun}.{n}")));
        let bound = |line: &str| guest.until(&format!("grep -qx '{line}' /etc/multipath/bindings"), LONG);
        let daemon = start(1);
        let a = wwid("a.0");
        assert_eq!(name(&a), "mpatha");
        bound(&format!("mpatha {a}"));
        // Somebody else writes to it, in a way of his own, and is asked nothing.
        guest.ok("printf '# by hand\\nmpathc 3600deadbeef' >>/etc/multipath/bindings");
        plug("b");
        guest.until("[ $(corepath status | grep -c '2 usable') = 2 ]", LONG);
        let b = wwid("b.0");
        assert_eq!(name(&b), "mpathb");
        bound(&format!("mpathb {b}"));
        let text = guest.ok("cat /etc/multipath/bindings");
        let rows: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(rows, [format!("mpatha {a}"), "mpathc 3600deadbeef".to_string(), format!("mpathb {b}")]);
        assert!(text.starts_with("# ") && text.contains("\n# by hand\n") && guest.ok("ls -A /etc/multipath") == "bindings", "{text}");
        // A map that is gone keeps its alias also before the file is read again.
        guest.ok(&format!("corepath remove {a}"));
        guest.ok(&format!("corepath raw add map {a}"));
        guest.until("corepath status | grep -q '^mpatha '", LONG);
        let stop = |daemon: crate::lab::agent::Job| {
            guest.ok("corepath stop");
            assert_eq!(daemon.wait(LONG).code, 0);
        };
        stop(daemon);

        // The other one is there first.
        let gone = || {
            guest.ok("corepath remove --all");
            [0, 1].iter().for_each(|n| guest.unplug(&format!("a.{n}")));
            guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 2 ]", LONG);
        };
        gone();
        let daemon = start(1);
        assert_eq!(name(&b), "mpathb");
        plug("a");
        guest.until("[ $(corepath status | grep -c '2 usable') = 2 ]", LONG);
        assert_eq!((name(&a).as_str(), name(&b).as_str()), ("mpatha", "mpathb"));
        assert_eq!(guest.ok("cat /etc/multipath/bindings"), text);
        stop(daemon);

        // The file is lost while the maps live.
        guest.ok("rm -r /etc/multipath");
        let daemon = start(2);
        bound(&format!("mpatha {a}"));
        bound(&format!("mpathb {b}"));

        // And while I/O may wait for a path to the disk that it is on.
        let hold = guest.spawn("exec 3<>/dev/mapper/mpatha && echo @held && exec sleep 600");
        hold.line("@held", LONG);
        [0, 1].iter().for_each(|n| guest.unplug(&format!("a.{n}")));
        guest.until("corepath status | grep -q '^mpatha .* 0 usable'", LONG);
        // One that is told to stop ends queueing.
        daemon.signal(9);
        daemon.wait(LONG);
        guest.ok("rm -r /etc/multipath");
        let daemon = start(1);
        std::thread::sleep(Duration::from_secs(5));
        assert!(guest.ok("corepath status").contains("NO USABLE PATH") && guest.run("ls /etc/multipath").code != 0);
        plug("a");
        bound(&format!("mpatha {a}"));
        bound(&format!("mpathb {b}"));
        hold.signal(9);
        hold.wait(LONG);
        stop(daemon);

        // Read-only, as a root may be at boot: told once, and tried again.
        gone();
        guest.ok("mount -t tmpfs -o ro none /etc/multipath");
        let daemon = start(1);
        assert_eq!(name(&b), b);
        guest.until("corepath log | grep -q 'bindings cannot be written (EROFS)'", LONG);
        std::thread::sleep(Duration::from_secs(12));
        assert_eq!(guest.ok("corepath log | grep -c 'cannot be written'"), "1");
        guest.ok("mount -o remount,rw /etc/multipath");
        guest.until("corepath log | grep -q 'new aliases are kept again'", LONG);
        plug("a");
        guest.until("corepath status | grep -q '^mpatha .* 2 usable'", LONG);
        bound(&format!("mpatha {a}"));
        assert_eq!(name(&b), b);
        assert!(guest.ok("corepath status").contains("page faults since the seal: 0 minor, 0 major"));
        stop(daemon);
    }
}
