# Do samples of three switches in a row, ordered by TTL, give the path of each packet?
#
#   c1 ── h1 ── h2 ── h3 ── c2        each host routes, samples, and tells the collector by a wire of its own
. "$(dirname "$0")/_init.sh"
. "$HERE/_lab.sh"
shunt_host h1 h2 h3
namespace collector
for n in 1 2 3; do
    wire h$n told collector h$n
    addresses h$n told 192.0.2.1$n/32
    in_ns collector ip addr add 192.0.2.1/32 dev h$n
    ip -n h$n route add 192.0.2.1 dev told
    in_ns h$n sysctl -qw net.ipv4.ip_forward=1
    on h$n shuntctl add-br br0
done
guest h1 c1 10.1.0.2/24 10.1.0.1
guest h3 c2 10.3.0.2/24 10.3.0.1
wire h1 next h2 back
wire h2 next h3 back
for c in c1 c2 h1 h2 h3; do in_ns $c sysctl -qw net.ipv6.conf.all.disable_ipv6=1; done
network() { # HOST DEVICE ADDRESS: a bridge port in a VLAN of its own, with an address of the host
    local vlan; vlan=$((10 + $(on "$1" shuntctl list-ports br0 | wc -l)))
    on "$1" shuntctl add-port br0 "$2" tag=$vlan -- add-svi br0 "vlan$vlan" tag=$vlan address="$3"
}
network h1 c1 10.1.0.1/24; network h1 next 10.12.0.1/24
network h2 back 10.12.0.2/24; network h2 next 10.23.0.2/24
network h3 back 10.23.0.3/24; network h3 c2 10.3.0.1/24
on h1 shuntctl route add 10.3.0.0/24 via 10.12.0.2
on h2 shuntctl route add 10.1.0.0/24 via 10.12.0.1 -- route add 10.3.0.0/24 via 10.23.0.3
on h3 shuntctl route add 10.1.0.0/24 via 10.23.0.2
check "three routers are between c1 and c2" wait_for 20 hops c1 3 10.3.0.2

say "each switch samples each packet, and tells of it on its own"
for n in 1 2 3; do
    on h$n shuntctl -- --id=@s create sFlow agent=told targets=\"192.0.2.1:6343\" sampling=1 polling=0 -- set Bridge br0 sflow=@s >"$OUT/created"
done
capture_start collector any udp port 6343
in_ns c1 ping -q -n -c50 -i0.01 10.3.0.2 >"$OUT/ping"
capture_stop

# The header in a sample is the packet as it was received: what a router takes off the TTL is its number on the path.
tshark -r "$OUT/wire.pcap" -d udp.port==6343,sflow -T fields -e sflow_245.agent -e ip.ttl -e ip.dst -e icmp.type -e icmp.seq 2>/dev/null |
    python3 -c '
import collections, sys
paths = collections.defaultdict(list)
for line in sys.stdin:
    agent, ttls, destinations, kinds, numbers = [field.split(",") for field in line.rstrip("\n").split("\t")]
    # The first ones are those of the datagram itself.
    for ttl, destination, kind, number in zip(ttls[1:], destinations[1:], kinds, numbers):
        paths[number, kind, destination].append((-int(ttl), agent[0]))
for (number, kind, destination), samples in sorted(paths.items()):
    print(destination, " ".join(agent for _, agent in sorted(samples)), " ".join(str(-ttl) for ttl, _ in sorted(samples)))
' | sort | uniq -c | awk '{$1 = $1; print}' >"$OUT/paths"
check "there, in this order: $(grep -c . "$OUT/paths")" grep -qx "50 10.3.0.2 192.0.2.11 192.0.2.12 192.0.2.13 64 63 62" "$OUT/paths"
check "and back, in the other" grep -qx "50 10.1.0.2 192.0.2.13 192.0.2.12 192.0.2.11 64 63 62" "$OUT/paths"
check "and there is no other path" test "$(wc -l <"$OUT/paths")" = 2
hosts_live
