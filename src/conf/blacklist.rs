//! The blacklist: may this disk be a path?
//!
//! Property, devnode, device, protocol, WWID are asked in this order; in each, exceptions go before the blacklist, and the first
//! rejection ends it. Never looks at anything but what it is handed. The lists end with built-in entries: kernel names that are no
//! SAN disks, the property that a usable disk has in udev's database, and the array table's product blacklists.

use super::effective::Settings;
use super::ere;
use super::keyword::{Key, Place};
use super::parse::run;
use super::settings::{Lookup, Origin, Stage, Verdict};
use super::table::ROWS;
use super::value::inverting;
use crate::model::PathFacts;

/// Kernel names that are never paths: all others.
pub const DEVNODE: &str = "!^(sd[a-z]|dasd[a-z]|nvme[0-9])";
/// The same when the kernel does NVMe multipathing itself.
pub const DEVNODE_NATIVE: &str = "!^(sd[a-z]|dasd[a-z])";
/// Properties of which a disk that has been identified has one.
pub const PROPERTY: &str = "(SCSI_IDENT_|ID_WWN)";

/// One pattern of a list and where it stands.
type Listed<'a> = (&'a str, Origin);

/// What one list pair says.
enum Opinion {
    None,
    Excepted(Origin),
    Rejected(Origin),
}

impl Opinion {
    fn apply(self, stage: Stage, verdict: &mut Verdict) -> bool {
        match self {
            Opinion::None => false,
            Opinion::Excepted(origin) => {
                *verdict = Verdict::Whitelisted { stage, origin };
                false
            }
            Opinion::Rejected(origin) => {
                *verdict = Verdict::Rejected { stage, origin };
                true
            }
        }
    }
}

fn is_match(pattern: &str, text: &str) -> bool {
    let (inverted, pattern) = inverting(pattern);
    ere::is_match(pattern, text.as_bytes()) != inverted
}

type List<'l, 'a> = &'l mut dyn Iterator<Item = Listed<'a>>;

fn judge(exceptions: List<'_, '_>, blacklist: List<'_, '_>, text: &str) -> Opinion {
    for (pattern, origin) in exceptions {
        if is_match(pattern, text) {
            return Opinion::Excepted(origin);
        }
    }
    for (pattern, origin) in blacklist {
        if is_match(pattern, text) {
            return Opinion::Rejected(origin);
        }
    }
    Opinion::None
}

/// The property names of a udev database entry: its lines `E:NAME=VALUE`.
pub fn properties(udev: &[u8]) -> impl Iterator<Item = &[u8]> {
    udev.split(|&b| b == b'\n').filter_map(|line| line.strip_prefix(b"E:")?.split(|&b| b == b'=').next())
}

/// Number of the first property that a pattern of the list matches, and the pattern's place. Each pattern is compiled once.
fn first_hit(list: List<'_, '_>, udev: &[u8]) -> Option<(usize, Origin)> {
    let mut first: Option<(usize, Origin)> = None;
    for (pattern, origin) in list {
        let (inverted, pattern) = inverting(pattern);
        let hit = match ere::Literal::parse(pattern) {
            Some(literal) => properties(udev).position(|name| literal.is_match(name) != inverted),
            None => {
                ere::with_program(pattern, |program| properties(udev).position(|name| program.is_match(name) != inverted)).unwrap_or(None)
            }
        };
        if let Some(hit) = hit
            && first.is_none_or(|(least, _)| hit < least)
        {
            first = Some((hit, origin));
        }
    }
    first
}

/// For each property in turn the exceptions are asked first, then the blacklist; the first hit decides.
fn judge_properties(exceptions: List<'_, '_>, blacklist: List<'_, '_>, udev: &[u8]) -> Opinion {
    match (first_hit(exceptions, udev), first_hit(blacklist, udev)) {
        (Some((excepted, origin)), rejected) if rejected.is_none_or(|(rejected, _)| excepted <= rejected) => Opinion::Excepted(origin),
        (_, Some((_, origin))) => Opinion::Rejected(origin),
        _ => Opinion::None,
    }
}

impl<'a> Settings<'a> {
    /// The patterns of one list, in the order of the files.
    pub(super) fn listed(&self, place: Place, key: Key) -> impl Iterator<Item = Listed<'a>> + use<'a> {
        let (sections, entries) = (self.sections, self.entries);
        sections.iter().filter(move |section| section.place == place).flat_map(move |section| {
            let entries = run(entries, section).iter().filter(move |entry| entry.key == key);
            entries.filter_map(|entry| Some((entry.value.text()?, Origin::File { file: section.file, line: entry.line })))
        })
    }
    fn device(&self, place: Place, facts: &PathFacts) -> Option<Origin> {
        let hit = self.sections.iter().find(|section| {
            section.place == place
                && [(Key::BlacklistVendor, &facts.vendor), (Key::BlacklistProduct, &facts.product)]
                    .iter()
                    .all(|(key, text)| self.text_of(section, *key).is_none_or(|pattern| is_match(pattern, text)))
        });
        hit.map(|section| Origin::File { file: section.file, line: section.line })
    }
    fn product_blacklist(&self, facts: &PathFacts) -> Option<Origin> {
        let plain = |pattern: &str, text: &str| ere::is_match(pattern.as_bytes(), text.as_bytes());
        for (i, section) in self.live(Place::Device) {
            let Some((pattern, origin)) = self.product_pattern(i) else { continue };
            if plain(pattern, &facts.product) && self.text_of(section, Key::Vendor).is_some_and(|vendor| plain(vendor, &facts.vendor)) {
                return Some(origin);
            }
        }
        let row = (0..ROWS.len()).find(|&i| self.row_counts(i) && ROWS[i].blacklists(&facts.vendor, &facts.product))?;
        Some(Origin::Table(row as u16))
    }
    fn judge_device(&self, facts: &PathFacts) -> Opinion {
        if facts.vendor.is_empty() && facts.product.is_empty() {
            return Opinion::None;
        }
        if let Some(origin) = self.device(Place::ExceptionsDevice, facts) {
            return Opinion::Excepted(origin);
        }
        match self.device(Place::BlacklistDevice, facts).or_else(|| self.product_blacklist(facts)) {
            Some(origin) => Opinion::Rejected(origin),
            None => Opinion::None,
        }
    }
    pub(super) fn default_devnode(&self) -> &'static str {
        if self.native_nvme { DEVNODE_NATIVE } else { DEVNODE }
    }
}

#[inline(never)]
pub(super) fn filter(settings: &Settings<'_>, facts: &PathFacts, udev: Option<&[u8]>) -> Verdict {
    let mut verdict = Verdict::Accepted;
    // A pair of lists, with the built-in entry at the end of one of them.
    let pair = |key, excepted: Option<&'static str>, rejected: Option<&'static str>| {
        let own = |text: Option<&'static str>| text.map(|text| (text, Origin::Default));
        (settings.listed(Place::Exceptions, key).chain(own(excepted)), settings.listed(Place::Blacklist, key).chain(own(rejected)))
    };
    if let Some(udev) = udev {
        let (mut exceptions, mut blacklist) = pair(Key::Property, Some(PROPERTY), None);
        let opinion = judge_properties(&mut exceptions, &mut blacklist, udev);
        if matches!(opinion, Opinion::None) {
            let attribute = settings.path(facts).uid_attribute;
            if !attribute.is_empty() && properties(udev).any(|name| name == attribute.as_bytes()) {
                return Verdict::MissingProperty;
            }
        }
        if opinion.apply(Stage::Property, &mut verdict) {
            return verdict;
        }
    }
    for (stage, key, text) in [
        (Stage::Devnode, Key::Devnode, facts.name.as_str()),
        (Stage::Device, Key::Device, ""),
        (Stage::Protocol, Key::BlacklistProtocol, facts.protocol.word()),
        (Stage::Wwid, Key::Wwid, facts.wwid.as_str()),
    ] {
        let opinion = match stage {
            Stage::Device => settings.judge_device(facts),
            // A disk whose WWID is not known yet is not judged by it.
            Stage::Wwid if text.is_empty() => Opinion::None,
            _ => {
                let own = (stage == Stage::Devnode).then(|| settings.default_devnode());
                let (mut exceptions, mut blacklist) = pair(key, None, own);
                judge(&mut exceptions, &mut blacklist, text)
            }
        };
        if opinion.apply(stage, &mut verdict) {
            break;
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::super::testing::load;
    use super::*;
    use crate::model::{Protocol, Text};
    use serde_json::Value as Json;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    fn strings(list: &Json) -> Vec<String> {
        list.as_array().map(|l| l.iter().map(|v| v.as_str().unwrap().into()).collect()).unwrap_or_default()
    }
    fn listed(list: &[String]) -> impl Iterator<Item = Listed<'_>> {
        list.iter().map(|s| (s.as_str(), Origin::Default))
    }
    fn word(opinion: &Opinion) -> &'static str {
        match opinion {
            Opinion::None => "no-match",
            Opinion::Excepted(_) => "whitelisted",
            Opinion::Rejected(_) => "blacklisted",
        }
    }
    /// A blacklist or blacklist_exceptions section.
    fn section(name: &str, lists: &Json) -> String {
        let mut text = format!("{name} {{\n");
        for key in ["property", "devnode", "protocol", "wwid"] {
            strings(&lists[key]).iter().for_each(|p| text += &format!("{key} \"{p}\"\n"));
        }
        for device in lists["device"].as_array().into_iter().flatten() {
            text += "device {\n";
            for key in ["vendor", "product"] {
                if let Some(p) = device[key].as_str() {
                    text += &format!("{key} \"{p}\"\n");
                }
            }
            text += "}\n";
        }
        text + "}\n"
    }
    fn facts(path: &Json) -> PathFacts {
        let text = |key: &str| path[key].as_str().unwrap_or("");
        let protocols = [Protocol::ScsiFcp, Protocol::ScsiIscsi];
        PathFacts {
            name: Text::try_from(if text("devnode").is_empty() { "sda" } else { text("devnode") }).unwrap(),
            vendor: Text::try_from(text("vendor")).unwrap(),
            product: Text::try_from(text("product")).unwrap(),
            wwid: Text::try_from(text("wwid")).unwrap(),
            protocol: protocols.into_iter().find(|p| p.word() == text("protocol")).unwrap_or_default(),
            ..PathFacts::default()
        }
    }
    fn database(names: &Json) -> String {
        strings(names).iter().map(|name| format!("E:{name}=x\n")).collect::<String>() + "S:disk/by-id/x\nI:12345\n"
    }

    /// tests/vectors/blacklist.json, all of it.
    #[test]
    fn vectors() {
        let file: Json = serde_json::from_str(include_str!("../../tests/vectors/blacklist.json")).unwrap();
        let list = file["vectors"].as_array().unwrap();
        assert!(!list.is_empty());
        for vector in list {
            let (input, expected) = (&vector["input"], &vector["expected"]);
            let (exceptions, blacklist) = (strings_of(&input["exceptions"]), strings_of(&input["blacklist"]));
            if let Some(pattern) = expected["regex_error"].as_str() {
                assert!(ere::check(inverting(pattern).1).is_err(), "{vector}");
                continue;
            }
            let result = expected["result"].as_str().unwrap();
            match vector["kind"].as_str().unwrap() {
                "devnode" | "wwid" | "protocol" => {
                    let opinion = judge(&mut listed(&exceptions), &mut listed(&blacklist), input["value"].as_str().unwrap());
                    assert_eq!(word(&opinion), result, "{vector}");
                }
                "property" => {
                    let udev = database(&input["udev_properties"]);
                    let opinion = judge_properties(&mut listed(&exceptions), &mut listed(&blacklist), udev.as_bytes());
                    // The whole filter has the built-in exception, which the vectors' list pairs leave out.
                    let excepted = properties(udev.as_bytes()).any(|name| ere::is_match(PROPERTY.as_bytes(), name));
                    if !matches!(opinion, Opinion::None) || excepted {
                        assert_eq!(word(&opinion), result, "{vector}");
                        continue;
                    }
                    let attribute = input["uid_attribute"].as_str().unwrap_or("");
                    let (settings, _) = load(&format!("defaults {{\nuid_attribute \"{attribute}\"\n}}\n"));
                    let verdict = settings.filter(&facts(input), Some(udev.as_bytes()));
                    let missing = result == "blacklisted-missing";
                    assert_eq!(verdict, if missing { Verdict::MissingProperty } else { Verdict::Accepted }, "{vector}");
                }
                "device" => {
                    let list = |key: &str| serde_json::json!({ "device": input[key] });
                    let text = section("blacklist", &list("blacklist")) + &section("blacklist_exceptions", &list("exceptions"));
                    let (settings, report) = load(&text);
                    assert_eq!(report.kept, []);
                    assert_eq!(word(&settings.judge_device(&facts(input))), result, "{vector}");
                }
                "path" => {
                    let path = &input["path"];
                    let text = section("blacklist", &input["blacklist"]) + &section("blacklist_exceptions", &input["exceptions"]);
                    let attribute = path["uid_attribute"].as_str().unwrap_or("");
                    let (settings, report) = load(&format!("{text}defaults {{\nuid_attribute \"{attribute}\"\n}}\n"));
                    assert!(report.kept.iter().all(|c| c.what == super::super::complaint::What::NotRead));
                    let verdict = settings.filter(&facts(path), Some(database(&path["udev_properties"]).as_bytes()));
                    let (ours, stage) = match verdict {
                        Verdict::Accepted => ("no-match", None),
                        Verdict::Whitelisted { stage, .. } => ("whitelisted", Some(stage)),
                        Verdict::Rejected { stage, .. } => ("blacklisted", Some(stage)),
                        Verdict::MissingProperty => ("blacklisted-missing", None),
                    };
                    assert_eq!(ours, result, "{vector}");
                    let stage = stage.map(|s| format!("{s:?}").to_lowercase());
                    assert_eq!(stage.as_deref(), expected["decided_by"].as_str(), "{vector}");
                }
                kind => panic!("{kind}"),
            }
        }
    }
    /// A list of patterns; lists of devices are not for here.
    fn strings_of(list: &Json) -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(String::from)).collect()
    }

    #[test]
    fn built_in_lists() {
        let settings = Settings::builtin();
        let with = |name: &str, vendor: &str, product: &str| {
            settings.filter(&facts(&serde_json::json!({ "devnode": name, "vendor": vendor, "product": product })), None)
        };
        let rejected = |stage, origin| Verdict::Rejected { stage, origin };
        assert_eq!(with("loop0", "", ""), rejected(Stage::Devnode, Origin::Default));
        assert_eq!(with("nvme0n1", "NVME", "x"), Verdict::Accepted);
        assert_eq!(with("sda", "DGC", "LUNZ"), rejected(Stage::Device, Origin::Table(28)));
        let mut native = Settings::builtin();
        native.native_nvme = true;
        let nvme = facts(&serde_json::json!({ "devnode": "nvme0n1" }));
        assert_eq!(native.filter(&nvme, None), rejected(Stage::Devnode, Origin::Default));
        // A disk in udev's database without an identifying property, and one with.
        let sda = facts(&serde_json::json!({}));
        assert_eq!(settings.filter(&sda, Some(b"E:ID_SERIAL=1\n")), Verdict::MissingProperty);
        let whitelisted = Verdict::Whitelisted { stage: Stage::Property, origin: Origin::Default };
        assert_eq!(settings.filter(&sda, Some(b"E:ID_SERIAL=1\nE:ID_WWN=0x5\n")), whitelisted);
        assert_eq!(settings.filter(&sda, None), Verdict::Accepted);
    }

    #[test]
    fn verdicts_name_their_line() {
        let (settings, _) = load("blacklist {\n wwid ^36\n}\nblacklist_exceptions {\n wwid \"3600\"\n}\n");
        let wwid = |wwid: &str| settings.filter(&facts(&serde_json::json!({ "wwid": wwid })), None);
        let origin = |line| Origin::File { file: 0, line };
        assert_eq!(wwid("36ab"), Verdict::Rejected { stage: Stage::Wwid, origin: origin(2) });
        assert_eq!(wwid("3600"), Verdict::Whitelisted { stage: Stage::Wwid, origin: origin(5) });
        assert_eq!(wwid("4"), Verdict::Accepted);
    }
}
