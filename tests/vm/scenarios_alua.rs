//! The kernel's handlers at work under corepath's maps: ALUA with explicit and implicit transitions, RDAC, HP. The handlers are attached
//! late, by the load of a table: what sysfs says of access states then is not what the array says, until a rescan.

use std::time::Duration;

use crate::lab::site::{Site, verified};
use crate::lab::{Vm, rounds};
use crate::scenario;
use crate::scenarios_activation::four;

const LONG: Duration = Duration::from_secs(30);

const CONFIGURATION: &[u8] = b"defaults {\n\tpolling_interval 1\n\tmax_polling_interval 2\n\tno_path_retry queue\n}\n\
    overrides {\n\tfailback immediate\n}\n";

scenario! {
    /// Explicit ALUA, implicit ALUA, RDAC and HP, side A pulled and back under verified writes: each LUN moves once each way.
    fn the_kernels_handlers_fail_over(kernel) {
        let explicit = four("alua", 1, "--serial EX1 --lun 0,size=8M,owner=a --lun 1,size=8M,owner=a");
        let implicit = four("alua", 2, "--serial IM2 --lun 0,size=8M,owner=a");
        let rdac = four("rdac", 3, "--serial RD3 --lun 0,size=8M,owner=a --lun 1,size=8M,owner=a");
        let hp = four("hpsw", 4, "--serial HP4 --lun 0,size=8M,owner=a");
        let secs = u64::from(rounds(3, 30));
        explicit.say(&format!("alua transition {secs}"));
        explicit.say("alua demote standby");
        for lun in 0..2 {
            explicit.say(&format!("alua 2 standby lun={lun}"));
        }
        implicit.say("alua tpgs 1");
        implicit.say("alua demote off");
        let vm = Vm::new(kernel).corepath().array(&explicit).array(&implicit).array(&rdac).array(&hp);
        let guest = vm.file("/etc/multipath.conf", 0o644, CONFIGURATION).boot();
        guest.ok("modprobe dm_multipath; modprobe dm_service_time");
        let site = |array, serial, luns| Site::find(&guest, array, serial, luns);
        let sites = [site(&explicit, "EX1", 2), site(&implicit, "IM2", 1), site(&rdac, "RD3", 2), site(&hp, "HP4", 1)];
        let [ex, im, rd, h] = &sites;
        let mut daemon = guest.spawn("exec corepath daemon --strict");
        let check = || {
            for (site, luns, handler) in [(ex, 2, "alua"), (im, 1, "alua"), (rd, 2, "rdac"), (h, 1, "hp_sw")] {
                site.until_usable(4);
                for lun in 0..luns {
                    assert_eq!(site.handler(lun), handler);
                    let ports: Vec<&str> = site.array.ports.iter().map(String::as_str).collect();
                    assert_eq!(site.groups(lun), [[ports[0], ports[1]], [ports[2], ports[3]]], "{handler} LUN {lun}");
                }
            }
        };
        check();
        println!("vm: access_state after a late attach: {}", guest.ok("cat /sys/block/sd*/device/access_state | sort | uniq -c").replace('\n', ","));
        // A daemon that starts now finds the states in sysfs.
        daemon.signal(15);
        assert_eq!(daemon.wait(LONG).code, 0);
        daemon = guest.spawn("exec corepath daemon --strict");
        check();

        let jobs: Vec<_> = [(ex, 2), (im, 1), (rd, 2), (h, 1)].iter().flat_map(|(site, n)| site.writers(&(0..*n).collect::<Vec<_>>())).collect();
        std::thread::sleep(Duration::from_secs(1));
        let reports = |array: &crate::lab::Array| array.number("count op=MAINTENANCE_IN");
        let (before, stpg) = ((reports(&explicit), reports(&implicit)), || implicit.number("count op=MAINTENANCE_OUT"));
        guest.ok("sleep 4");
        println!("vm: REPORT TARGET PORT GROUPS in 4 s: {} for two LUNs, {} for one", reports(&explicit) - before.0, reports(&implicit) - before.1);

        for array in [&explicit, &rdac, &hp] {
            array.say("down sp=a");
        }
        // The array changes its states by itself, and serves nobody meanwhile.
        implicit.say(&format!("alua 1 standby after={secs}"));
        implicit.say(&format!("alua 2 optimized after={secs}"));
        rd.until_moves(&[1, 1], LONG);
        h.until_moves(&[1], LONG);
        ex.until_moves(&[1, 1], LONG * 2);
        ex.until_usable(2);
        guest.until(&format!("corepath status | grep -A4 '^{}' | grep -q 'group . active prio 50'", im.map(0)), LONG * 2);
        for array in [&explicit, &rdac, &hp] {
            array.say("up sp=a");
        }
        implicit.say(&format!("alua 1 optimized after={secs}"));
        implicit.say(&format!("alua 2 non-optimized after={secs}"));
        rd.until_moves(&[2, 2], LONG);
        ex.until_moves(&[2, 2], LONG * 2);
        for site in &sites {
            site.until_usable(4);
        }
        hp.say("down sp=b");
        h.until_moves(&[2], LONG);
        hp.say("up sp=b");
        guest.ok("sleep 3");
        assert_eq!((ex.moves(), rd.moves(), h.moves()), (vec![2, 2], vec![2, 2], vec![2]));
        assert_eq!(stpg(), 0, "an array that changes states by itself is not asked to");
        let counts = [(&explicit, "MAINTENANCE_OUT"), (&rdac, "MODE_SELECT_10"), (&hp, "START_STOP_UNIT")]
            .map(|(array, op)| format!("{op} {}", array.number(&format!("count op={op}"))));
        println!("vm: two moves of each LUN by the kernel's handlers, {secs} s of transition: {}", counts.join(", "));
        verified(jobs, "kernel handlers");
        daemon.signal(15);
        assert_eq!(daemon.wait(LONG).code, 0);
    }
}
