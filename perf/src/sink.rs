//! How many frames have come out on the other side?

use anyhow::{Context, Result};
use aya::maps::{MapData, PerCpuArray};
use aya::programs::{SchedClassifier, TcAttachType, XdpMode};
use aya::{Ebpf, EbpfLoader};

use crate::arguments::SinkKind;
use crate::frame::{GENERATOR_SIDE, SINK_SIDE};
use crate::generator::program;
use crate::netns::Netns;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sink.o"));

/// A program that counts and drops all a device receives, until this is dropped.
pub struct Sink {
    counts: PerCpuArray<MapData, u64>,
    _bpf: Ebpf,
}

/// What a sink has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// The generator's frames.
    pub frames: u64,
    /// Octets in them.
    pub octets: u64,
    /// Frames of anybody else.
    pub foreign: u64,
}

impl Sink {
    /// Puts the sink on `device` in `namespace`.
    pub fn attach(namespace: &Netns, device: &str, kind: SinkKind) -> Result<Self> {
        let mut bpf = EbpfLoader::new()
            .override_global("SOURCE_SIDE", &GENERATOR_SIDE, true)
            .override_global("DESTINATION_SIDE", &SINK_SIDE, true)
            .load(OBJECT)
            .context("cannot load the sink's program")?;
        namespace.within(|| attach(&mut bpf, device, kind))??;
        let counts = PerCpuArray::try_from(bpf.take_map("COUNTS").context("the sink has no COUNTS")?)?;
        Ok(Self { counts, _bpf: bpf })
    }

    /// What has been counted so far.
    pub fn counts(&self) -> Result<Counts> {
        let sum = |counter: u32| -> Result<u64> {
            let cores = self.counts.get(&counter, 0).context("cannot read the sink's counters")?;
            Ok(cores.iter().sum())
        };
        Ok(Counts { frames: sum(0)?, octets: sum(1)?, foreign: sum(2)? })
    }
}

fn attach(bpf: &mut Ebpf, device: &str, kind: SinkKind) -> Result<()> {
    match kind {
        SinkKind::Tc => {
            let program: &mut SchedClassifier =
                bpf.program_mut("sink_tc").context("the object has no program sink_tc")?.try_into()?;
            program.load().context("the kernel refuses the sink's program")?;
            program
                .attach(device, TcAttachType::Ingress)
                .with_context(|| format!("cannot attach the sink to {device}"))?;
        }
        SinkKind::Xdp => {
            let program = program(bpf, "sink_xdp")?;
            program.load().context("the kernel refuses the sink's program")?;
            program.attach(device, XdpMode::Driver).with_context(|| format!("cannot attach the sink to {device}"))?;
        }
    }
    Ok(())
}
