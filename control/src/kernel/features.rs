//! Which offloads of a device are on, and do they go off when asked?
//!
//! Devices are named, and looked for in the network namespace of the calling thread.
use shunt_ffi::ethtool;

/// What became of the features that were to be off. Those that a device does not have count as off.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Switched {
    /// Were on and are off now: ours to put back.
    pub changed: Vec<String>,
    /// Are still on: the driver does not let them go.
    pub still_on: Vec<String>,
}

/// Switches features of `device` off and reads back what came of it.
pub(super) fn switch_off(device: &str, wanted: &[&str]) -> Result<Switched, String> {
    let on_before = which_on(device, wanted)?;
    if on_before.is_empty() {
        return Ok(Switched::default());
    }
    // A driver that refuses says so by an error or by leaving it on: reading back covers both.
    for feature in &on_before {
        if let Err(error) = ethtool::set_feature(device, feature, false) {
            tracing::debug!("{error}");
        }
    }
    let still_on = which_on(device, wanted)?;
    let changed = on_before.into_iter().filter(|feature| !still_on.contains(feature)).collect();
    Ok(Switched { changed, still_on })
}

/// Switches features of `device` on that are off. The error names the first that stays off.
pub(super) fn switch_on(device: &str, features: &[String]) -> Result<(), String> {
    let mut result = Ok(());
    for feature in features {
        match ethtool::feature(device, feature) {
            Ok(Some(false)) => {
                if let Err(error) = ethtool::set_feature(device, feature, true) {
                    result = result.and(Err(error.to_string()));
                }
            }
            Ok(_) => {}
            Err(error) => result = result.and(Err(error.to_string())),
        }
    }
    result
}

/// The ifindex of the other end of the veth `device`, as its driver tells.
pub(super) fn veth_peer(device: &str) -> Option<u32> {
    ethtool::veth_peer(device).ok()
}

fn which_on(device: &str, wanted: &[&str]) -> Result<Vec<String>, String> {
    let all = ethtool::features(device).map_err(|error| error.to_string())?;
    Ok(all.into_iter().filter(|it| it.active && wanted.contains(&it.name.as_str())).map(|it| it.name).collect())
}
