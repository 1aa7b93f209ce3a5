//! What a table may say, said to the kernel: selectors, features, and limits that must be there before it.

use std::time::Duration;

use crate::lab::site::{Site, verified, wwid};
use crate::lab::{Array, Vm};
use crate::scenario;

const LONG: Duration = Duration::from_secs(30);

/// Each LUN's own settings, and what the kernel then calls its table from the features on, paths left out.
const LUNS: [(&str, &str); 8] = [
    ("path_selector \"round-robin 0\"", "0 0 1 1 round-robin 0 2 1"),
    ("path_selector \"queue-length 0\"", "0 0 1 1 queue-length 0 2 1"),
    // Debian's kernels have neither of these two.
    ("path_selector \"historical-service-time 4 15 2 5 10\"", "0 0 1 1 service-time 0 2 2"),
    ("path_selector \"io-affinity 0\"", "0 0 1 1 service-time 0 2 2"),
    // Kept by the kernel as its own word, too.
    ("features \"2 queue_mode bio\"", "3 retain_attached_hw_handler queue_mode bio 0 1 1 service-time 0 2 2"),
    ("features \"4 pg_init_retries 5 pg_init_delay_msecs 500\"", "4 pg_init_retries 5 pg_init_delay_msecs 500 0 1 1 service-time 0 2 2"),
    ("rr_min_io_rq 7\n rr_weight priorities\n no_path_retry queue", "1 queue_if_no_path 0 1 1 service-time 0 2 2"),
    ("max_sectors_kb 128", "0 0 1 1 service-time 0 2 2"),
];
const LIMITED: u16 = 7;

fn conf(luns: &[String]) -> String {
    let sections: String =
        luns.iter().enumerate().map(|(n, text)| format!("multipath {{\n wwid {}\n {text}\n}}\n", wwid("TAB1", n as u16))).collect();
    format!(
        "defaults {{\n polling_interval 1\n max_polling_interval 2\n find_multipaths greedy\n path_grouping_policy multibus\n}}\n\
         multipaths {{\n{sections}}}\n"
    )
}

scenario! {
    /// The kernel takes every table, and a second look finds it as it should be. `max_sectors_kb` is in the map's own limit, and is never put
    /// below what a live map sends: the kernel fails such requests on every path.
    fn tables_are_as_the_kernel_says(kernel) {
        let array = Array::start("plain", &["a0", "a1"], "--serial TAB1 --luns 8,size=16M");
        let mut luns: Vec<String> = LUNS.iter().map(|(text, _)| (*text).to_string()).collect();
        let guest = Vm::new(kernel).corepath().array(&array).file("/etc/multipath.conf", 0o644, conf(&luns).as_bytes()).boot();
        guest.ok("modprobe dm_multipath");
        let site = Site::find(&guest, &array, "TAB1", LUNS.len() as u16);
        let boot = guest.ok("corepath boot 2>&1");
        assert!(boot.contains("8 maps with 16 usable paths") && boot.matches("lacks the wanted path selector").count() == 2, "{boot}");
        for (lun, (text, wanted)) in (0u16..).zip(LUNS) {
            let table = guest.ok(&format!("lab dm table {}", site.map(lun)));
            assert!(table.starts_with(&format!("0 32768 multipath {wanted} ")), "{text}: {table}");
        }
        let boot = guest.ok("corepath boot");
        assert!(boot.contains(", 0 changes)"), "{boot}");

        // One more is to be limited, but lives already.
        luns[0] += "\n max_sectors_kb 64";
        guest.put("/etc/multipath.conf", 0o644, conf(&luns).as_bytes());
        let daemon = guest.spawn("exec corepath daemon --strict");
        site.until_usable(2);
        let queue = |disk: &str| guest.ok(&format!("cat /sys/block/{disk}/queue/max_sectors_kb")).trim().to_string();
        let paths = |lun| ["a0", "a1"].map(|port| site.disk(lun, port));
        for path in paths(LIMITED) {
            assert_eq!(queue(&path), "128");
        }
        let writers = site.writers(&(1..7).collect::<Vec<_>>());
        let large = |lun: u16| guest.ok(&format!("dd if=/dev/zero of=/dev/mapper/{} bs=1M count=8 oflag=direct 2>&1", site.map(lun)));
        let whole = |lun: u16| {
            large(lun);
            let minor = guest.ok(&format!("stat -Lc %T /dev/mapper/{}", site.map(lun)));
            queue(&format!("dm-{}", i64::from_str_radix(minor.trim(), 16).unwrap()))
        };
        assert_eq!(whole(LIMITED), "128");
        assert_ne!(whole(0), "64", "a live map");
        assert!(paths(0).iter().all(|path| queue(path) != "64"), "below what a live map sends");

        // A path of a limited map that comes anew is limited as well.
        let away = site.disk(LIMITED, "a0");
        let host = guest.ok(&format!("readlink -f /sys/block/{away}/device"));
        let host = host.split('/').find(|part| part.starts_with("host")).unwrap_or_else(|| panic!("{host}"));
        guest.ok(&format!("echo 1 > /sys/block/{away}/device/delete"));
        guest.until(&format!("corepath status | grep '^{}' | grep -q ' 1 usable'", site.map(LIMITED)), LONG);
        guest.ok(&format!("echo '- - -' > /sys/class/scsi_host/{host}/scan"));
        site.until_usable(2);
        let name = guest.ok(&format!("corepath status | grep -A3 '^{}' | sed -n 's/^    \\(sd[a-z]*\\) .*/\\1/p' | grep -v '^{}$'", site.map(LIMITED), site.disk(LIMITED, "a1")));
        guest.until(&format!("grep -qx 128 /sys/block/{}/queue/max_sectors_kb", name.trim()), LONG);
        assert_eq!(whole(LIMITED), "128");

        array.say("down a0");
        guest.ok("sleep 2");
        array.say("up a0");
        site.until_usable(2);
        verified(writers, "selectors and features, a port out and in");
        assert!(!guest.ok("dmesg").contains("over max size limit"));
        guest.ok("corepath stop");
        assert_eq!(daemon.wait(LONG).code, 0);
    }
}
