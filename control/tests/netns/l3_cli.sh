# Can an operator set up a router by its commands alone, and see what it does and why?
. "$(dirname "$0")/_init.sh"
MTU=1500
container c10 192.168.10.2/24; container c20 192.168.20.2/24
start_shuntd
shuntctl add-br br0 -- add-port br0 c10 tag=10 -- add-port br0 c20 tag=20
says() { local regex=$1; shift; "$@" >"$OUT/said" 2>&1 || { cat "$OUT/said"; fail "$*"; }
    grep -qE -- "$regex" "$OUT/said" || { cat "$OUT/said"; fail "$* does not say /$regex/"; }; ok "$* says /$regex/"; }
json() { local filter=$1; shift; check "$* | $filter" bash -c 'shuntctl --format=json "${@:2}" | jq -e "$1" >/dev/null' - "$filter" "$@"; }

say "ports, in the words of network people"
says '^Interface +VLAN +Type +Mode +Status +Reason +Speed\(Mb/s\) +Port channel +Address$' shuntctl interface brief
says '^c10 +10 +veth +access +up +none +10000 +-- +--$' shuntctl interface brief
says '^br0 +all +internal +trunk +down +admin down ' shuntctl interface brief
ip link set c20 down
wait_for 5 bash -c "shuntctl interface brief | grep -qE '^c20 +20 +veth +access +down +admin down'"
ip link set c20 up
refused 65 'could not open network device nope' shuntctl add-port br0 nope tag=10
says '^nope +10 +-- +access +down +no device +-- +-- +--$' shuntctl interface brief
says '^  error: +could not open network device nope' shuntctl interface nope
shuntctl del-port nope
says '^c10 is up$' shuntctl interface c10
says '^  bridge: +br0, port c10, ofport 1$' shuntctl interface c10
json '.interface == "c10" and .vlan == 10 and .mtu == 1500 and .status == "up" and .rx_packets >= 0' interface c10
refused 1 'no such interface: c11' shuntctl interface c11
says '^c10 is up$' ovs-appctl -t /run/shunt/db.sock interface c10

say "gateways of two VLANs"
in_ns c10 ip route add default via 192.168.10.1; in_ns c20 ip route add default via 192.168.20.1
shuntctl add-svi br0 vlan10 tag=10 address=192.168.10.1/24,2001:db8:10::1/64 \
    -- add-svi br0 vlan20 tag=20 address=192.168.20.1/24 mac=02:00:00:00:00:fe
check "list-svi" test "$(shuntctl list-svi br0 | xargs)" = "vlan10 vlan20"
reaches c10 192.168.20.2
says '^vlan20 +20 +svi +routed +up +none +10000 +-- +192.168.20.1/24(,fe80::[0-9a-f:]+/64)?$' shuntctl interface brief
says '^  MAC: +02:00:00:00:00:fe$' shuntctl interface vlan20
says '^  addresses: +.*192.168.10.1/24' shuntctl interface vlan10
json '.addresses[:2] == ["192.168.10.1/24", "2001:db8:10::1/64"] and .mode == "routed"' interface vlan10
shuntctl --may-exist add-svi br0 vlan20 tag=20 address=192.168.20.1/24
refused 1 '192.168.20.9/24 overlaps with 192.168.20.1/24 of vlan20 \(' shuntctl add-svi br0 vlan21 tag=21 address=192.168.20.9/24
refused 1 "192.168.21.0/24 is the network's own address \(give a host of it, as 192.168.21.1/24\)" shuntctl add-svi br0 vlan21 tag=21 address=192.168.21.0/24
refused 1 '01:00:5e:00:00:01 is a multicast MAC address' shuntctl add-svi br0 vlan21 tag=21 address=192.168.21.1/24 mac=01:00:5e:00:00:01
check "nothing was added" test "$(shuntctl list-svi | xargs)" = "vlan10 vlan20"

say "routes: added, shown, asked for, deleted"
shuntctl route add 10.0.0.0/8 via 192.168.10.2
shuntctl route add 10.1.0.0/16 via 192.168.10.2 via 192.168.20.2
shuntctl route add blackhole 10.66.0.0/16 -- route add unreachable 10.67.0.0/16
says '^10.0.0.0/8 +via 192.168.10.2 dev vlan10 +shunt +0 +workers$' shuntctl route show
says '^192.168.10.0/24 +dev vlan10 +kernel +0 +workers$' shuntctl route show
says '^10.66.0.0/16 +blackhole +shunt +0 +workers$' shuntctl route show 10.66.0.0/16
says '^10.67.0.0/16 +unreachable +shunt +0 +kernel: it tells the sender$' shuntctl route show 10.0.0.0/8
json '.[0].prefix == "10.1.0.0/16" and (.[0].next_hops | length) == 2' route show 10.1.0.0/16
says '^10.0.0.0/8 +via 192.168.10.2' shuntctl route get 10.200.0.1
says '^192.168.10.1/32 +local +kernel +0 +kernel: it is an address of the switch$' shuntctl route get 192.168.10.1
json '.prefix == "192.168.20.0/24" and .address == "192.168.20.2" and .forwarded_by == "workers"' route get 192.168.20.2
says '^10.0.0.0/8 ' ovs-appctl -t /run/shunt/db.sock route/show
refused 1 'no route to 172.31.0.1' shuntctl route get 172.31.0.1
refused 1 'no such VRF: red' shuntctl route show vrf red
refused 1 '10.1.2.0/8 has host bits set.*write 10.0.0.0/8' shuntctl route add 10.1.2.0/8 via 192.168.10.2
refused 1 '172.31.0.1 is not reachable: it is not on any link \(' shuntctl route add 10.9.0.0/16 via 172.31.0.1
refused 1 "192.168.20.1 is the switch's own address on vlan20" shuntctl route add 10.9.0.0/16 via 192.168.20.1
refused 1 'no VRF red: no SVI is in it' shuntctl route add 10.9.0.0/16 via 192.168.10.2 vrf red
check "nothing was added" test -z "$(shuntctl --bare --columns=prefix find Route prefix=10.9.0.0/16)"
ip link add up0 type veth peer name up1 && ip addr add 172.31.0.2/24 dev up0 && ip link set up0 up && ip link set up1 up
wait_for 5 shuntctl route get 172.31.0.1
shuntctl route add 10.9.0.0/16 via 172.31.0.1
says '^10.9.0.0/16 +via 172.31.0.1 dev up0 +shunt +0 +kernel: up0 is not an interface of the router$' shuntctl route get 10.9.1.1
refused 1 '192.168.20.2 is not reachable: it is not on the link of up0' shuntctl route add 10.8.0.0/16 via 192.168.20.2 dev up0

say "neighbours"
reaches c20 192.168.10.2
# The kernel learned of it by a packet, and tells when it likes.
wait_for 5 bash -c "shuntctl neigh show | grep '^192.168.20.2 '"
says '^192.168.20.2 +vlan20 +[0-9a-f:]+ +c20 +learned +[A-Z]+$' shuntctl neigh show
shuntctl neigh add 192.168.20.7 lladdr 02:00:00:00:00:07 dev vlan20
says '^192.168.20.7 +vlan20 +02:00:00:00:00:07 +-- +static +PERMANENT$' shuntctl neigh show dev vlan20
shuntctl neigh flush dev vlan20
wait_for 5 bash -c "! shuntctl neigh show | grep -q '^192.168.20.2 '"
says '^192.168.20.7 ' shuntctl neigh show
refused 1 'c10 is not an interface of the router' shuntctl neigh flush dev c10
reaches c10 192.168.20.2
refused 65 'nope' shuntctl neigh add 192.168.20.8 lladdr 02:00:00:00:00:08 dev nope
shuntctl neigh del 192.168.20.8 dev nope
shuntctl neigh del 192.168.20.7 dev vlan20
wait_for 5 bash -c "! shuntctl neigh show | grep -q '^192.168.20.7 '"

say "which way would a packet go?"
shuntctl forward trace 192.168.10.2 192.168.20.2 proto udp sport 1000 dport 53 | tee "$OUT/trace"
for text in 'in +vlan10' 'route +192.168.20.0/24 unicast' 'next hop +dev vlan20' 'port +c20 \(VLAN 20 of br0\)' ; do
    check "trace says $text" grep -qE "^  $text" "$OUT/trace"
done
check "by the workers" grep -qx 'forwarded by the workers' "$OUT/trace"
json '.verdict == "forwarded" and .port == "c20" and .vlan == 20' forward trace 192.168.10.2 192.168.20.2
ways() { for sport in $(seq 1 40); do shuntctl --format=json forward trace 192.168.10.2 10.1.0.9 proto tcp sport "$sport" dport 80; done | jq -s "$1"; }
check "flows take both ways" test "$(ways 'map(.way) | unique | length')" = 2
container c11 192.168.10.3/24
in_ns c11 ip route add default via 192.168.10.1
shuntctl add-port br0 c11 tag=10
reaches c11 192.168.20.2
reaches c11 192.168.10.2
foreseen=$(for sport in $(seq 1001 1016); do
    shuntctl --format=json forward trace 192.168.10.3 10.1.0.9 proto udp sport "$sport" dport 53 | jq -r 'select(.port == "c20").sport'
done | xargs)
capture_start c20 eth0 udp dst port 53
in_ns c11 python3 -c '
import socket
for sport in range(1001, 1017):
    flow = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    flow.bind(("", sport))
    flow.sendto(b"x", ("10.1.0.9", 53))'
capture_stop
check "flows take the way that was foreseen ($foreseen)" \
    test "$foreseen" = "$(tshark -r "$OUT/wire.pcap" -T fields -e udp.srcport 2>/dev/null | sort -n | xargs)"
says 'dropped by the workers: route_blackhole' shuntctl forward trace 192.168.10.2 10.66.0.1
says 'goes on to the kernel: it is an address of the switch' shuntctl forward trace 192.168.10.2 192.168.20.1
says 'goes on to the kernel: the neighbour is not known' shuntctl forward trace 192.168.10.2 192.168.20.99
refused 1 'only tcp, udp and sctp have ports' shuntctl forward trace 192.168.10.2 192.168.20.2 sport 1
refused 1 'not of one family' shuntctl forward trace 192.168.10.2 2001:db8::1

say "a VRF has tables of its own"
container r30 192.168.10.2/24
in_ns r30 ip route add default via 192.168.10.1
shuntctl add-port br0 r30 tag=30 -- add-svi br0 vlan30 tag=30 address=192.168.10.1/24 vrf=red -- route add 10.0.0.0/8 via 192.168.10.3 vrf red
reaches r30 192.168.10.1
says '^10.0.0.0/8 +via 192.168.10.3 dev vlan30 ' shuntctl route show vrf red
wait_for 5 bash -c "shuntctl neigh show vrf red | grep '^192.168.10.2 '"
says '^192.168.10.2 +vlan30 +[0-9a-f:]+ +r30 +learned +[A-Z]+$' shuntctl neigh show vrf red
refused 1 'no route to 192.168.20.2 in VRF red' shuntctl route get 192.168.20.2 vrf red
says '^vlan30 +30 +svi +routed +up +none ' shuntctl interface brief
reaches_not r30 192.168.20.2

say "and away again"
shuntctl route del 10.0.0.0/8 vrf red -- route del 10.0.0.0/8 -- route del 10.1.0.0/16 -- --if-exists route del 10.99.0.0/16
shuntctl del-svi vlan30
refute "a route of ours to 10.1.0.0/16" bash -c "shuntctl route show | grep -q '^10.1.0.0/16'"
shuntctl del-svi vlan10 -- del-svi vlan20
reaches_not c10 192.168.20.2
check "the interface is gone" bash -c "! ip link show vlan10"
check "no SVI is left" test -z "$(shuntctl list-svi)"
