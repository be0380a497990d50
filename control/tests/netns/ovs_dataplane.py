#!/usr/bin/python3
"""Do Open vSwitch and shunt treat all frames alike? The table of frames and sequences; ovs_dataplane.sh starts this."""

import argparse
import sys

import ovs_mirrors
import ovs_snooping
from frames import mac
from ovs_rig import BROADCAST, CUT_SHORT, PORTS, USERS, Judge, Sources, Switches, configure, mac_text, probe, show

SINGLE = ["untagged", "0", "0p5", "10", "10p5", "10d", "11", "12p3", "20", "4095", "ad0", "ad0p5", "ad10", "ad11p2"]
DOUBLE = [f"{outer}/{inner}" for outer in ("0", "0p5", "10", "11p6", "12", "ad0", "ad0p5", "ad10", "ad12p1")
          for inner in ("0", "0p3", "11", "20p2", "ad20", "ad0")]
TRIPLE = ["10/11/20", "ad10/11/20", "ad10/ad11/20p3", "0/0/10", "0p1/11/0"]
# Ethertypes that end too early or look like tags: as they stand behind the addresses.
ODD = [
    bytes.fromhex("8100"), bytes.fromhex("8100000a"), bytes.fromhex("8100000a88"), bytes.fromhex("8100000a8100"),
    bytes.fromhex("8100000a810000"), bytes.fromhex("88a8000a8100"), bytes.fromhex("8100000008000000"), bytes.fromhex("9100000a0800") + bytes(46), bytes.fromhex("002e") + bytes(46),
    bytes.fromhex("0600") + bytes(46), bytes.fromhex("08000000"), bytes.fromhex("8100000a08000000"), bytes.fromhex("08060000"),
]
RESERVED = [f"01:80:c2:00:00:{last:02x}" for last in (0, 1, 2, 3, 0x0E, 0x0F, 0x10, 0x21)] + [
    "00:e0:2b:00:00:00", "00:e0:2b:00:00:04", "00:e0:2b:00:00:05", "00:e0:2b:00:00:06", "01:00:0c:00:00:00",
    "01:00:0c:cc:cc:cc", "01:00:0c:cc:cc:cd", "01:00:0c:cd:cd:cd", "01:00:0c:cc:cc:c0", "01:00:0c:cc:cc:c7",
    "01:00:0c:cc:cc:c8", "01:1b:19:00:00:00",
]
GROUPS = ["01:00:5e:00:00:01", "33:33:00:00:00:01", "33:33:ff:01:02:03", "03:00:00:00:00:01"]


def floods(sources):
    return [probe(sources, port, tags) for port in USERS for tags in SINGLE + DOUBLE + TRIPLE]


def long(sources):
    return [probe(sources, port, tags, payload=1488) for port in USERS for tags in ("untagged", "0p3", "10", "ad10/20")]


def odd(sources):
    return [odd_probe(sources, port, rest) for port in USERS for rest in ODD]


def cut_short(sources):
    return [odd_probe(sources, port, bytes.fromhex(text)) for port in USERS for text in CUT_SHORT]


def odd_probe(sources, port, rest):
    frame = mac(BROADCAST) + sources.next() + rest
    return port, f"{show(frame)} {rest.hex()}", frame


def destinations(sources, addresses):
    return [probe(sources, port, tags, to) for port in USERS for tags in ("untagged", "10") for to in addresses]


def known(judge, sources):
    """Each port has a host, known in several VLANs; everybody sends to it in every shape."""
    hosts = {port: b"\x02\x20" + port.to_bytes(4, "big") for port in USERS}
    for tags in "untagged", "10", "11", "12", "20":
        judge.run("teaching hosts", [probe(sources, port, tags, source=hosts[port]) for port in USERS])
    judge.switches.forget_flows()
    shapes = ("untagged", "0p5", "10", "11p3", "10/20", "ad10/11", "0/11")
    judge.run("to known hosts", [probe(sources, port, tags, mac_text(hosts[to]))
                                 for to in USERS for port in USERS for tags in shapes])


def options(judge, sources):
    """The bridge's own options."""
    switches = judge.switches
    switches.vsctl("set", "Bridge", "@br", "other_config:forward-bpdu=true")
    judge.run("forward-bpdu", destinations(sources, RESERVED))
    switches.vsctl("remove", "Bridge", "@br", "other_config", "forward-bpdu")
    judge.run("no forward-bpdu", destinations(sources, RESERVED[:3]))
    judge.compare_fdb("no forward-bpdu")
    switches.vsctl("set", "Bridge", "@br", "flood_vlans=10,11")
    judge.compare_fdb("flood_vlans set")
    known(judge, sources)
    judge.compare_fdb("flood_vlans")
    switches.vsctl("clear", "Bridge", "@br", "flood_vlans")
    judge.compare_fdb("flood_vlans cleared")


def learning(judge, sources):
    """What is known after hosts come, move, and ports and tables change under them."""
    switches = judge.switches
    number = {name: n for n, (name, _) in enumerate(PORTS)}
    a, b, trunk, native = (number[name] for name in ("access 10", "access 10 always", "trunk", "native-untagged 10"))
    host = [b"\x02\x30" + n.to_bytes(4, "big") for n in range(64)]

    def step(title, *frames_in):
        """Frames (port, tags, source) one after the other, then what is known."""
        for port, tags, source in frames_in:
            judge.run(title, [probe(sources, port, tags, source=source)])
            switches.forget_flows()
        judge.compare_fdb(title)

    def both(*words):
        for side in "os":
            switches.appctl(side, *words)

    switches.flush()
    step("a host moves", (a, "untagged", host[0]), (b, "0p3", host[0]), (a, "untagged", host[0]), (trunk, "10", host[0]))
    step("one host in two VLANs", (trunk, "11", host[0]), (native, "10p1", host[0]), (native, "12", host[0]))
    step("sources that are no hosts", (a, "untagged", mac("01:00:5e:00:00:01")), (a, "untagged", mac(BROADCAST)), (a, "untagged", bytes(6)))
    both("fdb/add", "@br", f"@{a}", "10", mac_text(host[1]))
    step("a static entry stays", (b, "untagged", host[1]), (b, "untagged", host[2]))
    judge.run("to a static entry", [probe(sources, port, "untagged", mac_text(host[1])) for port in (a, b, native)])
    both("fdb/flush", "@br")
    judge.compare_fdb("flushed")
    both("fdb/del", "@br", "10", mac_text(host[1]))
    judge.compare_fdb("static entry removed")
    for columns in "tag=11", "tag=10", "protected=true", "protected=false", "other_config:priority-tags=always", "trunks=5":
        step(f"before {columns}", (a, "untagged", host[3]), (trunk, "11", host[4]), (b, "untagged", host[5]))
        switches.vsctl("set", "Port", f"@{a}", columns)
        judge.compare_fdb(f"after {columns}")
    switches.vsctl("remove", "Port", f"@{a}", "other_config", "priority-tags", "--", "clear", "Port", f"@{a}", "trunks")
    switches.flush()
    switches.vsctl("set", "Bridge", "@br", "other_config:mac-table-size=12")
    step("a full table", *[(a, "untagged", source) for source in host[10:13]], *[(trunk, "10", source) for source in host[20:40]])
    switches.vsctl("set", "Bridge", "@br", "other_config:mac-table-size=10")
    switches.flush()
    switches.vsctl("set", "Bridge", "@br", "other_config:mac-table-size=20")
    step("one port's entries", *[(trunk, "11", source) for source in host[20:40]])
    switches.vsctl("set", "Bridge", "@br", "other_config:mac-table-size=10")
    step("a smaller table", (trunk, "12", host[41]))
    switches.vsctl("set", "Bridge", "@br", "other_config:mac-table-size=100000")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", action="store_true", help="print how many ports each switch needs")
    parser.add_argument("--ovs", help="Open vSwitch's run directory")
    parser.add_argument("--shunt", help="shunt's socket")
    args = parser.parse_args()
    if args.count:
        print(len(PORTS))
        return 0
    switches, sources = Switches(args.ovs, args.shunt), Sources()
    judge = Judge(switches)
    configure(switches)
    judge.run("broadcast in every shape", floods(sources))
    judge.compare_fdb("broadcast in every shape")
    judge.run("frames of 1514 octets with three tags", long(sources))
    judge.run("short and odd frames", odd(sources))
    judge.compare_fdb("short and odd frames")
    judge.run("groups and reserved addresses", destinations(sources, RESERVED + GROUPS))
    judge.compare_fdb("groups and reserved addresses")
    judge.run("tags cut short", cut_short(sources))
    switches.flush()
    known(judge, sources)
    judge.compare_fdb("to known hosts")
    options(judge, sources)
    learning(judge, sources)
    ovs_mirrors.run(judge, sources, destinations)
    ovs_snooping.run(judge, sources)
    return judge.report()


if __name__ == "__main__":
    sys.exit(main())
