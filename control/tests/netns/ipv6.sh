# Does IPv6 work with nothing configured but the link: neighbour discovery, ping, TCP, large packets?
. "$(dirname "$0")/_init.sh"
container c1; container c2; container other
start_shuntd
shuntctl add-br br0 -- add-port br0 c1 tag=10 -- add-port br0 c2 tag=10 -- add-port br0 other tag=20
link_local() { in_ns "$1" ip -6 -o addr show dev eth0 scope link | awk '{sub("/.*", "", $4); print $4}'; }
wait_for 5 bash -c "ip -n c2 -6 addr show dev eth0 scope link -tentative | grep -q fe80"
c2=$(link_local c2)
reaches c1 "$c2%eth0"
check "neighbour discovery found the MAC" bash -c "ip -n c1 -6 neigh show $c2 | grep -q lladdr"
for i in 1 2; do in_ns c$i ip addr add 2001:db8::$i/64 dev eth0; done
in_ns other ip addr add 2001:db8::3/64 dev eth0
reaches c1 2001:db8::2
reaches c1 -s 5000 2001:db8::2
transfer c1 c2 2001:db8::2
reaches_not c1 2001:db8::3
all_nodes() { in_ns c1 ping -n -c2 -i0.2 -W1 ff02::1%eth0 | tee "$OUT/all"; }
check "all nodes answer" all_nodes
check "c2 among them" grep -q "$c2" "$OUT/all"
refute "the container of the other VLAN among them" grep -q "$(link_local other)" "$OUT/all"
