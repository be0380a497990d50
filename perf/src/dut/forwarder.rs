//! How is the plain AF_XDP forwarder run for a measurement?

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{Dut, Start};
use crate::forwarder::READY;
use crate::netns;
use crate::process::Service;
use crate::rig::{PORT_1, PORT_2};

const START_LIMIT: Duration = Duration::from_secs(10);

/// This program itself, as another process in the switch's namespace.
pub struct Forwarder {
    process: Service,
    arguments: String,
    _folder: TempDir,
}

impl Forwarder {
    /// Starts it on the worker's core.
    pub fn start(start: &Start<'_>) -> Result<Self> {
        let folder = netns::folder()?;
        let log = folder.path().join("log");
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut command = start.rig.dut.command(program);
        command.args(["afxdp-forwarder", PORT_1, PORT_2, "--core", &start.core.to_string()]);
        command.args(start.forwarder_args.split_whitespace());
        let mut process = Service::start("afxdp-forwarder", &command, log.clone())?;
        start.interrupt.wait_for("the start of afxdp-forwarder", START_LIMIT, || {
            process.check_alive()?;
            Ok(std::fs::read_to_string(&log)?.contains(READY).then_some(()))
        })?;
        Ok(Self { process, arguments: start.forwarder_args.to_owned(), _folder: folder })
    }
}

impl Dut for Forwarder {
    fn check_alive(&mut self) -> Result<()> {
        self.process.check_alive()
    }

    fn pid(&self) -> Option<u32> {
        Some(self.process.pid())
    }

    fn describe(&self) -> Result<BTreeMap<String, String>> {
        Ok(BTreeMap::from([
            ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("arguments".to_owned(), self.arguments.clone()),
            ("xdp-mode".to_owned(), "native".to_owned()),
        ]))
    }
}
