//! Which packets does a port receive and send, and what becomes of them? `capture` writes them to a file, or prints a line for
//! each, until it is interrupted.
//!
//! The daemon sends pcapng ([`crate::capture`]); with `-w` it is passed on as it comes, a batch at a time, so that a reader at the other
//! end of a pipe sees packets live.

use super::client::Client;
use super::commands::Stop;
use super::grammar::{Command, Invocation};
use super::program::Program;
use crate::capture::Request;
use crate::capture::line;
use crate::capture::pcapng::{self, Read};
use serde_json::json;
use shunt_ffi::pcap;
use shunt_switch::limits::FRAME_MAX;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

/// What the words behind the name ask for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: Request,
    /// A file, or `-`.
    to: Option<String>,
}

impl Asked {
    /// Reads the words; compiles the filter.
    pub(super) fn parse(words: &[String]) -> Result<Self, Stop> {
        let usage =
            || Some("usage: capture PORT|BRIDGE [-w FILE|-] [--filter EXPR] [--in|--out|--drops] [-c N] [--snaplen N]");
        let fail = |message: String| Stop::new(format!("capture: {message}")).hint(usage());
        let (mut of, mut view, mut to, mut count, mut expression) = (None, None, None, None, None);
        let mut snaplen = FRAME_MAX as u64;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (name, mut value) = match word.split_once('=') {
                Some((name, value)) if word.starts_with("--") => (name, Some(value.to_owned())),
                _ => (word.as_str(), None),
            };
            let mut value =
                || value.take().or_else(|| words.next().cloned()).ok_or_else(|| fail(format!("{name} needs a value")));
            let number = |text: String| {
                text.parse::<u64>()
                    .ok()
                    .filter(|n| *n > 0)
                    .ok_or_else(|| fail(format!("{name} {text}: give a number from 1 on")))
            };
            match name {
                "-w" => to = Some(value()?),
                "-c" => count = Some(number(value()?)?),
                "-s" | "--snaplen" => snaplen = number(value()?)?,
                "--filter" => expression = Some(value()?),
                "--in" | "--out" | "--drops" if view.is_none() => view = Some(name),
                "--in" | "--out" | "--drops" => return Err(fail("--in, --out and --drops: one of them".to_owned())),
                _ if name.starts_with('-') && name != "-" => return Err(fail(format!("no option {name}"))),
                _ if of.is_none() => of = Some(word.clone()),
                _ => return Err(fail(format!("\"{word}\" is one word too many: write a filter as --filter 'EXPR'"))),
            }
        }
        let of = of.ok_or_else(|| fail("of which port or bridge?".to_owned()))?;
        let wants = |name| view.is_none_or(|view| view == name);
        let filter = expression
            .as_deref()
            .map(pcap::compile)
            .transpose()
            .map_err(|error| Stop::new(format!("capture: {error}")))?;
        let filter = filter.map(|lines| lines.iter().map(|line| (line.code, line.jt, line.jf, line.k)).collect());
        let (came, left, dropped) = (wants("--in"), wants("--out"), wants("--drops"));
        let snaplen = snaplen.min(FRAME_MAX as u64) as usize;
        Ok(Self { request: Request { of, came, left, dropped, snaplen, count, expression, filter }, to })
    }
}

/// `capture PORT|BRIDGE [OPTION]...`
pub(super) fn run(program: &Program, invocation: &Invocation, command: &Command) -> Result<u8, Stop> {
    let Asked { request, to } = Asked::parse(&command.args)?;
    let mut output: Box<dyn Write> = match to.as_deref() {
        None | Some("-") => Box::new(io::stdout()),
        Some(path) => {
            Box::new(File::create(path).map_err(|error| Stop::new(format!("capture: cannot write {path}: {error}")))?)
        }
    };
    let mut feed = Feed::begin(program, invocation, &request)?;
    let to_file = to.is_some();
    let written = feed.follow(|raw, read, interfaces| {
        if to_file {
            return output.write_all(raw);
        }
        match read {
            Read::Packet(packet) => writeln!(output, "{}", line::of(packet, interfaces)),
            _ => Ok(()),
        }
    });
    match written {
        Ok(()) => {}
        // Who read it has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(0),
        Err(error) => return Err(Stop::new(format!("capture: cannot write: {error}"))),
    }
    let Feed { packets, lost, ended, .. } = feed;
    eprintln!("{packets} packets captured, {lost} lost");
    match ended {
        true => Ok(0),
        false => Err(Stop::new("capture: the daemon went away").hint(Some("look at shuntd's log"))),
    }
}

/// What comes from the daemon.
pub(super) struct Feed {
    stream: UnixStream,
    input: Vec<u8>,
    interfaces: Vec<String>,
    packets: u64,
    lost: u64,
    /// The daemon has told what each interface came to.
    ended: bool,
}

impl Feed {
    /// Begins; an interrupt will end it.
    pub(super) fn begin(program: &Program, invocation: &Invocation, request: &Request) -> Result<Self, Stop> {
        let mut client: Client = program.connect(invocation)?;
        let request = serde_json::to_value(request).unwrap_or_default();
        client.call("capture", json!([request])).map_err(|error| program.explain(error))?;
        let (stream, input) = client.into_stream().map_err(|error| program.explain(error))?;
        if let Ok(stream) = stream.try_clone() {
            end_on_interrupt(stream);
        }
        Ok(Self { stream, input, interfaces: Vec::new(), packets: 0, lost: 0, ended: false })
    }

    /// Gives each block to `take`, raw and read, with the names of the interfaces so far.
    pub(super) fn follow(
        &mut self,
        mut take: impl FnMut(&[u8], &Read<'_>, &[String]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut chunk = vec![0; 1 << 18];
        loop {
            let mut at = 0;
            while let Some((read, len)) = pcapng::read(&self.input[at..]).map_err(io::Error::other)? {
                match &read {
                    Read::Interface(name) => self.interfaces.push(name.clone()),
                    Read::Packet(_) => self.packets += 1,
                    Read::Statistics(statistics) => {
                        self.lost += statistics.dropped;
                        self.ended = true;
                    }
                    Read::Other => {}
                }
                take(&self.input[at..at + len], &read, &self.interfaces)?;
                at += len;
            }
            self.input.drain(..at);
            match io::Read::read(&mut self.stream, &mut chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Ok(()),
            }
        }
    }
}

/// Ctrl-C asks the daemon for the end; another one does not wait for it.
fn end_on_interrupt(stream: UnixStream) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            for _ in 0..2 {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                let _ = stream.shutdown(Shutdown::Write);
            }
            std::process::exit(130);
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Asked, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Asked::parse(&words).map_err(|stop| match stop {
            Stop::Fail { message, .. } => message,
            _ => String::new(),
        })
    }

    #[test]
    fn words_are_read() {
        let all = parse("veth1").unwrap().request;
        assert!(all.came && all.left && all.dropped && all.count.is_none() && all.filter.is_none());
        let asked = parse("-w - --drops br0 -c 5 --snaplen=64 --filter arp").unwrap();
        let request = &asked.request;
        assert_eq!((asked.to.as_deref(), request.of.as_str(), request.count), (Some("-"), "br0", Some(5)));
        assert!(request.dropped && !request.came && !request.left && request.snaplen == 64);
        assert_eq!(request.filter.as_ref().unwrap()[0], (0x28, 0, 0, 12));
        for (line, what) in [
            ("", "of which port"),
            ("veth1 arp", "one word too many"),
            ("veth1 --in --out", "one of them"),
            ("veth1 -c 0", "from 1 on"),
            ("veth1 -w", "-w needs a value"),
            ("veth1 --filter prot", "syntax error"),
            ("veth1 --fliter arp", "no option --fliter"),
        ] {
            let said = parse(line).unwrap_err();
            assert!(said.contains(what), "{line}: {said}");
        }
    }
}
