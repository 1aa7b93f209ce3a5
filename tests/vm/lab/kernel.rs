//! Debian kernels: fetched, unpacked and cached; closures of modules, decompressed, ready for an image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::Suite;
use super::host;

/// The kernels under test and the Debian suites that have them.
pub const KERNELS: [(&str, &str); 2] = [("6.1", "bookworm"), ("6.12", "trixie")];

/// Modules of every image. Those that a scenario needs on top are named by it.
pub const MODULES: [&str; 32] = [
    "virtio_pci",
    "virtio_console",
    "virtio_scsi",
    "virtio_blk",
    "sd_mod",
    "sg",
    "scsi_debug",
    "scsi_dh_alua",
    "scsi_dh_emc",
    "scsi_dh_rdac",
    "scsi_dh_hp_sw",
    "scsi_transport_fc",
    "scsi_transport_iscsi",
    "scsi_transport_sas",
    "scsi_transport_srp",
    "dm_mod",
    "dm_multipath",
    "dm_round_robin",
    "dm_queue_length",
    "dm_service_time",
    "dm_historical_service_time",
    "dm_io_affinity",
    "dm_snapshot",
    "dm_flakey",
    "ext4",
    "crc32c_generic",
    "loop",
    "configfs",
    "target_core_mod",
    "target_core_iblock",
    "target_core_file",
    "tcm_loop",
];

/// A kernel in the cache.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The name that tests use, such as `6.12`.
    pub label: String,
    /// The suite that it comes from; the guest's other programs are taken from there too.
    pub suite: Suite,
    /// What `uname -r` says.
    pub release: String,
    /// What QEMU boots.
    pub image: PathBuf,
    root: PathBuf,
}

/// The labels that this run is to test: COREPATH_VM_KERNELS, words separated by blanks or commas, or all.
pub fn chosen() -> Vec<String> {
    let all = || KERNELS.iter().map(|k| k.0.to_string()).collect();
    match std::env::var("COREPATH_VM_KERNELS") {
        Ok(text) if !text.trim().is_empty() => {
            let chosen: Vec<String> = text.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_string).collect();
            for label in &chosen {
                assert!(KERNELS.iter().any(|k| k.0 == label), "COREPATH_VM_KERNELS names {label}, which is not one of 6.1 and 6.12");
            }
            chosen
        }
        _ => all(),
    }
}

/// Runs a scenario on the kernel of this label, unless COREPATH_VM_KERNELS leaves it out. With COREPATH_VM_TRIES a scenario that failed is
/// run again from the start: on a busy host an emulated machine may be late. What failed stays in the log.
pub fn with(label: &str, scenario: fn(&Kernel)) {
    if chosen().iter().any(|c| c == label) {
        let kernel = Kernel::get(label);
        let tries = std::env::var("COREPATH_VM_TRIES").ok().and_then(|v| v.parse().ok()).unwrap_or(1u32);
        for left in (1..tries).rev() {
            if std::panic::catch_unwind(|| scenario(&kernel)).is_ok() {
                return;
            }
            println!("vm: {label}: failed; tries left: {left}");
        }
        scenario(&kernel);
    } else {
        eprintln!("vm: kernel {label} is left out by COREPATH_VM_KERNELS");
    }
}

impl Kernel {
    /// The kernel of a label: `6.1` or `6.12`. Fetches it when the cache has none.
    pub fn get(label: &str) -> Kernel {
        host::tools();
        let (_, suite) = KERNELS.iter().find(|k| k.0 == label).unwrap_or_else(|| panic!("no kernel is called {label}"));
        let suite = Suite::new(suite);
        let root = host::cache().join("kernels").join(label);
        let _lock = host::Lock::wait(&format!("kernel-{label}"));
        if !root.join("ready").exists() {
            let _ = fs::remove_dir_all(&root);
            host::make_dir(&root);
            let package = suite.dependency("linux-image-amd64", "linux-image-");
            suite.unpack_one(&package, &root);
            // Debian 13 has the modules under /usr/lib, Debian 12 under /lib; depmod looks into /lib.
            if !root.join("lib").exists() {
                std::os::unix::fs::symlink("usr/lib", root.join("lib"))
                    .unwrap_or_else(|e| panic!("cannot link the modules of {package}: {e}"));
            }
            let release = package.trim_start_matches("linux-image-");
            host::must(Command::new(host::program("depmod")).arg("-b").arg(&root).arg(release));
            let _ = decompress(&root.join(format!("boot/vmlinuz-{release}")), &root.join("boot/vmlinux"));
            host::write_whole(&root.join("ready"), release.as_bytes());
        }
        let release = fs::read_to_string(root.join("ready")).expect("the file was there a moment ago");
        let plain = root.join("boot/vmlinux");
        let image = if plain.exists() { plain } else { root.join(format!("boot/vmlinuz-{release}")) };
        Kernel { label: label.to_string(), suite, release, image, root }
    }

    /// The folder of the modules in the cache.
    pub fn modules_dir(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }

    /// The files of these modules and of what they need, relative to [`Kernel::modules_dir`]. What is built into the
    /// kernel needs no file; what exists nowhere ends the test.
    pub fn closure(&self, modules: &[&str]) -> Vec<String> {
        let dir = self.modules_dir();
        let dep = read(&dir.join("modules.dep"));
        let builtin = read(&dir.join("modules.builtin"));
        let mut files: BTreeMap<String, (&str, &str)> = BTreeMap::new();
        for line in dep.lines() {
            if let Some((file, needs)) = line.split_once(':') {
                files.insert(module_name(file), (file, needs));
            }
        }
        let builtin: BTreeSet<String> = builtin.lines().map(module_name).collect();
        let mut out = BTreeSet::new();
        for module in modules {
            let name = module.replace('-', "_");
            let Some((file, needs)) = files.get(&name) else {
                assert!(builtin.contains(&name), "kernel {} has no module {name}", self.release);
                continue;
            };
            out.insert((*file).to_string());
            out.extend(needs.split_whitespace().map(str::to_string));
        }
        out.into_iter().collect()
    }

    /// True when the kernel has the module as a file or built in.
    pub fn has(&self, module: &str) -> bool {
        let name = module.replace('-', "_");
        let dir = self.modules_dir();
        ["modules.dep", "modules.builtin"]
            .iter()
            .any(|file| read(&dir.join(file)).lines().any(|line| module_name(line.split(':').next().unwrap_or(line)) == name))
    }

    /// A module file without its compression.
    pub fn module(&self, file: &str) -> Vec<u8> {
        let path = self.modules_dir().join(file);
        match path.extension().and_then(|ext| ext.to_str()) {
            Some("xz") => host::must(Command::new(host::program("xz")).arg("-dc").arg(&path)),
            Some("zst") => host::must(Command::new(host::program("zstd")).arg("-dcq").arg(&path)),
            _ => fs::read(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display())),
        }
    }
}

/// The kernel without its compression, from the setup header of a bzImage (Documentation/arch/x86/boot.rst: `setup_sects`,
/// `payload_offset`, `payload_length`). QEMU enters it by its PVH note, which saves the guest 1 to 2.5 s of emulated
/// decompression. `None` for a compression that is not known here: then the bzImage itself is booted.
fn decompress(image: &Path, out: &Path) -> Option<()> {
    let data = fs::read(image).ok()?;
    let word = |at: usize| data.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
    if data.get(0x202..0x206) != Some(b"HdrS") {
        return None;
    }
    let start = (usize::from(*data.get(0x1f1)?) + 1) * 512 + word(0x248)?;
    // The last four bytes are the size of what comes out, appended by the kernel's build.
    let payload = data.get(start..start + word(0x24c)? - 4)?;
    let tool = match payload {
        [0xfd, b'7', b'z', b'X', ..] => "xz",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        _ => return None,
    };
    let packed = host::part(out);
    fs::write(&packed, payload).ok()?;
    let plain = host::run(Command::new(host::program(tool)).arg("-dcq").arg(&packed));
    let _ = fs::remove_file(&packed);
    host::write_whole(out, &plain.ok()?);
    Some(())
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
}

/// `kernel/drivers/md/dm-multipath.ko.xz` is the module `dm_multipath`.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split(".ko").next().unwrap_or(name).replace('-', "_")
}
