# Does an SVI say that somebody else in its VLAN has its address: whoever was there first, in both families, until it is no more?
. "$(dirname "$0")/_init.sh"
# Nobody announces: who is asked answers, and that is all.
container thief 192.168.10.1/24 2001:db8:10::1/64
container c10 192.168.10.2/24 2001:db8:10::2/64
container mate 192.168.10.1/24
start_shuntd
error_of() { shuntctl --bare --columns=error find SVI name="$1"; }
says() { grep -qE -- "$2" <<<"$(error_of "$1")"; }       # SVI REGEX
silent() { [ -z "$(error_of "$1")" ]; }
brief() { grep -qE "^$1 .* $2 " <<<"$(shuntctl interface brief)"; } # SVI "STATUS +REASON"
mac_of() { in_ns "$1" cat /sys/class/net/eth0/address; }
thief=$(mac_of thief)

say "somebody has the address already when the gateway comes"
shuntctl add-br br0 -- add-port br0 thief tag=10 -- add-port br0 c10 tag=10
shuntctl add-svi br0 vlan10 tag=10 address=192.168.10.1/24,2001:db8:10::1/64
check "IPv4 is told, with MAC address and port" wait_for 5 says vlan10 "192.168.10.1 is also in use by $thief behind thief"
check "IPv6, too" wait_for 5 says vlan10 "2001:db8:10::1 is also in use by $thief behind thief"
check "the log says so" grep -q "vlan10: .*192.168.10.1 is also in use by $thief" "$OUT/shuntd.log"
check "interface brief: it is up all the same" brief vlan10 "up +duplicate"
check "interface vlan10 says what to do" bash -c 'shuntctl interface vlan10 | grep -q "error: .*give it another address"'
check "the status names them" bash -c 'shuntctl get SVI vlan10 status:duplicates | grep -q 192.168.10.1'
in_ns thief ip addr flush dev eth0 scope global
check "it ends when nobody answers any more" wait_for 40 silent vlan10
check "interface brief" brief vlan10 "up +none"
reaches c10 192.168.10.1
reaches c10 2001:db8:10::1

say "somebody takes it afterwards"
in_ns thief ip addr add 192.168.10.1/24 dev eth0
in_ns thief busybox arping -q -U -c1 -I eth0 192.168.10.1
check "IPv4, by what it says itself" wait_for 5 says vlan10 "192.168.10.1 is also in use by $thief"
in_ns thief sysctl -qw net.ipv6.conf.eth0.ndisc_notify=1
in_ns thief ip link set eth0 down
in_ns thief ip addr add 2001:db8:10::1/64 dev eth0 nodad
in_ns thief ip link set eth0 up
check "IPv6" wait_for 10 says vlan10 "2001:db8:10::1 is also in use by $thief"
in_ns thief ip addr flush dev eth0 scope global

say "the same gateway on another host, with the same MAC address, is none"
in_ns mate ip link set eth0 address 02:00:00:00:00:aa
shuntctl add-br br1 -- add-port br1 mate tag=11 -- add-svi br1 vlan11 tag=11 address=192.168.10.1/24 vrf=any mac=02:00:00:00:00:aa
shuntctl add-svi br1 lone tag=12 address=192.168.12.1/24
container late 192.168.12.1/24
shuntctl add-port br1 late tag=12
check "one that is behind a port that comes later is found" wait_for 5 says lone "192.168.12.1 is also in use by $(mac_of late) behind late"
check "and the one with the same MAC address is not" silent vlan11
shuntctl set Interface vlan11 mac='"02:00:00:00:00:ab"'
check "with another it is" wait_for 5 says vlan11 "192.168.10.1 is also in use by 02:00:00:00:00:aa behind mate"

say "another interface of this host in the same VLAN is none, though the host answers there for all of its addresses"
shuntctl add-br br2 -- add-svi br2 one tag=20 address=192.168.20.1/24 -- add-svi br2 other tag=20 address=192.168.21.1/24
container c20 192.168.21.2/24
shuntctl add-port br2 c20 tag=20
reaches c20 192.168.21.1
in_ns c20 ip route replace 192.168.20.1/32 dev eth0
reaches c20 192.168.20.1
check "nothing is said" eval 'silent one && silent other'
shuntctl del-svi one -- del-svi other -- del-svi lone -- del-svi vlan11 -- del-svi vlan10
