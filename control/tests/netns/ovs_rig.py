"""Which frames leave which ports of Open vSwitch and of shunt, and where do the two differ? What sends, receives and compares.

Every frame is sent into the same port of both switches; what comes out is compared, byte for byte but for padding to 60
octets. Open vSwitch is right, unless WANTED says otherwise.
"""

import collections
import re
import select
import socket
import subprocess
import time

import frames
from frames import mac, tags_to_bytes

SO_RCVBUFFORCE = 33
MARKER_TYPE = b"\x88\xb6"  # IEEE 802 local experimental ethertype 2
MARKER_VLAN = 4090
MARKER = "02:ff:00:00:00:01"
CHUNK = 48  # frames in flight into one port: what the kernel queues for a socket by default holds them
GRACE_S = 0.3  # how long a switch may be late before a frame counts as lost

# The table of ports: name, columns. The first two are for markers, which tell that all before them has come out.
PORTS = [
    ("marker in", f"tag={MARKER_VLAN}"),
    ("marker out", f"tag={MARKER_VLAN}"),
    ("trunk", ""),
    ("trunk 10,12", "trunks=10,12"),
    ("trunk 0,11", "trunks=0,11"),
    ("trunk with tag 10", "vlan_mode=trunk tag=10"),
    ("trunk if-nonzero", "other_config:priority-tags=if-nonzero"),
    ("trunk always", "other_config:priority-tags=always"),
    ("access 10", "tag=10"),
    ("access 10 if-nonzero", "tag=10 other_config:priority-tags=if-nonzero"),
    ("access 10 always", "tag=10 other_config:priority-tags=always"),
    ("access 0", "vlan_mode=access tag=0"),
    ("access without tag", "vlan_mode=access"),
    ("access 4095", "tag=4095"),
    ("access 11, trunks ignored", "tag=11 trunks=10,12"),
    ("native-tagged 10", "vlan_mode=native-tagged tag=10"),
    ("native-tagged 10 trunks 10,11", "vlan_mode=native-tagged tag=10 trunks=10,11"),
    ("native-tagged 10 trunks 0,12 always", "vlan_mode=native-tagged tag=10 trunks=0,12 other_config:priority-tags=always"),
    ("native-tagged without tag", "vlan_mode=native-tagged"),
    ("native-untagged 10", "vlan_mode=native-untagged tag=10"),
    ("native-untagged 10 trunks 10,11 if-nonzero",
     "vlan_mode=native-untagged tag=10 trunks=10,11 other_config:priority-tags=if-nonzero"),
    ("native-untagged 10 trunks 0,12 always",
     "vlan_mode=native-untagged tag=10 trunks=0,12 other_config:priority-tags=always"),
    ("native-untagged without tag", "vlan_mode=native-untagged"),
    ("tunnel 10", "vlan_mode=dot1q-tunnel tag=10"),
    ("tunnel 10 cvlans 11,20", "vlan_mode=dot1q-tunnel tag=10 cvlans=11,20"),
    ("tunnel 10 cvlans 0,11 802.1q", "vlan_mode=dot1q-tunnel tag=10 cvlans=0,11 other_config:qinq-ethtype=802.1q"),
    ("tunnel 10 802.1q if-nonzero",
     "vlan_mode=dot1q-tunnel tag=10 other_config:qinq-ethtype=802.1q other_config:priority-tags=if-nonzero"),
    ("tunnel 12 always", "vlan_mode=dot1q-tunnel tag=12 other_config:priority-tags=always"),
    ("tunnel without tag", "vlan_mode=dot1q-tunnel"),
    ("access 10 protected", "tag=10 protected=true"),
    ("trunk protected", "protected=true"),
]

CUT_SHORT = ["8100000a8100000b", "8100000a8100000b08", "8100000a88a80000"]

BROADCAST = "ff:ff:ff:ff:ff:ff"



class Port:
    """What the rules below must know of a port."""

    def __init__(self, columns):
        self.columns = dict(column.split("=", 1) for column in columns.split() if not column.startswith("other"))
        tag = "tag" in self.columns
        self.mode = self.columns.get("vlan_mode", "access" if tag else "trunk")
        self.tag = int(self.columns.get("tag", 0))

    def excludes(self, behind):
        """A customer's tags do not fit: the port would strip one, or it is not among those that it takes."""
        if self.mode == "access":
            return any(vid(tag) for tag in behind)
        cvlans = [int(vlan) for vlan in self.columns.get("cvlans", "").split(",") if vlan]
        return self.mode == "dot1q-tunnel" and cvlans and (vid(behind[0]) if behind else 0) not in cvlans


def vid(tag):
    return int(re.search(r"\d+", tag)[0])


def tags_of(text):
    """`10p5/20 88b5` as a list of tags."""
    tags = text.split()[0]
    return [] if tags == "untagged" else tags.split("/")


def ends_with(tags, behind):
    """The customer's tags are all there, whatever priority-tags made of their priorities."""
    plain = [re.sub(r"p\d", "", tag) for tag in tags]
    return plain[len(plain) - len(behind):] == [re.sub(r"p\d", "", tag) for tag in behind] and len(plain) >= len(behind)


def kept_inner_tag(case):
    """Open vSwitch has lost one of the customer's tags; shunt sent all of them, or nothing where they do not fit."""
    behind = case.behind()
    whole = [all(ends_with(tags_of(frame), behind) for frame in sent) for sent in (case.ovs, case.shunt)]
    fewer = sum(len(tags_of(frame)) for frame in case.ovs) < sum(len(tags_of(frame)) for frame in case.shunt)
    if not behind or not whole[1] or whole[0] and case.ovs and not fewer:
        return False
    if not case.shunt:
        return case.out.excludes(behind)
    return len(case.ovs) == len(case.shunt) or not case.ovs and "cvlans" in case.out.columns and not case.out.excludes(behind)


# Differences that are meant. Everything else must be equal.
WANTED = [
    ("drop eligibility stays as it was (802.1Q-2022 6.9.3); Open vSwitch loses it when it reads from a socket",
     lambda case: case.text.startswith("10d ") and case.ovs == case.shunt),
    ("a tag cut short behind another is dropped: padding would complete it into a tag that nobody has checked",
     lambda case: case.text.split()[-1] in CUT_SHORT and not case.shunt),
    ("a customer's tag is never lost; Open vSwitch drops it behind an empty tag, on access ports, or as the third",
     kept_inner_tag),
    ("known unicast obeys the VLANs of the port as flooded frames do; Open vSwitch sends it by any port that it learned",
     lambda case: case.title.endswith("to known hosts") and not case.shunt and case.out.excludes(case.behind())),
    ("a port gets a packet once; Open vSwitch sends one copy for each role that it has in multicast",
     lambda case: not case.shunt and case.both and set(case.ovs) <= set(case.both)),
    ("no frame leaves an access port of another VLAN; Open vSwitch floods multicast to mcast-snooping-flood ports of any",
     lambda case: not case.shunt and case.out.mode == "access" and case.out.tag != case.vlan()),
]


class Case:
    """One probe and one port where what came out is different."""

    def __init__(self, title, text, source, out, sent):
        self.title, self.text = title, text
        self.ovs, self.shunt, self.both = map(sorted, sent)
        self.names = PORTS[source][0], PORTS[out][0]
        self.source, self.out = Port(PORTS[source][1]), Port(PORTS[out][1])

    def vlan(self):
        """The bridge's VLAN."""
        outer = vid(tags_of(self.text)[0]) if tags_of(self.text) else 0
        if self.source.mode == "trunk" or self.source.mode.startswith("native") and outer:
            return outer
        return self.source.tag

    def behind(self):
        """The customer's tags: all that the switch does not take for its own."""
        tags = [tag.removesuffix("d") for tag in tags_of(self.text)]
        return tags if self.source.mode == "dot1q-tunnel" else tags[1:]

    def __str__(self):
        return (f"{self.title}: {self.text} in on [{self.names[0]}], out of [{self.names[1]}]: "
                f"OVS {self.ovs or '-'}, shunt {self.shunt or '-'}")


class Switches:
    """Both switches: their ports' far ends, and their commands."""

    def __init__(self, ovs, shunt):
        self.ovs, self.shunt = ovs, shunt
        self.sockets = {side: [self.open(f"{side}{n}p") for n in range(len(PORTS))] for side in "os"}
        self.poll = select.epoll()
        self.owner = {}
        for side, sockets in self.sockets.items():
            for n, sock in enumerate(sockets):
                self.owner[sock.fileno()] = (side, n, sock)
                self.poll.register(sock.fileno(), select.EPOLLIN)
        self.marker = 0

    @staticmethod
    def open(device):
        sock = frames.packet_socket(f"host:{device}")
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
        sock.setblocking(False)
        return sock

    def vsctl(self, *words):
        """The same ovs-vsctl command for both; OVS's ports are oN, shunt's sN: write @N. Other words with @ stay."""
        for side, db in ("o", f"unix:{self.ovs}/db.sock"), ("s", f"unix:{self.shunt}"):
            line = [re.sub(r"@(?=br|\d)", side, word) for word in words]
            subprocess.run(["ovs-vsctl", f"--db={db}", "--timeout=30", *line], check=True, stdout=subprocess.DEVNULL)

    def appctl(self, side, *words):
        target = f"{self.ovs}/vswitchd.ctl" if side == "o" else self.shunt
        words = [word.replace("@", side) for word in words]
        return subprocess.run(["ovs-appctl", "-t", target, *words], check=True, capture_output=True, text=True).stdout

    def fdb(self, side):
        """Port number, VLAN and MAC of each entry."""
        rows = [line.split() for line in self.appctl(side, "fdb/show", "@br").splitlines()[1:]]
        return sorted((port, int(vlan), address, age == "static") for port, vlan, address, age in rows if address != MARKER)

    def flush(self):
        for side in "os":
            self.appctl(side, "fdb/flush", "@br")
        self.forget_flows()

    def forget_flows(self):
        """Open vSwitch keeps decisions on frames that it has seen for up to a second: make it decide anew."""
        self.appctl("o", "revalidator/purge")

    def collect(self, got, seconds, done):
        """Receives into got[side][port] until `done` or nothing comes for so long."""
        quiet = time.monotonic() + seconds
        while not done() and (left := quiet - time.monotonic()) > 0:
            for fd, _ in self.poll.poll(left):
                side, n, sock = self.owner[fd]
                for _ in range(64):
                    try:
                        frame = frames.receive(sock)
                    except BlockingIOError:
                        break
                    if frame is None:
                        continue
                    quiet = time.monotonic() + seconds
                    if frame[6:12] == mac(MARKER):
                        if n == 1:
                            self.seen[side] = max(self.seen[side], int.from_bytes(frame[14:18], "big"))
                    else:
                        got[side][n][frame.ljust(60, b"\0")] += 1

    def exchange(self, chunk):
        """Sends (port, frame)s into both switches; returns what came out: {side: [Counter of frames by port]}."""
        got = {side: [collections.Counter() for _ in PORTS] for side in "os"}
        for port, frame in chunk:
            for side in "os":
                self.sockets[side][port].send(frame)
        # A switch may look at the markers' port before the others': only a second marker, sent when the first is through,
        # comes after a whole round. Open vSwitch takes 32 frames a round from a port.
        for _ in range(2 + len(chunk) // 32):
            self.marker += 1
            self.seen = {"o": 0, "s": 0}
            frame = mac(BROADCAST) + mac(MARKER) + MARKER_TYPE + self.marker.to_bytes(4, "big") + bytes(42)
            for side in "os":
                self.sockets[side][0].send(frame)
            self.collect(got, 5, lambda: all(seen == self.marker for seen in self.seen.values()))
            if any(seen != self.marker for seen in self.seen.values()):
                raise SystemExit(f"a marker did not come through: {self.seen}, wanted {self.marker}")
        self.collect(got, 0.001, lambda: False)
        return got

    def more(self, got, settled):
        """Gives late frames a chance, as long as it is not `settled`."""
        deadline = time.monotonic() + GRACE_S
        while not settled() and time.monotonic() < deadline:
            self.collect(got, 0.02, lambda: False)


class Judge:
    """Compares, and keeps what is different."""

    def __init__(self, switches):
        self.switches = switches
        self.probes = self.copies = 0
        self.faults = []
        self.meant = collections.Counter()

    def run(self, title, probes):
        """Probes: (port, text, frame). A frame is known by its source address, which no other of its chunk has."""
        before = time.monotonic(), self.copies
        for start in range(0, len(probes), CHUNK):
            chunk = probes[start:start + CHUNK]
            got = self.switches.exchange([(port, frame) for port, _, frame in chunk])
            self.switches.more(got, lambda: not self.compare(title, chunk, got)[0])
            faults, meant = self.compare(title, chunk, got)
            self.faults += faults
            self.meant.update(meant)
            self.copies += sum(sum(port.values()) for port in got["o"])
        self.probes += len(probes)
        if len(probes) > 1:
            print(f"{title}: {len(probes)} frames, {self.copies - before[1]} copies, {time.monotonic() - before[0]:.1f} s", flush=True)

    @staticmethod
    def compare(title, chunk, got):
        """What is wrong, and the reasons for what is different and meant."""
        known = {frame[6:12]: (port, text) for port, text, frame in chunk}
        faults, meant = [], []
        for n in range(len(PORTS)):
            o, s = got["o"][n], got["s"][n]
            if o == s:
                continue
            by_source = collections.defaultdict(lambda: ([], [], []))
            for index, side in enumerate((o - s, s - o, o & s)):
                for frame, count in side.items():
                    by_source[frame[6:12]][index].extend([show(frame)] * count)
            for source, sent in by_source.items():
                if not sent[0] and not sent[1]:
                    continue
                port, text = known.get(source, (0, "a frame that nobody sent"))
                case = Case(title, text, port, n, sent)
                reason = next((reason for reason, rule in WANTED if rule(case)), None)
                (meant.append(reason) if reason else faults.append(str(case)))
        return faults, meant

    def compare_fdb(self, title):
        """Both have learned the same, if not at once then soon: Open vSwitch learns some of it after the fact."""
        deadline = time.monotonic() + GRACE_S
        while (o := self.switches.fdb("o")) != (s := self.switches.fdb("s")) and time.monotonic() < deadline:
            time.sleep(0.05)
        for side, rows, others in ("OVS", o, s), ("shunt", s, o):
            self.faults += [f"{title}: fdb/show: only {side} has {row}" for row in rows if row not in others]
        print(f"{title}: {len(o)} FDB entries", flush=True)

    def compare_mirror(self, title):
        """Both mirrors have taken the same; Open vSwitch knows within 5 s."""
        def taken(db):
            line = ["ovs-vsctl", f"--db={db}", "--timeout=30", "get", "Mirror", "m0", "statistics"]
            return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()

        deadline = time.monotonic() + 12
        o = s = "{}"
        while (o != s or o == "{}") and time.monotonic() < deadline:
            o, s = taken(f"unix:{self.switches.ovs}/db.sock"), taken(f"unix:{self.switches.shunt}")
            time.sleep(0.1)
        self.faults += [f"{title}: statistics: OVS {o}, shunt {s}"] if o != s or o == "{}" else []
        print(f"{title}: {o}", flush=True)

    def report(self):
        print(f"{self.probes} frames, {self.copies} copies")
        for reason, count in self.meant.items():
            print(f"meant, {count} times: {reason}")
        for fault in self.faults[:1000]:
            print(f"DIFFERENT {fault}")
        print(f"{len(self.faults)} differences")
        return 1 if self.faults else 0


def mac_text(octets):
    return ":".join(f"{octet:02x}" for octet in octets)


def show(frame):
    tags, kind, _ = frames.split_tags(frame)
    return f"{tags} {kind:04x}"


class Sources:
    """Addresses that no other probe has."""

    def __init__(self):
        self.number = 0

    def next(self):
        self.number += 1
        return b"\x02\x10" + self.number.to_bytes(4, "big")


def dei(tags):
    """`10d`: as frames.py writes tags, with the drop eligible bit."""
    if not tags.endswith("0d"):
        return tags_to_bytes(tags)
    octets = bytearray(tags_to_bytes(tags[:-1]))
    octets[2] |= 0x10
    return bytes(octets)


def probe(sources, port, tags, to=BROADCAST, source=None, payload=0):
    """One frame of 60 octets, or with so much payload."""
    frame = mac(to) + (source or sources.next()) + dei(tags) + b"\x88\xb5"
    number = sources.number.to_bytes(4, "big")
    return port, f"{tags} to {to}", frame + number + bytes(max(60 - len(frame), payload) - len(number))


USERS = range(2, len(PORTS))


def configure(switches):
    words = []
    for n, (_, columns) in enumerate(PORTS):
        words += ["--", "add-port", "@br", f"@{n}", *columns.split(), "--", "set", "Interface", f"@{n}", f"ofport_request={n + 1}"]
    switches.vsctl("set", "Bridge", "@br", "other_config:mac-table-size=100000", *words)
    for side, db in ("o", f"unix:{switches.ovs}/db.sock"), ("s", f"unix:{switches.shunt}"):
        line = ["ovs-vsctl", f"--db={db}", "--timeout=30", "--columns=name,error", "-f", "csv", "find", "Interface", "error!=[]"]
        errors = subprocess.run(line, check=True, capture_output=True, text=True).stdout
        if len(errors.splitlines()) > 1:
            raise SystemExit(f"ports that are not attached ({side}):\n{errors}")
