//! QEMU's control socket (QMP): commands as JSON text, one object per line each way.
//!
//! Ruled by QEMU's docs/interop/qmp-spec. It looks for members of the answer by their text and does not build a JSON
//! tree: the answers that the lab needs are `return`, `error` and the name and device of an event.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A JSON value that the lab sends.
#[derive(Debug, Clone)]
pub enum Json {
    /// A string, not yet escaped.
    Text(String),
    /// An integer.
    Number(u64),
    /// true or false.
    Flag(bool),
    /// An object.
    Object(Vec<(String, Json)>),
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::Text(text.to_string())
    }
}
impl From<String> for Json {
    fn from(text: String) -> Json {
        Json::Text(text)
    }
}
impl From<u64> for Json {
    fn from(number: u64) -> Json {
        Json::Number(number)
    }
}
impl From<bool> for Json {
    fn from(flag: bool) -> Json {
        Json::Flag(flag)
    }
}

/// An object from pairs: `object([("id", "a".into())])`.
pub fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::Object(members.into_iter().map(|(key, value)| (key.to_string(), value)).collect())
}

impl std::fmt::Display for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Json::Text(text) => {
                f.write_char('"')?;
                for c in text.chars() {
                    match c {
                        '"' | '\\' => write!(f, "\\{c}")?,
                        c if c < ' ' => write!(f, "\\u{:04x}", u32::from(c))?,
                        c => f.write_char(c)?,
                    }
                }
                f.write_char('"')
            }
            Json::Number(number) => write!(f, "{number}"),
            Json::Flag(flag) => write!(f, "{flag}"),
            Json::Object(members) => {
                f.write_char('{')?;
                for (n, (key, value)) in members.iter().enumerate() {
                    let comma = if n == 0 { "" } else { "," };
                    write!(f, "{comma}{}:{value}", Json::Text(key.clone()))?;
                }
                f.write_char('}')
            }
        }
    }
}

#[derive(Debug, Default)]
struct State {
    answers: Vec<String>,
    events: Vec<String>,
    closed: bool,
}

/// An open control connection.
#[derive(Debug)]
pub struct Qmp {
    stream: Mutex<UnixStream>,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Qmp {
    /// Takes over a connected socket: reads the greeting and leaves the capabilities mode.
    pub fn new(stream: UnixStream) -> Result<Qmp, String> {
        let shared: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let reader = stream.try_clone().map_err(|e| format!("QMP: {e}"))?;
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                let mut state = lock(&theirs.0);
                if line.contains("\"event\": \"") {
                    state.events.push(line);
                } else if !line.contains("{\"QMP\": ") {
                    state.answers.push(line);
                }
                theirs.1.notify_all();
            }
            lock(&theirs.0).closed = true;
            theirs.1.notify_all();
        });
        let qmp = Qmp { stream: Mutex::new(stream), shared };
        qmp.command("qmp_capabilities", object([]))?;
        Ok(qmp)
    }

    /// Executes a command; the answer's text, or QEMU's error as it stands.
    pub fn command(&self, name: &str, arguments: Json) -> Result<String, String> {
        let mut stream = lock(&self.stream); // One command at a time: answers carry no name.
        let text = format!("{}\n", object([("execute", name.into()), ("arguments", arguments)]));
        stream.write_all(text.as_bytes()).map_err(|e| format!("QMP {name}: {e}"))?;
        let answer = self
            .wait(Duration::from_secs(20), |state| if state.answers.is_empty() { None } else { Some(state.answers.remove(0)) })
            .ok_or_else(|| format!("QMP {name}: QEMU does not answer"))?;
        if answer.contains("\"error\": {") { Err(format!("QMP {name}: {answer}")) } else { Ok(answer) }
    }

    /// Executes a line of the human monitor and gives its answer.
    pub fn human(&self, line: &str) -> Result<String, String> {
        self.command("human-monitor-command", object([("command-line", line.into())]))
    }

    /// Waits for an event of this name whose text contains `with`, and takes it away.
    pub fn event(&self, name: &str, with: &str, limit: Duration) -> Option<String> {
        let name = format!("\"event\": \"{name}\"");
        self.wait(limit, |state| {
            let at = state.events.iter().position(|event| event.contains(&name) && event.contains(with))?;
            Some(state.events.remove(at))
        })
    }

    fn wait<T>(&self, limit: Duration, mut take: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let end = Instant::now() + limit;
        let mut state = lock(&self.shared.0);
        loop {
            if let Some(value) = take(&mut state) {
                return Some(value);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || state.closed {
                return None;
            }
            state = self.shared.1.wait_timeout(state, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
