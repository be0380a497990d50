//! May a rule of the operator (ip-rule(8)) have forwarded packets follow other tables than `local`, `main` and `default`?
//!
//! The workers know these three only. Where there is such a rule, all packets of its family go to the kernel, which knows the
//! others: slower, but the way that they are meant to go.

use rtnetlink::packet_core::NlasIterator;
use std::collections::HashMap;

/// A rule, and whether it is of IPv6: known again by what the kernel says of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Its family.
    pub is_v6: bool,
    description: Vec<u8>,
}

/// Octets of `struct fib_rule_hdr` (`linux/fib_rules.h`).
const HEADER: usize = 12;
const INET: u8 = 2;
const INET6: u8 = 10;
/// The condition is turned round.
const INVERT: u32 = 2;
const TO_TABLE: u8 = 1;
const IIFNAME: u16 = 3;
const PRIORITY: u16 = 6;
const FWMARK: u16 = 10;
const SUPPRESS_IFGROUP: u16 = 13;
const SUPPRESS_PREFIXLEN: u16 = 14;
const TABLE: u16 = 15;
const FWMASK: u16 = 16;
const OIFNAME: u16 = 17;
const PADDING: u16 = 18;
const L3MDEV: u16 = 19;
const UID_RANGE: u16 = 20;
const PROTOCOL: u16 = 21;

impl Rule {
    /// The rule that a message's payload is about, if it may concern packets that come from others: those have no mark, no user, and
    /// no VRF device, for ours are namespaces.
    ///
    /// # Errors
    /// A text, if the message breaks its own format.
    pub fn read(payload: &[u8]) -> Result<Option<Self>, String> {
        let header = payload.get(..HEADER).ok_or("a rule without a header")?;
        let is_v6 = match header[0] {
            INET => false,
            INET6 => true,
            _ => return Ok(None),
        };
        let number = |value: &[u8]| value.try_into().map_or(0, u32::from_ne_bytes);
        let is_inverted = number(&header[8..12]) & INVERT != 0;
        let [_, to_length, from_length, tos, table, .., action] = header[..8] else { return Ok(None) };
        let (mut table, mut is_plain) = (u32::from(table), to_length == 0 && from_length == 0 && tos == 0);
        let mut concerns_others = true;
        for attribute in NlasIterator::new(&payload[HEADER..]) {
            let attribute = attribute.map_err(|error| error.to_string())?;
            let value = attribute.value();
            match attribute.kind() {
                TABLE => table = number(value),
                FWMARK if number(value) != 0 => (is_plain, concerns_others) = (false, concerns_others && is_inverted),
                OIFNAME | L3MDEV | UID_RANGE => concerns_others &= is_inverted,
                IIFNAME if value == b"lo\0" => concerns_others &= is_inverted,
                SUPPRESS_IFGROUP | SUPPRESS_PREFIXLEN if number(value) == u32::MAX => {}
                PRIORITY | FWMARK | FWMASK | PADDING | PROTOCOL => {}
                _ => is_plain = false,
            }
        }
        let is_default = is_plain && !is_inverted && action == TO_TABLE && super::rib::Table::of(table).is_some();
        let is_followed = concerns_others && !is_default;
        Ok(is_followed.then(|| Self { is_v6, description: payload.to_vec() }))
    }
}

/// Those that there are, and the last reading in which each was seen.
#[derive(Default)]
pub(super) struct Rules(HashMap<Rule, u64>);

impl Rules {
    /// For IPv4, IPv6: is there one?
    pub(super) fn are_there(&self) -> [bool; 2] {
        [false, true].map(|is_v6| self.0.keys().any(|rule| rule.is_v6 == is_v6))
    }

    pub(super) fn add(&mut self, rule: Rule, reading: u64) {
        self.0.insert(rule, reading);
    }

    pub(super) fn remove(&mut self, rule: &Rule) {
        self.0.remove(rule);
    }

    /// Forgets what the reading did not show.
    pub(super) fn sweep(&mut self, reading: u64) {
        self.0.retain(|_, seen| *seen == reading);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel writes it: to and from lengths, table, action, flags, attributes.
    fn rule(lengths: [u8; 2], table: u8, flags: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut payload = vec![INET, lengths[0], lengths[1], 0, table, 0, 0, TO_TABLE];
        payload.extend(flags.to_ne_bytes());
        for (kind, value) in attributes {
            payload.extend((value.len() as u16 + 4).to_ne_bytes());
            payload.extend(kind.to_ne_bytes());
            payload.extend(*value);
            payload.resize(payload.len().next_multiple_of(4), 0);
        }
        payload
    }

    #[test]
    fn rules_that_may_concern_packets_of_others_are_told_from_the_rest() {
        let none = u32::MAX.to_ne_bytes();
        let mark = 1_u32.to_ne_bytes();
        let usual: [(u16, &[u8]); 3] = [(PRIORITY, &mark), (SUPPRESS_PREFIXLEN, &none), (PROTOCOL, &[2])];
        let with = |more: (u16, &'static [u8])| [&usual[..], &[more]].concat();
        let concerns = |payload: &[u8]| Rule::read(payload).expect("a rule").is_some();
        for table in [255, 254, 253] {
            assert!(!concerns(&rule([0, 0], table, 0, &usual)), "the default rules");
        }
        assert!(concerns(&rule([0, 0], 100, 0, &usual)));
        assert!(concerns(&rule([0, 24], 100, 0, &with((2, &[10, 0, 10, 0])))), "from a network");
        assert!(concerns(&rule([0, 24], 254, 0, &with((2, &[10, 0, 10, 0])))), "even to a table that is known");
        assert!(concerns(&rule([0, 0], 100, 0, &with((IIFNAME, b"vlan10\0")))));
        assert!(concerns(&rule([0, 0], 254, 0, &with((SUPPRESS_PREFIXLEN, &[0; 4])))));
        assert!(!concerns(&rule([0, 0], 100, 0, &with((IIFNAME, b"lo\0")))), "what the host sends");
        assert!(!concerns(&rule([0, 0], 100, 0, &with((FWMARK, &[1, 0, 0, 0])))), "what has a mark");
        assert!(concerns(&rule([0, 0], 100, INVERT, &with((FWMARK, &[1, 0, 0, 0])))), "what has none");
        assert!(!concerns(&rule([0, 0], 0, 0, &with((L3MDEV, &[1])))));
        assert!(Rule::read(&[INET; 11]).is_err());
    }
}
