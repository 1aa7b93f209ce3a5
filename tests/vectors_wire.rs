//! Wire vectors: what the peer makes of the same bytes. Where we differ on purpose is listed here and reasoned in docs/differences.md.

#[path = "common/device.rs"]
mod device;

use corepath::wire::uevent::{Properties, uid_attribute};
use corepath::wire::vpd;
use device::{hex, load};

/// Name, our text: udev's replacement of white space and odd characters applies where the peer copies the device's bytes.
const WWID_DIFFERENCES: &[(&str, &str)] = &[("t10-tab-kept", "1VENDOR_a_b")];

#[test]
fn vpd_pages() {
    let (mut same, mut different) = (0, 0);
    for v in load("vpd") {
        let name = v["name"].as_str().unwrap();
        let page = hex(v["input"]["page_bytes_hex"].as_str().unwrap());
        let room = v["input"]["outbuf_len"].as_u64().unwrap() as usize - 1;
        let mut out = vec![0; room];
        let ours = match v["input"]["page"].as_str().unwrap() {
            "0x80" => vpd::serial_into(&page, &mut out).map_err(|_| "ENODATA"),
            "0x83" => vpd::wwid_into(&page, &mut out).map(|(len, _)| len).map_err(|e| match e {
                vpd::NoWwid::Absent => "ENODATA",
                vpd::NoWwid::Invalid => "EINVAL",
                vpd::NoWwid::Overflow => "EOVERFLOW",
                vpd::NoWwid::TooLong => "ENAMETOOLONG",
            }),
            other => panic!("{other}"),
        };
        let ours = ours.map(|len| String::from_utf8(out[..len].to_vec()).unwrap());
        let theirs = match v["expected"]["ret"].as_str() {
            Some(errno) => Err(errno),
            None => Ok(v["expected"]["wwid"].as_str().unwrap().to_string()),
        };
        match WWID_DIFFERENCES.iter().find(|d| d.0 == name) {
            Some(&(_, text)) => {
                assert_eq!(ours, Ok(text.to_string()), "{name}");
                assert_ne!(ours, theirs, "{name} is no difference any more");
                different += 1;
            }
            None => {
                assert_eq!(ours, theirs, "{name}");
                same += 1;
            }
        }
        // The text that production uses is the same, as long as it fits a dm uuid.
        if let (Ok(text), "0x83", true) = (&ours, v["input"]["page"].as_str().unwrap(), room == 127) {
            match vpd::wwid(&page) {
                Ok(wwid) => assert_eq!(wwid.as_str(), text),
                Err(e) => assert!(e == vpd::NoWwid::TooLong && text.len() > corepath::model::WWID_LEN, "{name}"),
            }
        }
    }
    println!("vpd: {same} as the peer, {different} on purpose not");
    assert!(same > 0);
}

#[test]
fn uevent_environment() {
    let mut seen = 0;
    for v in load("uevent") {
        let (input, expected) = (&v["input"], &v["expected"]);
        match v["kind"].as_str().unwrap() {
            "env" => {
                let mut bytes = Vec::new();
                for entry in input["env"].as_array().unwrap() {
                    bytes.extend(entry.as_str().unwrap().bytes().chain([0]));
                }
                let env = Properties::new(&bytes);
                let number = |key| env.number(key).map_or(-1, i64::from);
                for (field, want) in expected.as_object().unwrap() {
                    match field.as_str() {
                        "major" => assert_eq!(number("MAJOR"), want.as_i64().unwrap(), "{v}"),
                        "minor" => assert_eq!(number("MINOR"), want.as_i64().unwrap(), "{v}"),
                        "disk_ro" => assert_eq!(number("DISK_RO"), want.as_i64().unwrap(), "{v}"),
                        "dm_name" => assert_eq!(env.get("DM_NAME"), want.as_str(), "{v}"),
                        "is_mpath" => assert_eq!(env.is_mpath(), want.as_bool().unwrap(), "{v}"),
                        "wwid" => {
                            let kernel = input["kernel"].as_str().unwrap();
                            let attribute = uid_attribute(input["uid_attrs"].as_str().unwrap(), kernel).unwrap();
                            assert_eq!(env.get(attribute), want.as_str(), "{v}");
                        }
                        other => panic!("{other}"),
                    }
                }
                seen += 1;
            }
            "uid_attrs" => {
                let attribute = uid_attribute(input["uid_attrs"].as_str().unwrap(), input["kernel"].as_str().unwrap());
                assert_eq!(attribute, expected["attribute"].as_str(), "{v}");
                seen += 1;
            }
            _ => {}
        }
    }
    assert!(seen > 0);
}

#[test]
fn cli_commands() {
    use corepath::wire::ipc::{Command, Refused, Scratch};
    for v in load("cli_parse") {
        let (line, expected) = (v["input"].as_str().unwrap(), &v["expected"]);
        let mut scratch = Scratch::default();
        let ours = Command::parse(line.as_bytes(), &mut scratch);
        match (expected["rc"].as_str().unwrap(), expected["known_command"].as_bool()) {
            ("ESRCH", _) => assert_eq!(ours, Err(Refused::UnknownLast), "{line}"),
            ("ENOENT", _) => assert_eq!(ours, Err(Refused::Unknown), "{line}"),
            ("EINVAL", _) => assert_eq!(ours, Err(Refused::MissingParameter), "{line}"),
            ("ENOMEM", _) => assert_eq!(ours, Err(Refused::Empty), "{line}"),
            ("ok", Some(false)) => assert_eq!(ours, Err(Refused::NoSuchCommand), "{line}"),
            ("ok", Some(true)) => {
                let text = format!("{:?}", ours.unwrap_or_else(|e| panic!("{line}: {e:?}")));
                for parameter in expected["params"].as_array().unwrap() {
                    // The list of paths belongs to persistent reservations, which are out of scope.
                    let parameter = format!("{:?}", parameter.as_str().unwrap());
                    assert!(text.contains(&parameter) || line.contains("pathlist"), "{line}: {text}");
                }
            }
            other => panic!("{other:?}"),
        }
    }
}
