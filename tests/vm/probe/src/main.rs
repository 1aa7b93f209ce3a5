//! The shell's own calls against a real kernel, one verb each. A step that does not hold ends the program with a sentence; what holds is
//! told in one line, `@done VERB`. Run by tests/vm/scenarios_shell.rs.

mod life;
mod seal;

use corepath::dmioctl::Page;
use corepath::model::{Holder, PathFacts, SysState, Tpgs, WwidOrigin};
use corepath::netlink::{LARGEST, Received, Uevents};
use corepath::raw::AsFd;
use corepath::sgio::{self, SENSE};
use corepath::sysfs::{self, Roots};
use corepath::wire::scsi::Command;
use corepath::wire::uevent::{self, Uevent};
use corepath::wire::vpd;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["facts", disk] => facts(disk),
        ["scsi", disk] => scsi(disk),
        ["offline", disk] => offline(disk),
        ["uevents", disk] => uevents(disk),
        ["life", name, disks @ ..] => life::life(name, disks),
        ["seal", workers, rounds, disks @ ..] => seal::seal(workers.parse().unwrap(), rounds.parse().unwrap(), disks),
        ["outlaw", call] => seal::outlaw(call),
        other => panic!("no verb {other:?}"),
    }
    println!("@done {}", words[0]);
}

pub(crate) fn roots() -> Roots {
    Roots::open("/sys", "/dev", "/proc", "/run").expect("the four roots")
}

pub(crate) fn read_facts(disk: &str) -> PathFacts {
    let mut facts = PathFacts::default();
    sysfs::read_facts(&roots(), disk, &mut [0; 4096], &mut facts).unwrap_or_else(|e| panic!("facts of {disk}: {e:?}"));
    facts
}

/// What sysfs says, for the scenario to compare with what it made.
fn facts(disk: &str) {
    let f = read_facts(disk);
    let holder = match &f.holder {
        Holder::Nobody => "nobody".to_string(),
        Holder::Map { uuid, .. } => format!("map={uuid}"),
        Holder::Device(name) => format!("device={name}"),
        Holder::Mounted(place) => format!("mounted={place}"),
    };
    println!(
        "@facts name={} devno={} wwid={} origin={:?} vendor={} size={} block={} protocol={} adapter={} state={:?} timeout={} holder={holder}",
        f.name,
        f.devno,
        f.wwid,
        f.wwid_origin,
        f.vendor,
        f.size.0,
        f.block_size,
        f.protocol.word(),
        f.adapter,
        f.sys_state,
        f.timeout_secs
    );
}

/// Pass-through, direct reads and size queries say what sysfs says.
fn scsi(disk: &str) {
    let (roots, facts) = (roots(), read_facts(disk));
    let fd = sgio::open_disk(roots.dev.as_fd(), disk, facts.devno).expect("open");
    let other = corepath::model::DevNo::new(8, 240);
    assert_eq!(sgio::open_disk(roots.dev.as_fd(), disk, other).map(|_| ()), Err(corepath::fault::Errno::NODEV), "another disk's node");
    let mut page = Page::new();
    let mut sense = [0u8; SENSE];

    let outcome = sgio::execute(fd.as_fd(), &Command::inquiry(96), &mut page, &mut sense);
    let reply = outcome.reply(&page, &sense);
    assert_eq!((reply.errno, reply.status, reply.host), (None, 0, 0), "INQUIRY");
    assert_eq!(std::str::from_utf8(&reply.data[8..16]).unwrap().trim_end(), facts.vendor.as_str());

    if facts.wwid_origin == WwidOrigin::Vpd83 {
        let outcome = sgio::execute(fd.as_fd(), &Command::vpd(0x83, 252), &mut page, &mut sense);
        let reply = outcome.reply(&page, &sense);
        assert_eq!(vpd::wwid(reply.data).expect("a page 0x83"), facts.wwid, "the kernel's page and the device's");
    }

    page.0.fill(0xaa);
    let outcome = sgio::execute(fd.as_fd(), &Command::test_unit_ready(), &mut page, &mut sense);
    let reply = outcome.reply(&page, &sense);
    assert_eq!((reply.errno, reply.status, reply.data.len()), (None, 0, 0), "TEST UNIT READY");

    // A page no disk has: CHECK CONDITION with sense data, and nothing left of the last answer.
    let outcome = sgio::execute(fd.as_fd(), &Command::vpd(0xee, 64), &mut page, &mut sense);
    let reply = outcome.reply(&page, &sense);
    assert_eq!((reply.errno, reply.status), (None, 2), "illegal request");
    assert!(reply.sense.len() >= 8 && matches!(reply.sense[0] & 0x7f, 0x70..=0x73), "sense {:x?}", reply.sense);
    assert!(page.0[..64].iter().all(|&b| b == 0), "no stale data");

    assert_eq!(sgio::size(fd.as_fd()), Ok(facts.size));
    assert_eq!(sgio::block_size(fd.as_fd()), Ok(facts.block_size));
    assert_eq!(sgio::read(fd.as_fd(), 0, 4096, &mut page), Ok(4096));
    assert_eq!(sgio::read(fd.as_fd(), facts.size.bytes(), 4096, &mut page), Ok(0), "behind the end");
    let ordinary = corepath::files::open_read(&roots.proc, "self/stat").unwrap();
    let outcome = sgio::execute(ordinary.as_fd(), &Command::test_unit_ready(), &mut page, &mut sense);
    assert!(outcome.errno.is_some(), "no SCSI device");
    assert_ne!(facts.tpgs, Tpgs::Unknown, "INQUIRY data in sysfs");

    // The kernel's partitions: none of number 9; and they come back by reading the table again.
    assert_eq!(sgio::delete_partition(fd.as_fd(), 9), Err(corepath::fault::Errno::NXIO));
    let count = || {
        let mut count = 0;
        sysfs::partitions(&roots, disk, &mut |_, _| count += 1).unwrap();
        count
    };
    let before = count();
    let mut numbers = Vec::new();
    sysfs::partitions(&roots, disk, &mut |_, partition| numbers.push(partition.number)).unwrap();
    for number in &numbers {
        sgio::delete_partition(fd.as_fd(), *number).expect("delete a partition");
    }
    assert_eq!(count(), 0);
    sgio::reread_partitions(fd.as_fd()).expect("read the table again");
    assert_eq!(count(), before);
    println!("@scsi partitions={before}");
}

/// A device that is offline says so through the attribute that was open all the time.
fn offline(disk: &str) {
    let roots = roots();
    let state = sysfs::open_state(&roots, disk).unwrap();
    let fd = sgio::open(roots.dev.as_fd(), disk).unwrap();
    assert_eq!(sysfs::read_state(state.as_fd()), SysState::Running);
    let put = |text: &str| std::fs::write(format!("/sys/block/{disk}/device/state"), format!("{text}\n")).unwrap();
    put("offline");
    assert_eq!(sysfs::read_state(state.as_fd()), SysState::Offline);
    let (mut page, mut sense) = (Page::new(), [0u8; SENSE]);
    let outcome = sgio::execute(fd.as_fd(), &Command::test_unit_ready(), &mut page, &mut sense);
    assert!(outcome.errno.is_some() || outcome.host != 0, "{outcome:?}");
    put("running");
    assert_eq!(sysfs::read_state(state.as_fd()), SysState::Running);
    // Its own name goes: the held attribute says that the device is gone, whatever takes the name later.
    sysfs::write_attribute(&roots, disk, corepath::model::Attribute::Delete, 1).expect("delete");
    assert_eq!(sysfs::read_state(state.as_fd()), SysState::Deleted);
    assert!(sysfs::read_facts(&roots, disk, &mut [0; 4096], &mut PathFacts::default()).is_err());
    let outcome = sgio::execute(fd.as_fd(), &Command::test_unit_ready(), &mut page, &mut sense);
    assert!(outcome.errno.is_some() || outcome.host != 0, "{outcome:?}");
}

/// The kernel's events come, another program's do not, and losing some is told.
fn uevents(disk: &str) {
    let events = Uevents::open().expect("subscribe");
    let mut buffer = [0u8; LARGEST];
    let trigger = || std::fs::write(format!("/sys/block/{disk}/uevent"), "change").unwrap();
    trigger();
    let mut next = || loop {
        match events.receive(&mut buffer).expect("receive") {
            Received::Event(length) => {
                let event = Uevent::parse(&buffer[..length]).expect("a kernel event parses");
                if event.name() == disk {
                    assert!(event.action == uevent::Action::Change && event.is_disk());
                    break Received::Event(length);
                }
            }
            other => break other,
        }
    };
    assert!(matches!(next(), Received::Event(_)));
    assert_eq!(next(), Received::Nothing);

    // Forged, by a root process that may send to the kernel's group.
    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, netlink};
    let socket =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::KOBJECT_UEVENT)).unwrap();
    let to = netlink::SocketAddrNetlink::new(0, 1);
    let forged = format!("remove@/block/{disk}\0ACTION=remove\0DEVPATH=/block/{disk}\0SUBSYSTEM=block\0DEVTYPE=disk\0SEQNUM=1\0");
    rustix::net::sendto(&socket, forged.as_bytes(), SendFlags::empty(), &to).expect("send");
    assert_eq!(next(), Received::Foreign);
    assert_eq!(next(), Received::Nothing);

    let mut written = 0;
    let overrun = loop {
        for _ in 0..2000 {
            trigger();
        }
        written += 2000;
        // The drop is told at the next receive, before what is still queued.
        let mut probe = [0u8; LARGEST];
        match events.receive(&mut probe).expect("receive") {
            Received::Overrun => break written,
            _ => assert!(written < 200_000, "no event was ever dropped"),
        }
    };
    println!("@uevents dropped_after={overrun}");
}
