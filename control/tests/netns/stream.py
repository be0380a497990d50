#!/usr/bin/python3
"""How many packets does an event cost? Paced UDP flows with sequence numbers; the receiver says what was missing. And a scan.

stream.py send ADDRESS PORT FLOWS INTERVAL_MS    until SIGTERM; flow i has the source port 20000 + i
stream.py receive PORT                           until SIGTERM; then one JSON object: by flow, received, lost,
                                                 longest gap, and when the last one was sent
stream.py scan NETWORK PORT                      one datagram to each address of it
"""

import ipaddress
import json
import signal
import socket
import struct
import sys
import time

RECORD = struct.Struct("!HQd")  # flow, sequence number, when it was sent


def send(address, port, flows, interval_ms):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sockets = []
    for flow in range(int(flows)):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.bind(("", 20000 + flow))
        sockets.append(sock)
    due = time.monotonic()
    number = 0
    while True:
        for flow, sock in enumerate(sockets):
            try:
                sock.sendto(RECORD.pack(flow, number, time.time()), (address, int(port)))
            except OSError:
                pass  # an ICMP error that came back: the packet counts as lost
        number += 1
        due += int(interval_ms) / 1000
        time.sleep(max(0, due - time.monotonic()))


def receive(port):
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sock.bind(("::", int(port)))
    print("listening", flush=True)
    flows = {}
    try:
        while True:
            flow, number, sent = RECORD.unpack(sock.recv(2048))
            now = time.monotonic()
            seen = flows.setdefault(flow, {"first": number, "last": number, "received": 0, "at": now, "gap_ms": 0})
            seen["received"] += 1
            seen["last"] = max(seen["last"], number)
            seen["gap_ms"] = max(seen["gap_ms"], round((now - seen["at"]) * 1000))
            seen["at"], seen["last_sent"] = now, sent
    except SystemExit:
        for seen in flows.values():
            seen["lost"] = seen.pop("last") - seen.pop("first") + 1 - seen["received"]
            del seen["at"]
        print(json.dumps(flows), flush=True)
        raise


def scan(network, port):
    network = ipaddress.ip_network(network)
    sock = socket.socket(socket.AF_INET6 if network.version == 6 else socket.AF_INET, socket.SOCK_DGRAM)
    for address in network:
        try:
            sock.sendto(b"anybody?", (str(address), int(port)))
        except OSError:
            pass  # an ICMP error that came back


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
{"send": send, "receive": receive, "scan": scan}[sys.argv[1]](*sys.argv[2:])
