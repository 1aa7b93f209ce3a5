//! A virtual machine: what it is made of ([`Vm`]), and what a test does with it while it runs ([`Guest`]).
//!
//! QEMU runs with software emulation (nested KVM hangs or asserts on many hosts). It dies with its [`Guest`], with the
//! thread that made it, and at the time limit. When a test fails, the console and the commands are printed.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::agent::{Agent, Job, Output};
use super::apt::Debs;
use super::array::Array;
use super::build;
use super::cpio::Cpio;
use super::host::{self, Scratch, Slot};
use super::image;
use super::kernel::Kernel;
use super::qmp::{Json, Qmp, object};

/// How long a command in the guest may take unless the test says otherwise.
pub const COMMAND: Duration = Duration::from_secs(60);

/// Where the bytes of a LUN are.
#[derive(Debug, Clone)]
enum Backing {
    /// A file of the host, which all paths share.
    File(PathBuf),
    /// A block server on this unix socket, one per path, which a test can make fail.
    Nbd(Vec<PathBuf>),
}

#[derive(Debug, Clone)]
struct Lun {
    name: String,
    wwn: u64,
    number: u64,
    backing: Backing,
    paths: usize,
    /// Paths present at boot; the others are plugged later.
    present: usize,
}

/// A machine to be.
#[derive(Debug)]
pub struct Vm {
    kernel: Kernel,
    memory: u64,
    cpus: u64,
    alone: bool,
    limit: Duration,
    layer: Cpio,
    debs: Vec<Debs>,
    modules: Vec<String>,
    setup: String,
    init: Option<String>,
    initrd: Option<PathBuf>,
    cmdline: String,
    luns: Vec<Lun>,
    ports: Vec<(String, PathBuf)>,
    extra: Vec<String>,
    scratch: Scratch,
}

impl Vm {
    /// A machine with this kernel, 512 MiB and no disk. On 6.12 it has two processors, on 6.1 one, as small appliances do: the scenarios
    /// are to hold on both, and one costs the host a sixth less.
    pub fn new(kernel: &Kernel) -> Vm {
        Vm {
            kernel: kernel.clone(),
            memory: 512,
            cpus: if kernel.label == "6.1" { 1 } else { 2 },
            alone: false,
            limit: Duration::from_secs(300),
            layer: Cpio::new(),
            debs: Vec::new(),
            modules: Vec::new(),
            setup: String::new(),
            init: None,
            initrd: None,
            cmdline: String::new(),
            luns: Vec::new(),
            ports: Vec::new(),
            extra: Vec::new(),
            scratch: Scratch::new(),
        }
    }

    /// Memory in MiB.
    pub fn memory(mut self, mib: u64) -> Vm {
        self.memory = mib;
        self
    }

    /// The number of processors.
    pub fn cpus(mut self, cpus: u64) -> Vm {
        self.cpus = cpus;
        self
    }

    /// No other VM of the lab runs beside this one: for scenarios that measure.
    pub fn alone(mut self) -> Vm {
        self.alone = true;
        self
    }

    /// QEMU is killed after this time (300 s unless said).
    pub fn limit(mut self, limit: Duration) -> Vm {
        self.limit = limit;
        self
    }

    /// Modules to be in the image besides the usual ones ([`super::kernel::MODULES`]). They are not loaded.
    pub fn modules(mut self, modules: &[&str]) -> Vm {
        self.modules.extend(modules.iter().map(|module| (*module).to_string()));
        self
    }

    /// A file in the image.
    pub fn file(mut self, path: &str, mode: u32, data: &[u8]) -> Vm {
        self.layer.file(path, mode, data);
        self
    }

    /// A symbolic link in the image.
    pub fn link(mut self, path: &str, target: &str) -> Vm {
        self.layer.link(path, target);
        self
    }

    /// A copy of a file of the host in the image.
    pub fn copy(mut self, from: &Path, to: &str, mode: u32) -> Vm {
        let data = std::fs::read(from).unwrap_or_else(|e| panic!("cannot read {}: {e}", from.display()));
        self.layer.file(to, mode, &data);
        self
    }

    /// The corepath under test as /usr/bin/corepath.
    pub fn corepath(self) -> Vm {
        let corepath = build::corepath(&self.kernel);
        self.copy(&corepath, "/usr/bin/corepath", 0o755)
    }

    /// Debian packages of the kernel's suite, with what they depend on, unpacked into the image.
    pub fn debs(mut self, packages: &[&str]) -> Vm {
        self.debs.push(self.kernel.suite.debs(packages));
        self
    }

    /// Shell lines that run before the guest is ready (before the agent starts).
    pub fn setup(mut self, script: &str) -> Vm {
        self.setup += script;
        self.setup.push('\n');
        self
    }

    /// A process 1 of the scenario's own, instead of the lab's. The machine is then ready at once after it started:
    /// follow the console, or start `lab agent` in it and call [`Guest::agent_up`].
    pub fn init(mut self, script: &str) -> Vm {
        self.init = Some(script.to_string());
        self
    }

    /// An initial RAM disk of another making instead of the lab's base ([`super::root`]); [`Vm::file`] still adds to it. As with
    /// [`Vm::init`], the machine counts as ready at once.
    pub fn initrd(mut self, path: &Path) -> Vm {
        self.initrd = Some(path.to_path_buf());
        self
    }

    /// Words for the kernel's command line.
    pub fn cmdline(mut self, words: &str) -> Vm {
        self.cmdline += " ";
        self.cmdline += words;
        self
    }

    /// Arguments for QEMU.
    pub fn qemu(mut self, args: &[&str]) -> Vm {
        self.extra.extend(args.iter().map(|arg| (*arg).to_string()));
        self
    }

    /// A LUN of this size in bytes, one file of the host behind this many paths. Path N is the device `NAME.N` behind
    /// the virtio-scsi controller `hbaN`; all LUNs share the controllers.
    pub fn lun(self, name: &str, size: u64, paths: usize) -> Vm {
        self.lun_later(name, size, paths, paths)
    }

    /// As [`Vm::lun`], with only the first `present` paths there at boot; [`Guest::plug`] brings the others.
    pub fn lun_later(mut self, name: &str, size: u64, paths: usize, present: usize) -> Vm {
        let path = self.scratch.path(&format!("{name}.disk"));
        let file = std::fs::File::create(&path).unwrap_or_else(|e| panic!("cannot make {}: {e}", path.display()));
        file.set_len(size).unwrap_or_else(|e| panic!("cannot size {}: {e}", path.display()));
        self.add(name, Backing::File(path), paths, present);
        self
    }

    /// A LUN without a registered name: page 0x83 has its serial number, as its vendor's own name.
    pub fn lun_nameless(self, name: &str, size: u64, paths: usize) -> Vm {
        let mut vm = self.lun(name, size, paths);
        vm.luns.iter_mut().filter(|lun| lun.name == name).for_each(|lun| lun.wwn = 0);
        vm
    }

    /// A LUN whose bytes are an image that exists already (see [`super::disk`]).
    pub fn lun_image(mut self, name: &str, image: &Path, paths: usize) -> Vm {
        self.add(name, Backing::File(image.to_path_buf()), paths, paths);
        self
    }

    /// A LUN whose paths are block servers (see [`super::nbd`]), one socket per path.
    pub fn lun_nbd(mut self, name: &str, sockets: &[PathBuf]) -> Vm {
        self.add(name, Backing::Nbd(sockets.to_vec()), sockets.len(), sockets.len());
        self
    }

    /// One port of an array on the host (see [`super::array`]): one vhost-user-scsi controller called `id`.
    pub fn port(mut self, id: &str, socket: &Path) -> Vm {
        self.ports.push((id.to_string(), socket.to_path_buf()));
        self
    }

    /// All ports of an array on the host: port P is the controller `P`. The array must outlive the guest.
    pub fn array(mut self, array: &Array) -> Vm {
        for port in &array.ports {
            self = self.port(port, &array.socket(port));
        }
        self
    }

    /// A folder that lives as long as the machine, for a scenario's own files and sockets.
    pub fn scratch(&self) -> &Path {
        &self.scratch.dir
    }

    fn add(&mut self, name: &str, backing: Backing, paths: usize, present: usize) {
        let number = self.luns.len() as u64;
        // NAA 5, a made-up company: the same on every path.
        let wwn = 0x5c0a_e1a7_0000_0000 + (number << 8);
        self.luns.push(Lun { name: name.to_string(), wwn, number, backing, paths, present });
    }

    /// Boots and waits until the guest takes commands.
    #[track_caller]
    pub fn boot(self) -> Guest {
        Guest::start(self)
    }
}

impl Lun {
    fn node(&self, path: usize) -> String {
        format!("{}.{path}.disk", self.name)
    }

    fn blockdev(&self, path: usize) -> Json {
        let file = match &self.backing {
            Backing::File(file) => {
                object([("driver", "file".into()), ("filename", file.to_string_lossy().as_ref().into()), ("locking", "off".into())])
            }
            Backing::Nbd(sockets) => object([
                ("driver", "nbd".into()),
                ("server", object([("type", "unix".into()), ("path", sockets[path].to_string_lossy().as_ref().into())])),
                ("export", self.name.as_str().into()),
            ]),
        };
        object([
            ("driver", "raw".into()),
            ("node-name", self.node(path).into()),
            ("cache", object([("direct", false.into()), ("no-flush", matches!(self.backing, Backing::File(_)).into())])),
            ("file", file),
        ])
    }

    fn device(&self, path: usize) -> Json {
        let target = 0x5c0a_e1a7_ff00_0000 + path as u64;
        object([
            ("driver", "scsi-hd".into()),
            ("id", format!("{}.{path}", self.name).into()),
            ("bus", format!("hba{path}.0").into()),
            ("channel", 0.into()),
            ("scsi-id", 0.into()),
            ("lun", self.number.into()),
            ("drive", self.node(path).into()),
            ("serial", format!("{}-serial", self.name).into()),
            ("wwn", self.wwn.into()),
            ("port_wwn", target.into()),
            ("port_index", (path as u64 + 1).into()),
            ("share-rw", true.into()),
            ("werror", "report".into()),
            ("rerror", "report".into()),
        ])
    }

    /// What the kernel calls this LUN in /sys/block/sdX/device/wwid.
    fn wwid(&self) -> String {
        format!("naa.{:016x}", self.wwn)
    }
}

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<(Instant, String)>,
    closed: bool,
}

type Shared<T> = Arc<(Mutex<T>, Condvar)>;

#[derive(Debug, Default)]
struct Ended {
    status: Option<ExitStatus>,
    over_limit: bool,
    /// Processor time that QEMU has used.
    used: Duration,
}

/// A running machine.
#[derive(Debug)]
pub struct Guest {
    /// The control connection to QEMU.
    pub qmp: Qmp,
    /// From the start of QEMU to the agent's greeting.
    pub boot_time: Duration,
    /// Processor time of QEMU until then.
    boot_used: Duration,
    born: Instant,
    agent: Agent,
    luns: Vec<Lun>,
    console: Shared<Lines>,
    console_in: UnixStream,
    ended: Shared<Ended>,
    child: Arc<Mutex<Child>>,
    limit: Duration,
    scratch: Scratch,
    _slot: Slot,
}

impl Guest {
    #[track_caller]
    fn start(mut vm: Vm) -> Guest {
        host::tools();
        let base = vm.initrd.clone().unwrap_or_else(|| image::base(&vm.kernel, &vm.modules));
        let layers: Vec<PathBuf> = vm.debs.iter().map(image::packages).collect();
        let mut parts = vec![base.as_path()];
        parts.extend(layers.iter().map(PathBuf::as_path));
        let mut layer = std::mem::take(&mut vm.layer);
        layer.file("/usr/bin/lab", 0o755, &build::guest_helper());
        if !vm.setup.is_empty() {
            layer.file("/lab/setup", 0o755, vm.setup.as_bytes());
        }
        if let Some(init) = &vm.init {
            layer.file("/init", 0o755, init.as_bytes());
        }
        let initrd = vm.scratch.path("initrd");
        image::join(&parts, layer, &initrd);

        let slot = Slot::wait(vm.alone);
        let listen = |name: &str| {
            let path = vm.scratch.path(name);
            let listener = UnixListener::bind(&path).unwrap_or_else(|e| panic!("cannot listen on {}: {e}", path.display()));
            listener.set_nonblocking(true).unwrap_or_else(|e| panic!("socket: {e}"));
            listener
        };
        let (console, agent, qmp) = (listen("console"), listen("agent"), listen("qmp"));
        let begin = Instant::now();
        let mut command = vm.command(&initrd);
        let mut child = spawn(&mut command, &vm.scratch.path("qemu.log"));
        let mut accept = |listener: &UnixListener| {
            let accepted = host::poll(Duration::from_secs(30), || match listener.accept() {
                Ok((stream, _)) => Some(Ok(stream)),
                Err(_) => child.try_wait().ok().flatten().map(Err),
            });
            match accepted {
                Some(Ok(stream)) => {
                    stream.set_nonblocking(false).unwrap_or_else(|e| panic!("socket: {e}"));
                    stream
                }
                other => {
                    let said = std::fs::read_to_string(vm.scratch.path("qemu.log")).unwrap_or_default();
                    let _ = child.kill();
                    panic!("QEMU did not start ({other:?}): {said}");
                }
            }
        };
        let (console, agent, qmp) = (accept(&console), accept(&agent), accept(&qmp));
        let child = Arc::new(Mutex::new(child));
        let ended: Shared<Ended> = Arc::default();
        watch(&child, &ended, vm.limit);
        let lines: Shared<Lines> = Arc::default();
        let console_in = console.try_clone().unwrap_or_else(|e| panic!("socket: {e}"));
        follow(console, &lines, vm.scratch.path("console.log"));
        let mut guest = Guest {
            qmp: Qmp::new(qmp).unwrap_or_else(|e| panic!("{e}")),
            boot_time: Duration::ZERO,
            boot_used: Duration::ZERO,
            born: begin,
            agent: Agent::new(agent).unwrap_or_else(|e| panic!("{e}")),
            luns: vm.luns,
            console: lines,
            console_in,
            ended,
            child,
            limit: vm.limit,
            scratch: vm.scratch,
            _slot: slot,
        };
        if vm.init.is_none() && vm.initrd.is_none() {
            guest.agent_up(1);
        }
        guest.boot_time = begin.elapsed();
        guest.boot_used = lock(&guest.ended.0).used;
        guest
    }

    /// Waits until an agent has greeted `times` times since boot: again after the scenario moved to another root.
    #[track_caller]
    pub fn agent_up(&self, times: u32) {
        self.agent_within(times, COMMAND);
    }

    /// As [`Guest::agent_up`], for machines that take their time.
    #[track_caller]
    pub fn agent_within(&self, times: u32, limit: Duration) {
        self.agent.hello(times, limit).unwrap_or_else(|e| panic!("the guest did not come up: {e}"));
    }

    /// Runs a shell script in the guest and waits for its end, for 60 s at most.
    #[track_caller]
    pub fn run(&self, script: &str) -> Output {
        self.spawn(script).wait(COMMAND)
    }

    /// Runs a script that must succeed, and gives what it printed.
    #[track_caller]
    pub fn ok(&self, script: &str) -> String {
        self.run(script).ok()
    }

    /// Starts a shell script in the guest.
    #[track_caller]
    pub fn spawn(&self, script: &str) -> Job {
        self.agent.spawn(script).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Runs a script again and again until it succeeds, and gives what it printed.
    #[track_caller]
    pub fn until(&self, script: &str, limit: Duration) -> String {
        let begin = Instant::now();
        loop {
            let output = self.run(script);
            if output.code == 0 {
                return output.text();
            }
            assert!(begin.elapsed() < limit, "`{script}` did not succeed within {} s:\n{}", limit.as_secs_f32(), output.text());
            // What lasts is asked for less often: in emulation the asking takes as much of the host as all the rest.
            std::thread::sleep((begin.elapsed() / 8).clamp(Duration::from_millis(50), Duration::from_millis(400)));
        }
    }

    /// Writes a file in the guest.
    #[track_caller]
    pub fn put(&self, path: &str, mode: u32, data: &[u8]) {
        self.agent.put(path, mode, data).unwrap_or_else(|e| panic!("{e}"));
    }

    /// Reads a file of the guest.
    #[track_caller]
    pub fn get(&self, path: &str) -> Vec<u8> {
        let output = self.run(&format!("cat '{path}'"));
        output.ok();
        output.bytes
    }

    /// The guest's clock since boot, as the `lab` verbs print it (`t=` in milliseconds).
    #[track_caller]
    pub fn clock(&self) -> Duration {
        let text = self.ok("lab clock");
        Duration::from_millis(text.parse().unwrap_or_else(|_| panic!("`lab clock` said {text:?}")))
    }

    /// The disks of the kernel that have this WWID (`naa.5...`), by name: `sda`.
    #[track_caller]
    pub fn disks_of(&self, wwid: &str) -> Vec<String> {
        let script = format!("cd /sys/block; grep -lx '{wwid}' */device/wwid 2>/dev/null | cut -d/ -f1; true");
        self.ok(&script).lines().map(str::to_string).collect()
    }

    /// The WWID that a LUN made by [`Vm::lun`] shows in sysfs.
    pub fn wwid(&self, lun: &str) -> String {
        self.find(lun).wwid()
    }

    /// The kernel's name of path `NAME.N`, when it is there now.
    #[track_caller]
    pub fn disk(&self, device: &str) -> Option<String> {
        let (lun, path) = self.path(device);
        self.disks_of(&lun.wwid()).into_iter().find(|disk| self.target_port(disk) == path as u64 + 1)
    }

    /// The relative target port that a disk's VPD page 0x83 names: 1 for path 0.
    fn target_port(&self, disk: &str) -> u64 {
        let page = self.get(&format!("/sys/block/{disk}/device/vpd_pg83"));
        let mut at = 4;
        while let Some(head) = page.get(at..at + 4) {
            let len = usize::from(head[3]);
            if head[1] & 0x3f == 0x14 && len == 4 {
                return page.get(at + 4..at + 8).map_or(0, |b| u64::from(u32::from_be_bytes([b[0], b[1], b[2], b[3]])));
            }
            at += 4 + len;
        }
        0
    }

    /// Makes a multipath map with bare ioctls: one group, service-time, these disks (`sda`), features such as
    /// `1 queue_if_no_path`. Gives its node. What corepath makes is compared with this.
    #[track_caller]
    pub fn bare_map(&self, name: &str, disks: &[String], features: &str) -> String {
        self.ok("modprobe -a dm_multipath dm_service_time");
        let first = disks.first().expect("a map has a path");
        let sectors = self.ok(&format!("cat /sys/block/{first}/size"));
        let paths: Vec<String> = disks.iter().map(|disk| self.ok(&format!("echo $(cat /sys/block/{disk}/dev) 1"))).collect();
        let table = format!("0 {sectors} multipath {features} 0 1 1 service-time 0 {} 1 {}", disks.len(), paths.join(" "));
        self.ok(&format!("lab dm create {name} --table '{table}'"));
        format!("/dev/mapper/{name}")
    }

    /// Unplugs path `NAME.N` (device_del) and waits until QEMU says that it is gone.
    #[track_caller]
    pub fn unplug(&self, device: &str) {
        self.path(device);
        self.qmp.command("device_del", object([("id", device.into())])).unwrap_or_else(|e| panic!("{e}"));
        let gone = self.qmp.event("DEVICE_DELETED", &format!("\"device\": \"{device}\""), COMMAND);
        assert!(gone.is_some(), "{device} was not unplugged within {} s", COMMAND.as_secs());
    }

    /// Plugs path `NAME.N` in again, or for the first time.
    #[track_caller]
    pub fn plug(&self, device: &str) {
        let (lun, path) = self.path(device);
        let lun = lun.clone();
        // The node exists already unless the path was never there: then this makes it.
        let _ = self.qmp.command("blockdev-add", lun.blockdev(path));
        self.qmp.command("device_add", lun.device(path)).unwrap_or_else(|e| panic!("{e}"));
    }

    /// Makes a LUN larger (or smaller) under the guest; every path reports it.
    #[track_caller]
    pub fn resize(&self, lun: &str, bytes: u64) {
        let lun = self.find(lun);
        for path in 0..lun.paths {
            let arguments = object([("node-name", lun.node(path).into()), ("size", bytes.into())]);
            let _ = self.qmp.command("block_resize", arguments);
        }
    }

    /// The file behind a LUN made by [`Vm::lun`], to look at what is really on the disk.
    pub fn lun_file(&self, lun: &str) -> &Path {
        match &self.find(lun).backing {
            Backing::File(file) => file,
            Backing::Nbd(_) => panic!("{lun} has no file"),
        }
    }

    fn find(&self, name: &str) -> &Lun {
        self.luns.iter().find(|lun| lun.name == name).unwrap_or_else(|| panic!("no LUN is called {name}"))
    }

    fn path(&self, device: &str) -> (&Lun, usize) {
        let (name, path) = device.rsplit_once('.').unwrap_or_else(|| panic!("{device} is not NAME.N"));
        let lun = self.find(name);
        let path: usize = path.parse().unwrap_or_else(|_| panic!("{device} is not NAME.N"));
        assert!(path < lun.paths, "{name} has {} paths, not {device}", lun.paths);
        (lun, path)
    }

    /// Sends a magic SysRq key by the serial console's break: it needs nothing of the guest's user space. What it prints
    /// is on the console: the level is raised for it, and lowered again.
    pub fn sysrq(&mut self, key: char) {
        for key in ['8', key, '1'] {
            let _ = self.qmp.command("chardev-send-break", object([("id", "console".into())]));
            let _ = self.console_in.write_all(&[key as u8]);
            // The UART holds sixteen bytes; a break must not overtake the key before it.
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits for a line of the console that contains `text`.
    #[track_caller]
    pub fn console_line(&self, text: &str, limit: Duration) -> String {
        let end = Instant::now() + limit;
        let mut console = lock(&self.console.0);
        loop {
            if let Some((_, line)) = console.lines.iter().find(|(_, line)| line.contains(text)) {
                return line.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || console.closed {
                let why = if console.closed { "the machine ended" } else { "time is over" };
                drop(console);
                panic!("the console never said `{text}`: {why}");
            }
            console = self.console.1.wait_timeout(console, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    /// The console until now.
    pub fn console(&self) -> String {
        let console = lock(&self.console.0);
        console.lines.iter().map(|(_, line)| format!("{line}\n")).collect()
    }

    /// Waits until the machine has switched itself off (or crashed).
    #[track_caller]
    pub fn wait_off(&self, limit: Duration) {
        let over = wait_ended(&self.ended, limit);
        assert!(over, "the machine did not switch off within {} s", limit.as_secs_f32());
    }

    /// True when QEMU has ended.
    pub fn is_off(&self) -> bool {
        lock(&self.ended.0).status.is_some()
    }

    /// Switches off without a word to the guest.
    pub fn kill(&self) {
        let _ = lock(&self.child).kill();
        wait_ended(&self.ended, Duration::from_secs(10));
    }

    /// A line for whoever looks where a run's time goes.
    fn tell_times(&self) {
        let Some(path) = std::env::var_os("COREPATH_VM_TIMES") else { return };
        let (used, thread) = (lock(&self.ended.0).used, std::thread::current());
        let secs = [used, self.boot_used, self.born.elapsed(), self.boot_time].map(|time| format!("{:.1}", time.as_secs_f32())).join(" ");
        let line = format!("{secs} {}\n", thread.name().unwrap_or("?"));
        let file = std::fs::File::options().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).unwrap_or_else(|e| eprintln!("{}: {e}", path.display()));
    }

    fn report(&self) {
        let over_limit = lock(&self.ended.0).over_limit;
        let log = self.agent.log();
        let dmesg = self.agent.spawn("dmesg | tail -n 40").and_then(|job| job.result(Duration::from_secs(5)));
        eprintln!("---- what ran in the guest ----\n{}", tail(&log, 120));
        match dmesg {
            Ok(output) => eprintln!("---- the guest's kernel log ----\n{}", output.text()),
            Err(e) => eprintln!("---- no kernel log: {} ----", e.lines().next().unwrap_or("")),
        }
        eprintln!("---- the guest's console ----\n{}", tail(&self.console(), 80));
        let log = std::fs::read_to_string(self.scratch.path("qemu.log")).unwrap_or_default();
        if !log.trim().is_empty() {
            eprintln!("---- QEMU said ----\n{}", tail(&log, 20));
        }
        if over_limit {
            eprintln!("---- QEMU was killed at its limit of {} s ----", self.limit.as_secs());
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.report();
        }
        if self.scratch.keep {
            let _ = std::fs::write(self.scratch.path("commands.log"), self.agent.log());
        }
        self.kill();
        self.tell_times();
    }
}

impl Vm {
    fn command(&self, initrd: &Path) -> Command {
        let socket = |id: &str| format!("socket,id={id},path={}", self.scratch.path(id).display());
        let mut command = Command::new(host::program("qemu-system-x86_64"));
        let shared = !self.ports.is_empty();
        let machine = if shared { "pc,memory-backend=mem" } else { "pc" };
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", "-nic", "none", "-no-reboot"]);
        // One thread for all its processors: with several, the emulator may keep translated code that the kernel has patched meanwhile
        // ("Oops: int3" at a static key, one boot in ten of 6.12), and they wait for each other more than they work.
        command.args(["-machine", machine, "-accel", "tcg,thread=single", "-cpu", "max"]);
        command.args(["-smp", &self.cpus.to_string(), "-m", &format!("{}M", self.memory), "-boot", "strict=on"]);
        if shared {
            // vhost-user: the array reads and writes the guest's memory.
            command.args(["-object", &format!("memory-backend-memfd,id=mem,size={}M,share=on", self.memory)]);
        }
        let verbose = std::env::var_os("COREPATH_VM_VERBOSE").is_some();
        let level = if verbose { "loglevel=7" } else { "quiet loglevel=1" };
        command.arg("-kernel").arg(&self.kernel.image).arg("-initrd").arg(initrd);
        command.args([
            "-append",
            &format!(
                "console=ttyS0 {level} panic=-1 init_on_alloc=1 sysrq_always_enabled mitigations=off no_timer_check random.trust_cpu=on{}",
                self.cmdline
            ),
        ]);
        command.args(["-chardev", &socket("console"), "-serial", "chardev:console"]);
        command.args(["-chardev", &socket("qmp"), "-mon", "chardev=qmp,mode=control"]);
        command.args(["-device", "virtio-serial-pci,id=serial", "-chardev", &socket("agent")]);
        command.args(["-device", "virtserialport,bus=serial.0,chardev=agent,name=lab"]);
        let hbas = self.luns.iter().map(|lun| lun.paths).max().unwrap_or(0);
        for hba in 0..hbas {
            command.args(["-device", &format!("virtio-scsi-pci,id=hba{hba}")]);
        }
        for lun in &self.luns {
            for path in 0..lun.present {
                command.args(["-blockdev", &lun.blockdev(path).to_string()]);
                command.args(["-device", &lun.device(path).to_string()]);
            }
        }
        for (id, path) in &self.ports {
            command.args(["-chardev", &format!("socket,id={id}.socket,path={}", path.display())]);
            command.args(["-device", &format!("vhost-user-scsi-pci,id={id},chardev={id}.socket,num_queues=1")]);
        }
        command.args(&self.extra);
        command
    }
}

unsafe extern "C" {
    fn prctl(option: i32, ...) -> i32;
}

#[allow(unsafe_code)]
pub(super) fn spawn(command: &mut Command, log: &Path) -> Child {
    let log = std::fs::File::create(log).unwrap_or_else(|e| panic!("cannot make {}: {e}", log.display()));
    let errors = log.try_clone().unwrap_or_else(|e| panic!("log: {e}"));
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    // SAFETY: prctl is one system call, safe between fork and exec. PR_SET_PDEATHSIG (1), SIGKILL (9): no QEMU outlives
    // a test that was itself killed.
    unsafe {
        command.pre_exec(|| {
            prctl(1, 9u64, 0u64, 0u64, 0u64);
            Ok(())
        });
    }
    command.spawn().unwrap_or_else(|e| panic!("cannot start {}: {e}", command.get_program().display()))
}

/// Reaps QEMU, and kills it at the limit.
fn watch(child: &Arc<Mutex<Child>>, ended: &Shared<Ended>, limit: Duration) {
    let (child, ended) = (Arc::clone(child), Arc::clone(ended));
    std::thread::spawn(move || {
        let end = Instant::now() + limit;
        loop {
            if let Ok(Some(status)) = lock(&child).try_wait() {
                lock(&ended.0).status = Some(status);
                ended.1.notify_all();
                return;
            }
            if let Some(used) = host::processor_time(lock(&child).id()) {
                lock(&ended.0).used = used;
            }
            if Instant::now() >= end {
                lock(&ended.0).over_limit = true;
                let _ = lock(&child).kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

fn wait_ended(ended: &Shared<Ended>, limit: Duration) -> bool {
    let guard = lock(&ended.0);
    let waited = ended.1.wait_timeout_while(guard, limit, |ended| ended.status.is_none());
    waited.map(|(ended, _)| ended.status.is_some()).unwrap_or(false)
}

/// Collects the console's lines, and keeps them in a file too.
fn follow(stream: UnixStream, lines: &Shared<Lines>, path: PathBuf) {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        let mut log = std::fs::File::create(path).ok();
        let mut reader = BufReader::new(stream);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
            for line in plain(&bytes) {
                if let Some(log) = &mut log {
                    let _ = writeln!(log, "{line}");
                }
                lock(&lines.0).lines.push((Instant::now(), line));
            }
            lines.1.notify_all();
            bytes.clear();
        }
        lock(&lines.0).closed = true;
        lines.1.notify_all();
    });
}

/// The text without terminal control: firmware clears the screen in the middle of a line, which then starts anew.
fn plain(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = vec![String::new()];
    let mut chars = text.trim_end().chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // ESC c, or ESC [ parameters and a final letter.
            if chars.next() == Some('[') {
                let _ = chars.find(char::is_ascii_alphabetic);
            }
            if lines.last().is_some_and(|line| !line.is_empty()) {
                lines.push(String::new());
            }
        } else if let Some(line) = lines.last_mut().filter(|_| !c.is_control() || c == '\t') {
            line.push(c);
        }
    }
    lines
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
