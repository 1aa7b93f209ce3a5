//! A real iSCSI initiator, and the kernel's own target on two addresses of the same machine.

use std::time::Duration;

use crate::lab::site::verified;
use crate::lab::target::{self, DISK, TARGET, WWID};
use crate::lab::{Guest, Kernel, Vm};
use crate::scenario;

const LONG: Duration = Duration::from_secs(60);

const NAME: &str = "iqn.2026-01.test:array";

fn site(kernel: &Kernel, conf: &str) -> Guest {
    let vm = Vm::new(kernel).corepath().modules(&["iscsi_target_mod", "iscsi_tcp"]).debs(&["open-iscsi"]);
    let guest = vm.file("/etc/multipath.conf", 0o644, conf.as_bytes()).boot();
    target::disk(&guest, "iscsi_target_mod iscsi_tcp");
    guest.ok(&format!(
        "ip link set lo up
        for n in 1 2; do
            ip addr add 10.9.0.$n/32 dev lo
            mkdir -p {TARGET}/iscsi/{NAME}/tpgt_$n
            cd {TARGET}/iscsi/{NAME}/tpgt_$n
            mkdir np/10.9.0.$n:3260
            echo 0 > attrib/authentication
            echo 1 > attrib/generate_node_acls
            echo 1 > attrib/cache_dynamic_acls
            echo 0 > attrib/demo_mode_write_protect
            mkdir lun/lun_0
            ln -s {DISK} lun/lun_0/link
            echo 1 > enable
        done"
    ));
    guest
}

scenario! {
    /// Two sessions of open-iscsi are one map. One loses its address: its timeout is the one of multipath.conf, the reason is told, the
    /// other carries the writes, and the path is back with its session.
    fn iscsi_sessions_come_and_go(kernel) {
        let guest = site(
            kernel,
            "defaults {\n\tpolling_interval 1\n\tmax_polling_interval 2\n\tfast_io_fail_tmo 2\n\tdev_loss_tmo 60\n}\n",
        );
        let daemon = guest.spawn("exec corepath daemon --strict");
        guest.ok("mkdir -p /etc/iscsi /run/lock/iscsi
            echo InitiatorName=iqn.2026-01.test:host > /etc/iscsi/initiatorname.iscsi
            printf 'node.conn[0].timeo.noop_out_interval = 1\\nnode.conn[0].timeo.noop_out_timeout = 1\\n' > /etc/iscsi/iscsid.conf
            iscsid
            iscsiadm -m discovery -t st -p 10.9.0.1
            iscsiadm -m node -l");
        guest.until("corepath status | grep -q ' 64M, 2 usable, '", LONG);
        let paths = guest.ok("corepath raw show paths raw format '%d %n %r %T' | sort");
        let mut ports: Vec<&str> = paths.lines().filter_map(|line| line.split_once(' ')).map(|(_, rest)| rest).collect();
        ports.sort_unstable();
        assert_eq!(ports, [format!("{NAME} 10.9.0.1:3260 ready"), format!("{NAME} 10.9.0.2:3260 ready")], "{paths}");
        guest.until("[ \"$(cat /sys/class/iscsi_session/*/recovery_tmo | sort -u)\" = 2 ]", LONG);
        let writer = guest.spawn(&format!("exec lab write /dev/mapper/{WWID} --size 2m --direct --rate 200"));

        guest.ok("ip addr del 10.9.0.1/32 dev lo");
        guest.until("corepath status | grep -q ', 1 usable, '", LONG);
        guest.ok("dmesg | grep 'corepath: .* is faulty (was ready): the device is offline because its transport is'");
        guest.ok("ip addr add 10.9.0.1/32 dev lo");
        guest.until("corepath status | grep -q ', 2 usable, '", LONG);
        verified(vec![writer], "iSCSI, an address away and back");

        // A session that ends takes its path along, and gives it back with the next login.
        guest.ok(&format!("iscsiadm -m node -T {NAME} -p 10.9.0.2 -u"));
        guest.until("corepath status | grep -q ', 1 usable, ' && [ $(corepath status | grep -c ' active ready') = 1 ]", LONG);
        guest.ok(&format!("iscsiadm -m node -T {NAME} -p 10.9.0.2 -l"));
        guest.until("corepath status | grep -q ', 2 usable, '", LONG);
        guest.ok("corepath stop");
        assert_eq!(daemon.wait(LONG).code, 0);
    }
}
