#!/usr/bin/python3
"""Which packets get which ICMP error, and which get none? All kinds of packets against all causes, both families.

icmp_errors.py NAMESPACE ROUTER-MAC              the table; NAMESPACE sends by its eth0, as 10.0.10.101 and so on. Ends with 1 if
                                                 something was wrong.
icmp_errors.py NAMESPACE ROUTER-MAC burst COUNT  COUNT packets whose hops end, at once: prints how many errors came

The router is 10.0.10.1 and 2001:db8:10::1; networks 66 are unreachable, 67 prohibited, 68 a blackhole, 69 are without a route, and in
network 20 a packet may have 1400 octets. RFC 1812 §4.3.2 and RFC 4443 §2.4 say what is right.
"""

import ipaddress
import select
import struct
import sys
import time

from frames import checksum, mac, packet_socket

MTU = 1400
UDP, TCP, ICMP, ICMPV6, FRAGMENT, UNKNOWN = 17, 6, 1, 58, 44, 253
packed = lambda text: ipaddress.ip_address(text).packed


class Family:
    def __init__(self, version):
        self.v4 = version == 4
        net = "10.0.{}." if self.v4 else "2001:db8:{:}::"
        self.me, self.router, self.other = (net.format(n) + last for n, last in ((10, "11"), (10, "1"), (20, "11")))
        self.nets = {n: f"10.{n}.0.1" if self.v4 else f"2001:db8:{n}::1" for n in (66, 67, 68, 69)}
        self.icmp = ICMP if self.v4 else ICMPV6
        self.group = "224.0.0.99" if self.v4 else "ff05::99"
        self.limit = 576 if self.v4 else 1280
        # Cause: destination, hops, longer than the MTU there, type and code of the error.
        self.causes = {
            "hops at an end": (self.other, 1, False, (11, 0) if self.v4 else (3, 0)),
            "no route": (self.nets[69], 64, False, (3, 0) if self.v4 else (1, 0)),
            "unreachable": (self.nets[66], 64, False, (3, 1) if self.v4 else (1, 0)),
            "prohibited": (self.nets[67], 64, False, (3, 13) if self.v4 else (1, 1)),
            "blackhole": (self.nets[68], 64, False, None),
            "too big": (self.other, 64, True, (3, 4) if self.v4 else (2, 0)),
            "for nobody here": (self.router, 64, False, (3, 3) if self.v4 else (1, 4)),
        }

    def speak_as(self, number):
        """The kernel sends five "unreachable" at once to an IPv4 address, whatever its settings: each packet is one of another's."""
        self.me = f"10.0.10.{100 + number}" if self.v4 else self.me

    def sum(self, source, destination, protocol, body):
        pseudo = packed(source) + packed(destination) + struct.pack("!IxxxB", len(body), protocol)
        return checksum(pseudo + body) if not self.v4 or protocol != ICMP else checksum(body)

    def packet(self, source, destination, hops, protocol, body, may_split=False, field=0):
        if self.v4:
            flags = field if field else (0 if may_split else 0x4000)
            head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 7, flags, hops, protocol, 0) + packed(source) + packed(destination)
            return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body
        return struct.pack("!IHBB", 6 << 28, len(body), protocol, hops) + packed(source) + packed(destination) + body

    def udp(self, source, destination, size=30):
        body = struct.pack("!HHHH", 1000, 9, 8 + size, 0) + bytes(size)
        return body[:6] + struct.pack("!H", self.sum(source, destination, UDP, body)) + body[8:]

    def message(self, source, destination, kind, rest):
        body = struct.pack("!BBH", kind, 0, 0) + rest
        return body[:2] + struct.pack("!H", self.sum(source, destination, self.icmp, body)) + body[4:]

    def kinds(self, to, hops, size):
        """Name: packet, what else about the frame, whether the rules allow an error about it."""
        me = self.me
        udp = lambda source=me, destination=to: self.packet(source, destination, hops, UDP, self.udp(source, destination, size))
        echo, error, redirect = (8, 3, 5) if self.v4 else (128, 1, 137)
        quoted = self.packet(to, me, 64, UDP, self.udp(to, me))
        icmp = lambda kind, rest: self.packet(me, to, hops, self.icmp, self.message(me, to, kind, rest))
        cut = self.udp(me, to, size)[: size // 8 * 8]
        piece = lambda at, more: (
            self.packet(me, to, hops, UDP, cut, field=0x2000 * more | at)
            if self.v4
            else self.packet(me, to, hops, FRAGMENT, struct.pack("!BBHI", UDP, 0, at << 3 | more, 7) + cut)
        )
        tcp = struct.pack("!HHIIBBHHH", 1000, 9, 1, 0, 0x50, 2, 1000, 0, 0) + bytes(size)
        tcp = tcp[:16] + struct.pack("!H", self.sum(me, to, TCP, tcp)) + tcp[18:]
        return {
            "UDP": (udp(), {}, True),
            "TCP": (self.packet(me, to, hops, TCP, tcp), {}, True),
            "an echo request": (icmp(echo, struct.pack("!HH", 1, 1) + bytes(size)), {}, True),
            "an ICMP error": (icmp(error, bytes(4) + quoted + bytes(max(0, size - 60))), {}, False),
            "a redirect": (icmp(redirect, packed(me)[:4] + quoted + bytes(max(0, size - 60))), {}, False),
            "a first fragment": (piece(0, 1), {}, True),
            "a later fragment": (piece(3, 0), {}, not self.v4),
            "a broadcast frame": (udp(), {"to": "ff:ff:ff:ff:ff:ff"}, False),
            "a multicast frame": (udp(), {"to": "01:00:5e:00:00:63" if self.v4 else "33:33:00:00:00:99"}, False),
            "from nobody": (udp(source="0.0.0.0" if self.v4 else "::"), {}, False),
            "from a group": (udp(source=self.group), {}, False),
            "from the loopback": (udp(source="127.0.0.1" if self.v4 else "::1"), {}, False),
            "to a group": (udp(destination=self.group), {}, False),
        }

    def wanted(self, cause, kind, is_allowed):
        error = self.causes[cause][3]
        if kind == "a redirect" and not self.v4 and cause != "for nobody here":
            return error  # RFC 4443 §2.4 (e.2) forbids it, and Linux sends it all the same
        if not is_allowed or error is None:
            return None
        if cause == "for nobody here":
            # The host itself answers an echo, resets TCP, and waits for the other fragments.
            return error if kind == "UDP" else None
        if self.v4 and cause == "too big" and "fragment" in kind:
            return None  # they may be cut further
        return error


class Wire:
    def __init__(self, namespace, router_mac):
        self.socket = packet_socket(namespace)
        self.router_mac, self.mac = mac(router_mac), self.socket.getsockname()[4]

    def send(self, family, packet, to=None):
        self.socket.send((mac(to) if to else self.router_mac) + self.mac + (b"\x08\x00" if family.v4 else b"\x86\xdd") + packet)

    def errors_until(self, family, number):
        """The ICMP messages that come before the answer to our echo request `number`: what causes one in between is behind it."""
        echo = family.message(family.me, family.router, 8 if family.v4 else 128, struct.pack("!HH", 77, number))
        ask = lambda: self.send(family, family.packet(family.me, family.router, 64, family.icmp, echo))
        errors, deadline = [], time.monotonic() + 10
        ask()
        while time.monotonic() < deadline:
            if not select.select([self.socket], [], [], 0.5)[0]:
                ask()  # a burst may have pushed it out
                continue
            frame = self.socket.recv(65536)
            body = frame[34:] if family.v4 else frame[54:]
            is_icmp = frame[12:14] == (b"\x08\x00" if family.v4 else b"\x86\xdd") and frame[23 if family.v4 else 20] == family.icmp
            if not is_icmp or (not family.v4 and body[0] in range(130, 144)):
                continue
            if body[0] == (0 if family.v4 else 129):
                if body[4:8] == struct.pack("!HH", 77, number):
                    return errors
                continue
            errors.append(frame[14:])
        raise SystemExit("the router does not answer an echo request")


def faults(family, error, wanted, packet):
    """What is wrong with an error that should be (type, code) about this packet."""
    v4 = family.v4
    source, destination = (error[12:16], error[16:20]) if v4 else (error[8:24], error[24:40])
    body = error[20 : struct.unpack_from("!H", error, 2)[0]] if v4 else error[40:]
    quoted = body[8:]
    if (body[0], body[1]) != wanted:
        yield f"type and code {body[0]}/{body[1]} instead of {wanted[0]}/{wanted[1]}"
    if source != packed(family.router) or destination != packed(family.me):
        yield f"from {ipaddress.ip_address(source)} to {ipaddress.ip_address(destination)}"
    if v4 and checksum(error[:20]) or family.sum(family.router, family.me, family.icmp, body):
        yield "a wrong checksum"
    if len(error) > family.limit:
        yield f"{len(error)} octets"
    # Of the hops nothing is said: the packet is quoted as it came, or as it would have gone.
    mask = (lambda p: p[:8] + p[9:10] + p[12:]) if v4 else (lambda p: p[:7] + p[8:])
    least = 28 if v4 else min(len(packet), 1280 - 48)
    if len(quoted) < least or mask(quoted) != mask(packet)[: len(mask(quoted))]:
        yield f"another packet is quoted: {quoted.hex()} for {packet.hex()}"
    if wanted == ((3, 4) if v4 else (2, 0)) and struct.unpack_from("!I", body, 4)[0] & 0xFFFFFFFF != MTU:
        yield f"MTU {struct.unpack_from('!I', body, 4)[0]}"


def table(wire):
    wrong = number = 0
    for version in (4, 6):
        family, seen = Family(version), {}
        for cause, (to, hops, too_big, _) in family.causes.items():
            for kind in family.kinds(to, hops, 30):
                number += 1
                family.speak_as(number)
                packet, frame, is_allowed = family.kinds(to, hops, 1390 if too_big else 30)[kind]
                wire.send(family, packet, **frame)
                errors = wire.errors_until(family, number)
                wanted = family.wanted(cause, kind, is_allowed)
                told = [fault for error in errors for fault in faults(family, error, wanted or (0, 0), packet)]
                if len(errors) != (wanted is not None) or told:
                    wrong += 1
                    print(f"  ✗ IPv{version}, {cause}, {kind}: {len(errors)} errors, wanted {wanted}: {'; '.join(told)}")
                seen[wanted] = seen.get(wanted, 0) + 1
        print(f"  IPv{version}: {sum(seen.values())} packets, by error: {seen}")
    return wrong


def burst(wire, count):
    for family in (Family(4), Family(6)):
        packet = family.packet(family.me, family.other, 1, UDP, family.udp(family.me, family.other))
        # What the other family's burst took of the port's exceptions comes back by and by: ask until one passes.
        wire.send(family, packet)
        while not wire.errors_until(family, 1):
            wire.send(family, packet)
        for _ in range(count):
            wire.send(family, packet)
        print(1 + len(wire.errors_until(family, 1)))
    return 0


if __name__ == "__main__":
    wire = Wire(*sys.argv[1:3])
    sys.exit(min(1, burst(wire, int(sys.argv[4])) if sys.argv[3:] else table(wire)))
