//! Storage arrays on the host: starts corepath-array (tests/array) and attaches its ports to a machine.
//!
//! Faults are made by lines on its control socket ([`Array::say`]); they cost the guest nothing, and obey TEST UNIT
//! READY too. The verbs are in tests/array/README.md.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::Duration;

use super::host::{self, Scratch};
use super::machine::spawn;

/// A running array.
#[derive(Debug)]
pub struct Array {
    /// The names of its ports.
    pub ports: Vec<String>,
    child: Child,
    scratch: Scratch,
}

impl Array {
    /// Starts an array: a personality (`plain`, `alua`, `clariion`, `rdac`, `hpsw`), ports (`a0` belongs to side A), and
    /// options such as `--luns 2,size=64M`.
    #[track_caller]
    pub fn start(personality: &str, ports: &[&str], options: &str) -> Array {
        let scratch = Scratch::new();
        let mut command = Command::new(program());
        command.args(["--persona", personality]).args(options.split_whitespace());
        for port in ports {
            command.arg("--port").arg(format!("{port}={}", scratch.path(port).display()));
        }
        command.arg("--control").arg(scratch.path("control")).arg("--log-file").arg(scratch.path("commands"));
        let mut child = spawn(&mut command, &scratch.path("log"));
        let sockets: Vec<PathBuf> = ports.iter().chain(&["control"]).map(|name| scratch.path(name)).collect();
        let up = host::poll(Duration::from_secs(10), || {
            let ended = child.try_wait().ok().flatten().is_some();
            (ended || sockets.iter().all(|socket| socket.exists())).then_some(!ended)
        });
        if up != Some(true) {
            let said = fs::read_to_string(scratch.path("log")).unwrap_or_default();
            let _ = child.kill();
            panic!("the array did not start: {said}");
        }
        Array { ports: ports.iter().map(|port| (*port).to_string()).collect(), child, scratch }
    }

    /// The socket of a port.
    pub fn socket(&self, port: &str) -> PathBuf {
        self.scratch.path(port)
    }

    /// Says one line to the array and gives what it answers before `ok`.
    #[track_caller]
    pub fn say(&self, line: &str) -> String {
        self.ask(line).unwrap_or_else(|e| panic!("the array, asked `{line}`: {e}"))
    }

    /// The one number that verbs like `count` and `trespasses` answer.
    #[track_caller]
    pub fn number(&self, line: &str) -> u64 {
        let answer = self.say(line);
        answer.trim().parse().unwrap_or_else(|_| panic!("the array answered `{line}` with {answer:?}, not a number"))
    }

    /// Writes that came for a LUN so far.
    #[track_caller]
    pub fn written(&self, lun: u16) -> u64 {
        self.number(&format!("count op=WRITE_10,WRITE_16 lun={lun}"))
    }

    fn ask(&self, line: &str) -> Result<String, String> {
        let failed = |e: std::io::Error| e.to_string();
        let mut stream = UnixStream::connect(self.scratch.path("control")).map_err(failed)?;
        stream.write_all(format!("{line}\n").as_bytes()).map_err(failed)?;
        let mut said = String::new();
        for answer in BufReader::new(stream).lines() {
            let answer = answer.map_err(failed)?;
            match answer.as_str() {
                "ok" => return Ok(said),
                error if error.starts_with("error ") => return Err(error.to_string()),
                more => said += &format!("{more}\n"),
            }
        }
        Err("it closed the connection".to_string())
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for verb in ["status", "log max=30"] {
                eprintln!("---- the array's {verb} ----\n{}", self.ask(verb).unwrap_or_else(|e| e));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds the array once per process and gives a copy of the program: another checkout may build into the same cache.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let target = host::cache().join("array");
        let manifest = host::lab_dir().with_file_name("array").join("Cargo.toml");
        let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        let _lock = host::Lock::wait("array");
        let mut command = Command::new(cargo);
        command.args(["build", "--quiet", "--locked", "--manifest-path"]).arg(&manifest);
        command.arg("--target-dir").arg(&target);
        host::must(&mut command);
        let built = target.join("debug/corepath-array");
        let data = fs::read(&built).unwrap_or_else(|e| panic!("cannot read {}: {e}", built.display()));
        let copies = host::cache().join("tools");
        host::make_dir(&copies);
        let copy = copies.join(format!("array-{}", host::digest([data.as_slice()])));
        if !copy.exists() {
            let part = host::part(&copy);
            let copied = fs::copy(&built, &part).and_then(|_| fs::rename(&part, &copy));
            copied.unwrap_or_else(|e| panic!("cannot make {}: {e}", copy.display()));
        }
        host::used(&copy);
        copy
    })
}
