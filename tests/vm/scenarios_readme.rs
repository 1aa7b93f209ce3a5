//! README's "Put it into your initramfs" as a new user would try it: a fresh Debian, the tracked files of this repository, the very lines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::lab::disk::{self, Part};
use crate::lab::watched::Watched;
use crate::lab::{Array, Vm, host, root, rounds};
use crate::scenario;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// The command lines of the section: its first indented block.
fn lines() -> String {
    let readme = fs::read_to_string(Path::new(HERE).join("README.md")).unwrap();
    let (_, section) = readme.split_once("\n## Put it into your initramfs\n").expect("the section");
    let block = section.lines().skip_while(|line| !line.starts_with("    ")).take_while(|line| line.starts_with("    "));
    let lines: Vec<&str> = block.map(str::trim).collect();
    assert!(lines.len() > 2 && lines.iter().any(|line| line.starts_with("sudo update-initramfs")), "{lines:?}");
    lines.join("\n")
}

/// A machine with a kernel, initramfs-tools and sudo; its user has the repository, the compiler that a rustup would have put there (this
/// machine's, lent) and its crates, so that nothing is fetched but Debian's packages.
fn fresh(archive: &Path, tree: &Path) -> PathBuf {
    host::make_dir(tree);
    host::must(Command::new(host::program("tar")).arg("-C").arg(tree).arg("-xf").arg(archive));
    let home = tree.join("home/admin");
    let repository = home.join("corepath");
    let listed = host::must(Command::new("git").args(["-C", HERE, "ls-files", "-z"]));
    for file in String::from_utf8(listed).unwrap().split('\0').filter(|file| !file.is_empty()) {
        let to = repository.join(file);
        host::make_dir(to.parent().unwrap());
        // One that is deleted and not committed yet is not there.
        let _ = fs::copy(Path::new(HERE).join(file), to);
    }
    let cargo =
        std::env::var_os("CARGO_HOME").map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cargo"), PathBuf::from);
    host::make_dir(&home.join(".cargo/registry"));
    for part in ["cache", "index"] {
        host::must(Command::new("cp").arg("-r").arg(cargo.join("registry").join(part)).arg(home.join(".cargo/registry")));
    }
    fs::write(home.join(".profile"), "export PATH=/opt/rust/bin:$PATH CARGO_NET_OFFLINE=true\n").unwrap();
    fs::write(tree.join("etc/sudoers.d/admin"), "admin ALL=(ALL) NOPASSWD: ALL\n").unwrap();
    fs::write(tree.join("etc/machine-id"), "c0ae1a70000000000000000000000002\n").unwrap();
    fs::copy("/etc/resolv.conf", tree.join("etc/resolv.conf")).unwrap();
    repository
}

scenario! {
    /// The lines end without an error and the kernel's initramfs has corepath, its scripts in the order of their stages, its rules, its modules;
    /// that machine, moved to a LUN as it is, boots from it through two paths.
    /// Takes five minutes the first time, as a system is installed, and about two then: a release's, not every day's.
    fn the_readme_word_for_word(kernel) {
        if rounds(0, 1) == 0 {
            return;
        }
        host::tools();
        let archive = kernel.suite.machine(&["linux-image-amd64", "initramfs-tools", "systemd-sysv", "udev", "login", "passwd", "sudo", "zstd"]);
        let scratch = host::Scratch::new();
        let tree = scratch.path("machine");
        let repository = fresh(&archive, &tree);
        fs::write(repository.parent().unwrap().join("readme.sh"), lines()).unwrap();
        let rust = PathBuf::from(String::from_utf8(host::must(Command::new("rustc").args(["--print", "sysroot"]))).unwrap().trim());
        // Its own boot image was made when the kernel was installed: without corepath. A person answers apt's question with yes.
        let said = root::chroot_with(
            &tree,
            &[(&rust, "/opt/rust")],
            "useradd -s /bin/sh admin && chown -R admin /home/admin && apt-get update -qq\n\
             lsinitramfs /boot/initrd.img-* | grep corepath && exit 1\n\
             su - admin -c 'cd corepath && yes | sh -ex ../readme.sh' 2>&1\n\
             echo @image; lsinitramfs /boot/initrd.img-*; unmkinitramfs /boot/initrd.img-* /unpacked\n\
             cd /unpacked; [ ! -d main ] || cd main; echo @order; cat scripts/*/ORDER | grep corepath; chroot . /sbin/corepath version",
        );
        let (built, rest) = said.split_once("@image\n").unwrap_or_else(|| panic!("{said}"));
        let (image, order) = rest.split_once("@order\n").unwrap_or_else(|| panic!("{said}"));
        assert!(built.contains("Finished") && built.contains("update-initramfs: Generating"), "{built}");
        assert!(!built.lines().any(|line| line.starts_with("E: ") || line.starts_with("W: ")), "{built}");
        for file in [
            "sbin/corepath",
            "sbin/@corepath",
            "scripts/init-top/corepath",
            "scripts/local-top/corepath",
            "scripts/local-block/corepath",
            "udev/rules.d/60-corepath.rules",
        ] {
            assert!(image.lines().any(|line| line.ends_with(file)), "{file} is not in the image:\n{image}");
        }
        for module in ["dm-multipath", "dm-service-time", "scsi_dh_alua", "scsi_dh_emc", "scsi_dh_rdac", "scsi_dh_hp_sw"] {
            assert!(image.contains(&format!("/{module}.ko")), "{module} is not in the image:\n{image}");
        }
        for stage in ["init-top", "local-top", "local-block"] {
            assert!(order.contains(&format!("/scripts/{stage}/corepath")), "{order}");
        }
        assert!(order.ends_with(concat!("corepath ", env!("CARGO_PKG_VERSION"), "\n")), "{order}");
        println!("vm: Debian {}: README's lines, word for word:\n{}", kernel.suite.name, lines());

        // Its own kernel and image; on the disk without what the build left.
        let boot = |link: &str| fs::canonicalize(tree.join(link)).ok().filter(|file| file.starts_with(&tree));
        let (Some(vmlinuz), Some(initrd)) = (boot("vmlinuz"), boot("initrd.img")) else { panic!("no kernel in {}", tree.display()) };
        let [own, image, disk] = ["vmlinuz", "initramfs", "disk"].map(|name| scratch.path(name));
        fs::copy(vmlinuz, &own).and_then(|_| fs::copy(initrd, &image)).unwrap();
        for left in ["home/admin", "unpacked", "opt/rust"] {
            fs::remove_dir_all(tree.join(left)).unwrap();
        }
        root::observe(&tree);
        disk::partitioned(&disk, 2010, "gpt", &[Part { mib: 8, ext4: None }, Part { mib: 2000, ext4: Some(("sanroot", &tree)) }]);
        let array = Array::start("clariion", &["a0", "b0"], &format!("--lun 0,file={}", disk.display()));
        let mut machine = kernel.clone();
        machine.image = own;
        let words = "root=LABEL=sanroot rw systemd.show_status=0";
        let guest = Vm::new(&machine).memory(1024).initrd(&image).array(&array).cmdline(words).limit(Duration::from_secs(400)).boot();
        guest.console_line("@login", Duration::from_secs(300));
        guest.agent_within(1, Duration::from_secs(60));
        let seen = Watched::of(&guest);
        assert_eq!(seen.partition, 2);
        guest.until("corepath status | grep -q ', 2 usable'", Duration::from_secs(60));
        seen.still(&guest);
        println!("vm: Debian {}: that machine: root mounted at {:.1} s, login at {:.1} s", kernel.suite.name, seen.mounted, seen.login);
    }
}
