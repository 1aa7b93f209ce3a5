//! The peer's partition readers, case by case (tests/vectors/kpartx.json): ours say the same, or differ in a way that docs/differences.md
//! names ("Partitions"). A difference that no longer is one fails too.

#[path = "common/disk.rs"]
mod disk;

use corepath::wire::partition::{self, Complaint, Found, Kind, Options, Partition};
use disk::MemDisk;
use serde_json::Value;

/// (number, start, length, container)
type Slice = (u32, u64, u64, u32);

/// Cases where we differ, with what we find instead.
const DIFFERENT: [(&str, Option<Kind>, &[Slice]); 6] = [
    ("mbr beyond end of disk", Some(Kind::Dos), &[]),
    ("mbr extended with an empty link", Some(Kind::Dos), &[(1, 2048, 2048, 0), (2, 4096, 2, 0), (5, 4159, 4096, 2), (6, 20481, 50, 2)]),
    ("fat boot sector in sector 0", None, &[]),
    ("gpt partition past end of disk", Some(Kind::Gpt), &[]),
    ("gpt overlapping", Some(Kind::Gpt), &[(1, 2048, 6144, 0)]),
    ("bsd overlap drops the earlier slice", Some(Kind::Bsd), &[(1, 0, 1000, 0)]),
];
/// The peer finds nothing here; we do.
const SOLARIS: &str = "solaris x86 vtoc as written on disk (32-bit layout)";

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn the_peers_cases() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/kpartx.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let vectors = all["vectors"].as_array().unwrap();
    assert!(!vectors.is_empty());
    for vector in vectors {
        let (name, input) = (vector["name"].as_str().unwrap(), &vector["input"]);
        let mut disk = MemDisk::new(input["size_bytes"].as_u64().unwrap());
        disk.block_size = input["sector_size"].as_u64().unwrap() as u32;
        for (offset, hex) in input["writes"].as_object().unwrap() {
            disk.write(offset.parse().unwrap(), &unhex(hex.as_str().unwrap()));
        }
        let options = Options {
            only: input["only_type"].as_str().map(|word| Kind::parse(word).unwrap()),
            force_gpt: input["force_gpt"].as_bool().unwrap(),
            dasd: None,
        };
        let mut partitions = heapless::Vec::<Partition, 256>::new();
        let mut complaints = heapless::Vec::<Complaint, 64>::new();
        let mut found = Found::new(&mut partitions, &mut complaints);
        let kind = partition::read(&mut disk, &options, &mut found).unwrap();
        let ours: Vec<Slice> = found.partitions().iter().map(|p| (p.number, p.start.0, p.length.0, p.container)).collect();
        let refused = !found.complaints().is_empty();

        let number = |slice: &Value, key: &str| slice[key].as_u64().unwrap();
        let theirs_kind = vector["expected"]["type"].as_str().map(|word| Kind::parse(word).unwrap());
        let theirs: Vec<Slice> = vector["expected"]["slices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| (number(s, "n") as u32, number(s, "start"), number(s, "size"), number(s, "container") as u32))
            .collect();
        if let Some((_, kind_wanted, wanted)) = DIFFERENT.iter().find(|(case, ..)| *case == name) {
            assert_eq!((kind, &ours[..]), (*kind_wanted, *wanted), "{name}");
            assert_ne!((kind, &ours), (theirs_kind, &theirs), "{name}: no longer different");
            // What was refused was named; the rest are numbers, or no table at all.
            assert_eq!(refused, !matches!(name, "mbr extended with an empty link" | "fat boot sector in sector 0"), "{name}");
        } else if name == SOLARIS {
            assert_eq!((kind, &ours[..]), (Some(Kind::Solaris), &[(1, 3024, 1000, 0), (2, 5000, 2000, 0)][..]), "{name}");
        } else {
            assert_eq!((kind, ours), (theirs_kind, theirs), "{name}");
        }
    }
}
