//! How are static routes added and deleted? They are rows that the daemon puts into the kernel's table of the VRF.

use super::{Context, Needs, Router, Stop, svi};
use crate::cli::grammar::Command;
use crate::datum::Datum;
use crate::routing::text::{self, NextHop};
use ipnet::IpNet;
use serde_json::json;
use uuid::Uuid;

/// What the words of `route add` and `route del` say.
struct Words {
    kind: &'static str,
    /// Two for `default` that no next hop gives a family to.
    prefixes: Vec<IpNet>,
    hops: Vec<NextHop>,
    metric: Option<u32>,
    vrf: Option<String>,
}

const KINDS: [&str; 4] = ["unicast", "blackhole", "unreachable", "prohibit"];

impl Words {
    fn parse(words: &[String]) -> Result<Words, Stop> {
        let mut words = words.iter().map(String::as_str).peekable();
        let kind = words.peek().and_then(|word| KINDS.iter().find(|kind| *kind == word));
        if kind.is_some() {
            words.next();
        }
        let Some(prefix) = words.next() else {
            return Err(Stop::new("no prefix is there").hint(Some("write PREFIX, as 10.0.0.0/8, or default")));
        };
        let (mut metric, mut vrf) = (None, None);
        let mut hops: Vec<Vec<&str>> = vec![];
        while let Some(word) = words.next() {
            if !matches!(word, "metric" | "vrf") {
                // What a hop has already begins the next one.
                if hops.last().is_none_or(|hop| matches!(word, "via" | "dev") && hop.contains(&word)) {
                    hops.push(vec![]);
                }
                let value = words.next_if(|_| word != "onlink");
                hops.last_mut().into_iter().for_each(|hop| hop.extend([word].into_iter().chain(value)));
                continue;
            }
            let value = words.next().ok_or_else(|| Stop::new(format!("nothing follows \"{word}\"")))?;
            let is_new = match word {
                "metric" => metric.replace(number(value)?).is_none(),
                _ => vrf.replace(svi::vrf(value)?.to_owned()).is_none(),
            };
            if !is_new {
                return Stop::fail(format!("\"{word}\" is there twice"));
            }
        }
        let hops = hops.into_iter().map(NextHop::parse).collect::<Result<Vec<_>, _>>()?;
        let prefixes = prefixes(prefix, &hops)?;
        Ok(Words { kind: kind.copied().unwrap_or("unicast"), prefixes, hops, metric, vrf })
    }

    /// Checks what `route add` asks for, by itself.
    fn check_new(&self) -> Result<(), Stop> {
        let prefix = self.prefixes[0];
        match (self.kind, self.hops.as_slice()) {
            ("unicast", []) => {
                let remedy =
                    "add \"via ADDRESS\" or \"dev IFACE\", or write blackhole, unreachable or prohibit before it";
                return Err(Stop::new(format!("the route to {prefix} has no next hop")).hint(Some(remedy)));
            }
            ("unicast", _) | (_, []) => {}
            (kind, _) => {
                return Err(Stop::new(format!("the {kind} route to {prefix} leads nowhere"))
                    .hint(Some("leave out what follows the prefix")));
            }
        }
        for (at, hop) in self.hops.iter().enumerate() {
            hop.check_family(&prefix)?;
            if self.hops[..at].iter().any(|other| (other.via, &other.dev) == (hop.via, &hop.dev)) {
                let message = format!("the next hop \"{hop}\" is there twice");
                return Err(Stop::new(message).hint(Some("\"weight N\" gives it a greater share")));
            }
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let vrf = self.vrf.as_ref().map_or(String::new(), |vrf| format!(" in VRF {vrf}"));
        let metric =
            self.metric.filter(|metric| *metric > 0).map_or(String::new(), |metric| format!(" metric {metric}"));
        format!("{}{metric}{vrf}", self.prefixes[0])
    }
}

fn number(text: &str) -> Result<u32, Stop> {
    let remedy = format!("give 0 to {}; the smallest is preferred", u32::MAX);
    text.parse().map_err(|_| Stop::new(format!("metric {text} is out of range")).hint(Some(remedy)))
}

fn prefixes(text: &str, hops: &[NextHop]) -> Result<Vec<IpNet>, Stop> {
    let all = || ["0.0.0.0/0", "::/0"].into_iter().filter_map(|text| text.parse::<IpNet>().ok());
    if text != "default" {
        return Ok(vec![text::prefix(text)?]);
    }
    let routers: Vec<_> = hops.iter().filter_map(|hop| hop.via).collect();
    if routers.is_empty() {
        return Ok(all().collect());
    }
    let is_v4 = routers.iter().any(std::net::IpAddr::is_ipv4);
    Ok(all().filter(|net| is_v4 == net.addr().is_ipv4()).collect())
}

/// Routes for the prefix, and the networks that routers can be in.
pub fn needs(needs: &mut Needs, command: &Command) -> Result<(), Stop> {
    let words = Words::parse(&command.args)?;
    needs.columns("Route", &["vrf", "prefix", "metric", "type", "next_hops"]);
    for prefix in &words.prefixes {
        needs.rows("Route", &[json!(["prefix", "==", prefix.to_string()])]);
    }
    if command.name == "route add" {
        needs.all("SVI", &["addresses", "vrf"]);
    }
    Ok(())
}

impl Context {
    /// The static routes that the words mean.
    fn routes(&self, words: &Words) -> Vec<Uuid> {
        let txn = &self.txn;
        let mut rows = txn.rows("Route");
        rows.retain(|row| {
            let prefix = txn.get("Route", *row, "prefix").as_str().and_then(|text| text.parse::<IpNet>().ok());
            let metric = txn.get("Route", *row, "metric").as_integer();
            prefix.is_some_and(|prefix| words.prefixes.contains(&prefix))
                && txn.get("Route", *row, "vrf").as_str() == words.vrf.as_deref()
                && words.metric.is_none_or(|wanted| metric == Some(wanted.into()))
        });
        rows
    }

    /// A VRF has an SVI, or nothing can be routed in it.
    pub(super) fn check_vrf(&self, vrf: Option<&str>) -> Result<(), Stop> {
        let Some(vrf) = vrf else { return Ok(()) };
        let rows = self.txn.rows("SVI");
        let mut known: Vec<&str> = rows.iter().filter_map(|svi| self.svi_vrf(*svi)).collect();
        if known.contains(&vrf) {
            return Ok(());
        }
        known.sort_unstable();
        known.dedup();
        let remedy = match known.as_slice() {
            [] => format!("\"add-svi ... vrf={vrf}\" makes it"),
            known => format!("\"add-svi ... vrf={vrf}\" makes it; there is: {}", known.join(", ")),
        };
        Err(Stop::new(format!("no VRF {vrf}: no SVI is in it")).hint(Some(remedy)))
    }

    /// An interface that is an SVI has to be one of the VRF.
    pub(super) fn check_interface(&self, name: &str, vrf: Option<&str>) -> Result<(), Stop> {
        let Some(svi) = self.svi(name) else { return Ok(()) };
        let own = self.svi_vrf(svi);
        if own == vrf {
            return Ok(());
        }
        let (place, remedy) = match own {
            Some(own) => (format!("in VRF {own}"), format!("add \"vrf {own}\", or choose another interface")),
            None => ("in no VRF".to_owned(), "leave \"vrf\" out, or choose another interface".to_owned()),
        };
        Err(Stop::new(format!("{name} is {place}")).hint(Some(remedy)))
    }

    /// As far as SVIs tell: the router is on the link that it is said to be on, and is not the switch itself. The daemon knows
    /// other interfaces.
    fn check_reachable(&mut self, hop: &NextHop, vrf: Option<&str>) -> Result<(), Stop> {
        if let Some(dev) = &hop.dev {
            self.check_interface(dev, vrf)?;
        }
        let Some(via) = hop.via else { return Ok(()) };
        let mut is_known = hop.onlink || text::is_link_local(via);
        for svi in self.txn.rows("SVI").into_iter().filter(|svi| self.svi_vrf(*svi) == vrf) {
            let (name, networks) = (self.txn.name("SVI", svi), self.svi_addresses(svi));
            if networks.iter().any(|own| own.addr() == via) {
                let message = format!("{via} is the switch's own address on {name}");
                return Err(Stop::new(message).hint(Some("give the address of another router")));
            }
            let is_named = hop.dev.as_deref().is_none_or(|dev| dev == name);
            is_known |= is_named && networks.iter().any(|own| own.contains(&via));
            if hop.dev.as_deref() == Some(name) && !is_known {
                let list: Vec<_> = networks.iter().map(ToString::to_string).collect();
                let message = format!("{via} is not reachable: {name} has {}", list.join(", "));
                let remedy = "give a router in its network, or add \"onlink\" if it is on the link all the same";
                return Err(Stop::new(message).hint(Some(remedy)));
            }
        }
        if !is_known {
            self.routers.push(Router { via, dev: hop.dev.clone(), vrf: vrf.map(str::to_owned) });
        }
        Ok(())
    }
}

/// `route add [TYPE] PREFIX [NEXT-HOP]... [metric N] [vrf NAME]`
pub fn add(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let mut words = Words::parse(&command.args)?;
    words.prefixes.truncate(1);
    words.metric = words.metric.or(Some(0));
    words.check_new()?;
    let vrf = words.vrf.as_deref();
    ctx.check_vrf(vrf)?;
    words.hops.iter().try_for_each(|hop| ctx.check_reachable(hop, vrf))?;
    let hops: Datum = words.hops.iter().map(ToString::to_string).collect();
    let kind = Datum::from((words.kind != "unicast").then_some(words.kind));
    if let [row, ..] = ctx.routes(&words)[..] {
        let (have, column) = (ctx.txn.get("Route", row, "next_hops").clone(), ctx.txn.get("Route", row, "type"));
        let have_kind = column.as_str().filter(|kind| *kind != "unicast");
        if command.has("--may-exist") && have == hops && have_kind == kind.as_str() {
            ctx.txn.rely_on_value("Route", row, "next_hops");
            ctx.txn.rely_on_value("Route", row, "type");
            return Ok(());
        }
        let is = have_kind.map(str::to_owned).into_iter().chain(have.strings().map(str::to_owned));
        let is = is.collect::<Vec<_>>().join(" ");
        let message = format!("cannot add a route to {} because there is one: {is}", words.describe());
        let remedy = "\"route del\" deletes it; another metric makes a second one";
        return Err(Stop::new(message).hint(Some(remedy)));
    }
    let columns = [
        ("vrf", Datum::from(words.vrf.as_deref())),
        ("prefix", Datum::from(words.prefixes[0].to_string())),
        ("type", kind),
        ("next_hops", hops),
        ("metric", Datum::from(i64::from(words.metric.unwrap_or(0)))),
    ];
    ctx.txn.insert("Route", None, columns);
    Ok(())
}

/// `route del PREFIX [metric N] [vrf NAME]`
pub fn del(ctx: &mut Context, command: &Command) -> Result<(), Stop> {
    let words = Words::parse(&command.args)?;
    if !words.hops.is_empty() || words.kind != "unicast" {
        return Err(Stop::new("route del takes no next hop and no type")
            .hint(Some("PREFIX, metric and VRF say which route is meant")));
    }
    match ctx.routes(&words)[..] {
        [row] => {
            ctx.txn.rely_on_row("Route", row);
            ctx.txn.delete("Route", row);
            Ok(())
        }
        [] if command.has("--if-exists") => Ok(()),
        [] => Err(Stop::new(format!("no static route to {}", words.describe()))
            .hint(Some("\"list Route\" shows those there are; \"route show\" also what others have made"))),
        ref rows => {
            let which = |row: &Uuid| {
                let metric = ctx.txn.get("Route", *row, "metric").as_integer().unwrap_or(0);
                format!("{} metric {metric}", ctx.txn.get("Route", *row, "prefix").as_str().unwrap_or_default())
            };
            let mut all: Vec<_> = rows.iter().map(which).collect();
            all.sort_unstable();
            Err(Stop::new(format!("there are {} such routes: {}", rows.len(), all.join(", ")))
                .hint(Some("name one by prefix and metric")))
        }
    }
}
