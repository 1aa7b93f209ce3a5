//! NVMe over TCP without the kernel's own multipathing: the kernel's target, in the same machine, is the array. It has asymmetric access
//! (ANA) and shows it to whoever asks; its two ports are pulled by taking the subsystem off them.

use std::time::Duration;

use crate::lab::site::verified;
use crate::lab::{Guest, Kernel, Vm};
use crate::scenario;

const LONG: Duration = Duration::from_secs(30);

const SUBSYSTEM: &str = "/sys/kernel/config/nvmet/subsystems/nqn.2026-01.test:array";
const PORTS: &str = "/sys/kernel/config/nvmet/ports";
const UUID: &str = "5f3c2a10-7d4e-4b19-9a52-0c6d8e1f2b37";

/// A machine with the target's two ports, on addresses of their own, and a namespace in ANA group 2: optimized through the first.
fn site(kernel: &Kernel, conf: &str) -> Guest {
    let vm = Vm::new(kernel).corepath().modules(&["nvmet_tcp", "nvme_tcp", "loop"]).file("/etc/multipath.conf", 0o644, conf.as_bytes());
    let guest = vm.boot();
    guest.ok(&format!(
        "modprobe nvme_core multipath=N
        modprobe -a dm_multipath dm_service_time loop nvmet_tcp nvme_tcp
        ip link set lo up
        mount -t configfs none /sys/kernel/config
        truncate -s 64M /tmp/disk
        losetup /dev/loop0 /tmp/disk
        mkdir {SUBSYSTEM}
        echo 1 > {SUBSYSTEM}/attr_allow_any_host
        echo 0123456789 > {SUBSYSTEM}/attr_serial
        mkdir {SUBSYSTEM}/namespaces/1
        cd {SUBSYSTEM}/namespaces/1
        echo -n /dev/loop0 > device_path
        echo {UUID} > device_uuid
        echo 2 > ana_grpid
        echo 1 > enable
        for n in 1 2; do
            mkdir {PORTS}/$n {PORTS}/$n/ana_groups/2
            cd {PORTS}/$n
            echo tcp > addr_trtype; echo ipv4 > addr_adrfam; echo 127.0.0.$n > addr_traddr; echo 4420 > addr_trsvcid
            ln -s {SUBSYSTEM} subsystems/
        done
        echo optimized > {PORTS}/1/ana_groups/2/ana_state
        echo non-optimized > {PORTS}/2/ana_groups/2/ana_state"
    ));
    for port in 1..=2 {
        connect(&guest, port);
    }
    guest
}

fn connect(guest: &Guest, port: u8) {
    guest.ok(&format!(
        "echo -n transport=tcp,traddr=127.0.0.{port},trsvcid=4420,nqn=nqn.2026-01.test:array,reconnect_delay=1,ctrl_loss_tmo=120,\
         hostnqn=nqn.2026-01.test:host,hostid=00000000-0000-0000-0000-000000000001 > /dev/nvme-fabrics"
    ));
}

/// The port's cable: the subsystem is served through it, or not.
fn cable(guest: &Guest, port: u8, there: bool) {
    let link = format!("{PORTS}/{port}/subsystems/nqn.2026-01.test:array");
    guest.ok(&if there { format!("ln -s {SUBSYSTEM} {link}") } else { format!("rm {link}") });
}

fn ana(guest: &Guest, port: u8, state: &str) {
    guest.ok(&format!("echo {state} > {PORTS}/{port}/ana_groups/2/ana_state"));
}

/// The map's groups in the order of its table: state, priority, names of the paths.
fn groups(guest: &Guest) -> Vec<String> {
    let status = guest.ok("corepath status || true");
    let mut groups: Vec<String> = Vec::new();
    for line in status.lines().filter_map(|line| line.strip_prefix("  ")) {
        match (line.strip_prefix("group "), groups.last_mut()) {
            (Some(group), _) => groups.push(group.split(' ').skip(1).filter(|word| *word != "prio").collect::<Vec<_>>().join(" ")),
            (None, Some(group)) => *group = format!("{group} {}", line.split_whitespace().next().unwrap_or("")),
            (None, None) => {}
        }
    }
    groups
}

#[track_caller]
fn until_groups(guest: &Guest, wanted: &[&str]) {
    let end = std::time::Instant::now() + LONG;
    while groups(guest) != wanted {
        assert!(std::time::Instant::now() < end, "wanted {wanted:?}:\n{}", guest.ok("corepath status; dmesg | tail -n 40"));
        std::thread::sleep(Duration::from_millis(200));
    }
}

scenario! {
    /// A namespace behind two ports is one map, its groups are what ANA says, and it goes where the array says, at once, however often.
    fn nvme_goes_where_ana_says(kernel) {
        let guest = site(
            kernel,
            "defaults {\n\tpolling_interval 1\n\tmax_polling_interval 2\n\tno_path_retry queue\n}\n",
        );
        let boot = guest.ok(&format!("corepath boot --only-root --root=/dev/disk/by-id/nvme-uuid.{UUID} 2>&1"));
        assert!(boot.contains("2 usable paths"), "{boot}");
        let daemon = guest.spawn("exec corepath daemon --strict");
        until_groups(&guest, &["enabled 50 nvme0n1", "enabled 10 nvme1n1"]);
        let paths = guest.ok("corepath raw show paths raw format %d,%w,%p,%c,%T");
        let mut paths: Vec<&str> = paths.lines().collect();
        paths.sort_unstable();
        assert_eq!(paths, [format!("nvme0n1,uuid.{UUID},50,none,ready"), format!("nvme1n1,uuid.{UUID},10,none,ready")]);
        let writer = guest.spawn(&format!("exec lab write /dev/mapper/uuid.{UUID} --size 2m --direct --rate 200"));
        until_groups(&guest, &["active 50 nvme0n1", "enabled 10 nvme1n1"]);

        // A cable: the other group serves, and the map goes back with the port.
        cable(&guest, 1, false);
        guest.until("corepath status | grep -q 'group 2 active prio 10'", LONG);
        cable(&guest, 1, true);
        until_groups(&guest, &["active 50 nvme0n1", "enabled 10 nvme1n1"]);

        // The array moves the namespace to its other controller and back, more often than two hosts that quarrel would be let.
        for _ in 0..2 {
            ana(&guest, 1, "inaccessible");
            ana(&guest, 2, "optimized");
            until_groups(&guest, &["active 50 nvme1n1", "enabled 1 nvme0n1"]);
            ana(&guest, 1, "optimized");
            ana(&guest, 2, "non-optimized");
            until_groups(&guest, &["active 50 nvme0n1", "enabled 10 nvme1n1"]);
        }
        verified(vec![writer], "NVMe, a cable and four moves");

        guest.ok(&format!("truncate -s 96M /tmp/disk; losetup -c /dev/loop0; echo 1 > {SUBSYSTEM}/namespaces/1/revalidate_size"));
        guest.until("grep -qx 196608 /sys/block/nvme0n1/size && grep -qx 196608 /sys/block/nvme1n1/size", LONG);
        guest.until(&format!("corepath resize uuid.{UUID}"), LONG);
        assert_eq!(guest.ok("cat /sys/block/dm-0/size").trim(), "196608");
        guest.ok("corepath stop");
        let said = daemon.wait(LONG);
        assert_eq!(said.code, 0);
        assert!(!said.text().contains("another host"), "{}", said.text());
    }
}

scenario! {
    /// The kernel's own multipathing has a local NVMe disk, as it has by default: it is nobody's path, and a root on it is there at once.
    fn a_local_nvme_is_no_path(kernel) {
        let vm = Vm::new(kernel).corepath().modules(&["nvme"]);
        let drives = ["nvme", "virtio"].map(|name| {
            let disk = vm.scratch().join(name);
            std::fs::File::create(&disk).unwrap().set_len(16 << 20).unwrap();
            format!("file={},if=none,id={name},format=raw", disk.display())
        });
        let vm = vm.qemu(&["-drive", &drives[0], "-device", "nvme,serial=0123456789,drive=nvme"]);
        let guest = vm.qemu(&["-drive", &drives[1], "-device", "virtio-blk-pci,drive=virtio"]).boot();
        guest.ok("modprobe nvme; modprobe virtio_blk");
        let wwid = guest.until("cat /sys/block/nvme0n1/wwid", LONG);
        let why = guest.run("corepath why nvme0n1");
        assert!(why.text().contains("[native-nvme]"), "{}", why.text());
        for root in ["/dev/nvme0n1".to_string(), format!("/dev/disk/by-id/nvme-{}", wwid.trim()), "/dev/vda".to_string()] {
            let name = if root == "/dev/vda" { "vda" } else { "nvme0n1" };
            let begin = std::time::Instant::now();
            let boot = guest.run(&format!("corepath boot --root={root} --timeout 60"));
            assert!(boot.code == 0 && begin.elapsed() < LONG, "{root}: {}", boot.text());
            assert!(boot.text().contains(name) && boot.text().contains("nothing to wait for"), "{root}: {}", boot.text());
        }
        assert!(guest.ok("dmesg").lines().all(|line| !line.contains("device-mapper: multipath")));
    }
}
