//! What would become of a packet, or does become of the next real ones? `trace` asks the daemon's `ofproto/trace`.
//!
//! `--live` captures packets as a port receives them, and has each explained from its octets: first the line that `capture` prints,
//! with its real fate, then the steps.

use super::capture::{Asked, Feed};
use super::commands::Stop;
use super::grammar::{Command, Invocation};
use super::print;
use super::program::Program;
use crate::capture::line;
use crate::capture::pcapng::Read;
use serde_json::json;
use std::fmt::Write;

/// `trace [BRIDGE] FLOW [PACKET]` or `trace --live PORT [--filter EXPR] [-c N]`
pub(super) fn run(program: &Program, invocation: &Invocation, command: &Command) -> Result<u8, Stop> {
    let Some(live) = command.args.iter().position(|word| word == "--live") else {
        let method = Command { name: "ofproto/trace".to_owned(), ..command.clone() };
        return program.call_method(invocation, &method);
    };
    let mut words = command.args.clone();
    words.remove(live);
    if !words.iter().any(|word| word == "-c") {
        words.extend(["-c".to_owned(), "1".to_owned()]);
    }
    let Asked { mut request, .. } = Asked::parse(&words)?;
    (request.came, request.left, request.dropped) = (true, false, false);
    let mut client = program.connect(invocation)?;
    let mut failed = None;
    let mut feed = Feed::begin(program, invocation, &request)?;
    let followed = feed.follow(|_, read, interfaces| {
        let Read::Packet(packet) = read else { return Ok(()) };
        let port = interfaces.get(packet.interface as usize).cloned().unwrap_or_default();
        let hex = packet.octets.iter().fold(String::new(), |mut hex, octet| {
            // Writing to a string does not fail.
            let _ = write!(hex, "{octet:02x}");
            hex
        });
        print(&format!("{}\n", line::of(packet, interfaces)));
        match client.call("ofproto/trace", json!([format!("in_port={port}"), hex])) {
            Ok(text) => print(text.as_str().unwrap_or_default()),
            Err(error) => {
                failed = Some(program.explain(error));
                return Err(std::io::ErrorKind::Other.into());
            }
        }
        Ok(())
    });
    match (failed, followed) {
        (Some(stop), _) => Err(stop),
        (None, Err(error)) => Err(Stop::new(format!("trace: {error}"))),
        (None, Ok(())) => Ok(0),
    }
}
