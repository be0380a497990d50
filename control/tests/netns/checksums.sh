# The odd ones: are UDP without a checksum, fragments, tunnels made inside a container, and SCTP right on the wire?
. "$(dirname "$0")/_init.sh"
container c1 10.0.0.1/24; container c2 10.0.0.2/24
uplink
start_shuntd
shuntctl add-br br0 -- add-port br0 c1 -- add-port br0 c2 -- add-port br0 eth0.181
check "an uplink has longer rings than a container" test "$(shuntctl get Interface eth0.181 status:n_rxq_desc) $(shuntctl get Interface c1 status:n_rxq_desc)" = '"2048" "256"'
leaf_vlans 181=10.0.0.4/24
receives() { # NAMESPACE ADDRESS COUNT COMMAND…: the command's datagrams arrive
    local ns=$1 address=$2 count=$3; shift 3
    : >"$OUT/udp"
    ip netns exec "$ns" "$HERE/frames.py" udp "$address" 9999 --listen --count "$count" >>"$OUT/udp" & local server=$!
    wait_for 5 grep -q listening "$OUT/udp"
    "$@" && wait $server
}
send_udp() { in_ns "$1" "$HERE/frames.py" udp "$2" 9999 "${@:3}"; }
can_ping c1 10.0.0.4

capture_start leaf swp1 udp or 'vlan 181'
say "UDP whose checksum is zero stays so"
check "to a container" receives c2 10.0.0.2 5 send_udp c1 10.0.0.2 --no-checksum --count 5
check "to the leaf" receives leaf 10.0.0.4 5 send_udp c1 10.0.0.4 --no-checksum --count 5
say "fragments arrive whole"
check "between containers" receives c2 10.0.0.2 3 send_udp c1 10.0.0.2 --size 20000 --fragment --count 3
check "to the leaf" receives leaf 10.0.0.4 3 send_udp c1 10.0.0.4 --size 20000 --fragment --count 3
check "from the leaf" receives c1 10.0.0.1 3 send_udp leaf 10.0.0.1 --size 20000 --fragment --count 3
say "odd and short lengths"
for size in 0 1 2 3 17 1471 1472; do check "$size octets" receives leaf 10.0.0.4 1 send_udp c1 10.0.0.4 --size $size; done
capture_stop
check "5 datagrams without a checksum on the wire" test "$(packets 'udp.checksum == 0')" = 5
check "fragments on the wire" test "$(packets 'ip.frag_offset > 0')" -gt 30
check "all others are right" test "$(packets 'ip.checksum.status == "Bad" || udp.checksum.status == "Bad"')" = 0

say "VXLAN made inside the containers: its inner checksums are the unfinished ones"
for c in c1=2 c2=1; do
    in_ns "${c%=*}" ip link add vx type vxlan id 5 dstport 4789 remote "10.0.0.${c#*=}" dev eth0
    in_ns "${c%=*}" ip link set vx up
done
in_ns c1 ip addr add 10.5.0.1/24 dev vx; in_ns c2 ip addr add 10.5.0.2/24 dev vx
reaches c1 10.5.0.2
transfer c1 c2 10.5.0.2
transfer c1 c2 10.5.0.2 -u -b 20M
in_ns c1 ip link del vx
in_ns leaf ip link add vx type vxlan id 5 dstport 4789 remote 10.0.0.1 dev vlan181
in_ns c1 ip link add vx type vxlan id 5 dstport 4789 remote 10.0.0.4 dev eth0
addresses leaf vx 10.6.0.4/24; addresses c1 vx 10.6.0.1/24
capture_start leaf swp1
transfer c1 leaf 10.6.0.4 -b 50M
capture_stop
check "inner segments on the wire" test "$(packets 'vxlan && tcp')" -gt 100
check "all of them right" test "$(packets 'vxlan && tcp && (tcp.checksum.status != "Good" || ip.checksum.status == "Bad")')" = 0
in_ns c1 ip link del vx

say "SCTP, whose CRC32c is left to the device"
check "to the uplink" frames sctp c1 leaf
