//! How does the client speak to the daemon? JSON-RPC 1.0 over a Unix socket, blocking, with one deadline for all.

use super::commands::Stop;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket is not there, or nobody listens.
    #[error("{path}: cannot connect: {error}")]
    Connect {
        /// The socket.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The deadline has passed.
    #[error("no answer in time")]
    Timeout,
    /// The daemon went away, or spoke something else.
    #[error("{0}")]
    Lost(String),
    /// The daemon refused the request.
    #[error("{0}")]
    Refused(Value),
}

/// A connection.
pub struct Client {
    stream: UnixStream,
    deadline: Option<Instant>,
    verbose: bool,
    next_id: u64,
    input: Framer,
    /// Notifications that came while an answer was awaited.
    notes: VecDeque<Value>,
}

/// Once between two attempts to connect with `--retry`.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

impl Client {
    /// Connects; with `retry` again and again until the deadline.
    pub fn connect(path: &Path, deadline: Option<Instant>, retry: bool, verbose: bool) -> Result<Client, ClientError> {
        loop {
            match connect(path, deadline) {
                Ok(stream) => {
                    return Ok(Client {
                        stream,
                        deadline,
                        verbose,
                        next_id: 0,
                        input: Framer::default(),
                        notes: VecDeque::new(),
                    });
                }
                Err(_) if retry && deadline.is_none_or(|at| at > Instant::now() + RETRY_PAUSE) => {
                    std::thread::sleep(RETRY_PAUSE);
                }
                Err(error) => {
                    let path = path.display().to_string();
                    return Err(ClientError::Connect { path, error });
                }
            }
        }
    }

    /// Calls a method and waits for its result.
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value, ClientError> {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&json!({"method": method, "params": params, "id": id}))?;
        loop {
            let mut message = self.receive()?;
            if message.get("id") == Some(&json!(id)) && message.get("method").is_none() {
                let error = message["error"].take();
                return match error {
                    Value::Null => Ok(message["result"].take()),
                    error => Err(ClientError::Refused(error)),
                };
            }
            self.other(message)?;
        }
    }

    /// As [`Client::call`], with a time limit of its own.
    pub fn call_within(&mut self, method: &str, params: Value, time: Duration) -> Result<Value, ClientError> {
        self.deadline = Some(Instant::now() + time);
        self.call(method, params)
    }

    /// The next notification of a monitor.
    pub fn notification(&mut self) -> Result<Value, ClientError> {
        loop {
            if let Some(note) = self.notes.pop_front() {
                return Ok(note);
            }
            let message = self.receive()?;
            self.other(message)?;
        }
    }

    /// The next notification within `time`; `None` if something else came.
    pub fn notification_within(&mut self, time: Duration) -> Result<Option<Value>, ClientError> {
        if self.notes.is_empty() {
            self.deadline = Some(Instant::now() + time);
            let message = self.receive()?;
            self.other(message)?;
        }
        Ok(self.notes.pop_front())
    }

    /// Asks whether the daemon is alive; the answer comes in its turn.
    pub fn ask_for_life(&mut self, time: Duration) -> Result<(), ClientError> {
        self.deadline = Some(Instant::now() + time);
        self.send(&json!({"method": "echo", "params": [], "id": "alive"}))
    }

    /// The connection, for what is no JSON; and what came of that already. Reads wait for ever.
    pub fn into_stream(mut self) -> Result<(UnixStream, Vec<u8>), ClientError> {
        self.stream.set_read_timeout(None).map_err(lost)?;
        Ok((self.stream, std::mem::take(&mut self.input.bytes)))
    }

    /// Forgets the notifications that have come so far.
    pub fn forget_notifications(&mut self) {
        self.notes.clear();
    }

    /// Answers a daemon that asks whether we are alive; keeps notifications.
    fn other(&mut self, mut message: Value) -> Result<(), ClientError> {
        if message.get("method") == Some(&json!("echo")) {
            let (id, params) = (message["id"].take(), message["params"].take());
            return self.send(&json!({"id": id, "result": params, "error": null}));
        }
        if message.get("method").is_some() {
            self.notes.push_back(message);
        }
        Ok(())
    }

    fn remaining(&self) -> Result<Option<Duration>, ClientError> {
        let Some(deadline) = self.deadline else {
            return Ok(None);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ClientError::Timeout) } else { Ok(Some(left)) }
    }

    fn send(&mut self, message: &Value) -> Result<(), ClientError> {
        let text = message.to_string();
        if self.verbose {
            eprintln!("-> {text}");
        }
        let timeout = self.remaining()?;
        self.stream.set_write_timeout(timeout).map_err(lost)?;
        self.stream.write_all(text.as_bytes()).map_err(lost)
    }

    fn receive(&mut self) -> Result<Value, ClientError> {
        loop {
            if let Some(text) = self.input.next() {
                if self.verbose {
                    eprintln!("<- {}", String::from_utf8_lossy(&text));
                }
                return serde_json::from_slice(&text)
                    .map_err(|error| ClientError::Lost(format!("the daemon sent what is not JSON: {error}")));
            }
            let timeout = self.remaining()?;
            self.stream.set_read_timeout(timeout).map_err(lost)?;
            let mut chunk = [0; 1 << 16];
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    return Err(ClientError::Lost("the daemon closed the connection".to_owned()));
                }
                Ok(count) => self.input.push(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(error)),
            }
        }
    }
}

/// Connects; waits until the deadline while the daemon's queue of connections is full.
fn connect(path: &Path, deadline: Option<Instant>) -> std::io::Result<UnixStream> {
    const PAUSE: Duration = Duration::from_millis(20);
    let address = SocketAddrUnix::new(path)?;
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => {
                let stream = UnixStream::from(socket);
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(Errno::AGAIN) if deadline.is_none_or(|at| at > Instant::now() + PAUSE) => std::thread::sleep(PAUSE),
            Err(Errno::AGAIN) => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn lost(error: std::io::Error) -> ClientError {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => ClientError::Timeout,
        _ => ClientError::Lost(format!("the connection to the daemon broke: {error}")),
    }
}

/// Cuts a stream of bytes into JSON objects: each ends where its braces close.
#[derive(Default)]
struct Framer {
    bytes: Vec<u8>,
    /// How much has been looked at.
    seen: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Framer {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        while let Some(byte) = self.bytes.get(self.seen) {
            self.seen += 1;
            if self.in_string {
                self.in_string = *byte != b'"' || self.escaped;
                self.escaped = *byte == b'\\' && !self.escaped;
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        let rest = self.bytes.split_off(self.seen);
                        self.seen = 0;
                        return Some(std::mem::replace(&mut self.bytes, rest));
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// The socket of `--db`: `unix:PATH` or a path.
pub fn socket_path(db: &str) -> Result<PathBuf, Stop> {
    let path = db.strip_prefix("unix:").unwrap_or(db);
    let scheme = path.split_once(':').map(|(scheme, _)| scheme);
    if matches!(scheme, Some("tcp" | "ssl" | "ptcp" | "pssl" | "punix")) || path.is_empty() {
        return Err(Stop::new(format!("{db}: not a socket that can be connected to")).hint(Some("give --db=unix:PATH")));
    }
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_wherever_the_stream_breaks() {
        let stream = br#"{"a":"}\"{"} {"b":[{},"\\"]}"#;
        for cut in 0..stream.len() {
            let mut framer = Framer::default();
            let mut messages = vec![];
            for part in [&stream[..cut], &stream[cut..]] {
                framer.push(part);
                while let Some(message) = framer.next() {
                    messages.push(String::from_utf8(message).unwrap().trim().to_owned());
                }
            }
            assert_eq!(messages, [r#"{"a":"}\"{"}"#, r#"{"b":[{},"\\"]}"#], "cut at {cut}");
        }
    }

    #[test]
    fn a_bare_path_is_a_socket() {
        assert_eq!(socket_path("unix:/a/b").unwrap(), Path::new("/a/b"));
        assert_eq!(socket_path("/a/b").unwrap(), Path::new("/a/b"));
        assert!(socket_path("tcp:127.0.0.1:6640").is_err());
        assert!(socket_path("").is_err());
    }
}
