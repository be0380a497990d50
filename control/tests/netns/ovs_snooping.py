"""Do Open vSwitch and shunt deliver multicast alike when they snoop? Reports, queries, leaves and data; after each step mdb/show."""

import ipaddress
import time

from frames import checksum, mac
from ovs_rig import GRACE_S, PORTS, USERS, dei

QUERY, REPORT1, REPORT2, LEAVE, REPORT3, DVMRP = 0x11, 0x12, 0x16, 0x17, 0x22, 0x13
MLD_QUERY, MLD_REPORT, MLD_DONE, MLD_REPORT2, ECHO = 130, 131, 132, 143, 128
GROUPS = ["239.1.1.1", "239.1.1.2", "232.0.0.7", "ff05::1:3", "ff0e::7"]
SHAPES = ["untagged", "10", "11", "12p3", "ad10", "10/20"]
HOST, NOBODY = "10.0.0.1", "0.0.0.0"


def number(name):
    return [n for n, port in enumerate(PORTS) if port[0] == name][0]


def address(text):
    return ipaddress.ip_address(text).packed


def packet(source, destination, protocol, message):
    """EtherType and packet, with a router alert as RFC 2236 and 2710 have it."""
    a, b = address(source), address(destination)
    if len(b) == 4:
        head = bytes([0x46, 0xC0]) + (24 + len(message)).to_bytes(2, "big") + bytes([0, 0, 0, 0, 1, protocol])
        rest = a + b + b"\x94\x04\0\0"
        return b"\x08\x00" + head + checksum(head + b"\0\0" + rest).to_bytes(2, "big") + rest + message
    head = b"\x60\0\0\0" + (8 + len(message)).to_bytes(2, "big") + b"\0\x01"
    return b"\x86\xdd" + head + a + b + bytes([protocol, 0, 5, 2, 0, 0, 1, 0]) + message


def control(kind, group, body=b"", source=None, to=None, damage=0):
    """An IGMP or MLD message."""
    v6 = kind >= ECHO
    source = source or ("fe80::1" if v6 else HOST)
    to = to or group
    message = bytes([kind, 0, 0, 0]) + (b"\0\0\0\0" if v6 else b"") + address(group) + body
    if kind in (REPORT3, MLD_REPORT2):
        message = bytes([kind, 0, 0, 0]) + body
    pseudo = address(source) + address(to) + len(message).to_bytes(4, "big") + b"\0\0\0\x3a" if v6 else b""
    total = checksum(pseudo + message) ^ damage
    return packet(source, to, 58 if v6 else 2, message[:2] + total.to_bytes(2, "big") + message[4:]), to


def records(kind, *entries):
    """An IGMPv3 or MLDv2 report: entries are (type, group, sources)."""
    body = b"\0\0" + len(entries).to_bytes(2, "big")
    for record, group, sources in entries:
        body += bytes([record, 0]) + len(sources).to_bytes(2, "big") + address(group) + b"".join(map(address, sources))
    return control(kind, "::" if kind == MLD_REPORT2 else "0.0.0.0", body, to="ff02::16" if kind == MLD_REPORT2 else "224.0.0.22")


def data(group, protocol=17):
    return packet("2001:db8::1" if ":" in group else HOST, group, protocol, bytes(30)), group


def group_mac(group):
    octets = address(group)
    return b"\x33\x33" + octets[12:] if len(octets) == 16 else b"\x01\x00\x5e" + bytes([octets[1] & 0x7F]) + octets[2:]


class Snooping:
    """One bridge of each switch, and the frames that go in."""

    def __init__(self, judge, sources):
        self.judge, self.switches, self.sources = judge, judge.switches, sources

    def set(self, *words):
        self.switches.vsctl("set", "Bridge", "@br", *words)

    def frame(self, port, tags, content, to=None):
        content, group = content
        frame = (to or group_mac(group)) + self.sources.next() + dei(tags) + content
        return port, f"{tags} to {group}", frame.ljust(60, b"\0")

    def step(self, title, *sent):
        """(port, tags, what) one after the other, each with what mdb/show then says."""
        for port, tags, content in sent:
            self.judge.run(title, [self.frame(number(port), tags, content)])
            self.compare(title)

    def data(self, title, groups=tuple(GROUPS), shapes=tuple(SHAPES)):
        """Everybody sends to all groups, in every shape."""
        self.compare(title)
        self.judge.run(title, [self.frame(port, tags, data(group)) for port in USERS for tags in shapes for group in groups])

    def rows(self, side):
        lines = self.switches.appctl(side, "mdb/show", "@br").splitlines()
        return [lines[0]] + sorted(" ".join(line.split()[:3]) for line in lines[1:])

    def flush(self):
        for side in "os":
            self.switches.appctl(side, "mdb/flush", "@br")
        self.compare("flushed")

    def compare(self, title):
        self.switches.forget_flows()
        deadline = time.monotonic() + GRACE_S
        while (o := self.rows("o")) != (s := self.rows("s")) and time.monotonic() < deadline:
            time.sleep(0.02)
        for side, rows, others in ("OVS", o, s), ("shunt", s, o):
            self.judge.faults += [f"{title}: mdb/show: only {side} has {row}" for row in rows if row not in others]


def run(judge, sources):
    self = Snooping(judge, sources)
    self.set("mcast_snooping_enable=true")
    self.data("snooping, nobody has asked")
    self.step("IGMP reports", ("access 10", "untagged", control(REPORT2, "239.1.1.1")),
              ("trunk", "10p5", control(REPORT1, "239.1.1.1")), ("trunk", "11", control(REPORT2, "239.1.1.1")),
              ("native-untagged 10", "untagged", records(REPORT3, (4, "239.1.1.2", []), (1, "232.0.0.7", [HOST]))),
              ("tunnel 10", "20", control(REPORT2, "239.1.1.2")), ("access 0", "untagged", control(REPORT2, "239.1.1.2")))
    self.step("MLD reports", ("access 10", "untagged", control(MLD_REPORT, "ff05::1:3")),
              ("trunk", "12", records(MLD_REPORT2, (4, "ff0e::7", []), (6, "ff05::1:3", ["2001:db8::1"]))),
              ("access 10 protected", "untagged", control(MLD_REPORT, "ff0e::7")))
    self.data("members")
    self.step("for all hosts", *[("trunk", "10", data(to)) for to in ("224.0.0.251", "224.0.1.1", "ff02::1", "ff02::fb")],
              ("trunk", "10", control(DVMRP, "224.0.0.4")), ("trunk", "10", data("224.0.0.13", 103)))
    routers(self)
    leaving(self)
    damaged(self)
    ports(self)
    tables(self)
    self.set("mcast_snooping_enable=false")
    judge.run("snooping off", [self.frame(port, "10", data(GROUPS[0])) for port in USERS])


def routers(self):
    self.step("queries", ("trunk 10,12", "10", control(QUERY, NOBODY, to="224.0.0.1")),
              ("access 10 always", "untagged", control(QUERY, NOBODY, to="224.0.0.1", source=NOBODY)),
              ("native-tagged 10", "12", control(QUERY, "239.1.1.1")),
              ("access 0", "untagged", control(MLD_QUERY, "::", to="ff02::1")),
              ("access 11, trunks ignored", "untagged", control(MLD_QUERY, "::", to="ff02::1", source="::")))
    self.step("reports to routers", ("access 10", "untagged", control(REPORT2, "239.1.1.1")),
              ("native-tagged 10", "12", control(REPORT2, "239.1.1.2")), ("trunk 10,12", "10", control(REPORT2, "239.1.1.1")),
              ("trunk", "12p7", records(MLD_REPORT2, (3, "ff0e::7", []))))
    self.data("members and routers")


def leaving(self):
    self.step("leaves", ("trunk", "11", control(LEAVE, "239.1.1.1", to="224.0.0.2")),
              ("access 10", "untagged", control(LEAVE, "239.1.1.1", to="224.0.0.2")),
              ("trunk", "10", control(LEAVE, "239.1.1.2", to="224.0.0.2")),
              ("native-untagged 10", "untagged", records(REPORT3, (3, "239.1.1.2", []), (6, "232.0.0.7", []))),
              ("access 10 protected", "untagged", control(MLD_DONE, "ff0e::7", to="ff02::2")))
    self.data("after leaves")


def damaged(self):
    whole = control(REPORT2, "239.5.5.5")[0]
    self.step("damaged", ("access 10", "untagged", control(REPORT2, "239.5.5.1", damage=1)),
              ("access 10", "untagged", control(QUERY, NOBODY, to="224.0.0.1", damage=1)),
              ("access 10", "untagged", control(MLD_REPORT, "ff0e::99", damage=1)),
              ("access 10", "untagged", records(REPORT3, (9, "239.5.5.2", []))),
              ("access 10", "untagged", (whole[:4] + b"\0\x1c" + whole[6:], "239.5.5.5")),
              ("access 10", "untagged", (whole[:4] + b"\x01\0" + whole[6:], "239.5.5.5")),
              ("access 10", "untagged", (whole[:8] + b"\x20\0" + whole[10:], "239.5.5.5")),
              ("access 10", "untagged", (b"\x08\x00\x45\x00", "239.5.5.5")),
              ("access 10", "untagged", control(REPORT2, "224.0.0.251")),
              ("access 10", "untagged", control(REPORT2, "239.5.5.6", body=b"more")))


def ports(self):
    self.switches.vsctl("set", "Port", f"@{number('access 10 if-nonzero')}", "other_config:mcast-snooping-flood=true",
                        "--", "set", "Port", f"@{number('native-tagged 10')}", "other_config:mcast-snooping-flood-reports=true")
    self.step("ports that flood", ("access 10 if-nonzero", "untagged", control(REPORT2, "239.1.1.1")),
              ("access 10 if-nonzero", "untagged", control(QUERY, NOBODY, to="224.0.0.1")),
              ("native-tagged 10", "10", control(REPORT2, "239.1.1.1")),
              ("native-tagged 10", "10", control(LEAVE, "239.1.1.1", to="224.0.0.2")),
              ("access 10", "untagged", control(REPORT2, "239.1.1.1")))
    self.data("ports that flood")
    self.set("other_config:mcast-snooping-disable-flood-unregistered=true")
    self.data("unregistered groups to routers")
    self.switches.vsctl("remove", "Bridge", "@br", "other_config", "mcast-snooping-disable-flood-unregistered",
                        "--", "remove", "Port", f"@{number('access 10 if-nonzero')}", "other_config", "mcast-snooping-flood",
                        "--", "remove", "Port", f"@{number('native-tagged 10')}", "other_config", "mcast-snooping-flood-reports")
    self.data("no such ports", GROUPS[:2])


def tables(self):
    self.flush()
    self.set("other_config:mcast-snooping-table-size=10")
    self.step("a full table", *[("trunk 10,12", "12", control(REPORT2, f"239.7.0.{n}")) for n in range(12)],
              ("trunk", "10", control(QUERY, NOBODY, to="224.0.0.1")))
    self.switches.vsctl("set", "Port", f"@{number('trunk 10,12')}", "trunks=10,11,12")
    self.compare("a port's VLANs changed")
    self.step("again", ("access 10", "untagged", control(REPORT2, "239.1.1.1")))
    self.flush()
    self.data("flushed", GROUPS[:1])
    self.switches.vsctl("set", "Port", f"@{number('trunk 10,12')}", "trunks=10,12")
