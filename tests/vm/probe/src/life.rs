//! A map's whole life through the control node: made, loaded, resumed, failed, reinstated, reloaded, partitioned, renamed, removed.

use crate::{read_facts, roots};
use corepath::dmioctl::{self, Control, Failure, Page};
use corepath::fault::Errno;
use corepath::model::{DevNo, DmPathState, Sectors, Text};
use corepath::raw::AsFd;
use corepath::wait::Poll;
use corepath::wire::dm::{Content, Cookie, EmitError, Info, Message, Request, Target, map_wwid};
use corepath::wire::table::{Features, Status, Table, TableGroup, TablePath};

struct Dm {
    control: Control,
    page: Page,
}

impl Dm {
    fn ask(&mut self, target: Target<'_>, request: Request<'_>) -> Result<Info<'_>, Errno> {
        match self.control.submit(target, &request, &mut self.page) {
            Ok(reply) => Ok(reply.info()),
            Err(Failure::Kernel(errno)) => Err(errno),
            Err(other) => panic!("{request:?}: {other:?}"),
        }
    }
    fn done(&mut self, target: Target<'_>, request: Request<'_>) {
        if let Err(errno) = self.ask(target, request) {
            panic!("{request:?}: {errno:?}");
        }
    }
    fn line(&mut self, target: Target<'_>, request: Request<'_>, kind: &str) -> (Sectors, String) {
        let reply = self.control.submit(target, &request, &mut self.page).unwrap_or_else(|e| panic!("{request:?}: {e:?}"));
        let line = reply.only_line(Some(kind)).unwrap_or_else(|e| panic!("{request:?}: {e:?}"));
        (line.length, line.text().unwrap().to_string())
    }
    fn status(&mut self, target: Target<'_>) -> Status {
        Status::parse(&self.line(target, Request::Status, "multipath").1).expect("the kernel's status")
    }
    fn table(&mut self, target: Target<'_>) -> Table {
        Table::parse(&self.line(target, Request::TableLine, "multipath").1).expect("the kernel's table")
    }
}

fn table(paths: &[DevNo]) -> Table {
    let mut table = Table { features: Features { queue_if_no_path: true, ..Features::default() }, first_group: 1, ..Table::default() };
    table.groups.push(TableGroup { selector: Text::try_from("service-time 0").unwrap() }).unwrap();
    for devno in paths {
        table.paths.push(TablePath { devno: *devno, repeat: Some(1), ..TablePath::default() }).unwrap();
    }
    table
}

fn load(size: Sectors, table: &Table) -> Request<'_> {
    Request::Load { size, read_only: false, content: Content::Multipath(table) }
}

const COOKIE: Cookie = Cookie(0x0060);

pub(crate) fn life(name: &str, disks: &[&str]) {
    let roots = roots();
    let facts: Vec<_> = disks.iter().map(|disk| read_facts(disk)).collect();
    let paths: Vec<DevNo> = facts.iter().map(|f| f.devno).collect();
    let size = facts[0].size;
    let uuid = format!("mpath-{}", facts[0].wwid);
    let map = Target::Uuid(&uuid);
    let mut dm = Dm { control: Control::open(roots.dev.as_fd()).expect("control node"), page: Page::new() };
    let watch = Control::open(roots.dev.as_fd()).expect("control node to poll");
    let poll = Poll::new().unwrap();
    poll.add(watch.fd(), 1).unwrap();
    let mut armed = Page::new();
    let mut event = |why: &str, wanted: bool| {
        // The event is told from a work queue: a moment later.
        let mut seen = false;
        poll.wait(Some(corepath::wait::now() + std::time::Duration::from_millis(if wanted { 5000 } else { 200 })), |_| seen = true)
            .unwrap();
        assert_eq!(seen, wanted, "event: {why}");
        watch.submit(Target::NONE, &Request::ArmPoll, &mut armed).expect("arm");
    };

    let version = dm.ask(Target::NONE, Request::Version).unwrap().version;
    assert!(version[0] == 4 && version[1] >= 43, "{version:?}");
    for request in [Request::ListVersions, Request::TargetVersion("multipath")] {
        let reply = dm.control.submit(Target::NONE, &request, &mut dm.page).unwrap();
        assert!(reply.versions().any(|v| v.unwrap().name == b"multipath"), "{request:?}");
    }
    assert!(dm.ask(Target::NONE, Request::TargetVersion("no-such-target")).is_err());

    assert_eq!(dm.ask(map, Request::Info).unwrap_err(), Errno::NXIO, "not there yet");
    let made = dm.ask(Target::NONE, Request::Create { name, uuid: &uuid }).expect("create");
    let devno = made.devno;
    assert!(!made.flags.active() && !made.flags.suspended());
    assert_eq!(dm.ask(Target::NONE, Request::Create { name: "other", uuid: &uuid }).unwrap_err(), Errno::BUSY);
    event("create", true);

    let wanted = table(&paths);
    // A table that cannot be loaded changes nothing: the second path does not exist.
    assert!(dm.ask(map, load(size, &table(&[paths[0], DevNo::new(8, 4095)]))).is_err());
    assert!(!dm.ask(map, Request::Info).unwrap().flags.inactive());
    dm.done(map, load(size, &wanted));
    let info = dm.ask(map, Request::Info).unwrap();
    assert!(info.flags.inactive() && !info.flags.active());
    dm.done(map, Request::Clear);
    assert!(!dm.ask(map, Request::Info).unwrap().flags.inactive());
    dm.done(map, load(size, &wanted));
    dm.done(map, Request::Resume { cookie: COOKIE });
    let info = dm.ask(Target::Device(devno), Request::Info).unwrap();
    assert!(info.flags.active() && !info.flags.inactive() && !info.flags.suspended());
    assert_eq!((info.name, info.uuid), (name.as_bytes(), uuid.as_bytes()));
    event("table swap", true);

    dmioctl::link(roots.dev.as_fd(), name, devno).expect("name");
    dmioctl::link(roots.dev.as_fd(), name, devno).expect("name that is there");
    let node = format!("/dev/mapper/{name}");
    assert_eq!(std::fs::read(&node).expect("read the whole map").len() as u64, size.bytes());

    let (length, _) = dm.line(map, Request::Status, "multipath");
    assert_eq!(length, size);
    assert!(wanted.agrees_with(&dm.table(map)), "{:?}", dm.table(map));
    let status = dm.status(map);
    assert!(status.paths.iter().all(|p| p.state == DmPathState::Active && p.fail_count == 0));
    assert_eq!(status.paths.iter().map(|p| p.devno).collect::<Vec<_>>(), paths);
    let held = read_facts(disks[0]).holder;
    assert!(matches!(&held, corepath::model::Holder::Map { uuid: of, .. } if of.as_str() == uuid), "{held:?}");

    let message = |message| Request::Message(message);
    dm.done(map, message(Message::FailPath(paths[0])));
    let failed = dm.status(map).paths[0];
    assert_eq!((failed.state, failed.fail_count), (DmPathState::Failed, 1));
    event("path failed", true);
    dm.done(map, message(Message::FailPath(paths[0])));
    event("failed already", false);
    dm.done(map, message(Message::ReinstatePath(paths[0])));
    assert_eq!(dm.status(map).paths[0].state, DmPathState::Active);
    dm.done(map, message(Message::FailIfNoPath));
    assert!(!dm.table(map).features.queue_if_no_path);
    dm.done(map, message(Message::QueueIfNoPath));
    assert!(dm.table(map).features.queue_if_no_path);
    dm.done(map, message(Message::SwitchGroup(1)));
    dm.done(map, message(Message::DisableGroup(1)));
    dm.done(map, message(Message::EnableGroup(1)));
    assert_eq!(dm.ask(map, message(Message::SwitchGroup(9))).unwrap_err(), Errno::INVAL);
    // Kernels before 6.12 look the device up first, later ones only in the table.
    let unknown = dm.ask(map, message(Message::FailPath(DevNo::new(8, 4095)))).unwrap_err();
    assert!(matches!(unknown, Errno::INVAL | Errno::NXIO), "{unknown:?}");

    dm.done(map, Request::Suspend);
    assert!(dm.ask(map, Request::Info).unwrap().flags.suspended());
    assert_eq!(dm.ask(map, message(Message::QueueIfNoPath)).unwrap_err(), Errno::BUSY, "suspended");
    dm.done(map, Request::Resume { cookie: COOKIE });

    let deps = |dm: &mut Dm| {
        let mut deps: Vec<DevNo> = dm.control.submit(map, &Request::Deps, &mut dm.page).unwrap().deps().unwrap().collect();
        deps.sort();
        deps
    };
    assert_eq!(deps(&mut dm), paths);
    dm.done(map, load(size, &table(&paths[..1])));
    dm.done(map, Request::Resume { cookie: Cookie(0x0160) });
    assert_eq!((deps(&mut dm), dm.status(map).paths.len()), (paths[..1].to_vec(), 1));

    // A partition map above it holds it.
    let part_uuid = format!("part1-{uuid}");
    let part = Target::Uuid(&part_uuid);
    let part_name = format!("{name}-part1");
    dm.done(Target::NONE, Request::Create { name: &part_name, uuid: &part_uuid });
    let linear = Content::Linear { device: devno, start: Sectors(8) };
    dm.done(part, Request::Load { size: Sectors(16), read_only: false, content: linear });
    dm.done(part, Request::Resume { cookie: Cookie(0) });
    let reply = dm.control.submit(part, &Request::TableLine, &mut dm.page).unwrap();
    assert_eq!(reply.only_line(Some("linear")).unwrap().linear(), Ok((devno, Sectors(8))));

    let mut big = vec![0u8; 16384];
    let reply = dm.control.list(Target::Uuid("mpath-"), &mut big).unwrap();
    let entries: Vec<_> = reply.entries().map(Result::unwrap).collect();
    let ours = entries.iter().find(|e| e.devno == devno).expect("listed");
    assert_eq!(ours.name, name.as_bytes());
    // From 5.15 on: uuids, and the prefix filter.
    assert_eq!(ours.uuid, Some(uuid.as_bytes()));
    assert!(entries.iter().all(|e| map_wwid(std::str::from_utf8(e.uuid.unwrap()).unwrap()).is_some()));
    assert!(dm.control.list(Target::NONE, &mut big).unwrap().entries().count() >= 2);

    let renamed = format!("{name}x");
    let rename = Request::Rename { to: &renamed, cookie: COOKIE };
    assert_eq!(dm.control.submit(map, &rename, &mut dm.page).map(|_| ()), Err(Failure::Emit(EmitError::Target)));
    dm.done(Target::Name(name), rename);
    assert_eq!(dm.ask(map, Request::Info).unwrap().name, renamed.as_bytes());
    let taken = Request::Rename { to: &part_name, cookie: COOKIE };
    assert_eq!(dm.ask(Target::Name(&renamed), taken).unwrap_err(), Errno::BUSY);

    assert_eq!(dm.ask(map, Request::Remove { deferred: false, cookie: COOKIE }).unwrap_err(), Errno::BUSY, "the partition has it");
    dm.done(map, Request::Remove { deferred: true, cookie: COOKIE });
    assert!(dm.ask(map, Request::Info).unwrap().flags.deferred_remove());
    dm.done(map, message(Message::CancelDeferredRemove));
    assert!(!dm.ask(map, Request::Info).unwrap().flags.deferred_remove());
    dm.done(part, Request::Remove { deferred: false, cookie: Cookie(0) });
    dm.done(map, Request::Remove { deferred: false, cookie: COOKIE });
    assert_eq!(dm.ask(map, Request::Info).unwrap_err(), Errno::NXIO);
    dmioctl::unlink(roots.dev.as_fd(), name).expect("take the name away");
    dmioctl::unlink(roots.dev.as_fd(), name).expect("a name that is gone");
    assert!(!std::path::Path::new(&node).exists());

    // A device without uuid gets one, once.
    dm.done(Target::NONE, Request::Create { name, uuid: "" });
    dm.done(Target::Name(name), Request::SetUuid { uuid: &uuid });
    assert_eq!(dm.ask(map, Request::Info).unwrap().name, name.as_bytes());
    assert!(dm.ask(Target::Name(name), Request::SetUuid { uuid: "mpath-other" }).is_err());
    dm.done(map, Request::Remove { deferred: false, cookie: Cookie(0) });
    println!("@life dm={}.{} target_paths={}", version[0], version[1], paths.len());
}
