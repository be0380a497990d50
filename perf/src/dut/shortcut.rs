//! How fast is the program of kernel offload where it knows all packets? The limit of that way.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use shunt_ffi::shortcut::{Attached, Program};
use shunt_switch::config::PortIndex;
use shunt_switch::table::shortcut::{Decision, Key, Shortcuts, Thing};
use shunt_switch::wire::ethernet::Mac;

use super::{Dut, Start};
use crate::frame::{GENERATOR_SIDE, SINK_SIDE};
use crate::generator::ifindex;
use crate::rig::{self, GENERATOR, GENERATOR_ADDRESS, PORT_1, PORT_2, SINK, SINK_ADDRESS};

/// The program on both ports; it is detached when dropped.
pub struct Shortcut {
    _attached: [Attached; 2],
    _program: Program,
}

impl Shortcut {
    /// Attaches the program, with a decision for each address and its counterpart, and for the ends' own addresses.
    pub fn start(start: &Start<'_>) -> Result<Self> {
        let own = |namespace, device: &str| -> Result<Mac> {
            let text = rig::ip(namespace, &["-j", "link", "show", device])?;
            let json: serde_json::Value = serde_json::from_str(&text)?;
            json[0]["address"].as_str().and_then(|mac| mac.parse().ok()).context("an address")
        };
        let ends = [own(&start.rig.generator, GENERATOR)?, own(&start.rig.sink, SINK)?];
        // Nobody answers for the ends: the program takes unicast to known hosts alone.
        for (namespace, device, address, mac) in [
            (&start.rig.generator, GENERATOR, SINK_ADDRESS, ends[1]),
            (&start.rig.sink, SINK, GENERATOR_ADDRESS, ends[0]),
        ] {
            rig::ip(namespace, &["neigh", "replace", address, "lladdr", &mac.to_string(), "dev", device])?;
        }
        start.rig.dut.within(|| -> Result<Self> {
            let (one, two) = (ifindex(PORT_1)?, ifindex(PORT_2)?);
            let program = Program::load()?;
            let shortcuts = Shortcuts::new(program.table().clone(), program.epochs().clone(), 0x5eed);
            let attached = [program.attach(one, PORT_1, 1, two)?, program.attach(two, PORT_2, 2, one)?];
            let depends = [0, 1, 2, 3, 4].map(|port| shortcuts.epochs().of(Thing::Port(PortIndex(port))));
            let host = |side: u8, number: u32| Mac(0x0253_0000_0000 | u64::from(side) << 24 | u64::from(number));
            let pairs = (0..start.macs.max(1)).map(|n| [host(GENERATOR_SIDE, n), host(SINK_SIDE, n)]);
            for [first, second] in pairs.chain([ends]) {
                for (from, to, source, destination, places) in
                    [(one, two, first, second, [1, 2]), (two, one, second, first, [2, 1])]
                {
                    let key = Key { ifindex: from, tag: None, destination, source };
                    let decision = Decision {
                        out_ifindex: to,
                        to_peer: true,
                        payload_max: start.rig.mtu,
                        places,
                        pop: false,
                        push: None,
                        depends,
                        vlan: 0,
                    };
                    anyhow::ensure!(shortcuts.insert(&key, &decision, 1), "nobody else writes");
                }
            }
            Ok(Self { _attached: attached, _program: program })
        })?
    }
}

impl Dut for Shortcut {
    fn describe(&self) -> Result<BTreeMap<String, String>> {
        Ok(BTreeMap::from([("version".to_owned(), rustix::system::uname().release().to_string_lossy().into_owned())]))
    }
}
