//! Fetches Debian packages of any suite, without installing them and without naming a server.
//!
//! The machine's own package sources (/etc/apt) are copied with the suite's name replaced, into a private apt state in
//! the cache folder. What was fetched once is used for ever after: delete the cache folder to get newer packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::host;

/// A Debian suite by its code name, with its private apt state.
#[derive(Debug, Clone)]
pub struct Suite {
    /// The code name, such as `bookworm`.
    pub name: String,
    dir: PathBuf,
}

/// Unpacked packages.
#[derive(Debug, Clone)]
pub struct Debs {
    /// One folder per package, in an order that may be laid over each other.
    pub roots: Vec<PathBuf>,
    /// A name for this set of package versions.
    pub id: String,
}

/// Packages that a dependency pulls in but that no guest here uses: interpreters, package management, the service
/// manager, image builders. They would only make the image larger.
const UNUSED: [&str; 35] = [
    "adduser",
    "base-passwd",
    "coreutils",
    "cpio",
    "debconf",
    "dpkg",
    "dracut-install",
    "gcc-",
    "init-system-helpers",
    "initramfs-tools",
    "klibc-utils",
    "libdebconfclient0",
    "libfile-find-rule-perl",
    "libklibc",
    "libnumber-compare-perl",
    "libpam-",
    "libperl",
    "libpython",
    "libtext-glob-perl",
    "linux-base",
    "login.defs",
    "logsave",
    "lsb-base",
    "media-types",
    "netbase",
    "openssl-provider-legacy",
    "passwd",
    "perl",
    "python3",
    "readline-common",
    "systemd",
    "sysvinit-utils",
    "tar",
    "tzdata",
    "usrmerge",
];

impl Suite {
    /// The private apt state of a suite, made on first use.
    pub fn new(name: &str) -> Suite {
        let dir = host::cache().join("apt").join(name);
        for part in ["sources", "state", "lists/partial", "archives/partial", "unpacked", "sets"] {
            host::make_dir(&dir.join(part));
        }
        let suite = Suite { name: name.to_string(), dir };
        let _lock = suite.lock();
        let conf = suite.dir.join("apt.conf");
        if !conf.exists() {
            let sources = machine_sources(name).unwrap_or_else(|e| panic!("no package sources for Debian {name}: {e}"));
            for (n, (ext, text)) in sources.iter().enumerate() {
                host::write_whole(&suite.dir.join(format!("sources/{n}.{ext}")), text.as_bytes());
            }
            host::write_whole(&suite.dir.join("state/status"), b"");
            host::write_whole(&conf, suite.conf().as_bytes());
        }
        suite
    }

    /// The package that a package depends on whose name starts so: what `linux-image-amd64` stands for today.
    pub fn dependency(&self, package: &str, start: &str) -> String {
        self.listed();
        let text = host::must(self.apt("apt-cache").args(["depends", package]));
        let text = String::from_utf8_lossy(&text);
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with(start))
            .unwrap_or_else(|| panic!("{package} of Debian {} does not depend on any {start}*", self.name))
            .to_string()
    }

    /// One package without its dependencies, unpacked. Its folder is not cached under the package's name: the caller
    /// keeps it.
    pub fn unpack_one(&self, package: &str, into: &Path) {
        let _lock = self.lock();
        self.listed();
        let file = self.plan(&["--no-install-recommends", package], |name| name == package);
        let [file] = file.as_slice() else { panic!("apt offers {} files for {package}", file.len()) };
        let deb = self.download(std::slice::from_ref(file)).remove(0);
        host::must(Command::new(host::program("dpkg-deb")).arg("-x").arg(&deb).arg(into));
        let _ = fs::remove_file(deb); // Kernels are large, and unpacked once.
    }

    /// A fresh machine of this suite: what is essential, apt, and these packages, installed by dpkg with all their scripts, as an archive.
    pub fn machine(&self, packages: &[&str]) -> PathBuf {
        let archive = self.dir.join(format!("machine-{}.tar", host::digest(packages.iter().map(|p| p.as_bytes()))));
        let _lock = self.lock();
        if !archive.exists() {
            assert!(host::is_root(), "a machine of Debian {} can only be made by root", self.name);
            let part = host::part(&archive).with_extension("tar");
            let mut make = Command::new(host::program("mmdebstrap"));
            make.args(["--quiet", "--variant=apt", "--format=tar", "--include", &packages.join(",")]).arg(&self.name).arg(&part);
            for entry in fs::read_dir(self.dir.join("sources")).unwrap() {
                make.arg(entry.unwrap().path());
            }
            host::must(&mut make);
            fs::rename(&part, &archive).unwrap_or_else(|e| panic!("cannot make {}: {e}", archive.display()));
        }
        archive
    }

    /// One file of a package's source, as upstream or Debian ship it: `kpartx/test-kpartx` of `multipath-tools`.
    pub fn source_file(&self, package: &str, file: &str) -> Vec<u8> {
        let _lock = self.lock();
        let dir = self.dir.join("source").join(package);
        if !dir.join("ready").exists() {
            for part in ["lists-source/partial", "sources-source"] {
                host::make_dir(&self.dir.join(part));
            }
            host::make_dir(&dir);
            for entry in fs::read_dir(self.dir.join("sources")).unwrap() {
                let path = entry.unwrap().path();
                let text = fs::read_to_string(&path).unwrap();
                let text = text.replace("Types: deb\n", "Types: deb-src\n");
                let text: String =
                    text.lines().map(|l| l.replacen("deb ", "deb-src ", usize::from(l.starts_with("deb "))) + "\n").collect();
                host::write_whole(&self.dir.join("sources-source").join(path.file_name().unwrap()), text.as_bytes());
            }
            let at = |option: &str, part: &str| format!("{option}={}", self.dir.join(part).display());
            let options =
                ["-o".into(), at("Dir::Etc::sourceparts", "sources-source"), "-o".into(), at("Dir::State::lists", "lists-source")];
            host::must(self.apt("apt-get").args(&options).args(["update", "-qq"]));
            host::must(self.apt("apt-get").current_dir(&dir).args(&options).args(["source", "-qq", "--download-only", package]));
            for archive in fs::read_dir(&dir).unwrap() {
                let path = archive.unwrap().path();
                // One archive is the package's name and version, the other a folder called debian: both hold the file's path from there.
                if path.to_string_lossy().contains(".tar.") && path.extension().is_none_or(|e| e != "asc") {
                    let debian = path.to_string_lossy().contains(".debian.tar.");
                    let strip: &[&str] = if debian { &[] } else { &["--strip-components=1"] };
                    host::must(Command::new(host::program("tar")).current_dir(&dir).args(strip).arg("-xf").arg(&path));
                }
            }
            host::write_whole(&dir.join("ready"), b"");
        }
        let path = dir.join(file);
        fs::read(&path).unwrap_or_else(|e| panic!("the source of {package} has no {file}: {e}"))
    }

    /// Packages with what they depend on, unpacked one by one, less what no guest of the lab uses.
    pub fn debs(&self, packages: &[&str]) -> Debs {
        self.debs_without(packages, &UNUSED)
    }

    /// As [`Suite::debs`], leaving out the packages whose names start with one of `unused`.
    pub fn debs_without(&self, packages: &[&str], unused: &[&str]) -> Debs {
        let _lock = self.lock();
        let mut wanted: Vec<&str> = packages.to_vec();
        wanted.sort_unstable();
        let set = self.dir.join("sets").join(host::digest(wanted.iter().chain(unused).map(|p| p.as_bytes())));
        if let Ok(text) = fs::read_to_string(&set) {
            return self.unpacked(text.lines());
        }
        self.listed();
        let mut args = vec!["--no-install-recommends"];
        args.extend(&wanted);
        let files = self.plan(&args, |name| wanted.contains(&name) || !unused.iter().any(|u| name.starts_with(u)));
        let missing: Vec<String> = files.iter().filter(|f| !self.unpacked_dir(f).exists()).cloned().collect();
        for (file, deb) in missing.iter().zip(self.download(&missing)) {
            let dir = self.unpacked_dir(file);
            let part = host::part(&dir);
            let _ = fs::remove_dir_all(&part);
            host::must(Command::new(host::program("dpkg-deb")).arg("-x").arg(&deb).arg(&part));
            fs::rename(&part, &dir).unwrap_or_else(|e| panic!("cannot make {}: {e}", dir.display()));
            let _ = fs::remove_file(deb);
        }
        host::write_whole(&set, files.join("\n").as_bytes());
        self.unpacked(files.iter().map(String::as_str))
    }

    fn unpacked<'a>(&self, files: impl Iterator<Item = &'a str>) -> Debs {
        let roots: Vec<PathBuf> = files.map(|file| self.unpacked_dir(file)).collect();
        let id = host::digest(roots.iter().map(|r| r.as_os_str().as_encoded_bytes()));
        Debs { roots, id }
    }

    fn unpacked_dir(&self, file: &str) -> PathBuf {
        self.dir.join("unpacked").join(file.trim_end_matches(".deb"))
    }

    /// The files that apt would fetch for an installation on an empty machine, as far as they are wanted.
    fn plan(&self, args: &[&str], wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let text = host::must(self.apt("apt-get").args(["install", "-y", "-qq", "--print-uris"]).args(args));
        let text = String::from_utf8_lossy(&text);
        let mut files: Vec<String> = text
            .lines()
            .filter(|line| line.starts_with('\''))
            .filter_map(|line| line.split_whitespace().nth(1))
            .filter(|file| wanted(package_of(file)))
            .map(str::to_string)
            .collect();
        files.sort_unstable();
        files
    }

    /// Downloads by the file names of a plan; a list that has become old (the server no longer has the file) is
    /// refreshed once.
    fn download(&self, files: &[String]) -> Vec<PathBuf> {
        if files.is_empty() {
            return Vec::new();
        }
        let archives = self.dir.join("archives");
        let get = || {
            let packages = files.iter().map(|file| package_of(file));
            host::run(self.apt("apt-get").current_dir(&archives).args(["download", "-qq"]).args(packages))
        };
        if get().is_err() {
            self.update();
            get().unwrap_or_else(|e| panic!("cannot fetch packages of Debian {}: {e}", self.name));
        }
        files
            .iter()
            .map(|file| {
                let path = archives.join(file);
                assert!(path.exists(), "apt fetched another version than {file}: run the test again");
                path
            })
            .collect()
    }

    fn listed(&self) {
        if !self.dir.join("lists/ready").exists() {
            self.update();
        }
    }

    fn update(&self) {
        host::must(self.apt("apt-get").args(["update", "-qq", "-o", "APT::Update::Error-Mode=any"]));
        host::write_whole(&self.dir.join("lists/ready"), b"");
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(host::program(program));
        command.env("APT_CONFIG", self.dir.join("apt.conf")).env("LC_ALL", "C");
        command
    }

    fn conf(&self) -> String {
        let dir = self.dir.display();
        format!(
            "Dir::Etc::sourcelist \"/dev/null\";\nDir::Etc::sourceparts \"{dir}/sources\";\n\
             Dir::State \"{dir}/state\";\nDir::State::status \"{dir}/state/status\";\nDir::State::lists \"{dir}/lists\";\n\
             Dir::Cache \"{dir}\";\nDir::Cache::archives \"{dir}/archives\";\n\
             APT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\nAPT::Sandbox::User \"root\";\n\
             Acquire::Languages \"none\";\nAcquire::Retries \"3\";\n"
        )
    }

    fn lock(&self) -> host::Lock {
        host::Lock::wait(&format!("apt-{}", self.name))
    }
}

fn package_of(file: &str) -> &str {
    file.split('_').next().unwrap_or(file)
}

/// The machine's sources of its own Debian suite, with the suite replaced: (file name extension, text) each.
fn machine_sources(suite: &str) -> Result<Vec<(&'static str, String)>, String> {
    let release = fs::read_to_string("/etc/os-release").map_err(|e| format!("cannot read /etc/os-release: {e}"))?;
    let own = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_string())
        .ok_or("/etc/os-release has no VERSION_CODENAME: is this Debian?")?;
    let mut files: BTreeSet<PathBuf> = BTreeSet::new();
    files.insert("/etc/apt/sources.list".into());
    if let Ok(dir) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(dir.filter_map(|entry| entry.ok().map(|entry| entry.path())));
    }
    let mut found = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let (ext, text) = match file.extension().and_then(|ext| ext.to_str()) {
            Some("sources") => ("sources", stanzas_for(&text, &own, suite)),
            Some("list") => ("list", lines_for(&text, &own, suite)),
            _ => continue,
        };
        if !text.is_empty() {
            found.push((ext, text));
        }
    }
    if found.is_empty() {
        return Err(format!("/etc/apt has no source for the suite {own} of this machine"));
    }
    Ok(found)
}

/// `bookworm-updates` of a `bookworm` machine is `trixie-updates` for trixie; other suites are of no use here.
fn rename(word: &str, own: &str, suite: &str) -> Option<String> {
    let rest = word.strip_prefix(own)?;
    (rest.is_empty() || rest.starts_with('-')).then(|| format!("{suite}{rest}"))
}

/// deb822 sources: stanzas between blank lines, the suites in one field.
fn stanzas_for(text: &str, own: &str, suite: &str) -> String {
    let mut out = String::new();
    for stanza in text.split("\n\n") {
        let mut kept = String::new();
        let mut any = false;
        for line in stanza.lines().filter(|line| !line.starts_with('#')) {
            match line.split_once(':') {
                Some((key, value)) if key.eq_ignore_ascii_case("suites") => {
                    let suites: Vec<_> = value.split_whitespace().filter_map(|w| rename(w, own, suite)).collect();
                    any |= !suites.is_empty();
                    kept += &format!("Suites: {}\n", suites.join(" "));
                }
                Some((key, _)) if key.eq_ignore_ascii_case("types") => kept += "Types: deb\n",
                _ => kept += &format!("{line}\n"),
            }
        }
        if any {
            out += &kept;
            out.push('\n');
        }
    }
    out
}

/// One-line sources: `deb [options] URI suite component...`.
fn lines_for(text: &str, own: &str, suite: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_string).collect();
        if words.first().map(String::as_str) != Some("deb") {
            continue;
        }
        let mut uri = 1;
        if words.get(1).is_some_and(|word| word.starts_with('[')) {
            uri = words.iter().position(|word| word.ends_with(']')).unwrap_or(words.len()) + 1;
        }
        let Some(new) = words.get(uri + 1).and_then(|word| rename(word, own, suite)) else { continue };
        words[uri + 1] = new;
        out += &words.join(" ");
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn both_forms_of_sources_are_renamed() {
        use super::{lines_for, stanzas_for};
        let stanzas = "Types: deb deb-src\n# old\nURIs: u\nSuites: bookworm bookworm-updates\nComponents: main\n\n\
                       Types: deb\nURIs: v\nSuites: nodistro\n";
        let new = "Types: deb\nURIs: u\nSuites: trixie trixie-updates\nComponents: main\n\n";
        assert_eq!(stanzas_for(stanzas, "bookworm", "trixie"), new);
        let lines = "deb u bookworm main\ndeb [a=b c=d] u bookworm-security main\ndeb-src u bookworm main\ndeb u sid main\n";
        let new = "deb u trixie main\ndeb [a=b c=d] u trixie-security main\n";
        assert_eq!(lines_for(lines, "bookworm", "trixie"), new);
    }
}
