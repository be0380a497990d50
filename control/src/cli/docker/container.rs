//! Which network namespace does a user mean by a container? Docker's engine knows its containers; `netns:NAME`, a path and
//! the number of a process need nobody.

use crate::cli::commands::Stop;
use serde_json::Value;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The engine answers at once, or is in trouble.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Far more than a container's description takes.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// A container that runs.
pub(super) struct Container {
    /// What it is always called: the engine's full ID, or the words that lead to the namespace.
    pub(super) id: String,
    /// Its network namespace.
    pub(super) namespace: File,
}

impl Container {
    /// Finds one by what the user typed.
    pub(super) fn find(typed: &str) -> Result<Container, Stop> {
        let open = |path: String, id: String| match File::open(&path) {
            Ok(namespace) => Ok(Container { id, namespace }),
            Err(error) => Err(Stop::new(format!("cannot open the network namespace {path}: {error}"))),
        };
        if let Some(name) = typed.strip_prefix("netns:") {
            return open(format!("/run/netns/{name}"), typed.to_owned());
        }
        if typed.starts_with('/') {
            return open(typed.to_owned(), typed.to_owned());
        }
        if let Some(pid) = process(typed) {
            return open(format!("/proc/{pid}/ns/net"), format!("pid:{pid}"));
        }
        let (id, pid) = inspect(typed)?;
        if pid == 0 {
            return Err(Stop::new(format!("container {typed} does not run"))
                .hint(Some(format!("\"docker start {typed}\" first"))));
        }
        open(format!("/proc/{pid}/ns/net"), id)
    }

    /// The engine's full ID for a name, if there is such a container.
    pub(super) fn full_id(typed: &str) -> Option<String> {
        let is_docker = !typed.starts_with("netns:") && !typed.starts_with('/') && process(typed).is_none();
        is_docker.then(|| inspect(typed).ok().map(|(id, _)| id)).flatten()
    }
}

/// `pid:N`, or the number of a process alone.
fn process(typed: &str) -> Option<u32> {
    match typed.strip_prefix("pid:") {
        Some(pid) => pid.parse().ok(),
        // A container's short ID may be all digits too, but it has twelve.
        None => typed.parse().ok().filter(|_| typed.len() < 12),
    }
}

/// A container's full ID and its first process.
fn inspect(name: &str) -> Result<(String, u64), Stop> {
    let is_name = |name: &str| name.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c));
    if name.is_empty() || !is_name(name) {
        return Err(
            Stop::new(format!("{name} is no name of a container")).hint(Some("netns:NAME and paths name namespaces"))
        );
    }
    let answer = match ask_engine(name) {
        Some(Ok(answer)) => answer,
        Some(Err(stop)) => return Err(stop),
        None => ask_client(name)?,
    };
    let id = answer["Id"].as_str().map(str::to_owned);
    match (id, answer["State"]["Pid"].as_u64()) {
        (Some(id), Some(pid)) => Ok((id, pid)),
        _ => Stop::fail(format!("Docker's answer about container {name} has no ID or no process")),
    }
}

fn unknown(name: &str) -> Stop {
    Stop::new(format!("Failed to get the PID of the container: there is no container {name}"))
        .hint(Some("\"docker ps\" lists those that run; netns:NAME names a network namespace"))
}

/// By the engine's socket; `None` if it cannot be reached there.
fn ask_engine(name: &str) -> Option<Result<Value, Stop>> {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    let mut stream = UnixStream::connect(host.strip_prefix("unix://")?).ok()?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX)).ok()?;
    stream.set_write_timeout(Some(ANSWER_TIME_MAX)).ok()?;
    // HTTP 1.0: the answer comes whole and ends with the connection.
    write!(stream, "GET /containers/{name}/json HTTP/1.0\r\nHost: docker\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    if let Err(error) = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer) {
        let silent = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        return silent.then(|| Stop::fail(format!("Docker's engine at {host} does not answer")));
    }
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    match head.split(' ').nth(1)? {
        "200" => Some(Ok(serde_json::from_str(body).ok()?)),
        "404" => Some(Err(unknown(name))),
        _ => None,
    }
}

/// By the client, which may know another way to its engine (a context, SSH, Podman).
fn ask_client(name: &str) -> Result<Value, Stop> {
    for program in ["docker", "podman"] {
        match Command::new(program).args(["inspect", "--type=container", name]).output() {
            Ok(output) if output.status.success() => {
                let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
                return Ok(answer[0].clone());
            }
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
                return Err(match said.to_ascii_lowercase().contains("no such") {
                    true => unknown(name),
                    false => Stop::new(format!("Failed to get the PID of the container: {said}")),
                });
            }
            Err(_) => {}
        }
    }
    let exists = Path::new("/run/netns").join(name).exists();
    let remedy =
        if exists { format!("did you mean netns:{name}?") } else { "netns:NAME names a network namespace".to_owned() };
    Err(Stop::new(format!("Failed to get the PID of the container {name}: there is neither Docker nor Podman"))
        .hint(Some(remedy)))
}

#[cfg(test)]
mod tests {
    use super::process;

    #[test]
    fn a_number_is_a_process_and_a_short_id_is_not() {
        assert_eq!(process("4711"), Some(4711));
        assert_eq!(process("pid:1"), Some(1));
        assert_eq!(process("123456789012"), None);
        assert_eq!(process("c474a0e2830e"), None);
        assert_eq!(process("web"), None);
    }
}
