//! Which of the kernel's routes for a prefix is in force?
//!
//! The kernel says what is added, replaced and removed, and no more: that a route goes does not tell which one is the best now.
//! So all are kept here, by prefix and in the kernel's order, for the tables of the default rules: `local`, then `main`, then
//! `default` (ip-rule(8)). Routes are compared as `fib_table_insert` (net/ipv4/fib_trie.c) and `fib6_add_rt2node`
//! (net/ipv6/ip6_fib.c) do.

use super::decode::News;
use super::rules::Rules;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

/// One of the ways of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NextHop {
    /// The kernel's number of the device; 0 if there is none.
    pub ifindex: u32,
    /// The router there, which may be of the other family (RFC 8950); none: the destination itself is on the link.
    pub gateway: Option<IpAddr>,
    /// At least 1.
    pub weight: u16,
    /// Its device is down: not used (RTNH_F_DEAD).
    pub dead: bool,
}

/// What a route does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// It goes to a next hop.
    Unicast,
    /// It is for this host: `local` and `anycast`.
    Local,
    /// It is for all hosts of a network that this host is on.
    Broadcast,
    /// It is lost.
    Blackhole,
    /// It is lost, and its sender is told "host unreachable".
    Unreachable,
    /// It is lost, and its sender is told "administratively prohibited".
    Prohibit,
    /// Nothing more is looked for in its table (`throw`). No later table of the default rules has routes as a rule, so this
    /// is as if there were no route.
    Throw,
}

impl Kind {
    /// It goes with its link.
    fn is_over_link(self) -> bool {
        matches!(self, Self::Unicast | Self::Broadcast)
    }
}

/// The kernel's tables in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// 255.
    Local,
    /// 254.
    Main,
    /// 253.
    Default,
}

impl Table {
    /// The table with the kernel's number; none for those that only rules of the operator lead to.
    pub fn of(number: u32) -> Option<Self> {
        Some(match number {
            255 => Self::Local,
            254 => Self::Main,
            253 => Self::Default,
            _ => return None,
        })
    }
}

/// Where a route's next hops stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hops {
    /// In the route.
    Own(Vec<NextHop>),
    /// In the next-hop object of this number (ip-nexthop(8)), which changes without word of the routes.
    Object(u32),
}

/// A route as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its table.
    pub table: Table,
    /// The destinations.
    pub prefix: IpNet,
    /// The smallest is the best (RTA_PRIORITY).
    pub metric: u32,
    /// Who made it (`rtm_protocol`).
    pub protocol: u8,
    /// What it does.
    pub kind: Kind,
    /// How a unicast route leads there.
    pub hops: Hops,
}

/// How a new route stands to those there are, by the message's flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    /// In the place of the first of its metric (NLM_F_REPLACE).
    Replace,
    /// Behind those of its metric (NLM_F_APPEND).
    Append,
    /// Before those of its metric; of IPv6 behind them.
    Create,
}

/// A next-hop object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// One next hop.
    Single(NextHop),
    /// It drops packets.
    Blackhole,
    /// Others, by number and weight.
    Group(Vec<(u32, u16)>),
}

/// What is in force for a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Best {
    /// What it does.
    pub kind: Kind,
    /// Of a unicast route, those that can be used, in order, each once.
    pub hops: Vec<NextHop>,
}

/// A route, and the last reading of all routes in which it was seen.
struct Kept {
    route: Route,
    seen: u64,
}

/// The routes of one network namespace.
#[derive(Default)]
pub struct Rib {
    /// By prefix; in the kernel's order: by table, then metric, then place.
    routes: HashMap<IpNet, Vec<Kept>>,
    objects: HashMap<u32, Object>,
    /// By object: the prefixes whose routes use it, also through groups.
    users: BTreeMap<u32, BTreeSet<IpNet>>,
    /// Rules that may lead to tables that are not kept here.
    rules: Rules,
    /// Devices that are not up.
    down: HashSet<u32>,
    reading: u64,
    count: usize,
}

impl Rib {
    /// Routes of all tables.
    pub fn len(&self) -> usize {
        self.count
    }

    /// No route at all.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes in what the kernel told of routes and objects; adds prefixes for which another may be in force to `touched`.
    /// Neighbours are no concern of this table.
    pub fn apply(&mut self, news: News, touched: &mut BTreeSet<IpNet>) {
        match news {
            News::Route(route, placing) => self.add(route, placing, touched),
            News::RouteGone(route) => self.remove(&route, touched),
            News::Object(id, object) => self.set_object(id, object, touched),
            News::ObjectGone(id) => self.remove_object(id, touched),
            News::DeviceUp(ifindex) => self.device_up(ifindex, touched),
            News::DeviceDown(ifindex) => self.device_down(ifindex, touched),
            News::Rule(rule) => self.change_rules(touched, |rules, reading| rules.add(rule, reading)),
            News::RuleGone(rule) => self.change_rules(touched, |rules, _| rules.remove(&rule)),
            News::Neighbour { .. } => {}
        }
    }

    /// A route came; adds prefixes for which another may be in force to `touched`.
    pub fn add(&mut self, route: Route, placing: Placing, touched: &mut BTreeSet<IpNet>) {
        let prefix = route.prefix;
        if let Hops::Object(id) = route.hops {
            self.users.entry(id).or_default().insert(prefix);
        }
        let kept = Kept { route, seen: self.reading };
        let list = self.routes.entry(prefix).or_default();
        // Most have one. A vector's first step is room for four.
        list.reserve_exact(1);
        let rank = |kept: &Kept| (kept.route.table, kept.route.metric);
        let own = rank(&kept);
        touched.insert(prefix);
        // One that is there already has only been told again.
        if let Some(same) = list.iter_mut().find(|other| other.route == kept.route && placing != Placing::Replace) {
            same.seen = kept.seen;
            return;
        }
        let equals = list.partition_point(|other| rank(other) < own)..list.partition_point(|other| rank(other) <= own);
        let replaced = match (prefix, placing) {
            // IPv6 shows all next hops of a metric that are reached by gateways in each message, whatever the flags; those
            // without one stand for themselves, by device.
            // What is replaced is of the same kind in this, or else the first of all.
            (IpNet::V6(_), Placing::Replace) => {
                let is_like = |n: &usize| has_gateway(&list[*n].route) == has_gateway(&kept.route);
                equals.clone().find(is_like).or_else(|| equals.clone().next())
            }
            (IpNet::V6(_), _) => equals.clone().find(|n| is_same_v6(&list[*n].route, &kept.route)),
            (IpNet::V4(_), Placing::Replace) => (!equals.is_empty()).then_some(equals.start),
            (IpNet::V4(_), _) => None,
        };
        match (replaced, prefix, placing) {
            (Some(at), ..) => {
                let old = std::mem::replace(&mut list[at], kept);
                self.forget_use(&old.route);
                return;
            }
            (None, IpNet::V6(_), _) | (None, _, Placing::Append) => list.insert(equals.end, kept),
            (None, ..) => list.insert(equals.start, kept),
        }
        self.count += 1;
    }

    /// A route went.
    pub fn remove(&mut self, route: &Route, touched: &mut BTreeSet<IpNet>) {
        let Some(list) = self.routes.get_mut(&route.prefix) else { return };
        let ranks = |kept: &Kept| kept.route.table == route.table && kept.route.metric == route.metric;
        let at = list
            .iter()
            .position(|kept| ranks(kept) && kept.route.kind == route.kind && kept.route.hops == route.hops)
            .or_else(|| list.iter().position(|kept| ranks(kept) && holds(&kept.route, route)));
        let Some(at) = at else { return };
        touched.insert(route.prefix);
        // IPv6 may take single next hops out of a route.
        if let (IpNet::V6(_), Hops::Own(have), Hops::Own(gone)) = (route.prefix, &mut list[at].route.hops, &route.hops)
        {
            have.retain(|hop| !gone.iter().any(|gone| is_same_hop(hop, gone)));
            if !have.is_empty() {
                return;
            }
        }
        let old = list.remove(at);
        if list.is_empty() {
            self.routes.remove(&route.prefix);
        }
        self.count -= 1;
        self.forget_use(&old.route);
    }

    /// A next-hop object came or changed.
    pub fn set_object(&mut self, id: u32, object: Object, touched: &mut BTreeSet<IpNet>) {
        self.objects.insert(id, object);
        self.touch_users(id, touched);
    }

    /// A next-hop object went, and with it, without another word, its place in groups and the routes that use it.
    pub fn remove_object(&mut self, id: u32, touched: &mut BTreeSet<IpNet>) {
        self.touch_users(id, touched);
        self.objects.remove(&id);
        for object in self.objects.values_mut() {
            if let Object::Group(members) = object {
                members.retain(|(member, _)| *member != id);
            }
        }
        for prefix in self.users.remove(&id).unwrap_or_default() {
            self.drop_where(prefix, |kept| kept.route.hops == Hops::Object(id));
        }
    }

    /// A device went away or down. Its next hops are dead, its objects gone, and IPv4 routes without any other next hop
    /// are gone too, all without another word (`fib_sync_down_dev`, `nexthop_flush_dev`).
    pub fn device_down(&mut self, ifindex: u32, touched: &mut BTreeSet<IpNet>) {
        if !self.down.insert(ifindex) {
            return;
        }
        let on_it = |object: &Object| matches!(object, Object::Single(hop) if hop.ifindex == ifindex);
        let objects: Vec<u32> = self.objects.iter().filter(|(_, object)| on_it(object)).map(|(id, _)| *id).collect();
        for id in objects {
            self.remove_object(id, touched);
        }
        for prefix in self.mark_hops(ifindex, true, touched) {
            let is_dead = |kept: &Kept| match &kept.route.hops {
                Hops::Own(hops) => kept.route.kind.is_over_link() && hops.iter().all(|hop| hop.dead),
                Hops::Object(_) => false,
            };
            if matches!(prefix, IpNet::V4(_)) {
                self.drop_where(prefix, is_dead);
            }
        }
    }

    /// A device came up: next hops on it that were dead live again (`fib_sync_up`).
    pub fn device_up(&mut self, ifindex: u32, touched: &mut BTreeSet<IpNet>) {
        if self.down.remove(&ifindex) {
            self.mark_hops(ifindex, false, touched);
        }
    }

    /// Marks the next hops on a device; says which prefixes have some.
    fn mark_hops(&mut self, ifindex: u32, dead: bool, touched: &mut BTreeSet<IpNet>) -> Vec<IpNet> {
        let mut marked = Vec::new();
        for (prefix, list) in &mut self.routes {
            let mut has_some = false;
            for kept in list {
                if let Hops::Own(hops) = &mut kept.route.hops {
                    for hop in hops.iter_mut().filter(|hop| hop.ifindex == ifindex) {
                        (hop.dead, has_some) = (dead, true);
                    }
                }
            }
            if has_some {
                marked.push(*prefix);
            }
        }
        touched.extend(&marked);
        marked
    }

    /// All routes are about to be read anew, because news were lost: those that the reading does not show are gone.
    pub fn start_reading(&mut self) {
        self.reading += 1;
    }

    /// The reading is complete.
    pub fn finish_reading(&mut self, touched: &mut BTreeSet<IpNet>) {
        let reading = self.reading;
        let gone = |kept: &Kept| kept.seen != reading;
        let prefixes: Vec<IpNet> =
            self.routes.iter().filter(|(_, list)| list.iter().any(gone)).map(|(prefix, _)| *prefix).collect();
        for prefix in prefixes {
            touched.insert(prefix);
            self.drop_where(prefix, gone);
        }
        self.change_rules(touched, Rules::sweep);
    }

    /// Only the kernel knows the way of packets of this prefix's family: it has rules that lead to other tables.
    pub fn is_ruled(&self, prefix: &IpNet) -> bool {
        self.rules.are_there()[usize::from(prefix.addr().is_ipv6())]
    }

    fn change_rules(&mut self, touched: &mut BTreeSet<IpNet>, change: impl FnOnce(&mut Rules, u64)) {
        let before = self.rules.are_there();
        change(&mut self.rules, self.reading);
        let now = self.rules.are_there();
        let everything = [IpNet::from(Ipv4Net::default()), IpNet::from(Ipv6Net::default())];
        for (family, all) in everything.into_iter().enumerate().filter(|(family, _)| before[*family] != now[*family]) {
            let who = if now[family] { "the kernel forwards" } else { "the workers forward" };
            tracing::warn!("{who} what {all} covers from now on: a rule (`ip rule`) to other tables came or went");
            touched.insert(all);
            touched.extend(self.routes.keys().filter(|prefix| prefix.addr().is_ipv6() == all.addr().is_ipv6()));
        }
    }

    /// What is in force for exactly this prefix.
    pub fn best(&self, prefix: &IpNet) -> Option<Best> {
        self.in_force(prefix).map(|(_, best)| best)
    }

    /// As [`Rib::best`], with the route that it is of.
    pub fn in_force(&self, prefix: &IpNet) -> Option<(&Route, Best)> {
        let best = |kept: &Kept| {
            let hops = match (kept.route.kind, &kept.route.hops) {
                (Kind::Unicast, Hops::Own(hops)) => hops.clone(),
                (Kind::Unicast, Hops::Object(id)) => match self.resolve(*id)? {
                    Resolved::Blackhole => return Some(Best { kind: Kind::Blackhole, hops: Vec::new() }),
                    Resolved::Hops(hops) => hops,
                },
                (kind, _) => return Some(Best { kind, hops: Vec::new() }),
            };
            let hops = merged(hops);
            // The kernel passes over a route all of whose next hops are dead.
            (!hops.is_empty()).then_some(Best { kind: Kind::Unicast, hops })
        };
        self.routes.get(prefix)?.iter().find_map(|kept| Some((&kept.route, best(kept)?)))
    }

    /// All routes for exactly this prefix, the best first.
    pub fn routes(&self, prefix: &IpNet) -> impl Iterator<Item = &Route> {
        self.routes.get(prefix).into_iter().flatten().map(|kept| &kept.route)
    }

    /// All prefixes with a route, in force or not, that leads over a device.
    pub fn prefixes_over(&self, ifindex: u32) -> impl Iterator<Item = &IpNet> {
        let leads = |object: &Object| matches!(object, Object::Single(hop) if hop.ifindex == ifindex);
        let singles: HashSet<u32> = self.objects.iter().filter(|(_, o)| leads(o)).map(|(id, _)| *id).collect();
        let is_over = move |kept: &Kept| match &kept.route.hops {
            Hops::Own(hops) => hops.iter().any(|hop| hop.ifindex == ifindex),
            Hops::Object(id) => match self.objects.get(id) {
                Some(Object::Group(members)) => members.iter().any(|(member, _)| singles.contains(member)),
                _ => singles.contains(id),
            },
        };
        self.routes.iter().filter(move |(_, list)| list.iter().any(&is_over)).map(|(prefix, _)| prefix)
    }

    /// All prefixes that there are routes for.
    pub fn prefixes(&self) -> impl Iterator<Item = &IpNet> {
        self.routes.keys()
    }

    fn resolve(&self, id: u32) -> Option<Resolved> {
        Some(match self.objects.get(&id)? {
            Object::Single(hop) => Resolved::Hops(vec![*hop]),
            Object::Blackhole => Resolved::Blackhole,
            Object::Group(members) => {
                let member = |(id, weight): &(u32, u16)| match self.objects.get(id) {
                    Some(Object::Single(hop)) => Some(NextHop { weight: *weight, ..*hop }),
                    _ => None,
                };
                Resolved::Hops(members.iter().filter_map(member).collect())
            }
        })
    }

    fn touch_users(&self, id: u32, touched: &mut BTreeSet<IpNet>) {
        let in_groups = self.objects.iter().filter_map(|(group, object)| match object {
            Object::Group(members) => members.iter().any(|(member, _)| *member == id).then_some(*group),
            _ => None,
        });
        for id in in_groups.chain([id]) {
            touched.extend(self.users.get(&id).into_iter().flatten());
        }
    }

    fn drop_where(&mut self, prefix: IpNet, gone: impl Fn(&Kept) -> bool) {
        let Some(list) = self.routes.get_mut(&prefix) else { return };
        let (dropped, kept): (Vec<_>, Vec<_>) = std::mem::take(list).into_iter().partition(gone);
        self.count -= dropped.len();
        *list = kept;
        if list.is_empty() {
            self.routes.remove(&prefix);
        }
        for kept in dropped {
            self.forget_use(&kept.route);
        }
    }

    /// The prefix no longer uses the object, unless by another of its routes.
    fn forget_use(&mut self, route: &Route) {
        let Hops::Object(id) = route.hops else { return };
        let others = self.routes.get(&route.prefix).into_iter().flatten();
        if others.into_iter().any(|kept| kept.route.hops == route.hops) {
            return;
        }
        if let Some(prefixes) = self.users.get_mut(&id) {
            prefixes.remove(&route.prefix);
            if prefixes.is_empty() {
                self.users.remove(&id);
            }
        }
    }
}

enum Resolved {
    Blackhole,
    Hops(Vec<NextHop>),
}

/// What can be used, in order, equal ones with their weights together.
fn merged(hops: Vec<NextHop>) -> Vec<NextHop> {
    let mut by_place: BTreeMap<(u32, Option<IpAddr>), NextHop> = BTreeMap::new();
    for hop in hops.into_iter().filter(|hop| !hop.dead) {
        by_place
            .entry((hop.ifindex, hop.gateway))
            .and_modify(|other| other.weight = other.weight.saturating_add(hop.weight))
            .or_insert(hop);
    }
    by_place.into_values().collect()
}

fn is_same_hop(a: &NextHop, b: &NextHop) -> bool {
    (a.ifindex, a.gateway) == (b.ifindex, b.gateway)
}

/// It can be one of several ways, for IPv6 (`rt6_qualify_for_ecmp`).
fn has_gateway(route: &Route) -> bool {
    matches!(&route.hops, Hops::Own(hops) if hops.iter().any(|hop| hop.gateway.is_some()))
}

/// Two messages on routes of one prefix, table and metric speak of the same route.
fn is_same_v6(a: &Route, b: &Route) -> bool {
    match (&a.hops, &b.hops) {
        (Hops::Object(_), Hops::Object(_)) => true,
        (Hops::Own(_), Hops::Own(_)) if has_gateway(a) || has_gateway(b) => has_gateway(a) && has_gateway(b),
        (Hops::Own(a), Hops::Own(b)) => a.iter().map(|hop| hop.ifindex).eq(b.iter().map(|hop| hop.ifindex)),
        _ => false,
    }
}

/// `gone` may speak of `route`, though not in the same words: flags and weights differ, or it names only some of its hops.
fn holds(route: &Route, gone: &Route) -> bool {
    route.kind == gone.kind
        && match (&route.hops, &gone.hops) {
            (Hops::Own(have), Hops::Own(gone)) => gone.iter().all(|gone| have.iter().any(|hop| is_same_hop(hop, gone))),
            (have, gone) => have == gone,
        }
}
