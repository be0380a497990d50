//! Which VLAN does a frame belong to when it comes in by a port, may it leave by another, and with which tags?
//!
//! The rules are those of Open vSwitch's NORMAL action, its `vlan-limit` at the most that its userspace datapath takes:
//! two tags are told apart, further ones are payload. Two differences, both where Open vSwitch would lose or expose a
//! customer's tag: an inner tag is never taken off but by an access port to which it carries no VLAN (VID 0), and an
//! empty outer tag (VID 0, priority 0) stays on as long as another tag is behind it.

use crate::limits::VLANS;
use crate::reason::Reason;
use crate::wire::vlan::{PARSED_MAX, TAG, TPID_8021AD, TPID_8021Q, Tag, Tags};
use arrayvec::ArrayVec;
use std::sync::Arc;

/// A Port's `vlan_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One VLAN, untagged.
    Access,
    /// Several VLANs, tagged; untagged frames are VLAN 0.
    Trunk,
    /// Several VLANs, tagged; untagged frames that come in belong to the native VLAN.
    NativeTagged,
    /// Several VLANs, tagged but for the native VLAN, which leaves untagged.
    NativeUntagged,
    /// All frames of a customer in one VLAN, with the tags that they have.
    Dot1qTunnel,
}

/// A Port's `other_config:priority-tags`: what becomes of a tag that has only a priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PriorityTags {
    /// It is taken off.
    #[default]
    Never,
    /// It stays if the priority is not 0; a frame that came in with a priority leaves with one.
    IfNonzero,
    /// It stays; a frame that a port assigned to VLAN 0 leaves with one.
    Always,
}

/// The VLAN columns of a Port, as the user set them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VlanConfig {
    /// `vlan_mode`; without it, access if there is a tag, else trunk.
    pub mode: Option<Mode>,
    /// `tag`.
    pub tag: Option<u16>,
    /// `trunks`; empty for all VLANs.
    pub trunks: Vec<u16>,
    /// `cvlans`; empty for all customer VLANs.
    pub cvlans: Vec<u16>,
    /// `other_config:qinq-ethtype` is `802.1q`: the tunnel's own tag is an 0x8100 one, not 0x88a8.
    pub qinq_8021q: bool,
    /// `other_config:priority-tags`.
    pub priority_tags: PriorityTags,
}

/// A set of VLANs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanSet([u64; VLANS / 64]);

impl VlanSet {
    /// No VLAN.
    pub const EMPTY: Self = Self([0; VLANS / 64]);
    /// Every VLAN, 0 and 4095 included.
    pub const ALL: Self = Self([!0; VLANS / 64]);

    /// True if `vlan` is in the set.
    #[inline]
    pub fn contains(&self, vlan: u16) -> bool {
        self.0.get(usize::from(vlan >> 6)).is_some_and(|word| word >> (vlan & 63) & 1 != 0)
    }

    /// Puts `vlan` in or takes it out. Numbers above 4095 are no VLANs: nothing happens.
    pub fn set(&mut self, vlan: u16, on: bool) {
        if let Some(word) = self.0.get_mut(usize::from(vlan >> 6)) {
            let bit = 1 << (vlan & 63);
            *word = if on { *word | bit } else { *word & !bit };
        }
    }

    /// The VLANs in the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0..).step_by(64).zip(self.0).flat_map(|(first, mut left)| {
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as u16;
                left &= left.wrapping_sub(1);
                (bit < 64).then_some(first + bit)
            })
        })
    }
}

impl FromIterator<u16> for VlanSet {
    fn from_iter<I: IntoIterator<Item = u16>>(vlans: I) -> Self {
        let mut set = Self::EMPTY;
        vlans.into_iter().for_each(|vlan| set.set(vlan, true));
        set
    }
}

/// What a port does with VLANs: compiled from a [`VlanConfig`]. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanPolicy {
    mode: Mode,
    priority_tags: PriorityTags,
    /// The access, native or tunnel VLAN.
    vlan: u16,
    tunnel_tpid: u16,
    /// `None` for all.
    trunks: Option<Arc<VlanSet>>,
    /// `None` for all.
    cvlans: Option<Arc<VlanSet>>,
}

impl Default for VlanPolicy {
    fn default() -> Self {
        Self::new(&VlanConfig::default())
    }
}

/// The VLAN that a frame was found to belong to, and what became of its outermost tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classified {
    /// The bridge's VLAN.
    pub vlan: u16,
    /// TPID of the VLAN's tag, should the frame leave with one; 0 if neither the frame nor the port brought one.
    pub tpid: u16,
    /// Priority of that tag.
    pub pcp: u8,
    /// How many of the tags on the frame (0 or 1) the VLAN replaces; those behind are the customer's.
    pub replaced: u8,
}

/// The tags a frame leaves with: so many of those it has go, and these come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagEdit {
    /// Octets to take off after the addresses.
    pub strip: usize,
    /// Tags to put in their place, outermost first.
    pub push: ArrayVec<Tag, 3>,
}

impl TagEdit {
    /// The change that this one and then `next` come to.
    pub fn then(&self, next: &TagEdit) -> TagEdit {
        let own = self.push.len() * TAG;
        let mut push = next.push.clone();
        for tag in &self.push[next.strip.min(own) / TAG..] {
            // A port puts one tag on at most, and takes off what another one put there before it puts on its own.
            let fits = push.try_push(*tag).is_ok();
            debug_assert!(fits, "more tags than a frame may get");
        }
        TagEdit { strip: self.strip + next.strip.saturating_sub(own), push }
    }

    /// The tags of a frame that had `tags` before, as far as they are told apart.
    pub fn applied(&self, tags: &Tags) -> Tags {
        let list = tags.list();
        let kept = list.get(self.strip / TAG..).unwrap_or(&[]);
        let all: ArrayVec<Tag, { 3 + PARSED_MAX }> = self.push.iter().chain(kept).copied().collect();
        Tags::new(&all)
    }
}

/// How many VLANs a port carries: what a table of members is built from.
#[derive(Clone, Copy, Debug)]
pub enum Carried<'a> {
    /// This one.
    One(u16),
    /// All.
    All,
    /// These.
    Set(&'a VlanSet),
}

impl Carried<'_> {
    /// True if some VLAN is carried by both.
    pub fn meets(&self, other: &Carried<'_>) -> bool {
        match (self, other) {
            (Carried::One(one), Carried::One(other)) => one == other,
            (Carried::One(vlan), Carried::Set(set)) | (Carried::Set(set), Carried::One(vlan)) => set.contains(*vlan),
            (Carried::Set(set), Carried::Set(other)) => set.iter().any(|vlan| other.contains(vlan)),
            (Carried::All, _) | (_, Carried::All) => true,
        }
    }
}

impl VlanPolicy {
    /// Compiles what the user asked for, with Open vSwitch's defaults: the mode from whether there is a tag; no tag is VLAN
    /// 0; a native VLAN other than 0 is always among the trunks, and VLAN 0 then never is. What a mode has no use for makes
    /// no difference.
    pub fn new(config: &VlanConfig) -> Self {
        let mode = config.mode.unwrap_or(if config.tag.is_some() { Mode::Access } else { Mode::Trunk });
        let tag = config.tag.filter(|tag| usize::from(*tag) < VLANS && mode != Mode::Trunk);
        let vlan = tag.unwrap_or(0);
        let set = |vlans: &[u16], used: bool| (used && !vlans.is_empty()).then(|| vlans.iter().copied().collect());
        let mut trunks: Option<VlanSet> = set(&config.trunks, !matches!(mode, Mode::Access | Mode::Dot1qTunnel));
        let cvlans: Option<VlanSet> = set(&config.cvlans, mode == Mode::Dot1qTunnel);
        if matches!(mode, Mode::NativeTagged | Mode::NativeUntagged) && vlan != 0 {
            let set = trunks.get_or_insert(VlanSet::ALL);
            set.set(vlan, true);
            set.set(0, false);
        }
        Self {
            mode,
            priority_tags: config.priority_tags,
            vlan,
            tunnel_tpid: if config.qinq_8021q { TPID_8021Q } else { TPID_8021AD },
            trunks: trunks.map(Arc::new),
            cvlans: cvlans.map(Arc::new),
        }
    }

    /// The mode in force.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    #[inline]
    fn trunks(&self, vlan: u16) -> bool {
        self.trunks.as_ref().is_none_or(|set| set.contains(vlan))
    }

    #[inline]
    fn allows_customer(&self, vlan: u16) -> bool {
        self.cvlans.as_ref().is_none_or(|set| set.contains(vlan))
    }

    /// Which VLANs leave by the port (what [`VlanPolicy::carries`] says of frames without a customer's tag, but for
    /// `cvlans`).
    pub fn carried(&self) -> Carried<'_> {
        match (self.mode, &self.trunks) {
            (Mode::Access | Mode::Dot1qTunnel, _) => Carried::One(self.vlan),
            (_, None) => Carried::All,
            (_, Some(set)) => Carried::Set(set),
        }
    }

    /// The VLAN of a frame that came in by the port with `tags`, or why it may not come in.
    #[inline]
    pub fn ingress(&self, tags: &Tags) -> Result<Classified, Reason> {
        let outer = tags.get(0).unwrap_or_default();
        let vid = outer.vid();
        let tpid = if tags.count() == 0 { TPID_8021Q } else { outer.tpid };
        let own = Classified { vlan: vid, tpid, pcp: outer.pcp(), replaced: tags.count().min(1) as u8 };
        match self.mode {
            Mode::Access if vid != 0 => Err(Reason::TaggedOnAccess),
            Mode::Access => Ok(Classified { vlan: self.vlan, ..own }),
            Mode::NativeTagged | Mode::NativeUntagged if vid == 0 => Ok(Classified { vlan: self.vlan, ..own }),
            Mode::Trunk | Mode::NativeTagged | Mode::NativeUntagged if !self.trunks(vid) => Err(Reason::IngressVlan),
            Mode::Trunk if tags.count() == 0 => Ok(Classified { tpid: 0, ..own }),
            Mode::Trunk | Mode::NativeTagged | Mode::NativeUntagged => Ok(own),
            Mode::Dot1qTunnel if !self.allows_customer(vid) => Err(Reason::IngressCvlan),
            Mode::Dot1qTunnel => Ok(Classified { vlan: self.vlan, tpid: self.tunnel_tpid, pcp: 0, replaced: 0 }),
        }
    }

    /// True if a frame of VLAN `as_.vlan` with `tags` may leave by the port.
    #[inline]
    pub fn carries(&self, as_: &Classified, tags: &Tags) -> bool {
        let customer = tags.get(usize::from(as_.replaced)).unwrap_or_default().vid();
        match self.mode {
            Mode::Access => {
                as_.vlan == self.vlan && tags.list().iter().skip(as_.replaced.into()).all(|tag| tag.vid() == 0)
            }
            Mode::Trunk | Mode::NativeTagged | Mode::NativeUntagged => self.trunks(as_.vlan),
            Mode::Dot1qTunnel => as_.vlan == self.vlan && self.allows_customer(customer),
        }
    }

    /// With which tags a frame that came in with `tags` leaves by the port; `None` if it may not.
    #[inline]
    pub fn egress(&self, as_: &Classified, tags: &Tags) -> Option<TagEdit> {
        self.carries(as_, tags).then(|| self.form(as_, tags))
    }

    /// The tags with which a frame leaves by the port, whether it carries the VLAN or not: a mirror's output takes all.
    #[inline]
    pub fn form(&self, as_: &Classified, tags: &Tags) -> TagEdit {
        let list = tags.list();
        let behind = &list[usize::from(as_.replaced).min(list.len())..];
        // No TPID is 0, the only number below that of an 802.1Q tag.
        let vlan_tag = Tag::new(as_.tpid.max(TPID_8021Q), as_.vlan, as_.pcp);
        // The tags to leave with, outermost first: perhaps the VLAN's, perhaps the customer's.
        let mut out = ArrayVec::<Tag, { PARSED_MAX + 1 }>::new();
        match self.mode {
            Mode::Access => {}
            Mode::NativeUntagged if as_.vlan == self.vlan => out.extend(behind.iter().copied()),
            Mode::Dot1qTunnel => out.extend(behind.iter().copied()),
            Mode::Trunk | Mode::NativeTagged | Mode::NativeUntagged => {
                out.push(vlan_tag);
                out.extend(behind.iter().copied());
            }
        }
        self.prioritise(&mut out, as_, tags);
        difference(&list, &out)
    }

    /// Puts a priority tag on, or takes an empty one off.
    #[inline]
    fn prioritise(&self, out: &mut ArrayVec<Tag, { PARSED_MAX + 1 }>, as_: &Classified, tags: &Tags) {
        if self.priority_tags != PriorityTags::Never {
            let pcp = tags.get(0).unwrap_or_default().pcp();
            match out.first_mut() {
                Some(tag) => tag.tci = tag.tci & 0x1fff | u16::from(pcp) << 13,
                None if pcp != 0 => out.push(Tag::new(TPID_8021Q, 0, pcp)),
                None => {}
            }
        }
        let keep = self.priority_tags == PriorityTags::Always && as_.tpid != 0;
        // The innermost tag is the outermost that came in, or the only one that would leave: it carries nothing.
        let only_one_came_in = as_.replaced == 0 && tags.count() == 1;
        while !keep
            && (out.len() == 1 || only_one_came_in)
            && out.last().is_some_and(|tag| tag.vid() == 0 && tag.pcp() == 0)
        {
            out.pop();
        }
    }
}

/// What to do to `have` so that it becomes `want`: tags that both end with stay where they are, drop eligibility and all.
#[inline]
fn difference(have: &[Tag], want: &[Tag]) -> TagEdit {
    let same = |a: &&Tag, b: &&Tag| a.tpid == b.tpid && (a.tci ^ b.tci) & 0xefff == 0;
    let kept = have.iter().rev().zip(want.iter().rev()).take_while(|(a, b)| same(a, b)).count();
    TagEdit { strip: (have.len() - kept) * TAG, push: want[..want.len() - kept].iter().copied().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(mode: Mode, tag: u16, trunks: &[u16]) -> VlanPolicy {
        VlanPolicy::new(&VlanConfig {
            mode: Some(mode),
            tag: Some(tag),
            trunks: trunks.to_vec(),
            ..VlanConfig::default()
        })
    }

    #[test]
    fn the_mode_follows_from_the_tag() {
        assert_eq!(VlanPolicy::default().mode(), Mode::Trunk);
        let tagged = VlanPolicy::new(&VlanConfig { tag: Some(7), trunks: vec![8], ..VlanConfig::default() });
        assert_eq!(tagged.mode(), Mode::Access);
        assert!(matches!(tagged.carried(), Carried::One(7)));
        assert!(matches!(VlanPolicy::default().carried(), Carried::All));
    }

    #[test]
    fn a_native_vlan_is_always_trunked_and_vlan_0_then_never() {
        for mode in [Mode::NativeTagged, Mode::NativeUntagged] {
            let native = policy(mode, 10, &[0, 12]);
            let Carried::Set(set) = native.carried() else { panic!("a set") };
            assert_eq!(set.iter().collect::<Vec<_>>(), [10, 12]);
            let native = policy(mode, 10, &[]);
            let Carried::Set(set) = native.carried() else { panic!("a set") };
            assert_eq!(set.iter().count(), 4095);
        }
        assert!(matches!(policy(Mode::NativeTagged, 0, &[]).carried(), Carried::All));
    }

    #[test]
    fn ports_meet_in_a_vlan_that_both_carry() {
        let access = policy(Mode::Access, 10, &[]);
        let some = policy(Mode::Trunk, 0, &[10, 11]);
        let others = policy(Mode::Trunk, 0, &[11, 12]);
        let all = VlanPolicy::default();
        let meet = |a: &VlanPolicy, b: &VlanPolicy| {
            assert_eq!(a.carried().meets(&b.carried()), b.carried().meets(&a.carried()));
            a.carried().meets(&b.carried())
        };
        assert!(meet(&access, &access) && meet(&access, &some) && meet(&some, &others) && meet(&all, &others));
        assert!(!meet(&access, &others) && !meet(&access, &policy(Mode::Access, 11, &[])));
        assert!(!meet(&some, &policy(Mode::Trunk, 0, &[12, 13])));
    }

    #[test]
    fn an_unchanged_tag_is_not_touched() {
        let trunk = VlanPolicy::default();
        let tags = Tags::new(&[Tag { tpid: TPID_8021Q, tci: 0xb0b5 }]);
        let as_ = trunk.ingress(&tags).unwrap();
        assert_eq!(trunk.egress(&as_, &tags), Some(TagEdit::default()));
    }

    #[test]
    fn an_empty_outer_tag_does_not_expose_the_next_one() {
        let trunk = VlanPolicy::default();
        let tags = Tags::new(&[Tag::new(TPID_8021Q, 0, 0), Tag::new(TPID_8021Q, 20, 0)]);
        let as_ = trunk.ingress(&tags).unwrap();
        assert_eq!(as_.vlan, 0);
        assert_eq!(trunk.egress(&as_, &tags), Some(TagEdit::default()));
    }
}
