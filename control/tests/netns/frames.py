#!/usr/bin/python3
"""Which frames does who get, and in what form? Raw Ethernet for the namespace stories; the standard library only.

An endpoint is NAMESPACE[:DEVICE]. `host` is the namespace of the daemon; the device is `swp1` in `leaf`, else `eth0`.
A frame's tags are written as they stand on the wire, outermost first:
  untagged   10   10p5 (PCP 5)   0p3 (priority tag)   10/20 (two 802.1Q tags)   ad10/20 (802.1ad outside)
"""

import argparse
import ctypes
import fcntl
import os
import re
import select
import signal
import socket
import struct
import sys
import time

ETH_P_ALL, ETH_P_8021Q, ETH_P_8021AD = 0x0003, 0x8100, 0x88A8
PROBE_TYPE = 0x88B5  # IEEE 802 local experimental ethertype 1
SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 263, 8, 23
TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID = 0x10, 0x40
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
CLONE_NEWNET = 0x40000000
QUIET_S = 0.4  # nothing more is expected after this long without a probe

libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """Runs a block in another network namespace."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        self.back = os.open("/proc/self/ns/net", os.O_RDONLY)
        if self.name != "host":
            there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
            switch_to(there)
            os.close(there)

    def __exit__(self, *_):
        switch_to(self.back)
        os.close(self.back)


def switch_to(fd):
    if libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def packet_socket(endpoint):
    """A raw socket bound to an endpoint, with the tags that the kernel took off reported beside the frame."""
    name, _, device = endpoint.partition(":")
    with Namespace(name):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sock.bind((device or ("swp1" if name == "leaf" else "eth0"), ETH_P_ALL))
    return sock


def receive(sock):
    """One frame as it stood on the wire: the kernel moves the outermost tag into metadata, we put it back."""
    frame, ancillary, _, address = sock.recvmsg(65536, 64)
    if address[2] == socket.PACKET_OUTGOING:
        return None
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", data[:20])
            if status & TP_STATUS_VLAN_VALID:
                tpid = tpid if status & TP_STATUS_VLAN_TPID_VALID else ETH_P_8021Q
                frame = frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]
    return frame


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def tags_to_bytes(text):
    """The tags of `text` (see the top), each four octets."""
    if text == "untagged":
        return b""
    out = b""
    for part in text.split("/"):
        ad, vid, pcp = re.fullmatch(r"(ad)?(\d+)(?:p(\d))?", part).groups()
        out += struct.pack("!HH", ETH_P_8021AD if ad else ETH_P_8021Q, int(pcp or 0) << 13 | int(vid))
    return out


def split_tags(frame):
    """The inverse: (tags as text, ethertype, payload)."""
    parts, at = [], 12
    while len(frame) >= at + 4:
        tpid, tci = struct.unpack_from("!HH", frame, at)
        if tpid not in (ETH_P_8021Q, ETH_P_8021AD):
            break
        pcp = f"p{tci >> 13}" if tci >> 13 else ""
        parts.append(("ad" if tpid == ETH_P_8021AD else "") + f"{tci & 0xFFF}{pcp}")
        at += 4
    kind = struct.unpack_from("!H", frame, at)[0] if len(frame) >= at + 2 else 0
    return "/".join(parts) or "untagged", kind, frame[at + 2 :]


def probe(_):
    """Reads a table `FROM FRAME [dst=MAC] [src=MAC] -> WHO:FRAME… | nobody` and says line by line whether it came true.

    Each line's frame goes to everybody (broadcast) unless dst= says otherwise. All frames are sent, in order, before
    anything is judged; `--` on a line of its own waits for quiet first. Endpoints listen if the table names them anywhere.
    """
    rows = []
    for line in sys.stdin:
        line = line.split("#")[0].strip()
        if line == "--":
            rows.append(None)
        elif line:
            left, _, right = line.partition("->")
            sender, tags, *options = left.split()
            wanted = sorted(w for w in right.split() if w != "nobody")
            rows.append((sender, tags, dict(o.split("=", 1) for o in options), wanted))
    names = sorted({r[0] for r in rows if r} | {w.rsplit("=", 1)[0] for r in rows if r for w in r[3]})
    sockets = {name: packet_socket(name) for name in names}
    got = [[] for _ in rows]

    def collect():
        quiet = time.monotonic() + QUIET_S
        while (left := quiet - time.monotonic()) > 0:
            ready = select.select(list(sockets.values()), [], [], left)[0]
            for name, sock in sockets.items():
                frame = receive(sock) if sock in ready else None
                if not frame:
                    continue
                form, kind, payload = split_tags(frame)
                if kind == PROBE_TYPE and payload[:5] == b"shunt" and len(payload) >= 9:
                    got[struct.unpack_from("!I", payload, 5)[0]].append(f"{name}={form}")
                    quiet = time.monotonic() + QUIET_S

    for index, row in enumerate(rows):
        if row is None:
            collect()
            continue
        sender, tags, options, _ = row
        source = options.get("src", "02:00:00:%02x:00:01" % names.index(sender))
        body = b"shunt" + struct.pack("!I", index) + bytes(int(options.get("size", 60)) - 23)
        frame = mac(options.get("dst", "ff:ff:ff:ff:ff:ff")) + mac(source) + tags_to_bytes(tags)
        sockets[sender].send(frame + struct.pack("!H", PROBE_TYPE) + body)
    collect()

    wrong = 0
    for row, seen in zip(rows, got):
        if row is None:
            continue
        sender, tags, options, wanted = row
        text = " ".join([f"{sender} {tags}", *(f"{k}={v}" for k, v in options.items())])
        if sorted(seen) == wanted:
            print(f"  ✓ {text} -> {' '.join(wanted) or 'nobody'}")
        else:
            wrong += 1
            print(f"  ✗ {text} -> wanted {' '.join(wanted) or 'nobody'}, got {' '.join(sorted(seen)) or 'nobody'}")
    return 1 if wrong else 0


def send(args):
    """Sends hand-made frames: tags, then either a hexadecimal rest (from the ethertype on) or a probe of --size octets."""
    sock = packet_socket(args.endpoint)
    rest = bytes.fromhex(args.hex) if args.hex else struct.pack("!H", PROBE_TYPE) + b"shunt" + bytes(args.size - 19)
    for n in range(args.count):
        source = (int.from_bytes(mac(args.src), "big") + n * args.step).to_bytes(6, "big")
        frame = mac(args.dst) + source + tags_to_bytes(args.tags) + rest
        sock.send(frame[: args.cut] if args.cut else frame)
        if args.every:
            time.sleep(args.every)
    return 0


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def sctp(args):
    """Sends one SCTP INIT whose CRC32c is left to the device (zero, as Linux leaves it) and says what arrives there."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 7, 65536, 1, 1, 9)
    packet = struct.pack("!HHII", 1000, 2000, 0, 0) + chunk
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(packet), 1, 0, 64, 132, 0, bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]))
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    to = packet_socket(args.to)
    source = packet_socket(args.source)
    # The kernel's own SCTP marks the packet for the device the same way: CHECKSUM_PARTIAL, so nothing on the way sums it.
    source.send(b"\xff" * 6 + mac("020000000009") + b"\x08\x00" + header + packet)
    while select.select([to], [], [], 3)[0]:
        frame = receive(to)
        if not frame:
            continue
        form, kind, payload = split_tags(frame)
        if kind == 0x0800 and payload[9] == 132:
            got = payload[20 : 20 + len(packet)]
            right = struct.pack("<I", crc32c(got[:8] + bytes(4) + got[12:]))
            print(form, got[8:12].hex(), "correct" if got[8:12] == right else f"wrong, should be {right.hex()}")
            return 0 if got[8:12] == right else 1
    print("nothing arrived")
    return 1


def leaf(args):
    """The wire side of a leaf: for each VLAN a TAP `vlanVID`; frames cross to and from DEVICE with that 802.1Q tag.

    What a kernel with 8021q does by `ip link add link swp1 name vlan181 type vlan id 181`.
    """
    wire = packet_socket(f"host:{args.device}")
    taps = {}
    for vid in args.vids:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", f"vlan{vid}".encode(), IFF_TAP | IFF_NO_PI))
        taps[vid] = fd
    tag_of = {fd: struct.pack("!HH", ETH_P_8021Q, vid) for vid, fd in taps.items()}
    wire.setblocking(False)
    poll = select.poll()
    for fd in [wire.fileno(), *tag_of]:
        poll.register(fd, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            for _ in range(64):
                try:
                    if fd == wire.fileno():
                        frame = receive(wire)
                        if frame and frame[12:14] == b"\x81\x00":
                            to = taps.get(struct.unpack_from("!H", frame, 14)[0] & 0xFFF)
                            if to is not None:
                                os.write(to, frame[:12] + frame[16:])
                    else:
                        frame = os.read(fd, 65536)
                        wire.send(frame[:12] + tag_of[fd] + frame[12:])
                except BlockingIOError:
                    break
                except OSError:  # the TAP or the wire is down: a frame into nowhere
                    break


def session(args):
    """A long-lived TCP session, like somebody's SSH: a line every 20 ms each way, one per line of output here."""
    if args.listen:
        server = socket.create_server(("", args.port))
        peer, _ = server.accept()
        while data := peer.recv(4096):
            peer.sendall(data)
        return 0
    sock = socket.create_connection((args.address, args.port), timeout=10)
    number = 0
    with sock.makefile("r") as replies:
        while True:
            number += 1
            sock.sendall(b"%d\n" % number)
            if replies.readline() != f"{number}\n":
                print("session broken", flush=True)
                return 1
            print(number, flush=True)
            time.sleep(0.02)


def udp(args):
    """Sends UDP datagrams, with --no-checksum as VXLAN and some applications do; or receives and counts them."""
    family = socket.AF_INET6 if ":" in args.address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if args.listen:
        sock.bind((args.address, args.port))
        sock.settimeout(args.timeout)
        print("listening", flush=True)
        try:
            for _ in range(args.count):
                print(len(sock.recv(65536)), flush=True)
        except TimeoutError:
            return 1
        return 0
    if args.no_checksum:
        sock.setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK
    if args.fragment:
        sock.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: may be fragmented
    for _ in range(args.count):
        sock.sendto(os.urandom(args.size), (args.address, args.port))
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    def command(run):
        sub = commands.add_parser(run.__name__, help=run.__doc__.split("\n")[0])
        sub.set_defaults(run=run)
        return sub

    command(probe)
    sub = command(send)
    sub.add_argument("endpoint")
    sub.add_argument("tags", nargs="?", default="untagged")
    sub.add_argument("--src", default="02:00:00:00:00:09")
    sub.add_argument("--dst", default="ff:ff:ff:ff:ff:ff")
    sub.add_argument("--hex", help="ethertype and payload")
    sub.add_argument("--size", type=int, default=60)
    sub.add_argument("--cut", type=int, help="send only so many octets")
    sub.add_argument("--count", type=int, default=1)
    sub.add_argument("--step", type=int, default=0, help="raise the source address by this for each frame")
    sub.add_argument("--every", type=float, default=0, help="seconds between frames")
    sub = command(sctp)
    sub.add_argument("source")
    sub.add_argument("to")
    sub = command(leaf)
    sub.add_argument("device")
    sub.add_argument("vids", nargs="+", type=int)
    for run in (session, udp):
        sub = command(run)
        sub.add_argument("address")
        sub.add_argument("port", type=int)
        sub.add_argument("--listen", action="store_true")
    sub.add_argument("--count", type=int, default=1)
    sub.add_argument("--size", type=int, default=100)
    sub.add_argument("--timeout", type=float, default=10)
    sub.add_argument("--no-checksum", action="store_true")
    sub.add_argument("--fragment", action="store_true")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
