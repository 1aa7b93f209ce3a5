//! The control socket: a unix stream, one line in, lines out. The last line of an answer is `ok` or
//! begins with `error `; the lines before it are the answer's text.

use crate::bus::Hub;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest line taken; a longer one ends the connection.
const LINE: u64 = 64 * 1024;

pub fn serve(hub: Arc<Hub>, path: &Path) -> io::Result<()> {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    loop {
        let (stream, _) = listener.accept()?;
        let hub = hub.clone();
        std::thread::spawn(move || client(&hub, stream));
    }
}

fn client(hub: &Hub, stream: UnixStream) -> io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let n = input.by_ref().take(LINE).read_until(b'\n', &mut line)?;
        if n == 0 || (line.last() != Some(&b'\n') && n as u64 == LINE) {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        let answer = match line {
            "quit" => return Ok(()),
            "exit" => {
                out.write_all(b"ok\n")?;
                std::process::exit(0);
            }
            _ => match line.strip_prefix("wait ") {
                Some(rest) => wait(hub, rest),
                None => hub.control(line),
            },
        };
        out.write_all(framed(&answer).as_bytes())?;
    }
}

fn framed(answer: &Result<String, String>) -> String {
    match answer {
        Ok(text) if text.is_empty() => "ok\n".to_string(),
        Ok(text) => format!("{text}\nok\n"),
        Err(e) => format!("error {}\n", e.replace('\n', "; ")),
    }
}

/// `wait SECONDS N VERB..`: until the verb (count, trespasses) answers a number of at least N.
fn wait(hub: &Hub, text: &str) -> Result<String, String> {
    let mut words = text.splitn(3, ' ');
    let (Some(time), Some(least), Some(line)) = (words.next(), words.next(), words.next()) else {
        return Err("wait SECONDS N VERB..".into());
    };
    let limit = Duration::from_millis(crate::control::seconds(time)?);
    let least: u64 = least.parse().map_err(|_| "bad number")?;
    let start = Instant::now();
    loop {
        let answer = hub.control(line)?;
        let n: u64 = answer.parse().map_err(|_| "the verb gives no number")?;
        if n >= least {
            return Ok(answer);
        }
        if start.elapsed() >= limit {
            return Err(format!("timeout at {n}"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_with_ok_or_error() {
        assert_eq!(framed(&Ok(String::new())), "ok\n");
        assert_eq!(framed(&Ok("a\nb".into())), "a\nb\nok\n");
        assert_eq!(framed(&Err("x\ny".into())), "error x; y\n");
    }
}
