//! `kpartx`, `corepath partitions` and `devmap_name` where no device-mapper is needed: usage, errors, listings of images, beside the peer's.
#![cfg(feature = "bin")]

#[path = "common/disk.rs"]
mod disk;
#[path = "common/shipped.rs"]
mod shipped;
#[path = "common/tables.rs"]
mod tables;

use serde_json::Value;
use shipped::shipped;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

fn corepath(words: &[&str]) -> (i32, String, String) {
    let output = Command::new(shipped()).args(words).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().expect("no signal"), text(&output.stdout), text(&output.stderr))
}

/// An image of the table `name` in a folder of the test's own: tests run beside each other, and two may want the same table.
fn image(test: &str, name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("cli-{}.img", name.replace(' ', "-")));
    let disk = tables::all().into_iter().find(|(n, _)| *n == name).unwrap().1;
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(disk.size).unwrap();
    for (sector, bytes) in disk.sectors.iter() {
        file.write_all_at(bytes, sector * 512).unwrap();
    }
    path
}

#[test]
fn wrong_words_are_said_and_change_nothing() {
    for words in [
        &["kpartx"][..],
        &["kpartx", "-z", "x"],
        &["kpartx", "-p"],
        &["kpartx", "-t", "nosuch", "x"],
        &["kpartx", "--list", "x"],
        &["kpartx", "-l", "a", "b"],
    ] {
        let (code, out, _) = corepath(words);
        assert!(code == 1 && out.starts_with("usage: kpartx"), "{words:?}: {code} {out}");
    }
    for words in [
        &["partitions"][..],
        &["partitions", "list"],
        &["partitions", "frobnicate", "x"],
        &["partitions", "list", "--json=1", "x"],
        &["partitions", "list", "--block-size", "100", "x"],
        &["partitions", "list", "--type", "x", "y"],
        &["partitions", "list", "x", "y"],
        &["devmap_name"],
        &["devmap_name", "x"],
        &["devmap_name", "1", "2", "3"],
        &["devmap_name", "99999999999:0"],
        &["name"],
        &["name", "a", "b"],
    ] {
        let (code, out, err) = corepath(words);
        assert!(code == 1 && out.is_empty() && err.lines().count() >= 1, "{words:?}: {code} {out} {err}");
    }
    assert_eq!(corepath(&["kpartx", "-l", "/nosuch"]), (1, String::new(), "failed to stat() /nosuch\n".into()));
    let (code, _, err) = corepath(&["kpartx", "-l", "/dev/null"]);
    assert_eq!((code, err.as_str()), (1, "kpartx: /dev/null: is neither a block device nor a regular file\n"));
    let (code, _, err) = corepath(&["partitions", "list", "/nosuch"]);
    assert_eq!((code, err.as_str()), (1, "corepath: /nosuch: cannot be opened: ENOENT\n"));
}

#[test]
fn an_image_is_listed_without_root_or_loop_devices() {
    let gpt = image("listed", "gpt");
    let (code, out, err) = corepath(&["partitions", "list", "--delimiter", "-", gpt.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out.lines().next(), Some("cli-gpt.img: gpt"));
    let third = "cli-gpt.img-128 start=8192 size=1 type=afafafaf-afaf-afaf-afaf-afafafafafaf \
                 partuuid=80808080-8080-8080-8080-808080808080 name=\"p\"";
    assert_eq!(out.lines().nth(3), Some(third));

    let dos = image("listed", "dos 4096");
    let list = ["partitions", "list", "--json", "--block-size", "4096", dos.to_str().unwrap()];
    let (code, out, _) = corepath(&list);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, json["table"].as_str(), json["partitions"].as_array().unwrap().len()), (0, Some("dos"), 23));
    let last = &json["partitions"][22];
    assert_eq!((last["number"].as_u64(), last["container"].as_u64(), last["partuuid"].as_str()), (Some(24), Some(2), Some("decade01-18")));
    assert_eq!(last["start"].as_u64(), Some((64 + 19 * 8 + 1) * 8));

    // Numbers only of a table that there is; what is refused is said, and the exit status says so too.
    let file = std::fs::File::options().write(true).open(&gpt).unwrap();
    file.set_len(8191 * 512).unwrap();
    let (code, out, err) = corepath(&["partitions", "list", gpt.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (0, "cli-gpt.img: no partition table\n"), "{err}");
    assert!(err.contains("primary GPT not believed: usable blocks outside the disk"), "{err}");
    let labels = image("listed", "labels in dos");
    let (code, _, err) = corepath(&["partitions", "list", labels.to_str().unwrap()]);
    assert!(code == 1 && err.contains("partition 8 refused: reaches out of partition 2"), "{code} {err}");
}

/// A name from the disk must not reach a terminal as commands.
#[test]
fn names_are_shown_harmlessly() {
    let mut gpt = tables::Gpt::new(32768, 512);
    gpt.entries = vec![(0, 2048, 4095)];
    let mut disk = gpt.disk();
    // Both tables get another name; the checksums are those of the table that has it.
    let name: Vec<u8> = "a\u{1b}[2J\"\n\u{9b}z".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut table = vec![0; 128 * 128];
    for sector in 0..32u64 {
        table[sector as usize * 512..][..512].copy_from_slice(disk.sectors.get(&(2 + sector)).unwrap_or(&[0; 512]));
    }
    table[56..56 + name.len()].copy_from_slice(&name);
    let crc = crc::Crc::<u32, crc::Table<1>>::new(&crc::CRC_32_ISO_HDLC);
    let mut header = *disk.sectors.get(&1).unwrap();
    tables::put32(&mut header, 88, crc.checksum(&table));
    tables::put32(&mut header, 16, 0);
    let sum = crc.checksum(&header[..92]);
    tables::put32(&mut header, 16, sum);
    disk.write(512, &header);
    disk.write(1024, &table);
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cli-name.img");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(disk.size).unwrap();
    disk.sectors.iter().for_each(|(sector, bytes)| file.write_all_at(bytes, sector * 512).unwrap());

    let (_, out, err) = corepath(&["partitions", "list", path.to_str().unwrap()]);
    assert_eq!(err, "");
    assert!(out.ends_with("name=\"a?[2J\"??z\"\n"), "{out}");
    let (_, out, _) = corepath(&["partitions", "list", "--json", path.to_str().unwrap()]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["partitions"][0]["name"].as_str(), Some("a\u{1b}[2J\"\n\u{9b}z"));
}

/// `kpartx -l`, line for line as the peer's, but for the number of the loop device and contained slices.
#[test]
fn a_listing_is_the_peers() {
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if !root {
        return eprintln!("not root: kpartx needs loop devices");
    }
    let plain = |text: &str| -> Vec<String> {
        let number = text.split("loop").nth(1).map_or("", |t| t.split('p').next().unwrap());
        text.lines().map(|l| l.replace(&format!("loop{number}"), "loopN")).filter(|l| !l.contains("/dev/dm-")).collect()
    };
    for name in ["gpt", "dos", "unixware", "mac", "sun", "ps3"] {
        let path = image("peers", name);
        let (code, ours, err) = corepath(&["kpartx", "-l", path.to_str().unwrap()]);
        assert_eq!((code, err.as_str()), (0, ""), "{name}");
        let peer = Command::new("kpartx").arg("-l").arg(&path).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").output();
        let theirs = String::from_utf8(peer.expect("tests/setup.sh installs kpartx").stdout).unwrap();
        let (ours, theirs) = (plain(&ours), plain(&theirs));
        assert!(!theirs.is_empty() && theirs.iter().all(|line| ours.contains(line)), "{name}: {theirs:?} {ours:?}");
        assert!(matches!(name, "dos" | "sun") || ours == theirs, "{name}: {theirs:?} {ours:?}");
    }
}
