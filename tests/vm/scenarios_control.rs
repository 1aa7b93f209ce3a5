//! What is said to a running daemon, and what comes back: every command, an outage that counts down, the two kinds of outage, clients and
//! uevents that lie. And its listing beside the peer's.

use std::time::Duration;

use crate::lab::{Array, Guest, Vm, peer};
use crate::scenario;

const LONG: Duration = Duration::from_secs(20);

const CONF: &[u8] = b"defaults {\n\tno_path_retry 8\n\tpath_grouping_policy failover\n\tpolling_interval 1\n\tmax_polling_interval 2\n}\n";

fn kernel_says(guest: &Guest, map: &str) -> String {
    guest.ok(&format!("lab dm status {map}"))
}

scenario! {
    /// Each command does what it says, in the kernel.
    fn commands_do_what_they_say(kernel) {
        let array = Array::start("plain", &["a0", "a1"], "--luns 2,size=16M");
        let guest = Vm::new(kernel).corepath().array(&array).file("/etc/multipath.conf", 0o644, CONF).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time");
        let daemon = guest.spawn("exec corepath daemon --strict");
        guest.until("[ $(corepath status | grep -c '2 usable') = 2 ] && [ $(ls /dev/mapper | wc -l) = 3 ]", LONG);
        let maps = guest.ok("ls /dev/mapper | grep -v control | sort");
        let (map, other) = maps.split_once('\n').unwrap();
        let path = guest.ok(&format!("corepath show {map} | grep -o 'sd[a-z]*' | head -n 1"));
        let devno = guest.ok(&format!("cat /sys/block/{path}/dev"));

        assert!(guest.ok(&format!("corepath show {path}")).contains("running"));
        guest.run("corepath show nothing").fails(1);
        guest.ok(&format!("corepath fail {path}"));
        guest.until(&format!("lab dm status {map} | grep -q '{devno} F '"), LONG);
        std::thread::sleep(Duration::from_secs(2));
        assert!(kernel_says(&guest, map).contains(&format!("{devno} F ")), "it stays out");
        guest.ok(&format!("corepath reinstate {path}"));
        guest.until(&format!("lab dm status {map} | grep -q '{devno} A '"), LONG);
        guest.ok(&format!("corepath switch-group {map} 2; lab pread /dev/mapper/{map} --direct"));
        guest.until(&format!("corepath show {map} | grep -A9 'status=enabled' | grep -q 'status=active'"), LONG);
        guest.run(&format!("corepath switch-group {map} 7")).fails(1);
        guest.ok(&format!("corepath suspend {map}; [ $(cat /sys/block/$(basename $(readlink -f /dev/mapper/{map}))/dm/suspended) = 1 ]"));
        guest.ok(&format!("corepath resume {map}; [ $(cat /sys/block/$(basename $(readlink -f /dev/mapper/{map}))/dm/suspended) = 0 ]"));
        let loads = |guest: &Guest| guest.ok(&format!("corepath metrics | grep 'loads_total.*{map}' | cut -d' ' -f2"));
        let before: u32 = loads(&guest).parse().unwrap();
        guest.ok(&format!("corepath reload {map}"));
        assert_eq!(loads(&guest), (before + 1).to_string());
        guest.ok(&format!("corepath resize {map}; corepath reconfigure"));
        guest.until("[ $(corepath status | grep -c '2 usable') = 2 ]", LONG);
        // Others may look and no more.
        guest.ok("adduser -D -H nobody2 2>/dev/null || echo 'nobody2:x:1000:1000::/:/bin/sh' >> /etc/passwd");
        guest.ok("su nobody2 -c 'corepath status' | grep -q usable");
        guest.run(&format!("su nobody2 -c 'corepath fail {path}'")).fails(1);
        assert!(kernel_says(&guest, map).contains(&format!("{devno} A ")));
        // The live screen for a plain serial console.
        guest.ok("corepath status --watch > /tmp/watch & sleep 3; kill $!");
        let screen = String::from_utf8(guest.get("/tmp/watch")).unwrap();
        assert!(screen.matches("\x1b[H").count() >= 2 && screen.contains("/s") && screen.contains("next check in"), "{screen}");
        assert!(screen.replace("\x1b[H", "").replace("\x1b[J", "").replace("\x1b[K", "").chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{screen:?}");

        // The LUN is gone, all paths are silent: two things; queueing counts down and ends.
        array.say("lun 1 unmap");
        guest.until("corepath status | grep -q 'NO USABLE PATH: the array says the LUN is gone'", LONG);
        assert!(guest.ok("corepath status --json").contains("\"lun-gone\""));
        array.say("lun 1 map");
        guest.until("[ $(corepath status | grep -c '2 usable') = 2 ]", LONG);
        array.say("down *");
        guest.until("[ $(corepath status | grep -c 'NO USABLE PATH: none answers') = 2 ]", LONG);
        assert!(guest.ok("corepath status --json").contains("\"no-answer\""));
        let left = |guest: &Guest| -> u32 {
            guest.ok(&format!("corepath status | sed -n 's/^{map} .*queueing \\([0-9]*\\) sec.*/\\1/p'")).parse().unwrap()
        };
        let first = left(&guest);
        std::thread::sleep(Duration::from_secs(2));
        let second = left(&guest);
        println!("vm: {} queueing ends in {first} s, then {second} s", kernel.release);
        assert!(first <= 8 && second < first);
        let reader = guest.spawn(&format!("lab pread /dev/mapper/{map} --direct"));
        let held = guest.spawn(&format!("lab pread /dev/mapper/{other} --direct"));
        guest.until(&format!("corepath status | grep '^{map} ' | grep -q 'queueing off'"), LONG * 2);
        assert_ne!(reader.wait(LONG).code, 0, "it queues no longer");
        held.wait(LONG);
        array.say("up *");
        guest.until("[ $(corepath status | grep -c '2 usable') = 2 ]", LONG);
        guest.until(&format!("lab dm table {map} | grep -q queue_if_no_path"), LONG);
        // Down once more, and the daemon ends: release needs none.
        array.say("down *");
        guest.until("[ $(corepath status | grep -c 'NO USABLE PATH') = 2 ]", LONG);
        let log = guest.ok("corepath log");
        assert!(log.lines().all(|line| line.starts_with('[')) && log.contains(&path), "{log}");
        guest.ok(&format!("corepath stop; lab dm message {map} --say queue_if_no_path"));
        assert_eq!(daemon.wait(LONG).code, 0);
        let held = guest.spawn(&format!("lab pread /dev/mapper/{map} --direct"));
        std::thread::sleep(Duration::from_secs(1));
        assert!(!held.ended());
        guest.ok("corepath release");
        assert_ne!(held.wait(LONG).code, 0, "released");
        guest.run("corepath status 2>&1").fails(1);
    }
}

scenario! {
    /// What scripts and drivers say to multipathd and multipath: full names, words after -v, requests on standard input; a disk that is left
    /// alone is nobody's orphan.
    fn scripts_call_it_multipathd(kernel) {
        let conf = "defaults {\n\tfind_multipaths yes\n}\nblacklist {\n\tdevnode \"^sd[a-z]$\"\n}\nblacklist_exceptions {\n\tdevnode \"^sd[ab]$\"\n}\n";
        let guest = Vm::new(kernel)
            .corepath()
            .link("/usr/bin/multipathd", "corepath")
            .link("/usr/bin/multipath", "corepath")
            .file("/etc/multipath.conf", 0o644, conf.as_bytes())
            .lun("a", 16 << 20, 2)
            .lun("local", 16 << 20, 1)
            .boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 3 ]", LONG);
        // The first two are one LUN whatever the order they were found in.
        let [one, other] = ["a.0", "a.1"].map(|path| guest.disk(path).unwrap());
        let local = guest.disk("local.0").unwrap();
        guest.put("/etc/multipath.conf", 0o644, conf.replace("^sd[ab]$", &format!("^({one}|{other})$")).as_bytes());
        // It returns, and there is a daemon.
        guest.ok("multipathd -v 3");
        guest.until("corepath status | grep -q '2 usable'", LONG);
        let map = guest.until("ls /dev/mapper | grep -v control", LONG);
        let said = guest.ok("printf 'show daemon\n\nshow maps raw format %%n\nquit\nshow paths\n' | multipathd -k");
        assert!(said.starts_with("pid ") && said.ends_with(&format!("\n{map}")), "{said}");
        let orphans = guest.ok("multipathd show paths raw format '%d %m'");
        assert!(orphans.contains(&one) && orphans.contains(&other) && !orphans.contains(&local), "{orphans}");
        for request in [
            format!("fail path /dev/{one}"),
            format!("reinstate path /dev/{one}"),
            // Twice: nothing is to be done, and nothing else wakes the daemon.
            format!("resize map /dev/mapper/{map}"),
            format!("resize map {map}"),
            format!("del path /dev/{other}"),
            format!("add path /dev/{other}"),
        ] {
            assert_eq!(guest.ok(&format!("multipathd {request}")), "ok", "{request}");
        }
        let config = guest.ok("multipathd show config local");
        assert!(config.contains("devices {\n}") && !config.contains("SYMMETRIX"), "no array of the table is there: {config}");
        assert!(guest.ok("multipathd show config").contains("SYMMETRIX"));
        assert_eq!(guest.ok(&format!("mkdir -p /dev/disk/by-id; ln -s ../../{one} /dev/disk/by-id/x; multipath -c /dev/disk/by-id/x")), "DM_MULTIPATH_DEVICE_PATH=\"1\"");
        let wwid = guest.ok(&format!("rm -rf /etc/multipath; multipath -a /dev/{one}"));
        assert!(wwid.starts_with("wwid '3") && guest.ok("cat /etc/multipath/wwids").lines().count() == 3, "{wwid}");
        // The daemon learns at once that a disk with one path is named, and with -r what is configured now.
        let maps = |count: u8| format!("[ $(multipathd show maps raw format %n | wc -l) = {count} ]");
        guest.put("/etc/multipath.conf", 0o644, b"defaults {\n\tfind_multipaths yes\n\tfailback 7\n}\n");
        guest.ok(&format!("multipath -a /dev/{local}"));
        guest.until(&maps(2), LONG);
        guest.put("/etc/multipath.conf", 0o644, b"defaults {\n\tfind_multipaths yes\n\tfailback 9\n}\n");
        let said = guest.ok("multipath -r 2>&1; multipathd show config local");
        assert!(said.contains("failback 9") && !said.contains("boot"), "{said}");
        guest.ok(&maps(2));
        assert_eq!(guest.ok(&format!("multipath -r {map}")), "");
        guest.ok("multipathd -kshutdown; while pidof multipathd; do :; done");
        guest.ok(&format!("multipath -f {map}"));
    }
}

scenario! {
    /// Clients that stop half way, lie about lengths, come in crowds or never read; uevents from nobody, and ten thousand from the kernel:
    /// it answers throughout, and every path stays.
    fn liars_are_borne(kernel) {
        let guest = Vm::new(kernel).corepath().lun("a", 16 << 20, 2).file("/etc/multipath.conf", 0o644, CONF).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time");
        let daemon = guest.spawn("exec corepath daemon --strict");
        guest.until("corepath status | grep -q '2 usable'", LONG);
        let fine = |what: &str| {
            let asked = guest.run("corepath status");
            println!("vm: {} {what}: status took {:?}", kernel.release, asked.took());
            assert!(asked.ok().contains("2 usable"), "{what}");
        };
        let socket = "/run/multipathd.socket";
        let half = guest.spawn(&format!("lab client {socket} half --secs 7"));
        let deaf = guest.spawn(&format!("lab client {socket} deaf --secs 7"));
        std::thread::sleep(Duration::from_secs(1));
        fine("half a frame, and one that never reads");
        // A long reply, which needs the room that the deaf one has: it comes once that one is let go.
        let asked = guest.run("corepath raw list config");
        println!("vm: {} a long reply beside one that is not read took {:?}", kernel.release, asked.took());
        assert!(asked.ok().contains("blacklist") && asked.text().len() > 10_000, "{}", asked.text());
        assert!(guest.ok(&format!("lab client {socket} huge --secs 2")).contains("@client closed=4"));
        fine("lengths of 4 GB");
        let crowd = guest.spawn(&format!("ulimit -n 2000; lab client {socket} crowd --secs 2"));
        crowd.line("@client connected=", LONG);
        fine("a thousand connections");
        assert!(crowd.wait(LONG).ok().contains("closed=9"), "all but the last few were let go");
        assert!(half.wait(LONG).ok().contains("closed=1") && deaf.wait(LONG).ok().contains("closed=1"), "both were let go");
        fine("afterwards");
        assert!(guest.ok("corepath status").contains("clients let go: "));

        let path = guest.disk("a.0").unwrap();
        let device = guest.ok(&format!("readlink -f /sys/block/{path} | sed 's,^/sys,,'"));
        guest.ok(&format!("lab lie {device} --count 100; lab lie /devices/nothing/block/sdzz --action add --devno 300:7; lab lie {device} --action change --devno 8:240"));
        std::thread::sleep(Duration::from_secs(1));
        fine("uevents that the kernel never sent");
        assert!(!guest.ok("corepath log").contains("lost"), "nothing was believed");
        // Ten thousand of the kernel's, in two heaps; the second while nobody listens, so that the socket overflows.
        let pid = guest.ok("corepath raw list daemon | cut -d' ' -f2");
        guest.ok(&format!("lab poke /sys/block/{path}/uevent --count 10000"));
        fine("ten thousand uevents");
        guest.ok(&format!("kill -STOP {pid}; lab poke /sys/block/{path}/uevent --count 10000; kill -CONT {pid}"));
        fine("ten thousand more at once");
        guest.until("corepath status | grep -q '0 of [0-9]* workers busy'", LONG);
        let status = guest.ok("corepath status");
        assert!(status.contains("page faults since the seal: 0 minor, 0 major"), "{status}");
        assert_eq!(guest.ok("corepath metrics | grep loads_total{ | cut -d' ' -f2"), "1");
        guest.ok("corepath stop");
        assert_eq!(daemon.wait(LONG).code, 0);
    }
}

scenario! {
    /// The peer, looking at maps that our daemon keeps, sees the states, groups and order that we say, with one path down, too.
    fn the_peer_sees_what_we_say(kernel) {
        let array = Array::start("plain", &["a0", "a1"], "--luns 2,size=16M");
        let conf = "defaults {\n\tfind_multipaths greedy\n\tpath_grouping_policy failover\n\tno_path_retry queue\n\tpolling_interval 1\n\tmax_polling_interval 2\n\tskip_kpartx yes\n}\n";
        let guest = peer::with_multipath_tools(Vm::new(kernel).corepath().array(&array), conf).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time; rm -f /usr/lib/udev/rules.d/*multipath*");
        peer::start_udev(&guest);
        let daemon = guest.spawn("exec corepath daemon --strict");
        guest.until("[ $(corepath status | grep -c '2 usable') = 2 ]", LONG * 2);
        peer::settle(&guest);
        // Name, groups with priority and state, paths with their states: without what the two word differently.
        let bones = |text: &str| -> Vec<String> {
            let words = |line: &str| line.split(['|', '`', ' ']).filter(|w| !w.is_empty() && !w.starts_with(['-', '+'])).map(str::to_string).collect::<Vec<_>>().join(" ");
            text.lines().filter(|line| line.contains(" dm-") || line.contains("status=") || line.contains(" sd")).map(words).collect()
        };
        let maps = guest.ok("ls /dev/mapper | grep -v control");
        // Map by map: they are listed in the order of their discovery, which udev makes a matter of luck.
        let compare = |when: &str| {
            // With I/O there is a group in use, for all who look from now on.
            for map in maps.lines() {
                guest.ok(&format!("lab pread /dev/mapper/{map} --direct"));
            }
            guest.until("[ $(corepath raw list maps topology | grep -c status=active) = 2 ]", LONG);
            for map in maps.lines() {
                let theirs = guest.ok(&format!("multipath -ll {map} 2>/dev/null"));
                println!("vm: {} {when}:\n{theirs}", kernel.release);
                for (ours, topology) in [("list", ""), ("raw list map", "topology")] {
                    // The kernel tells nobody that I/O went to another group; the daemon sees it at its next reading of the map's status.
                    let agree = |ours: &str| bones(ours).len() == 5 && bones(ours) == bones(&theirs);
                    let ask = || guest.ok(&format!("corepath {ours} {map} {topology}"));
                    let ours = (0..40).map(|_| ask()).find(|ours| agree(ours)).unwrap_or_else(ask);
                    assert!(agree(&ours), "{when}:\n{ours}\n{theirs}");
                }
            }
        };
        compare("all up");
        array.say("down a0");
        guest.until("[ $(corepath status | grep -c '1 usable') = 2 ]", LONG);
        compare("one port down");
        array.say("up a0");
        guest.until("[ $(corepath status | grep -c '2 usable') = 2 ]", LONG);
        compare("up again");
        guest.ok("corepath stop");
        assert_eq!(daemon.wait(LONG).code, 0);
    }
}
