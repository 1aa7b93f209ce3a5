//! The first seconds of an outage: the daemon's own files may be behind the paths that are gone, before it knows that they are.

use std::time::Duration;

use crate::lab::{Array, Vm};
use crate::scenario;

const LONG: Duration = Duration::from_secs(20);

const CONF: &str = "defaults {\n\tno_path_retry queue\n\tpath_checker tur\n\tpolling_interval 1\n\tmax_polling_interval 2\n}\n";

scenario! {
    /// The configuration is on a disk that swallows every command, and nothing of it is in memory. Who asks for it to be read is told that it
    /// takes too long, or, should a map lose its paths meanwhile, that it is not read; the daemon goes on, and takes it when it comes.
    fn a_configuration_that_cannot_be_read_now(kernel) {
        let hung = Array::start("plain", &["a0"], "--luns 1,size=32M --serial hung");
        let well = Array::start("plain", &["b0", "b1"], "--luns 1,size=32M --serial well");
        let guest = Vm::new(kernel).corepath().array(&hung).array(&well).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time; modprobe ext4");
        guest.until("[ $(ls -d /sys/block/sd* | wc -l) = 3 ]", LONG);
        let disk = guest.ok("for d in /sys/block/sd*; do n=$(cat /sys/block/sd*/device/wwid | grep -cx \"$(cat $d/device/wwid)\"); [ $n = 2 ] || echo ${d##*/}; done");
        guest.put("/tmp/conf", 0o644, CONF.as_bytes());
        guest.ok(&format!("mke2fs /dev/{disk} >/dev/null; mkdir -p /mnt; mount -t ext4 -o noatime /dev/{disk} /mnt; mkdir /mnt/etc; cp /tmp/conf /mnt/etc/multipath.conf; sync"));
        let daemon = guest.spawn("exec corepath daemon --strict --config /mnt/etc/multipath.conf");
        guest.until("corepath status | grep -q '2 usable'", LONG);
        let map = guest.ok("ls /dev/mapper | grep -v control");
        // Only of a map in use is there I/O that could wait.
        let user = guest.spawn(&format!("exec sleep 1000 < /dev/mapper/{map}"));
        guest.ok("corepath reconfigure");
        // Told, for what comes, to wait longer than any outage is noticed in.
        guest.ok("sed -i 's/^defaults {/defaults {\\n\\tuxsock_timeout 4500/' /mnt/etc/multipath.conf && corepath reconfigure && sync");

        let forget = || guest.ok("echo 3 > /proc/sys/vm/drop_caches");
        let status = || {
            let asked = guest.run("corepath status");
            assert!(asked.took() < Duration::from_secs(1), "{:?}", asked.took());
            asked.ok()
        };
        forget();
        hung.say("hang a0");
        let asked = guest.spawn("corepath reconfigure 2>&1; true");
        for _ in 0..6 {
            status();
            std::thread::sleep(Duration::from_millis(500));
        }
        let said = asked.wait(LONG).ok();
        assert!(said.contains("timeout"), "{said}");
        let read = || guest.ok("corepath log | grep -c 'the configuration was read again'").parse::<u32>().unwrap();
        assert_eq!(read(), 2);
        hung.say("release a0");
        guest.until("corepath log | grep -c 'the configuration was read again' | grep -qx 3", LONG);

        forget();
        hung.say("hang a0");
        let asked = guest.spawn("corepath reconfigure 2>&1; true");
        std::thread::sleep(Duration::from_millis(300));
        well.say("down *");
        let said = asked.wait(LONG).ok();
        assert!(said.contains("has no usable path"), "{said}");
        assert!(status().contains("0 usable"));
        well.say("up *");
        guest.until("corepath status | grep -q '2 usable'", LONG);
        hung.say("release a0");
        // What was refused is not done later; asked anew it is.
        guest.until("corepath status | grep -q ' 0 of [0-9]* workers busy'", LONG);
        guest.ok("corepath reconfigure");
        assert_eq!(read(), 4);
        user.signal(15);
        guest.ok("corepath stop");
        daemon.wait(LONG);
    }
}

scenario! {
    /// No descriptor is left for another client: the daemon does not turn in circles because of one who waits, and takes him in when there is one.
    fn a_client_that_cannot_be_taken_in(kernel) {
        let guest = Vm::new(kernel).corepath().debs(&["util-linux"]).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time");
        let daemon = guest.spawn("exec corepath daemon --strict");
        guest.until("corepath status", LONG);
        let pid = guest.ok("corepath raw list daemon | cut -d' ' -f2");
        let used = guest.ok(&format!("echo $(($(ls /proc/{pid}/fd | sort -n | tail -n 1) + 1))"));
        let limit = |files: &str| guest.ok(&format!("prlimit --pid {pid} --nofile={files}:4096"));
        limit(&used);
        let client = guest.spawn("corepath status");
        // In hundredths of a second.
        let time = || guest.ok(&format!("set -- $(cut -d' ' -f14,15 /proc/{pid}/stat); echo $(($1 + $2))")).parse::<u32>().unwrap();
        let before = time();
        std::thread::sleep(Duration::from_secs(3));
        let spent = time() - before;
        println!("vm: {} a client that cannot be taken in: {spent} hundredths of 3 s", kernel.release);
        assert!(spent < 50, "{spent}");
        assert!(!client.ended());
        limit("4096");
        assert!(client.wait(Duration::from_secs(10)).ok().contains("0 maps"));
        guest.ok("corepath stop");
        daemon.wait(LONG);
    }
}
