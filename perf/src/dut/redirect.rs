//! How is the kernel's own limit measured: a program that redirects every frame to the other port?

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use aya::programs::XdpMode;
use aya::{Ebpf, EbpfLoader};

use super::{Dut, Start};
use crate::generator::{ifindex, program};
use crate::rig::{PORT_1, PORT_2};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirect.o"));

/// The two programs, one for each direction; they are detached when dropped.
pub struct Redirect {
    _programs: [Ebpf; 2],
}

impl Redirect {
    /// Attaches both programs in native mode.
    pub fn start(start: &Start<'_>) -> Result<Self> {
        let attach =
            || -> Result<Self> { Ok(Self { _programs: [redirect(PORT_1, PORT_2)?, redirect(PORT_2, PORT_1)?] }) };
        start.rig.dut.within(attach)?
    }
}

fn redirect(from: &str, to: &str) -> Result<Ebpf> {
    let target = ifindex(to)?;
    let mut loader = EbpfLoader::new();
    let mut bpf = loader
        .override_global("TARGET_IFINDEX", &target, true)
        .load(OBJECT)
        .context("cannot load the redirecting program")?;
    let program = program(&mut bpf, "forward")?;
    program.load().context("the kernel refuses the redirecting program")?;
    program
        .attach(from, XdpMode::Driver)
        .with_context(|| format!("cannot attach the redirecting program to {from}"))?;
    Ok(bpf)
}

impl Dut for Redirect {
    fn describe(&self) -> Result<BTreeMap<String, String>> {
        Ok(BTreeMap::from([("version".to_owned(), rustix::system::uname().release().to_string_lossy().into_owned())]))
    }
}
