//! The host's end of the guest's agent (tools/guest): run commands, collect their output, send files.
//!
//! Frames, host to guest: `run ID LENGTH`, then a shell script; `put MODE PATH_LENGTH LENGTH`, then a path and the file's bytes;
//! `signal ID NUMBER`. Guest to host: `hello MS`, `out ID LENGTH`, then bytes; `exit ID CODE START END`; `stored CODE`.
//! Each head is one line; times are milliseconds of the guest's CLOCK_BOOTTIME.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What a command did.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command as it was given.
    pub command: String,
    /// Its exit status; 128 + N when signal N ended it.
    pub code: i32,
    /// Both of its outputs in the order of writing.
    pub bytes: Vec<u8>,
    /// When it started, by the guest's clock since boot.
    pub started: Duration,
    /// When it ended.
    pub ended: Duration,
}

impl Output {
    /// The output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).trim_end().to_string()
    }

    /// The output as text of a command that must have succeeded.
    #[track_caller]
    pub fn ok(&self) -> String {
        assert!(self.code == 0, "`{}` exited with {}:\n{}", self.command, self.code, self.text());
        self.text()
    }

    /// The output as text of a command that must have failed with this status.
    #[track_caller]
    pub fn fails(&self, code: i32) -> String {
        assert!(self.code == code, "`{}` exited with {} and not {code}:\n{}", self.command, self.code, self.text());
        self.text()
    }

    /// How long it ran.
    pub fn took(&self) -> Duration {
        self.ended.saturating_sub(self.started)
    }
}

/// The value of `key=` in the last line of a text that has `key=value` words and starts with `@name`.
pub fn marker(text: &str, name: &str, key: &str) -> Option<String> {
    let line = text.lines().rev().find(|line| line.split_whitespace().next() == Some(name))?;
    line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('=').map(str::to_string))
}

#[derive(Debug, Default)]
struct JobState {
    bytes: Vec<u8>,
    exit: Option<(i32, u64, u64)>,
}

#[derive(Debug, Default)]
struct State {
    jobs: BTreeMap<u32, JobState>,
    stored: Vec<i32>,
    hellos: u32,
    hello_ms: u64,
    closed: bool,
    next: u32,
    log: String,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

/// The connection to the agent of one guest.
#[derive(Debug)]
pub struct Agent {
    stream: Arc<Mutex<UnixStream>>,
    shared: Shared,
    born: Instant,
}

/// A command that runs, or ran, in the guest.
#[derive(Debug)]
pub struct Job {
    id: u32,
    command: String,
    stream: Arc<Mutex<UnixStream>>,
    shared: Shared,
}

impl Agent {
    /// Takes over the connected socket of the agent's port.
    pub fn new(stream: UnixStream) -> Result<Agent, String> {
        let shared: Shared = Arc::default();
        let reader = stream.try_clone().map_err(|e| format!("agent: {e}"))?;
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            let _ = read_frames(reader, &theirs);
            lock(&theirs.0).closed = true;
            theirs.1.notify_all();
        });
        Ok(Agent { stream: Arc::new(Mutex::new(stream)), shared, born: Instant::now() })
    }

    /// Waits until an agent has greeted `times` times in all; the guest's clock at the last greeting.
    pub fn hello(&self, times: u32, limit: Duration) -> Result<Duration, String> {
        wait(&self.shared, limit, |state| (state.hellos >= times).then_some(Duration::from_millis(state.hello_ms)))
    }

    /// Starts a shell script in the guest.
    pub fn spawn(&self, command: &str) -> Result<Job, String> {
        let id = {
            let mut state = lock(&self.shared.0);
            state.next += 1;
            let id = state.next;
            state.jobs.insert(id, JobState::default());
            let at = self.born.elapsed().as_secs_f32();
            state.log += &format!("[{at:8.3}] {id}$ {command}\n");
            id
        };
        let frame = format!("run {id} {}\n{command}", command.len());
        send(&self.stream, frame.as_bytes())?;
        Ok(Job { id, command: command.to_string(), stream: Arc::clone(&self.stream), shared: Arc::clone(&self.shared) })
    }

    /// Writes a file in the guest.
    pub fn put(&self, path: &str, mode: u32, data: &[u8]) -> Result<(), String> {
        let mut frame = format!("put {mode} {} {}\n{path}", path.len(), data.len()).into_bytes();
        frame.extend_from_slice(data);
        send(&self.stream, &frame)?;
        let code = wait(&self.shared, Duration::from_secs(60), |state| state.stored.pop())?;
        if code == 0 { Ok(()) } else { Err(format!("cannot write {path} in the guest: error {code}")) }
    }

    /// What ran and what it said, for people.
    pub fn log(&self) -> String {
        lock(&self.shared.0).log.clone()
    }
}

impl Job {
    /// Waits for the end of the command.
    pub fn result(&self, limit: Duration) -> Result<Output, String> {
        let (bytes, (code, start, end)) = wait(&self.shared, limit, |state| {
            let job = state.jobs.get_mut(&self.id)?;
            let exit = job.exit?;
            Some((job.bytes.clone(), exit))
        })
        .map_err(|e| format!("`{}`: {e}; so far it said:\n{}", self.command, self.so_far()))?;
        Ok(Output { command: self.command.clone(), code, bytes, started: Duration::from_millis(start), ended: Duration::from_millis(end) })
    }

    /// As [`Job::result`]; the test ends when the command does not.
    #[track_caller]
    pub fn wait(&self, limit: Duration) -> Output {
        self.result(limit).unwrap_or_else(|e| panic!("{e}"))
    }

    /// What it has written until now.
    pub fn so_far(&self) -> String {
        let state = lock(&self.shared.0);
        state.jobs.get(&self.id).map_or(String::new(), |job| String::from_utf8_lossy(&job.bytes).into_owned())
    }

    /// Waits until a whole line of its output contains `text`, and gives that line.
    #[track_caller]
    pub fn line(&self, text: &str, limit: Duration) -> String {
        let found = wait(&self.shared, limit, |state| {
            let job = state.jobs.get(&self.id)?;
            let said = String::from_utf8_lossy(&job.bytes);
            let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let line = whole.lines().find(|line| line.contains(text)).map(str::to_string);
            match line {
                Some(line) => Some(Ok(line)),
                None if job.exit.is_some() => Some(Err("it ended".to_string())),
                None => None,
            }
        });
        found.and_then(|line| line).unwrap_or_else(|e| panic!("`{}` never said `{text}`: {e}; it said:\n{}", self.command, self.so_far()))
    }

    /// True when the command has ended.
    pub fn ended(&self) -> bool {
        lock(&self.shared.0).jobs.get(&self.id).is_some_and(|job| job.exit.is_some())
    }

    /// Sends a signal to the command's process group.
    pub fn signal(&self, number: i32) {
        let _ = send(&self.stream, format!("signal {} {number}\n", self.id).as_bytes());
    }
}

fn send(stream: &Mutex<UnixStream>, frame: &[u8]) -> Result<(), String> {
    lock(stream).write_all(frame).map_err(|e| format!("the guest's agent cannot be reached: {e}"))
}

fn read_frames(stream: UnixStream, shared: &Shared) -> std::io::Result<()> {
    let born = Instant::now();
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = head.split_whitespace().collect();
        let number = |n: usize| words.get(n).and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
        let id = u32::try_from(number(1)).unwrap_or(0);
        let mut bytes = Vec::new();
        if words.first() == Some(&"out") {
            bytes.resize(usize::try_from(number(2)).unwrap_or(0), 0);
            reader.read_exact(&mut bytes)?;
        }
        let mut state = lock(&shared.0);
        let at = born.elapsed().as_secs_f32();
        match words.first().copied() {
            Some("hello") => {
                state.hellos += 1;
                state.hello_ms = number(1);
                state.log += &format!("[{at:8.3}] agent is up\n");
            }
            Some("out") => {
                let text = std::str::from_utf8(&bytes).map_or_else(|_| format!("({} bytes)", bytes.len()), str::to_string);
                for line in text.lines() {
                    state.log += &format!("[{at:8.3}] {id}: {line}\n");
                }
                if let Some(job) = state.jobs.get_mut(&id) {
                    job.bytes.extend_from_slice(&bytes);
                }
            }
            Some("exit") => {
                let code = words.get(2).and_then(|w| w.parse().ok()).unwrap_or(-1);
                state.log += &format!("[{at:8.3}] {id} exits with {code}\n");
                if let Some(job) = state.jobs.get_mut(&id) {
                    job.exit = Some((code, number(3), number(4)));
                }
            }
            Some("stored") => {
                let code = words.get(1).and_then(|w| w.parse().ok()).unwrap_or(-1);
                state.stored.push(code);
            }
            _ => state.log += &format!("[{at:8.3}] odd frame: {head}"),
        }
        shared.1.notify_all();
    }
}

fn wait<T>(shared: &Shared, limit: Duration, mut take: impl FnMut(&mut State) -> Option<T>) -> Result<T, String> {
    let end = Instant::now() + limit;
    let mut state = lock(&shared.0);
    loop {
        if let Some(value) = take(&mut state) {
            return Ok(value);
        }
        if state.closed {
            return Err("the guest is gone".to_string());
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("nothing within {} s", limit.as_secs_f32()));
        }
        state = shared.1.wait_timeout(state, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
