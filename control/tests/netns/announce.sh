# Do the leaf and the other containers learn at once where a container is when it is attached, in its VLAN?
. "$(dirname "$0")/_init.sh"
uplink
container c1 10.0.0.1/24 2001:db8::1/64
container c2 10.0.0.2/24
start_shuntd
shuntctl add-br br0
shuntctl add-port br0 eth0
announced() { [ "$(packets "$1")" -ge 1 ]; }
mac=$(in_ns c1 cat /sys/class/net/eth0/address)
# Its address is its own for sure only when duplicate address detection has ended.
settled() { [ -z "$(in_ns c1 ip -6 addr show dev eth0 tentative)" ]; }
check "c1's addresses are its own" wait_for 5 settled

say "attached in VLAN 181"
capture_start leaf swp1 ether src "$mac"
shuntctl add-port br0 c1 tag=181
check "a gratuitous ARP request reaches the leaf, tagged" wait_for 5 announced 'vlan.id == 181 && arp.isgratuitous == 1 && arp.src.proto_ipv4 == 10.0.0.1'
check "a neighbour advertisement, too" wait_for 5 announced 'vlan.id == 181 && icmpv6.type == 136 && icmpv6.nd.na.target_address == 2001:db8::1 && icmpv6.nd.na.flag.o == 1 && icmpv6.checksum.status == 1'
check "the switch knows where it is" wait_for 5 learned br0 "$mac" 181 c1
capture_stop

say "its link was down"
shuntctl fdb/flush br0
capture_start leaf swp1 ether src "$mac" and arp
in_ns c1 ip link set eth0 down
in_ns c1 ip link set eth0 up
check "announced again" wait_for 5 announced 'vlan.id == 181 && arp.isgratuitous == 1'
capture_stop
