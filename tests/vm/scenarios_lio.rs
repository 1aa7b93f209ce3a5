//! The kernel's own SCSI target as an array that others wrote: two loopback adapters lead to one disk, with ALUA groups
//! of their own, which only the array moves (implicit).

use std::time::Duration;

use crate::lab::site::verified;
use crate::lab::target::{self, DISK, TARGET};
use crate::lab::{Guest, Vm};
use crate::scenario;

const LONG: Duration = Duration::from_secs(30);

fn ports(guest: &Guest) {
    target::disk(guest, "tcm_loop");
    guest.ok(&format!(
        "for n in 1 2; do
            mkdir {DISK}/alua/port$n
            cd {DISK}/alua/port$n
            echo $n > tg_pt_gp_id
            echo 1 > alua_access_type
            mkdir -p {TARGET}/loopback/naa.600140500000000$n/tpgt_1
            cd {TARGET}/loopback/naa.600140500000000$n/tpgt_1
            echo naa.600140500000001$n > nexus
            mkdir lun/lun_0
            ln -s {DISK} lun/lun_0/link
            echo port$n > lun/lun_0/alua_tg_pt_gp
        done
        echo 1 > {DISK}/alua/port2/alua_access_state"
    ));
}

fn cable(guest: &Guest, port: u8, there: bool) {
    let word = if there { "online" } else { "offline" };
    guest.ok(&format!("echo {word} > {TARGET}/loopback/naa.600140500000000{port}/tpgt_1/transport_status"));
}

/// 0 optimized, 1 non-optimized, 2 standby, 3 unavailable.
fn access(guest: &Guest, port: u8, state: u8) {
    guest.ok(&format!("echo {state} > {DISK}/alua/port{port}/alua_access_state"));
}

scenario! {
    /// A cable, and a port that serves nobody for a while: what the array says is told, and the path comes back when the port does, though
    /// the kernel's handler lets no read through to find that out (the checker is `directio`, as for all of LIO).
    fn a_port_of_lio_is_unavailable(kernel) {
        let conf = b"defaults {\n\tpolling_interval 1\n\tmax_polling_interval 2\n}\n";
        let guest = Vm::new(kernel).corepath().file("/etc/multipath.conf", 0o644, conf).boot();
        ports(&guest);
        let boot = guest.ok("corepath boot");
        assert!(boot.contains("1 maps with 2 usable paths"), "{boot}");
        let map = guest.ok("ls /dev/mapper | grep -v control").trim().to_string();
        assert_eq!(map, target::WWID);
        let listed = guest.ok("corepath list");
        assert!(listed.contains("hwhandler='1 alua'"), "{listed}");
        let daemon = guest.spawn("exec corepath daemon --strict");
        let until = |what: &str| guest.until(&format!("corepath status | tr '\\n' ' ' | grep -Eq '{what}'"), LONG);
        let (first, second) = ("group 1 [a-z]+ prio 50 +sda +0:0:1:0 active ready", "group 2 [a-z]+ prio 10 +sdb +1:0:1:0 active ready");
        until(&format!("2 usable.*{first}.*{second}"));
        let writer = guest.spawn(&format!("exec lab write /dev/mapper/{map} --size 2m --direct --rate 200"));

        cable(&guest, 1, false);
        until("1 usable.*sda +0:0:1:0 failed faulty.*group . active prio 10");
        guest.ok("dmesg | grep corepath: | grep -q 'sda .*is faulty (was ready): host byte 0x0e (transport disrupted)'");
        cable(&guest, 1, true);
        until(&format!("2 usable.*group 1 active prio 50 +sda.*{second}"));

        for _ in 0..2 {
            access(&guest, 1, 3);
            until("1 usable.*sda +0:0:1:0 failed faulty.*group . active prio 10");
            access(&guest, 1, 0);
            until(&format!("2 usable.*group 1 active prio 50 +sda.*{second}"));
        }
        guest.ok("dmesg | grep corepath: | grep -q 'sda .*is faulty (was ready): sense 02/04/0c (target port in unavailable state)'");
        verified(vec![writer], "LIO, a cable and a port that was unavailable twice");
        guest.ok("corepath stop");
        assert_eq!(daemon.wait(LONG).code, 0);
    }
}
