//! The commands around assembly on fixture trees and bad input: usage, errors and exit codes that need no device mapper.
#![cfg(feature = "bin")]

#[path = "common/shipped.rs"]
mod shipped;
#[allow(dead_code)]
#[path = "common/tree.rs"]
mod tree;

use shipped::shipped;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tree::Tree;

struct Said {
    code: i32,
    out: String,
    err: String,
}

fn started_as(name: &str, words: &[&str]) -> Said {
    let output = Command::new(shipped()).arg0(name).args(words).env_clear().output().unwrap();
    // Whatever a disk or a file holds: no byte of it reaches the terminal unprinted.
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let said = Said { code: output.status.code().expect("no signal"), out: text(output.stdout), err: text(output.stderr) };
    for text in [&said.out, &said.err] {
        assert!(text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()), "{words:?}: {text:?}");
    }
    said
}

fn corepath(words: &[&str]) -> Said {
    started_as("corepath", words)
}

fn file(name: &str, content: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("assembly-{name}"));
    fs::write(&path, content).unwrap();
    path
}

/// A command that looks, on a tree instead of the machine.
fn on(tree: &Tree, words: &[&str]) -> Said {
    let at = |sub: &str| format!("--{}={}/{sub}", if sub == "sys" { "sysfs" } else { sub }, tree.root.display());
    let places = ["sys", "dev", "proc", "run"].map(at);
    let all: Vec<&str> = words.iter().copied().chain(places.iter().map(String::as_str)).chain(["--config-dir=/nonexistent"]).collect();
    corepath(&all)
}

#[test]
fn every_command_has_a_page() {
    let list = corepath(&["help"]);
    assert_eq!(list.code, 0);
    let names: Vec<&str> = list.out.lines().filter_map(|l| l.strip_prefix("  ")).filter_map(|l| l.split(' ').next()).collect();
    assert!(names.len() > 20, "{}", list.out);
    for (at, name) in names.iter().enumerate() {
        assert!(!names[..at].contains(name), "{name} stands twice");
        for words in [&["help", name][..], &[name, "--help"]] {
            let page = corepath(words);
            assert_eq!((page.code, page.err.as_str()), (0, ""), "{words:?}");
            assert!(page.out.starts_with(&format!("usage: corepath {name}")), "{}", page.out);
        }
    }
    assert!(corepath(&["version"]).out.starts_with("corepath "));
    for words in [&["nonsense"][..], &["help", "nonsense"], &[], &["--nonsense"], &["scan", "--nonsense"], &["boot", "--timeout", "x"]] {
        let said = corepath(words);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{words:?}");
        assert!(!said.err.is_empty());
    }
    for words in [["boot", "--min-paths", "0"], ["boot", "--root", ""], ["config", "--check", "/nonexistent"]] {
        assert_eq!(corepath(&words).code, 1, "{words:?}");
    }
}

#[test]
fn multipath_as_clients_call_it() {
    let usage = started_as("multipath", &["-h"]);
    assert_eq!((usage.code, usage.err.as_str()), (0, ""));
    for option in ["-ll", "-f MAP", "-F", "-t|-T", "-c", "-d", "-r", "-v N"] {
        assert!(usage.out.contains(option), "{option}: {}", usage.out);
    }
    let wrong = started_as("multipath", &["-z"]);
    assert_eq!((wrong.code, wrong.out.as_str(), wrong.err), (1, "", usage.out));
    assert_eq!(started_as("multipath", &["-v", "x"]).code, 1);
    assert_eq!(started_as("multipath", &["-f"]).code, 1);
    assert_eq!(started_as("multipath", &["-p", "nosuch"]).code, 1);
    // The configuration in force can be read back as one.
    for option in ["-t", "-T"] {
        let dump = started_as("/sbin/multipath", &[option]);
        assert_eq!(dump.code, 0, "{}", dump.err);
        assert!(dump.out.starts_with("defaults {\n") && dump.out.contains("\tpolling_interval "), "{}", dump.out);
        let path = file(&format!("dump{option}"), dump.out.as_bytes());
        let check = corepath(&["config", "--check", path.to_str().unwrap()]);
        assert_eq!((check.code, check.out.as_str()), (0, "0 errors\n"));
        assert_eq!(option == "-t", dump.out.contains("product \"VRAID\"") || dump.out.contains("devices {\n\tdevice"), "{}", dump.out);
    }
}

/// A disk `sdX` behind a host of its own, with this page 0x83.
fn disk(host: u32, letter: char, page: &str) -> String {
    let dir = format!("sys/devices/pci0000:00/0000:00:0{host}.0/host{host}/target{host}:0:0/{host}:0:0:0");
    let minor = u32::from(letter) * 16 - 97 * 16;
    format!(
        "sys/block/sd{letter} -> ../devices/pci0000:00/0000:00:0{host}.0/host{host}/target{host}:0:0/{host}:0:0:0/block/sd{letter}\n\
         {dir}/subsystem -> /bus/scsi\n{dir}/vendor = ACME\n{dir}/model = DISK\n{dir}/rev = 1\n{dir}/state = running\n{dir}/type = 0\n\
         {dir}/vpd_pg83 : {page}\n{dir}/block/sd{letter}/device -> ../..\n{dir}/block/sd{letter}/dev = 8:{minor}\n\
         {dir}/block/sd{letter}/size = 2048\n{dir}/block/sd{letter}/ro = 0\n"
    )
}

const NAA: &str = "00 83 00 0c 01 03 00 08 50 01 02 03 04 05 06 07";

#[test]
fn the_wwids_file_is_edited() {
    let tree = Tree::new(&[&disk(2, 'a', NAA), &disk(3, 'b', NAA)]);
    let state = tree.root.join("state");
    fs::create_dir(&state).unwrap();
    let path = state.join("wwids");
    let multipath = &|words: &[&str]| {
        let state = format!("--state-dir={}", state.display());
        let [sys, dev, run, proc] = ["sys", "dev", "run", "proc"].map(|dir| tree.root.join(dir));
        let roots = [("sysfs", sys), ("dev", dev), ("run", run), ("proc", proc)].map(|(name, dir)| format!("--{name}={}", dir.display()));
        let all: Vec<&str> = words.iter().copied().chain([state.as_str()]).chain(roots.iter().map(String::as_str)).collect();
        let said = started_as("multipath", &all);
        (said.code, said.out, said.err)
    };
    let says = |code: i32, out: &str| (code, out.to_string(), String::new());
    let wwid = "35001020304050607";
    assert_eq!(multipath(&["-a", "sda"]), says(0, &format!("wwid '{wwid}' added\n")));
    let first = fs::read_to_string(&path).unwrap();
    assert!(first.starts_with("# ") && first.ends_with(&format!("\n/{wwid}/\n")), "{first}");
    // Twice is once; what others wrote stays, and a last line without its end does not swallow the next.
    assert_eq!(multipath(&["-a", "/dev/sdb"]), says(0, &format!("wwid '{wwid}' added\n")));
    assert_eq!(fs::read_to_string(&path).unwrap(), first);
    fs::write(&path, format!("{first}# mine\nnonsense")).unwrap();
    assert_eq!(multipath(&["-a", "3600a0b80000f7d9a"]), says(0, "wwid '3600a0b80000f7d9a' added\n"));
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{first}# mine\nnonsense\n/3600a0b80000f7d9a/\n"));
    assert_eq!(multipath(&["-w", "sdb"]), says(0, &format!("wwid '{wwid}' removed\n")));
    assert_eq!(multipath(&["-w", "sdb"]), says(0, &format!("wwid '{wwid}' not in wwids file\n")));
    assert!(fs::read_to_string(&path).unwrap().ends_with("# mine\nnonsense\n/3600a0b80000f7d9a/\n"));
    assert_eq!(multipath(&["-W"]), says(0, "successfully reset wwids\n"));
    assert!(!fs::read_to_string(&path).unwrap().contains('/'));
    // What is no disk, no map and no WWID; none at all; no folder.
    for words in [&["-a", "sdz"][..], &["-a"], &["-a", "a/b/c/d/e/f/g"], &["-a", "white space in it"]] {
        let (code, out, err) = multipath(words);
        assert!(code == 1 && out.is_empty() && !err.is_empty(), "{words:?}: {out} {err}");
    }
    // What could not be read is not taken for nothing: no configuration is so large.
    fs::write(&path, "/3600aaaaaaaaaaaa/\n").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(9 << 20).unwrap();
    assert_eq!(multipath(&["-a", "sda"]).0, 1);
    assert_eq!(fs::metadata(&path).unwrap().len(), 9 << 20);
    // Several at once: each is in the file.
    fs::remove_file(&path).unwrap();
    std::thread::scope(|scope| {
        for n in 10..26 {
            scope.spawn(move || assert_eq!(multipath(&["-a", &format!("3600a0b80000f7d{n}")]).0, 0));
        }
    });
    assert_eq!(fs::read_to_string(&path).unwrap().lines().filter(|line| line.starts_with("/3600")).count(), 16);
    fs::remove_dir_all(&state).unwrap();
    fs::write(&state, "no folder").unwrap();
    let (code, _, err) = multipath(&["-a", "sda"]);
    assert!(code == 1 && err.contains(state.to_str().unwrap()), "{err}");
}

#[test]
fn what_clients_rely_on() {
    let one = |words: &[&str]| started_as("multipath", words);
    let asked = one(&["-c", "/dev/nosuch"]);
    assert_eq!((asked.code, asked.out.as_str()), (1, "DM_MULTIPATH_DEVICE_PATH=\"0\"\n"));
    let asked = one(&["-u", "/dev/nosuch"]);
    assert_eq!((asked.code, asked.out.as_str()), (0, "DM_MULTIPATH_DEVICE_PATH=\"0\"\n"));
    // A second word is not silently taken for the first, nor an option's value for nothing.
    for words in [&["-f", "a", "b"][..], &["-R"], &["-R", "x"], &["-b"], &["-M"]] {
        assert_eq!(one(words).code, 1, "{words:?}");
    }
    for words in [&["-z"][..], &["-z", "del", "maps"]] {
        let said = started_as("multipathd", words);
        assert!(said.code == 1 && said.err.contains("unknown option"), "{words:?}: {}", said.err);
    }
}

/// What a client sees when it may not ask the device mapper: not an empty list.
#[test]
fn a_list_without_leave_to_look_is_an_error() {
    let tree = Tree::new(&[&disk(2, 'a', NAA)]);
    let control = tree.root.join("dev/mapper/control");
    fs::create_dir_all(control.parent().unwrap()).unwrap();
    fs::write(&control, "").unwrap();
    let places = ["sysfs=sys", "dev=dev", "proc=proc", "run=run"].map(|place| {
        let (option, dir) = place.split_once('=').unwrap();
        format!("--{option}={}", tree.root.join(dir).display())
    });
    let listed = |name: &str, words: &[&str], user: Option<u32>| {
        let mut command = Command::new(shipped());
        command.arg0(name).args(words).args(&places).arg("--config-dir=/nonexistent").env_clear();
        let output = user.into_iter().fold(&mut command, |command, id| command.uid(id).gid(id)).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    fs::set_permissions(&control, fs::Permissions::from_mode(0o000)).unwrap();
    for (name, words, who) in [
        ("multipath", &["-l"][..], "multipath: "),
        ("multipath", &["-ll", "mpatha"], "multipath: "),
        ("corepath", &["list"], "corepath list: "),
    ] {
        let (code, out, err) = listed(name, words, Some(65534));
        assert!(code == 1 && out.is_empty() && err.starts_with(who) && err.contains("refuses"), "{words:?}: {code} {out:?} {err:?}");
    }
    // What answers all the same says that it cannot know of maps.
    for (name, words, code, told) in [
        ("multipath", &["-c", "sda"][..], 1, "DM_MULTIPATH_DEVICE_PATH=\"0\"\n"),
        ("multipath", &["-u", "sda"], 0, "DM_MULTIPATH_DEVICE_PATH=\"0\"\n"),
        ("multipath", &["-C", "mpatha"], 1, ""),
        ("multipath", &["-d"], 0, "left alone:\n"),
        ("corepath", &["scan"], 0, "left alone:\n"),
        ("corepath", &["scan", "--json"], 0, "{"),
        ("corepath", &["why", "sda"], 1, "sda 8:0 is left alone: "),
    ] {
        let (ended, out, err) = listed(name, words, Some(65534));
        assert!(ended == code && out.starts_with(told) && err.contains("the device mapper refuses"), "{words:?}: {ended} {out:?} {err:?}");
    }
    // Where there are none nothing is listed, whatever is asked for.
    fs::remove_file(&control).unwrap();
    for words in [&["-l"][..], &["-l", "mpatha"], &["-ll", "sda"], &["-l", "/dev/sdzz"]] {
        assert_eq!(listed("multipath", words, None), (0, String::new(), String::new()), "{words:?}");
    }
    // All paths: the table that sosreport's readers know, before the maps.
    let (code, out, _) = listed("multipath", &["-v3", "-l"], None);
    let head = "===== paths list =====\nuuid              hcil    dev dev_t pri dm_st chk_st vend/prod/rev dev_st \n";
    let row = "35001020304050607 2:0:0:0 sda 8:0   -1  undef undef  ACME,DISK,1   unknown\n";
    assert_eq!((code, out), (0, format!("{head}{row}")));
    fs::remove_file(tree.root.join("sys/block/sda")).unwrap();
    assert_eq!(listed("multipath", &["-v3", "-ll"], None), (0, "===== no paths =====\n".into(), String::new()));
    tree.add("sys/block/sda -> ../devices/pci0000:00/0000:00:02.0/host2/target2:0:0/2:0:0:0/block/sda\n");
    // That no map could be made is said of disks that are to have one.
    let looks = [("multipath", &["-d"][..]), ("corepath", &["scan"]), ("corepath", &["why", "sda"]), ("multipath", &["-u", "sda"])];
    for (name, words) in looks {
        assert_eq!(listed(name, words, None).2, "", "{words:?}");
    }
    tree.add(&disk(3, 'b', NAA));
    for (name, words) in looks {
        let (code, out, err) = listed(name, words, None);
        assert!(code == 0 && !out.is_empty() && err.lines().count() == 1 && err.contains("mapper"), "{words:?}: {err:?}");
    }
}

/// `find_multipaths smart`: udev is told to wait, and until when, whoever asks; the clock starts with the first question.
#[test]
fn udev_waits_for_a_second_path() {
    let tree = Tree::new(&[&disk(2, 'a', NAA)]);
    let conf = tree.root.join("smart.conf");
    fs::write(&conf, "defaults {\n\tfind_multipaths smart\n\tfind_multipaths_timeout 30\n}\n").unwrap();
    let asked = |words: &[&str], env: Option<&str>| {
        let mut command = Command::new(shipped());
        command.arg0("multipath").args(words).arg("--config").arg(&conf).arg("--config-dir=/nonexistent").env_clear();
        for (option, dir) in [("sysfs", "sys"), ("dev", "dev"), ("proc", "proc"), ("run", "run")] {
            command.arg(format!("--{option}={}", tree.root.join(dir).display()));
        }
        let output = env.into_iter().fold(&mut command, |command, value| command.env("DM_MULTIPATH_DEVICE_PATH", value)).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let answer = |path: u8| format!("DM_MULTIPATH_DEVICE_PATH=\"{path}\"\n");
    // Given away before: not even a clock is started.
    assert_eq!(asked(&["-u", "sda"], Some("0")), (0, answer(0)));
    let before = now();
    let (code, first) = asked(&["-u", "sda"], None);
    let until = first.lines().next().unwrap().strip_prefix("FIND_MULTIPATHS_WAIT_UNTIL=\"").unwrap().strip_suffix('"').unwrap();
    let until: u64 = until.parse().unwrap();
    assert!(until > before + 30 && until <= now() + 31, "{before} {until}");
    let wait = format!("FIND_MULTIPATHS_WAIT_UNTIL=\"{until}\"\n");
    assert_eq!((code, first), (0, format!("{wait}{}", answer(2))));
    for option in ["-u", "-c"] {
        assert_eq!(asked(&[option, "sda"], Some("1")), (0, format!("{wait}{}", answer(2))), "{option}");
    }
    let clock = tree.root.join("run/multipath/smart-8:0");
    let clock = fs::read_dir(clock.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).find(|path| *path == clock).unwrap();
    assert!(fs::metadata(&clock).unwrap().modified().unwrap() > std::time::SystemTime::now());
    // Another path: it is one. udev stops waiting.
    tree.add(&disk(3, 'b', NAA));
    assert_eq!(asked(&["-u", "sda"], None), (0, format!("{wait}{}", answer(1))));
    assert_eq!(asked(&["-u", "sdb"], None), (0, answer(1)));
    fs::remove_file(tree.root.join("sys/block/sdb")).unwrap();
    // The time is over.
    assert!(Command::new("touch").args(["-d", "2020-01-01"]).arg(&clock).status().unwrap().success());
    let over = format!("FIND_MULTIPATHS_WAIT_UNTIL=\"0\"\n{}", answer(0));
    assert_eq!(asked(&["-u", "sda"], None), (0, over.clone()));
    assert_eq!(asked(&["-c", "sda"], None), (1, over));
    // `off` is for who makes maps; udev hears of those that are there, as if it were strict.
    tree.add(&disk(3, 'b', NAA));
    fs::write(&conf, "defaults {\n\tfind_multipaths off\n}\n").unwrap();
    assert!(asked(&["-d"], None).1.contains(" would be created: "));
    assert!(asked(&["-c", "sda"], None).1.ends_with(&answer(0)));
    fs::write(&conf, "defaults {\n\tfind_multipaths greedy\n}\n").unwrap();
    assert!(asked(&["-c", "sda"], None).1.ends_with(&answer(1)));
    fs::remove_file(tree.root.join("sys/block/sdb")).unwrap();
    // Nowhere to keep it, and no such mode.
    fs::write(&conf, "defaults {\n\tfind_multipaths smart\n}\n").unwrap();
    fs::remove_dir_all(tree.root.join("run")).unwrap();
    assert_eq!(asked(&["-u", "sda"], None), (0, answer(0)));
    fs::create_dir(tree.root.join("run")).unwrap();
    fs::write(&conf, "defaults {\n\tfind_multipaths strict\n}\n").unwrap();
    assert_eq!(asked(&["-u", "sda"], None), (0, answer(0)));
    assert_eq!(fs::read_dir(tree.root.join("run")).unwrap().count(), 0);
}

/// Whoever started `multipath` is told by `multipath` what is wrong, and by which socket no daemon was found.
#[test]
fn the_program_speaks_by_the_name_it_was_called_by() {
    let nowhere = "/nonexistent/control.socket";
    for (name, words) in [
        ("multipathd", &["show", "maps"][..]),
        ("multipathc", &["show", "maps"]),
        ("corepath", &["status"]),
        ("corepath", &["show", "sda"]),
    ] {
        let said = Command::new(shipped()).arg0(name).args(words).env_clear().env("MULTIPATH_SOCKET_NAME", nowhere).output().unwrap();
        let err = String::from_utf8(said.stderr).unwrap();
        assert_eq!(
            (said.status.code(), err),
            (Some(1), format!("{name}: no daemon answers on {nowhere}; 'corepath list' looks without one\n"))
        );
    }
    let config = file("unreadable.conf", b"blacklist {\n\tdevnode \"(\"\n}\n");
    for words in [
        &["--sysfs=/nonexistent"][..],
        &["-r", "--sysfs=/nonexistent"],
        &["-l", "--sysfs=/nonexistent"],
        &["-p", "x"],
        &["--config", config.to_str().unwrap()],
    ] {
        let said = started_as("multipath", words);
        assert_eq!((said.code, said.out.as_str()), (1, ""));
        let last = said.err.lines().last().unwrap();
        assert!(
            last.starts_with("multipath: ") && !last.contains("multipath: multipath") && !last.contains("corepath"),
            "{words:?}: {}",
            said.err
        );
    }
}

/// Answers every request on `socket` so, and keeps what was asked.
fn daemon(socket: &Path, reply: &'static str) -> Arc<Mutex<Vec<String>>> {
    let listener = UnixListener::bind(socket).unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&heard);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut length) = (client.unwrap(), [0; 8]);
            while client.read_exact(&mut length).is_ok() {
                let mut text = vec![0; usize::from_le_bytes(length)];
                client.read_exact(&mut text).unwrap();
                assert_eq!(text.pop(), Some(0));
                asked.lock().unwrap().push(String::from_utf8(text).unwrap());
                client.write_all(&[&(reply.len() + 1).to_le_bytes()[..], reply.as_bytes(), &[0]].concat()).unwrap();
            }
        }
    });
    heard
}

/// What a running daemon is asked to do, and what is said of it.
#[test]
fn a_daemon_that_runs_is_asked() {
    let tree = Tree::new(&[&disk(2, 'a', NAA)]);
    let said = |socket: &str, words: &[&str]| {
        let mut command = Command::new(shipped());
        command.arg0("multipath").args(words).env_clear().env("MULTIPATH_SOCKET_NAME", tree.root.join(socket));
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let quiet = (0, String::new(), String::new());
    let willing = daemon(&tree.root.join("willing"), "ok\n");
    let asked = |heard: &Mutex<Vec<String>>| std::mem::take(&mut *heard.lock().unwrap());
    assert_eq!(said("willing", &["-f", "mpatha"]), quiet);
    assert_eq!(said("willing", &["-F"]), quiet);
    assert_eq!(asked(&willing), ["remove map mpatha", "remove maps"]);
    // A map it reloads itself; without one it reads its configuration, and the rest is done here (where there is no sysfs: nothing).
    assert_eq!(said("willing", &["-r", "mpatha", "--sysfs=/nonexistent"]), quiet);
    assert_eq!(said("willing", &["-r", "--sysfs=/nonexistent"]).0, 1);
    assert_eq!(asked(&willing), ["reload map mpatha", "reconfigure all"]);
    for words in [&["-r", "-D", "mpatha"][..], &["-r", "-d"], &["-d"], &["mpatha"], &["-r", "--dev=/dev/.."]] {
        assert_eq!(said("willing", &[words, &["--sysfs=/nonexistent"]].concat()).0, 1, "{words:?}");
    }
    assert_eq!(asked(&willing), [""; 0]);

    let refusing = daemon(&tree.root.join("refusing"), "fail\nmap or partition in use\n");
    assert_eq!(said("refusing", &["-f", "mpatha"]), (1, "fail\nmap or partition in use\n".into(), String::new()));
    assert_eq!(said("refusing", &["-r", "mpatha", "--sysfs=/nonexistent"]).0, 1, "it is tried here");
    assert_eq!(asked(&refusing), ["remove map mpatha", "reload map mpatha"]);

    // The wwids file, in a folder that is made for it, is told of once it has changed; who cannot be told is no failure.
    let state = tree.root.join("state");
    let places = [("state-dir", "state"), ("sysfs", "sys"), ("proc", "proc"), ("run", "run")];
    let places = places.map(|(option, dir)| format!("--{option}={}", tree.root.join(dir).display()));
    let edit = |socket: &str, words: &[&str]| {
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        said(socket, &[words, &places].concat())
    };
    let wwid = "35001020304050607";
    assert_eq!(edit("willing", &["-a", "sda"]), (0, format!("wwid '{wwid}' added\n"), String::new()));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&state) & 0o700, mode(&state) & 0o022, mode(&state.join("wwids"))), (0o700, 0, 0o600));
    assert_eq!(edit("willing", &["-w", "sda"]), (0, format!("wwid '{wwid}' removed\n"), String::new()));
    assert_eq!(asked(&willing), ["reconfigure"; 2]);
    assert_eq!(edit("refusing", &["-a", "sda"]).0, 0);
    assert_eq!(edit("nobody", &["-w", "sda"]).0, 0);
    assert_eq!(asked(&refusing), ["reconfigure"]);
}

#[test]
fn a_check_reports_every_error() {
    let mut text = String::from("defaults {\n");
    for n in 0..300 {
        text.push_str(&format!("polling_interval x{n}\n"));
    }
    text.push_str("}\nmultipaths {\nmultipath {\nwwid W1\nalias data\n}\nmultipath {\nwwid W2\nalias data\n}\n}\n");
    let path = file("many", text.as_bytes());
    let name = path.to_str().unwrap();
    let said = corepath(&["config", "--check", name]);
    assert_eq!(said.code, 1);
    for n in 0..300 {
        assert!(said.out.contains(&format!("{name}:{}: polling_interval: ", n + 2)), "line {} is missing", n + 2);
    }
    assert!(
        said.out.contains(&format!("{name}:310: alias: data: ")) || said.out.contains("a map with a smaller WWID has the same alias"),
        "{}",
        said.out
    );
    assert!(said.out.ends_with("301 errors\n"), "{}", said.out.lines().last().unwrap());
    let good = file("good", b"defaults {\n\tpolling_interval 7\n}\n");
    assert_eq!(corepath(&["config", "--check", good.to_str().unwrap()]).out, "0 errors\n");
}

/// Each of these ends at once with a clear line and exit 1, whatever the command.
#[test]
fn configurations_that_are_none() {
    let mut noise = Vec::new();
    let mut seed = 1u32;
    while noise.len() < 1 << 20 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise.push((seed >> 24) as u8);
    }
    let huge = Path::new(env!("CARGO_TARGET_TMPDIR")).join("assembly-huge");
    fs::File::create(&huge).unwrap().set_len(100 << 20).unwrap();
    let tree = Tree::new(&[]);
    let directory = tree.root.join("sys");
    let cases = [
        (PathBuf::from("/nonexistent/multipath.conf"), "no such"),
        (directory, ""),
        (huge, "larger"),
        (file("noise", &noise), "not text"),
        (file("nested", "defaults {\n".repeat(100_000).as_bytes()), ""),
        (file("nested2", "devices { ".repeat(100_000).as_bytes()), ""),
        (file("line", format!("defaults {{\npolling_interval {}\n}}\n", "9".repeat(100_000)).as_bytes()), "longer than"),
    ];
    for (path, words) in &cases {
        let name = path.to_str().unwrap();
        for command in [&["config", "--check", name][..], &["scan", "--config", name]] {
            let begun = Instant::now();
            let said = if command[0] == "scan" { on(&tree, command) } else { corepath(command) };
            let all = format!("{}{}", said.out, said.err);
            println!("{command:?}: {} {}", said.code, all.lines().next().unwrap_or(""));
            if command[0] == "config" || all.contains("cannot be read") {
                assert_eq!(said.code, 1, "{command:?}: {all}");
            }
            assert!(all.contains(name) && all.to_lowercase().contains(words), "{command:?}: {}", &all[..all.len().min(2000)]);
            assert!(command[0] == "config" || all.lines().count() < 70, "{} lines", all.lines().count());
            assert!(begun.elapsed() < Duration::from_secs(60));
        }
    }
}

#[test]
fn trees_that_lie() {
    // Nothing at all, and no /sys.
    let tree = Tree::new(&[]);
    let said = on(&tree, &["scan"]);
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{}", said.err);
    let said = corepath(&["scan", "--sysfs", "/nonexistent", "--config-dir=/nonexistent"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("/nonexistent cannot be opened; it must be mounted"), "{}", said.err);
    // Attributes that no kernel gives: each disk has a reason, none is claimed.
    let tree = Tree::new(&[include_str!("fixtures/hostile.tree")]);
    for words in [&["scan"][..], &["scan", "--json"], &["why", "sdz"], &["list"]] {
        let said = on(&tree, words);
        println!("{words:?}: {} {}{}", said.code, said.out, said.err);
        assert!(!said.out.contains("would be created"), "{}", said.out);
        assert!(words[0] == "list" || format!("{}{}", said.out, said.err).contains("sdz"), "{}", said.out);
    }
}

/// WWIDs of blanks, zeros and 300 bytes, through two ports each.
#[test]
fn wwids_that_name_nothing() {
    let page = |designator: &[u8], code: u8, kind: u8| {
        let length = designator.len() + 4;
        let head = [0, 0x83, (length >> 8) as u8, length as u8, code, kind, 0, designator.len() as u8];
        head.iter().chain(designator).map(|b| format!("{b:02x} ")).collect::<String>()
    };
    let strong: Vec<u8> = std::iter::once(0x60).chain(1..16).collect();
    for (what, page, claimed) in [
        ("NAA", page(&strong, 1, 3), true),
        ("zeros", page(&[0; 16], 1, 3), false),
        ("blanks", page(&[b' '; 32], 2, 1), false),
        ("nothing", page(&[], 2, 1), false),
        ("250 bytes of text", page(&[b'x'; 250], 2, 1), false),
        ("control characters", page(b"\x1b[31m\n/../../etc\0\0", 2, 1), false),
    ] {
        let (a, b) = (disk(2, 'a', &page), disk(3, 'b', &page));
        let tree = Tree::new(&[&a, &b]);
        let said = on(&tree, &["scan"]);
        println!("{what}: {}{}", said.out, said.err);
        assert_eq!(said.code, 0, "{what}: {}", said.err);
        assert_eq!((said.out.contains("would be created"), said.out.contains("left alone:")), (claimed, !claimed), "{what}: {}", said.out);
        assert!(said.out.contains("sda") && said.out.contains("sdb") && !said.out.contains("etc/"), "{what}: {}", said.out);
    }
}
