//! How many frames have come out on the other side, and when?

use anyhow::{Context, Result};
use aya::maps::{MapData, PerCpuArray};
use aya::programs::{SchedClassifier, TcAttachType, XdpMode};
use aya::{Ebpf, EbpfLoader};

use crate::arguments::SinkKind;
use crate::delays::{BUCKETS, Delays};
use crate::generator::program;
use crate::netns::Netns;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sink.o"));

/// A program that counts and drops all a device receives, until this is dropped.
pub struct Sink {
    counts: PerCpuArray<MapData, u64>,
    delays: PerCpuArray<MapData, u64>,
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
    /// Those of the generator's that had a tag.
    pub tagged: u64,
}

impl Sink {
    /// Puts the sink on `device` in `namespace`, for frames that go from one side to the other (third octets of their
    /// addresses). With `reflect`, sampled frames are sent back.
    pub fn attach(
        namespace: &Netns,
        device: &str,
        kind: SinkKind,
        (from, to): (u8, u8),
        reflect: bool,
    ) -> Result<Self> {
        let reflect = u8::from(reflect);
        let mut bpf = EbpfLoader::new()
            .override_global("SOURCE_SIDE", &from, true)
            .override_global("DESTINATION_SIDE", &to, true)
            .override_global("REFLECT", &reflect, true)
            .load(OBJECT)
            .context("cannot load the sink's program")?;
        namespace.within(|| attach(&mut bpf, device, kind))??;
        let mut map = |name: &str| -> Result<PerCpuArray<MapData, u64>> {
            Ok(PerCpuArray::try_from(bpf.take_map(name).with_context(|| format!("the sink has no {name}"))?)?)
        };
        Ok(Self { counts: map("COUNTS")?, delays: map("DELAYS")?, _bpf: bpf })
    }

    /// What has been counted so far.
    pub fn counts(&self) -> Result<Counts> {
        let sum = |counter| sum(&self.counts, counter);
        Ok(Counts { frames: sum(0)?, octets: sum(1)?, foreign: sum(2)?, tagged: sum(3)? })
    }

    /// How many samples were in each bucket so far.
    pub fn delays(&self) -> Result<Vec<u64>> {
        (0..BUCKETS).map(|bucket| sum(&self.delays, bucket)).collect()
    }

    /// The delays of the samples since `before`.
    pub fn delays_since(&self, before: &[u64]) -> Result<Delays> {
        let grown: Vec<u64> = self.delays()?.iter().zip(before).map(|(now, before)| now - before).collect();
        Delays::from_buckets(&grown)
    }
}

/// A counter of all cores.
fn sum(map: &PerCpuArray<MapData, u64>, index: u32) -> Result<u64> {
    Ok(map.get(&index, 0).context("cannot read the sink's counters")?.iter().sum())
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
