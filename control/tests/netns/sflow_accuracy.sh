# How right is what a collector reckons from samples, and are counters those of the kernel at the far ends?
#
# The kernel's own counters of a port that bypasses it are wrong, which collectors got to see (hsflowd with VPP): ours count.
# Rounds of four flows of known weight, size and VLAN, mixed at random, at several rates. By sampling theory an estimate from c
# samples is wrong by more than 196 · √(1 / c) percent in one of 20 cases. SHUNT_LONG=1 makes ten times as many rounds.
. "$(dirname "$0")/_init.sh"
container c1; container c2; container c3; container trunk; container collector 192.0.2.1/24
addresses host collector 192.0.2.7/24
ends=(c1 c2 c3 trunk)
for c in host "${ends[@]}"; do in_ns $c sysctl -qw net.ipv6.conf.all.disable_ipv6=1; done # nobody speaks unasked
start_shuntd --ring 4096 --frames 12288
shuntctl add-br br0 -- add-port br0 c1 tag=181 -- add-port br0 c2 tag=181 -- add-port br0 c3 tag=182 -- add-port br0 trunk
shuntctl -- --id=@s create sFlow agent=collector targets=\"192.0.2.1:6343\" sampling=20 polling=0 -- set Bridge br0 sflow=@s >"$OUT/created"

# Of what a veth sends to one whose frames XDP takes, the kernel counts octets behind the Ethernet header.
kernel() { ip -n "$1" -s -j link show eth0 | jq -r '.[0].stats64 | "\(.tx.packets) \(.tx.bytes + 14 * .tx.packets) \(.rx.packets) \(.rx.bytes)"'; }
ours() { shuntctl --format=json port/stats "$1" | jq -r ".\"$1\" | \"\(.rx_packets) \(.rx_bytes) \(.tx_packets) \(.tx_bytes)\""; }
apart() { paste -d' ' <(kernel "$1") <(ours "$1") | awk '{print $1 - $5, $2 - $6, $3 - $7, $4 - $8}'; }
# What went by before there was a switch.
declare -A before
for c in "${ends[@]}"; do before[$c]=$(apart $c); done

cat >"$OUT/load.py" <<'END'
"""Sends rounds of flows and writes down what it sent: ROUND FLOW VLAN LENGTH PACKETS, a line each."""
import ctypes, os, random, socket, struct, sys, time
first, rounds, seed = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
dice = random.Random(seed)
def enter(name):
    fd = os.open(f"/run/netns/{name}", os.O_RDONLY)
    assert ctypes.CDLL(None).setns(fd, 0x40000000) == 0
def opened(name):
    enter(name)
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    s.bind(("eth0", 0))
    return s
ends = {name: opened(name) for name in ("c1", "c2", "c3", "trunk")}
mac = {name: struct.pack("!HI", 0x200, 0xA0 + n) for n, name in enumerate(ends)}
def frame(source, destination, tag, length, port):
    tags = struct.pack("!HH", 0x8100, tag) if tag else b""
    size = length - 14 - len(tags)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, size, 0, 0, 64, 17, 0, bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]))
    udp = struct.pack("!HHHH", 7, port, size - 20, 0)
    return mac[destination] + mac[source] + tags + b"\x08\x00" + ip + udp + bytes(size - 28)
# From, to, tag on the wire, VLAN, length, weight.
flows = [("c1", "c2", 0, 181, 102, 10), ("c2", "c1", 0, 181, 1400, 5), ("trunk", "c3", 182, 182, 300, 3), ("trunk", "c1", 181, 181, 60, 2)]
for name, tag in [("c1", 0), ("c2", 0), ("c3", 0), ("trunk", 181), ("trunk", 182)]:  # everybody is learned
    ends[name].send(b"\xff" * 6 + frame(name, name, tag, 60, 9)[6:])
time.sleep(0.2)
for number in range(first, first + rounds):
    counts = [dice.randint(60, 100) * weight for *_, weight in flows]
    order = [flow for flow, count in enumerate(counts) for _ in range(count)]
    dice.shuffle(order)
    frames = [frame(source, to, tag, length, 10000 + 10 * number + flow) for flow, (source, to, tag, _, length, _) in enumerate(flows)]
    for place, flow in enumerate(order):
        ends[flows[flow][0]].send(frames[flow])
        if place % 64 == 63:
            time.sleep(0.0005)
    for flow, (*_, vlan, length, _) in enumerate(flows):
        print(number, flow, vlan, length, counts[flow])
END

say "estimates lie within the bound that theory gives"
[ -n "${SHUNT_LONG:-}" ] && rounds=150 || rounds=15
capture_start collector eth0 udp port 6343
first=0
for rate in 10 20 40; do
    shuntctl set sFlow "$(shuntctl get Bridge br0 sflow)" sampling=$rate
    /usr/bin/python3 "$OUT/load.py" $first $rounds $rate >>"$OUT/sent"
    first=$((first + rounds))
done
capture_stop
cat >"$OUT/judge.py" <<'END'
import collections, math, re, sys
sent = [list(map(int, line.split())) for line in open(sys.argv[1])]
seen = collections.defaultdict(lambda: [0, 0, 0])
words = re.compile(r"Sampling rate: 1 out of (\d+)|Dst Port: (1\d{4,5})$|Frame Length: (\d+)|Incoming 802.1Q VLAN: (\d+)")
rate = length = port = None
for line in sys.stdin:
    for a_rate, a_port, a_length, a_vlan in words.findall(line):
        if a_rate:
            rate, port = int(a_rate), None
        elif a_length:
            length = int(a_length) - 4
        elif a_port:
            port = int(a_port) - 10000
        elif a_vlan and port is not None:
            of = seen[port // 10, port % 10]
            vlan, expected = next((vlan, expected) for number, flow, vlan, expected, _ in sent if (number, flow) == divmod(port, 10))
            assert (length, int(a_vlan)) == (expected, vlan), f"{port}: {length} octets in VLAN {a_vlan}, not {expected} in {vlan}"
            of[0] += 1; of[1] += rate; of[2] += rate * length
            port = None
wrong = 0
for number, flow, _, length, packets in sent:
    samples, estimate, octets = seen[number, flow]
    bound = 1.96 * math.sqrt(1 / samples) if samples else 0
    wrong += abs(estimate - packets) > bound * packets
    assert octets == estimate * length
cases = len(sent)
# 5 % are expected; five standard deviations more are not.
limit = 0.05 * cases + 5 * math.sqrt(0.05 * 0.95 * cases)
print(f"{wrong} of {cases} estimates are outside, {sum(s for s, *_ in seen.values())} samples of {sum(row[4] for row in sent)} packets")
sys.exit(wrong > limit)
END
tshark -r "$OUT/wire.pcap" -d udp.port==6343,sflow -V -O sflow 2>/dev/null | python3 "$OUT/judge.py" "$OUT/sent" >"$OUT/judged" || fail "$(cat "$OUT/judged")"
ok "$(cat "$OUT/judged")"

say "counters are the kernel's at the far ends, to the packet and the octet"
shuntctl set sFlow "$(shuntctl get Bridge br0 sflow)" sampling=0 polling=1
capture_start collector eth0 udp port 6343
cat >"$OUT/told.py" <<'END'
import sys
last = None
for line in sys.stdin:
    columns = [field.split(",") for field in line.rstrip("\n").split("\t")]
    for ifindex, *rest in zip(*columns):
        if ifindex == sys.argv[1]:
            to, some, all_, octets, out_to, out_some, out_all, out_octets = map(int, rest)
            last = f"{to + some + all_} {octets} {out_to + out_some + out_all} {out_octets}"
print(last)
END
# The port's last counter sample: unicast, multicast and broadcast together.
told() {
    tshark -r "$OUT/wire.pcap" -d udp.port==6343,sflow -T fields -e sflow_245.ifindex \
        -e sflow_245.ifinpkt -e sflow_245.ifinmcast -e sflow_245.ifinbcast -e sflow_245.ifinoct \
        -e sflow_245.ifoutpkt -e sflow_245.ifoutmcast -e sflow_245.ifoutbcast -e sflow_245.ifoutoct 2>/dev/null |
        python3 "$OUT/told.py" "$(cat "/sys/class/net/$1/ifindex")"
}
for c in "${ends[@]}"; do
    check "$c: $(ours $c) sent and received" wait_for 5 eval '[ "$(apart $c)" = "${before[$c]}" ]'
    check "$c: sFlow tells the same" wait_for 5 eval '[ "$(told $c)" = "$(ours $c)" ]'
done
capture_stop
