//! How are static neighbours added and deleted? They are rows that the daemon puts into the kernel's table of the VRF.

use super::{Context, Needs, Stop, svi};
use crate::cli::grammar::Command;
use crate::datum::Datum;
use crate::routing::text;
use serde_json::json;
use std::net::IpAddr;
use uuid::Uuid;

/// What the words of `neigh add` and `neigh del` say.
struct Words {
    address: IpAddr,
    dev: String,
    mac: Option<String>,
    vrf: Option<String>,
}

impl Words {
    fn parse(command: &Command) -> Result<Words, Stop> {
        let usage = || Some(format!("usage: {} {}", command.name, command.spec.args));
        let address = text::host(&command.args[0])?;
        let (mut dev, mut mac, mut vrf) = (None, None, None);
        let takes_mac = command.name == "neigh add";
        for pair in command.args[1..].chunks(2) {
            let [key, value] = pair else {
                return Err(Stop::new(format!("nothing follows \"{}\"", pair[0])).hint(usage()));
            };
            let place = match key.as_str() {
                "dev" => &mut dev,
                "lladdr" if takes_mac => &mut mac,
                "vrf" => &mut vrf,
                _ => return Err(Stop::new(format!("{}: unknown word \"{key}\"", command.name)).hint(usage())),
            };
            if place.replace(value.as_str()).is_some() {
                return Err(Stop::new(format!("\"{key}\" is there twice")).hint(usage()));
            }
        }
        let missing = |word: &str| Stop::new(format!("{}: \"{word}\" is missing", command.name)).hint(usage());
        let dev = dev.filter(|dev| !dev.is_empty()).ok_or_else(|| missing("dev IFACE"))?.to_owned();
        if takes_mac && mac.is_none() {
            return Err(missing("lladdr MAC"));
        }
        let mac = mac.map(|text| text::mac(text).map(|_| text.to_ascii_lowercase())).transpose()?;
        let vrf = vrf.map(svi::vrf).transpose()?.map(str::to_owned);
        Ok(Words { address, dev, mac, vrf })
    }
}

/// The neighbour, and the interfaces that it can be on.
pub fn needs(needs: &mut Needs, command: &Command) -> Result<(), Stop> {
    let words = Words::parse(command)?;
    needs.columns("Neighbor", &["vrf", "interface", "address", "mac"]);
    needs.rows("Neighbor", &[json!(["address", "==", words.address.to_string()])]);
    needs.all("SVI", &["addresses", "vrf"]);
    Ok(())
}

impl Context {
    /// The VRF is that of the interface, unless it is said.
    fn neighbour_words(&self, command: &Command) -> Result<Words, Stop> {
        let mut words = Words::parse(command)?;
        match &words.vrf {
            Some(vrf) => self.check_interface(&words.dev, Some(vrf))?,
            None => words.vrf = self.svi(&words.dev).and_then(|svi| self.svi_vrf(svi)).map(str::to_owned),
        }
        Ok(words)
    }

    fn neighbour(&self, words: &Words) -> Option<Uuid> {
        let text = |row: Uuid, column: &str| self.txn.get("Neighbor", row, column).as_str();
        self.txn.rows("Neighbor").into_iter().find(|row| {
            text(*row, "address").and_then(|text| text.parse().ok()) == Some(words.address)
                && text(*row, "interface") == Some(&words.dev)
                && text(*row, "vrf") == words.vrf.as_deref()
        })
    }
}

/// `neigh add ADDRESS lladdr MAC dev IFACE [vrf NAME]`
pub fn add(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let words = ctx.neighbour_words(command)?;
    ctx.check_vrf(words.vrf.as_deref())?;
    let svi = ctx.svi(&words.dev);
    if svi.is_some_and(|svi| ctx.svi_addresses(svi).iter().any(|own| own.addr() == words.address)) {
        return Err(Stop::new(format!("{} is the switch's own address on {}", words.address, words.dev))
            .hint(Some("give the address of another host")));
    }
    if let Some(row) = ctx.neighbour(&words) {
        let mac = ctx.txn.get("Neighbor", row, "mac").as_str().unwrap_or_default();
        if command.has("--may-exist") && Some(mac) == words.mac.as_deref() {
            ctx.txn.rely_on_value("Neighbor", row, "mac");
            return Ok(());
        }
        let message = format!("neighbour {} on {} is there already, with {mac}", words.address, words.dev);
        let remedy = format!("\"neigh del {} dev {}\" deletes it", words.address, words.dev);
        return Err(Stop::new(message).hint(Some(remedy)));
    }
    let columns = [
        ("vrf", Datum::from(words.vrf.as_deref())),
        ("interface", Datum::from(words.dev.as_str())),
        ("address", Datum::from(words.address.to_string())),
        ("mac", Datum::from(words.mac.unwrap_or_default())),
    ];
    ctx.txn.insert("Neighbor", None, columns);
    Ok(())
}

/// `neigh del ADDRESS dev IFACE [vrf NAME]`
pub fn del(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let words = ctx.neighbour_words(command)?;
    match ctx.neighbour(&words) {
        Some(row) => {
            ctx.txn.rely_on_row("Neighbor", row);
            ctx.txn.delete("Neighbor", row);
            Ok(())
        }
        None if command.has("--if-exists") => Ok(()),
        None => Err(Stop::new(format!("no static neighbour {} on {}", words.address, words.dev))
            .hint(Some("\"list Neighbor\" shows those there are; \"neigh flush\" forgets what was learned"))),
    }
}
