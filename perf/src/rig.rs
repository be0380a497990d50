//! What do the frames travel through, and how was it set up?
//!
//! ```text
//! namespace gen      namespace dut              namespace sink
//!   gen0 ─────────── port1  [switch]  port2 ─────────── sink0
//!                    port3 … (idle) ─────────────────── far3 … in a namespace of their own
//! ```

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use crate::load::{Load, Vlan};
use crate::netns::Netns;
use crate::process;

/// The switch's port on the generator's side.
pub const PORT_1: &str = "port1";
/// The switch's port on the sink's side.
pub const PORT_2: &str = "port2";
/// The generator's device.
pub const GENERATOR: &str = "gen0";
/// The sink's device.
pub const SINK: &str = "sink0";

/// Addresses for programs that speak TCP or UDP through the switch.
pub const GENERATOR_ADDRESS: &str = "10.83.0.1";
/// The one that they speak to.
pub const SINK_ADDRESS: &str = "10.83.0.2";

/// Namespaces and veth pairs; all of it is removed when dropped.
#[derive(Debug)]
pub struct Rig {
    /// Where frames are made.
    pub generator: Netns,
    /// Where the switch runs.
    pub dut: Netns,
    /// Where frames end.
    pub sink: Netns,
    /// Where the other ends of the idle ports are, if there are any.
    _far: Option<Netns>,
    /// The switch's idle ports.
    pub idle_ports: Vec<String>,
    /// Of all devices.
    pub mtu: u32,
}

/// What was found set on one device, after the switch under test had its way with it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Device {
    /// Its name.
    pub name: &'static str,
    /// Largest payload of a frame in octets.
    pub mtu: u64,
    /// Receive queues.
    pub rx_queues: u64,
    /// Transmit queues.
    pub tx_queues: u64,
    /// Offloads that matter, and whether they are on.
    pub offloads: BTreeMap<String, bool>,
}

const OFFLOADS: [&str; 8] = [
    "rx-checksumming",
    "tx-checksumming",
    "scatter-gather",
    "tcp-segmentation-offload",
    "generic-segmentation-offload",
    "generic-receive-offload",
    "rx-vlan-offload",
    "tx-vlan-offload",
];

impl Rig {
    /// Makes the rig: one queue each way on each device, offloads as the kernel sets them.
    pub fn create(mtu: u32, ports: u32) -> Result<Self> {
        let (generator, dut, sink) = (Netns::create("gen")?, Netns::create("dut")?, Netns::create("sink")?);
        let far = if ports > 2 { Some(Netns::create("far")?) } else { None };
        let idle_ports: Vec<String> = (3..=ports).map(|number| format!("port{number}")).collect();
        let rig = Self { generator, dut, sink, _far: far, idle_ports, mtu };
        let mtu = mtu.to_string();
        for (port, far, namespace) in [(PORT_1, GENERATOR, &rig.generator), (PORT_2, SINK, &rig.sink)] {
            let queues = ["mtu", &mtu, "numtxqueues", "1", "numrxqueues", "1"];
            let mut command = Command::new("ip");
            command.args(["link", "add", port, "netns", rig.dut.name()]).args(queues);
            command.args(["type", "veth", "peer", "name", far, "netns", namespace.name()]).args(queues);
            process::run(&mut command)?;
            ip(&rig.dut, &["link", "set", port, "up"])?;
            ip(namespace, &["link", "set", far, "up"])?;
        }
        if let Some(far) = &rig._far {
            let near = |port: &String| {
                let queues = format!("mtu {mtu} numtxqueues 1 numrxqueues 1");
                format!(
                    "link add {port} {queues} type veth peer name far-{port} {queues} netns {}\nlink set {port} up\n",
                    far.name()
                )
            };
            process::batch(&rig.dut, &rig.idle_ports.iter().map(near).collect::<String>())?;
            let ups = rig.idle_ports.iter().map(|port| format!("link set far-{port} up\n"));
            process::batch(far, &ups.collect::<String>())?;
        }
        Ok(rig)
    }

    /// Prepares the devices for frames that the generator redirects to them. Such a frame is received only by a device that
    /// polls, which GRO makes it do; an XDP program on it turns GRO on anyway. Tags stay inside the frames.
    pub fn expect_frames(&self, load: &Load) -> Result<()> {
        for (name, namespace) in self.devices() {
            ethtool_set(namespace, name, &["gro", "on"])?;
        }
        match load.vlan {
            Vlan::None | Vlan::Route => Ok(()),
            Vlan::Push => ethtool_set(&self.sink, SINK, &["txvlan", "off"]).map(drop),
            Vlan::Pop => ethtool_set(&self.generator, GENERATOR, &["txvlan", "off"]).map(drop),
        }
    }

    /// Gives both ends addresses, and leaves their offloads alone.
    pub fn expect_streams(&self) -> Result<()> {
        for (namespace, device, address) in
            [(&self.generator, GENERATOR, GENERATOR_ADDRESS), (&self.sink, SINK, SINK_ADDRESS)]
        {
            ip(namespace, &["addr", "add", &format!("{address}/24"), "dev", device])?;
            ip(namespace, &["link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    /// The rig's devices with their namespaces, in the order of a frame's way.
    fn devices(&self) -> [(&'static str, &Netns); 4] {
        [(GENERATOR, &self.generator), (PORT_1, &self.dut), (PORT_2, &self.dut), (SINK, &self.sink)]
    }

    /// Reads back how the devices are set.
    pub fn describe(&self) -> Result<Vec<Device>> {
        let describe = |(name, namespace): (&'static str, &Netns)| {
            let link = json(process::run(Command::new("ip").args([
                "-n",
                namespace.name(),
                "-d",
                "-j",
                "link",
                "show",
                name,
            ]))?)?;
            let number = |key: &str| link[0][key].as_u64().ok_or_else(|| anyhow!("ip shows no {key} of {name}"));
            let features = json(process::run(namespace.command("ethtool").args(["--json", "-k", name]))?)?;
            let offloads = OFFLOADS
                .iter()
                .filter_map(|offload| Some(((*offload).to_owned(), features[0][*offload]["active"].as_bool()?)));
            Ok(Device {
                name,
                mtu: number("mtu")?,
                rx_queues: number("num_rx_queues")?,
                tx_queues: number("num_tx_queues")?,
                offloads: offloads.collect(),
            })
        };
        self.devices().into_iter().map(describe).collect()
    }

    /// Every counter of the rig's devices that counts lost frames, as `DEVICE COUNTER`.
    pub fn losses(&self) -> Result<BTreeMap<String, u64>> {
        let mut losses = BTreeMap::new();
        for (name, namespace) in self.devices() {
            let text = process::run(namespace.command("ethtool").args(["-S", name]))?;
            let link = json(process::run(Command::new("ip").args([
                "-n",
                namespace.name(),
                "-s",
                "-j",
                "link",
                "show",
                name,
            ]))?)?;
            for (counter, count) in driver_losses(&text).into_iter().chain(link_losses(&link)) {
                losses.insert(format!("{name} {counter}"), count);
            }
        }
        Ok(losses)
    }
}

/// Lines such as `rx_queue_0_drops: 12` of `ethtool -S`, those that count losses.
fn driver_losses(text: &str) -> Vec<(String, u64)> {
    let pairs = text.lines().filter_map(|line| line.trim().rsplit_once(": "));
    let losses = pairs.filter(|(name, _)| name.contains("drop") || name.contains("error"));
    losses.filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?))).collect()
}

/// `dropped` and `errors` of both directions as `ip -s -j link` shows them.
fn link_losses(link: &Value) -> Vec<(String, u64)> {
    let mut losses = Vec::new();
    for direction in ["rx", "tx"] {
        for counter in ["dropped", "errors"] {
            if let Some(count) = link[0]["stats64"][direction][counter].as_u64() {
                losses.push((format!("{direction}_{counter}"), count));
            }
        }
    }
    losses
}

/// Runs `ip` for a namespace.
pub fn ip(namespace: &Netns, arguments: &[&str]) -> Result<String> {
    process::run(Command::new("ip").args(["-n", namespace.name()]).args(arguments))
}

/// Sets offloads of a device in a namespace.
pub fn ethtool_set(namespace: &Netns, device: &str, features: &[&str]) -> Result<String> {
    process::run(namespace.command("ethtool").args(["-K", device]).args(features))
}

fn json(text: String) -> Result<Value> {
    serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
}

/// How counters have grown, without those that have not.
pub fn grown(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let growth =
        after.iter().map(|(name, count)| (name.clone(), count.saturating_sub(*before.get(name).unwrap_or(&0))));
    growth.filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_picked_out_of_what_the_tools_print() {
        let text = "NIC statistics:\n     peer_ifindex: 2\n     rx_queue_0_xdp_packets: 7\n     rx_queue_0_drops: 3\n     tx_queue_0_xdp_xmit_errors: 4\n";
        assert_eq!(
            driver_losses(text),
            [("rx_queue_0_drops".to_owned(), 3), ("tx_queue_0_xdp_xmit_errors".to_owned(), 4)]
        );
        let link =
            serde_json::json!([{"stats64": {"rx": {"packets": 9, "dropped": 1, "errors": 0}, "tx": {"dropped": 2}}}]);
        let names: Vec<_> = link_losses(&link);
        assert_eq!(names, [("rx_dropped".to_owned(), 1), ("rx_errors".to_owned(), 0), ("tx_dropped".to_owned(), 2)]);
    }

    #[test]
    fn growth_leaves_out_what_stood_still() {
        let map = |pairs: &[(&str, u64)]| pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        assert_eq!(
            grown(&map(&[("a", 1), ("b", 2)]), &map(&[("a", 1), ("b", 5), ("c", 4)])),
            map(&[("b", 3), ("c", 4)])
        );
    }
}
