//! dm ioctl buffers: every request's bytes, and the kernel's answers in the forms of 5.10 to 6.16.

use corepath::model::{DevNo, Sectors, Text};
use corepath::wire::dm::*;
use corepath::wire::table::Table;
use proptest::prelude::*;
use serde_json::Value;

/// The submitted bytes and what follows them, which must stay untouched.
fn emitted(target: Target<'_>, request: &Request<'_>) -> Result<Vec<u8>, EmitError> {
    let mut buffer = [0xaau8; PAGE];
    let size = emit(target, request, &mut buffer)?;
    Ok(buffer[..size].to_vec())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn text_at(bytes: &[u8], at: usize) -> &str {
    let end = bytes[at..].iter().position(|&b| b == 0).unwrap();
    core::str::from_utf8(&bytes[at..at + end]).unwrap()
}

const MAP: Target<'static> = Target::Name("mpatha");
const COOKIE: Cookie = Cookie(0x0060);

fn requests(table: &Table) -> Vec<(Request<'_>, u8, u32, u32)> {
    let load = |read_only| Request::Load { size: Sectors(2048), read_only, content: Content::Multipath(table) };
    // request, command, flags, event_nr
    vec![
        (Request::Version, 0x00, 0, 0),
        (Request::List, 0x02, 0x4000, 0),
        (Request::ListVersions, 0x0d, 0, 0),
        (Request::TargetVersion("multipath"), 0x11, 0, 0),
        (Request::Create { name: "mpatha", uuid: "mpath-3600" }, 0x03, 0, 0),
        (load(false), 0x09, 0, 0),
        (load(true), 0x09, 1, 0),
        (Request::Clear, 0x0a, 0, 0),
        (Request::Suspend, 0x06, 0xc02, 0),
        (Request::Resume { cookie: COOKIE }, 0x06, 0xc00, 0x0060_0000),
        (Request::Info, 0x07, 0, 0),
        (Request::Status, 0x0c, 0, 0),
        (Request::TableLine, 0x0c, 0x10, 0),
        (Request::Deps, 0x0b, 0, 0),
        (Request::Message(Message::QueueIfNoPath), 0x0e, 0, 0),
        (Request::Rename { to: "mpathb", cookie: COOKIE }, 0x05, 0, 0x0060_0000),
        (Request::SetUuid { uuid: "mpath-3600" }, 0x05, 0x4000, 0),
        (Request::Remove { deferred: false, cookie: Cookie(0) }, 0x04, 0, 0),
        (Request::Remove { deferred: true, cookie: COOKIE }, 0x04, 0x2_0000, 0x0060_0000),
        (Request::ArmPoll, 0x10, 0, 0),
    ]
}

#[test]
fn headers() {
    let table = Table::parse("0 0 1 1 service-time 0 2 1 8:0 1 8:16 1").unwrap();
    for (request, number, flags, event_nr) in requests(&table) {
        let bytes = emitted(MAP, &request).unwrap();
        assert_eq!(request.opcode(), 0xc138_fd00 | u32::from(number));
        assert_eq!([u32_at(&bytes, 0), u32_at(&bytes, 4), u32_at(&bytes, 8)], [4, 0, 0], "version");
        assert_eq!(u32_at(&bytes, 12) as usize, bytes.len(), "data_size");
        assert_eq!(u32_at(&bytes, 16), 312, "data_start");
        assert_eq!(u32_at(&bytes, 20), u32::from(number == 0x09), "target_count");
        assert_eq!(u32_at(&bytes, 28), flags, "flags of {number:#x}");
        assert_eq!(u32_at(&bytes, 32), event_nr, "cookie of {number:#x}");
        let name = match number {
            0x00 | 0x0d | 0x10 => "",
            0x11 => "multipath",
            _ => "mpatha",
        };
        assert_eq!(text_at(&bytes, 48), name);
        assert_eq!(text_at(&bytes, 176), if number == 0x03 { "mpath-3600" } else { "" });
        assert_eq!(u64_at(&bytes, 40), 0);
        let answers = [0x02, 0x0d, 0x11, 0x0c, 0x0b].contains(&number);
        assert_eq!(bytes.len() == PAGE, answers, "{number:#x}");
    }
}

#[test]
fn payloads() {
    let table = Table::parse("1 queue_if_no_path 1 alua 1 1 service-time 0 2 1 8:0 1 8:16 1").unwrap();
    let load = Request::Load { size: Sectors(0x1_0000_0001), read_only: false, content: Content::Multipath(&table) };
    let bytes = emitted(Target::Uuid("mpath-3600"), &load).unwrap();
    assert_eq!(text_at(&bytes, 176), "mpath-3600");
    assert_eq!((u64_at(&bytes, 312), u64_at(&bytes, 320)), (0, 0x1_0000_0001));
    assert_eq!(text_at(&bytes, 336), "multipath");
    assert_eq!(text_at(&bytes, 352), "1 queue_if_no_path 1 alua 1 1 service-time 0 2 1 8:0 1 8:16 1");
    let next = u32_at(&bytes, 332) as usize;
    assert_eq!((next % 8, 312 + next), (0, bytes.len()), "padded, and nothing after it");

    let linear = Content::Linear { device: DevNo::new(253, 300), start: Sectors(2048) };
    let load = Request::Load { size: Sectors(8), read_only: true, content: linear };
    let bytes = emitted(Target::Device(DevNo::new(253, 300)), &load).unwrap();
    assert_eq!(u64_at(&bytes, 40), 0x10_fd2c, "huge_encode_dev");
    assert_eq!((text_at(&bytes, 336), text_at(&bytes, 352)), ("linear", "253:300 2048"));

    let messages = [
        (Message::QueueIfNoPath, "queue_if_no_path"),
        (Message::FailIfNoPath, "fail_if_no_path"),
        (Message::FailPath(DevNo::new(8, 16)), "fail_path 8:16"),
        (Message::ReinstatePath(DevNo::new(65, 0)), "reinstate_path 65:0"),
        (Message::SwitchGroup(2), "switch_group 2"),
        (Message::DisableGroup(1), "disable_group 1"),
        (Message::EnableGroup(255), "enable_group 255"),
        (Message::CancelDeferredRemove, "@cancel_deferred_remove"),
    ];
    for (message, text) in messages {
        let bytes = emitted(MAP, &Request::Message(message)).unwrap();
        assert_eq!((u64_at(&bytes, 312), text_at(&bytes, 320)), (0, text));
        assert_eq!(bytes.len(), 320 + text.len() + 1, "no more than needed: the kernel allocates this much");
    }
    let bytes = emitted(MAP, &Request::Rename { to: "mpathb", cookie: COOKIE }).unwrap();
    assert_eq!((text_at(&bytes, 312), bytes.len()), ("mpathb", 319));
    let bytes = emitted(MAP, &Request::SetUuid { uuid: "mpath-3600" }).unwrap();
    assert_eq!(text_at(&bytes, 312), "mpath-3600");
    let bytes = emitted(Target::Uuid("mpath-"), &Request::List).unwrap();
    assert_eq!((text_at(&bytes, 48), text_at(&bytes, 176)), ("", "mpath-"), "prefix filter");
}

#[test]
fn what_is_refused() {
    let refused = |target, request: &Request<'_>| emitted(target, request).unwrap_err();
    let long = "x".repeat(128);
    for (name, why) in [
        ("", NameError::Empty),
        (".", NameError::Reserved),
        ("..", NameError::Reserved),
        ("control", NameError::Reserved),
        ("a/b", NameError::Character),
        ("a\nb", NameError::Character),
        ("a\0b", NameError::Character),
        ("a\x7f", NameError::Character),
        (&long, NameError::TooLong),
    ] {
        assert_eq!(check_name(name), Err(why));
        assert_eq!(refused(MAP, &Request::Create { name, uuid: "" }), EmitError::Name(why));
        assert_eq!(refused(MAP, &Request::Rename { to: name, cookie: COOKIE }), EmitError::Name(why));
        assert_eq!(refused(Target::Name(name), &Request::Info), EmitError::Name(why));
    }
    assert!(emitted(Target::Name(&long[1..]), &Request::Info).is_ok());
    assert!(emitted(MAP, &Request::Create { name: "a", uuid: &long }).is_ok());
    assert_eq!(refused(MAP, &Request::Create { name: "a", uuid: &(long.clone() + "x") }), EmitError::Name(NameError::TooLong));
    assert_eq!(refused(MAP, &Request::SetUuid { uuid: "" }), EmitError::Name(NameError::Empty));
    let device = Target::Device(DevNo::new(253, 0));
    for request in [Request::Rename { to: "b", cookie: COOKIE }, Request::SetUuid { uuid: "u" }] {
        assert_eq!(refused(device, &request), EmitError::Target, "the kernel looks it up by name only");
        assert_eq!(refused(Target::Uuid("mpath-x"), &request), EmitError::Target);
    }
    assert_eq!(refused(device, &Request::List), EmitError::Target);
    assert_eq!(refused(Target::Uuid(""), &Request::Info), EmitError::Target);
    for devno in [DevNo::new(4096, 0), DevNo::new(0, 1 << 20)] {
        assert_eq!(refused(Target::Device(devno), &Request::Info), EmitError::Target, "would name another device");
    }
    let mut small = [0u8; HEADER + 8];
    assert_eq!(emit(MAP, &Request::Info, &mut small[..HEADER - 1]), Err(EmitError::Full));
    assert_eq!(emit(MAP, &Request::Info, &mut small), Ok(HEADER));
    assert_eq!(emit(MAP, &Request::Message(Message::QueueIfNoPath), &mut small), Err(EmitError::Full));
    // The whole table fits or nothing is sent: every length from the shortest on.
    let table = Table::parse("0 0 1 1 service-time 0 2 1 8:0 1 8:16 1").unwrap();
    let load = Request::Load { size: Sectors(8), read_only: false, content: Content::Multipath(&table) };
    let whole = emitted(MAP, &load).unwrap();
    for len in 0..PAGE {
        let mut buffer = vec![0xaau8; len];
        match emit(MAP, &load, &mut buffer) {
            Ok(size) => assert_eq!(&buffer[..size], &whole[..]),
            Err(error) => assert!(error == EmitError::Full && len < whole.len(), "{len}"),
        }
    }
}

#[test]
fn udev_spelling() {
    let mangled = |name: &str| {
        let mut out = Text::<127>::new();
        mangle(name, out.as_mut_view()).map(|()| out.as_str().to_string())
    };
    assert_eq!(mangled("mpatha-part1"), Ok("mpatha-part1".into()));
    assert_eq!(mangled("a b/\\é"), Ok("a\\x20b\\x2f\\x5c\\xc3\\xa9".into()));
    assert_eq!(mangled("1ATA_x\\x20y"), Ok("1ATA_x\\x20y".into()), "mangled already");
    assert_eq!(mangled("a\\x20 b"), Err(NameError::Mixed));
    assert_eq!(mangled("a\\x2"), Ok("a\\x5cx2".into()), "no whole sequence");
    assert_eq!(mangled(&" ".repeat(32)), Err(NameError::TooLong));
    let mut out = Text::<127>::try_from("kept").unwrap();
    assert!(mangle(&" ".repeat(32), out.as_mut_view()).is_err());
    assert_eq!(out.as_str(), "kept");
    assert_eq!(printable(b"mpatha"), Some("mpatha"));
    assert_eq!((printable(b"a\nb"), printable(b"\xff")), (None, None));
}

/// Writes replies as dm-ioctl.c does.
struct Kernel {
    bytes: Vec<u8>,
}

impl Kernel {
    fn new(flags: u32, target_count: u32) -> Kernel {
        let mut bytes = vec![0u8; 312];
        for (at, value) in [(0, 4), (4, 48), (8, 0), (16, 312), (20, target_count), (24, 2), (28, flags), (32, 7)] {
            bytes[at..at + 4].copy_from_slice(&u32::to_ne_bytes(value));
        }
        bytes[40..48].copy_from_slice(&DevNo::new(253, 300).to_kernel().to_ne_bytes());
        bytes[48..54].copy_from_slice(b"mpatha");
        bytes[176..187].copy_from_slice(b"mpath-36001");
        Kernel { bytes }
    }
    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }
    fn u32(&mut self, value: u32) -> &mut Kernel {
        self.bytes.extend_from_slice(&value.to_ne_bytes());
        self
    }
    fn u64(&mut self, value: u64) -> &mut Kernel {
        self.bytes.extend_from_slice(&value.to_ne_bytes());
        self
    }
    fn text(&mut self, text: &[u8]) -> &mut Kernel {
        self.bytes.extend_from_slice(text);
        self.bytes.push(0);
        self
    }
    fn target(&mut self, length: u64, kind: &str, text: &str) {
        let at = self.bytes.len();
        self.u64(0).u64(length).u32(0).u32(0);
        let mut name = [0u8; 16];
        name[..kind.len()].copy_from_slice(kind.as_bytes());
        self.bytes.extend_from_slice(&name);
        self.text(text.as_bytes());
        self.align();
        let next = (self.bytes.len() - 312) as u32;
        self.bytes[at + 20..at + 24].copy_from_slice(&next.to_ne_bytes());
    }
    /// `form`: DM ioctl minor version, 43 (5.10) or 45 (5.15) and later.
    fn device(&mut self, last: bool, devno: DevNo, name: &[u8], event_nr: u32, uuid: Option<&[u8]>, form: u32) {
        let at = self.bytes.len();
        self.u64(devno.to_kernel()).u32(0).text(name);
        self.align();
        self.u32(event_nr);
        if form >= 45 {
            match uuid {
                Some(uuid) => self.u32(1).text(uuid),
                None => self.u32(2),
            };
        }
        self.align();
        if !last {
            let next = (self.bytes.len() - at) as u32;
            self.bytes[at + 8..at + 12].copy_from_slice(&next.to_ne_bytes());
        }
    }
    fn finish(mut self, size: usize) -> Vec<u8> {
        let len = self.bytes.len() as u32;
        self.bytes[12..16].copy_from_slice(&len.to_ne_bytes());
        self.bytes.resize(size.max(self.bytes.len()), 0);
        self.bytes
    }
}

#[test]
fn header_reply() {
    let mut bytes = Kernel::new(0x2_0063, 1).finish(PAGE);
    bytes[12..16].copy_from_slice(&305u32.to_ne_bytes());
    let reply = Reply::parse(&bytes).unwrap();
    let info = reply.info();
    assert_eq!((info.version, info.devno, info.event_nr, info.open_count), ([4, 48, 0], DevNo::new(253, 300), 7, 2));
    assert_eq!((info.name, info.uuid), (&b"mpatha"[..], &b"mpath-36001"[..]));
    let f = info.flags;
    assert!(f.read_only() && f.suspended() && f.active() && f.inactive() && f.deferred_remove());
    assert!(!f.buffer_full() && !f.uevent() && !f.internal_suspend());
    assert_eq!(reply.deps().unwrap().count(), 0);
    assert_eq!(reply.entries().count(), 0);
    assert!(Reply::parse(&bytes[..311]).is_err());
}

#[test]
fn list_reply() {
    for form in [43, 45, 50] {
        let mut kernel = Kernel::new(0, 0);
        kernel.device(false, DevNo::new(253, 0), b"mpatha", 5, Some(b"mpath-3600"), form);
        kernel.device(false, DevNo::new(253, 1), b"odd\xff", 0, None, form);
        kernel.device(true, DevNo::new(253, 256), b"mpatha-part1", 9, Some(b"part1-mpath-3600"), form);
        let bytes = kernel.finish(PAGE);
        let list: Vec<_> = Reply::parse(&bytes).unwrap().entries().map(Result::unwrap).collect();
        assert_eq!(list.len(), 3);
        assert_eq!((list[0].devno, list[0].name, list[0].event_nr), (DevNo::new(253, 0), &b"mpatha"[..], 5));
        assert_eq!((list[1].name, list[2].devno, list[2].event_nr), (&b"odd\xff"[..], DevNo::new(253, 256), 9));
        let uuids: Vec<_> = list.iter().map(|e| e.uuid).collect();
        let known: [Option<&[u8]>; 3] = [Some(b"mpath-3600"), Some(b""), Some(b"part1-mpath-3600")];
        assert_eq!(uuids, if form >= 45 { known } else { [None; 3] });
    }
    let mut empty = Kernel::new(0, 0);
    empty.u64(0).u64(0);
    assert_eq!(Reply::parse(&empty.finish(PAGE)).unwrap().entries().count(), 0);
    // A chain that stands still.
    let mut kernel = Kernel::new(0, 0);
    kernel.device(false, DevNo::new(253, 0), b"a", 0, None, 45);
    let mut bytes = kernel.finish(PAGE);
    bytes[320..324].copy_from_slice(&8u32.to_ne_bytes());
    assert!(Reply::parse(&bytes).unwrap().entries().all(|e| e.is_err()));
}

#[test]
fn status_and_deps_reply() {
    let mut kernel = Kernel::new(0, 2);
    kernel.target(100, "linear", "8:0 2048");
    kernel.target(200, "multipath", "2 0 0 0 0 0 ");
    let bytes = kernel.finish(PAGE);
    let reply = Reply::parse(&bytes).unwrap();
    let lines: Vec<_> = reply.lines().map(Result::unwrap).collect();
    assert_eq!((lines[0].kind, lines[0].length, lines[0].linear()), (&b"linear"[..], Sectors(100), Ok((DevNo::new(8, 0), Sectors(2048)))));
    assert_eq!((lines[1].kind, lines[1].text()), (&b"multipath"[..], Ok("2 0 0 0 0 0 ")));
    assert!(lines[1].linear().is_err());

    let mut kernel = Kernel::new(0, 0);
    kernel.u32(2).u32(0).u64(DevNo::new(8, 16).to_kernel()).u64(DevNo::new(65, 300).to_kernel());
    let bytes = kernel.finish(2048);
    let deps: Vec<_> = Reply::parse(&bytes).unwrap().deps().unwrap().collect();
    assert_eq!(deps, [DevNo::new(8, 16), DevNo::new(65, 300)]);
    let mut kernel = Kernel::new(0, 0);
    kernel.u32(3).u32(0).u64(1).u64(2);
    assert!(Reply::parse(&kernel.finish(2048)).unwrap().deps().is_err());

    let mut kernel = Kernel::new(0, 0);
    for (next, name) in [(24u32, "linear"), (0, "multipath")] {
        kernel.u32(next).u32(1).u32(14).u32(0).text(name.as_bytes());
        kernel.align();
    }
    let bytes = kernel.finish(PAGE);
    let versions: Vec<_> = Reply::parse(&bytes).unwrap().versions().map(Result::unwrap).collect();
    assert_eq!((versions[1].name, versions[1].version), (&b"multipath"[..], [1, 14, 0]));
}

/// What the peer's `libmp_mapinfo` answers, as far as it is a matter of the reply and not of which ioctl was chosen.
#[test]
fn peer_mapinfo() {
    let all: Value = serde_json::from_str(include_str!("vectors/mapinfo.json")).unwrap();
    let mut seen = 0;
    for vector in all["vectors"].as_array().unwrap() {
        let (name, input, expected) = (vector["name"].as_str().unwrap(), &vector["input"], &vector["expected"]);
        if let Some(uuid) = input["part_uuid"].as_str() {
            let parent = partition_of(uuid).map(|(_, parent)| parent);
            let ours = match input["map_uuid"].as_str() {
                Some(map) => parent == Some(map),
                None => parent.and_then(map_wwid).is_some(),
            };
            assert_eq!(ours, expected["is_partition_of_multipath"], "{name}");
            seen += 1;
            continue;
        }
        let wanted: Vec<&str> = input["want"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
        if let Some(uuid) = input["uuid"].as_str().filter(|_| wanted.contains(&"check-uuid")) {
            assert_eq!(map_wwid(uuid).is_some(), expected["result"] == "ok", "{name}");
            seen += 1;
        }
        if let Some(targets) = input["targets"].as_array() {
            let mut kernel = Kernel::new(0, targets.len() as u32);
            for target in targets {
                kernel.target(target["length"].as_u64().unwrap_or(8), target["type"].as_str().unwrap(), "");
            }
            let bytes = kernel.finish(PAGE);
            let kind = wanted.iter().find_map(|w| w.strip_prefix("type=")).map(|kind| if kind == "partition" { "linear" } else { kind });
            let line = Reply::parse(&bytes).unwrap().only_line(kind).map(|line| line.length);
            match expected["result"].as_str().unwrap() {
                "ok" => assert_eq!(line, Ok(Sectors(targets[0]["length"].as_u64().unwrap_or(8))), "{name}"),
                "no-match" => assert_eq!(line, Err(if targets.len() > 1 { NoMatch::Several } else { NoMatch::Kind }), "{name}"),
                other => panic!("unknown result {other}"),
            }
            seen += 1;
        }
    }
    assert!(seen > 0);
    assert_eq!(Reply::parse(&Kernel::new(0, 0).finish(PAGE)).unwrap().only_line(None), Err(NoMatch::Empty));
    assert_eq!(Reply::parse(&Kernel::new(0x100, 1).finish(PAGE)).unwrap().only_line(None), Err(NoMatch::Full));
    assert_eq!(Reply::parse(&Kernel::new(0, 1).finish(312)).unwrap().only_line(None), Err(NoMatch::Malformed));
    assert_eq!(partition_of("part12-devnode_8:0_Wh5pYvM"), Some((12, "devnode_8:0_Wh5pYvM")));
    for bad in ["part-mpath-x", "part1-", "part99999999999-x", "part+1-x", "partition"] {
        assert_eq!(partition_of(bad), None, "{bad}");
    }
}

fn walk(bytes: &[u8]) {
    let Ok(reply) = Reply::parse(bytes) else { return };
    let info = reply.info();
    assert!(info.name.len() <= 128 && info.uuid.len() <= 129);
    let bound = bytes.len();
    assert!(reply.lines().take(bound + 1).count() <= bound);
    for line in reply.lines().flatten() {
        let _ = line.linear();
    }
    assert!(reply.entries().take(bound + 1).count() <= bound);
    assert!(reply.versions().take(bound + 1).count() <= bound);
    if let Ok(deps) = reply.deps() {
        assert!(deps.count() <= bound);
    }
}

proptest! {
    /// Valid headers over any payload, so that the chains are reached.
    #[test]
    fn any_reply_is_judged(payload in prop::collection::vec(prop_oneof![Just(0u8), Just(8), Just(16), any::<u8>()], 0..300),
                           count in any::<u32>(), start in prop_oneof![Just(312u32), any::<u32>(), 0u32..700]) {
        let mut kernel = Kernel::new(0, count);
        kernel.bytes.extend_from_slice(&payload);
        let mut bytes = kernel.finish(0);
        bytes[16..20].copy_from_slice(&start.to_ne_bytes());
        walk(&bytes);
        walk(&payload);
    }

    #[test]
    fn any_name_is_mangled_to_a_name_the_kernel_takes(name in "\\PC{1,60}") {
        let mut out = Text::<127>::new();
        if mangle(&name, out.as_mut_view()).is_ok() && !matches!(name.as_str(), "." | ".." | "control") {
            prop_assert!(check_name(&out).is_ok());
            let mut twice = Text::<127>::new();
            mangle(&out, twice.as_mut_view()).unwrap();
            prop_assert_eq!(twice, out);
        }
    }

    #[test]
    fn no_request_leaves_its_page(len in 0usize..6000, name in "\\PC{0,140}", uuid in "\\PC{0,140}") {
        let mut buffer = vec![0xaau8; len];
        for request in [Request::Create { name: &name, uuid: &uuid }, Request::Status, Request::Info, Request::Rename { to: &name, cookie: COOKIE }] {
            if let Ok(size) = emit(Target::Name("a"), &request, &mut buffer) {
                prop_assert!(size <= PAGE && size <= len);
                prop_assert!(buffer[PAGE.min(len)..].iter().all(|&b| b == 0xaa));
            }
        }
    }
}
