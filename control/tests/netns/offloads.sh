# Do TCP and UDP work with the container's offloads left as they are, and is every checksum on the wire right?
. "$(dirname "$0")/_init.sh"
container c1 10.0.0.1/24 2001:db8::1/64; container c2 10.0.0.2/24 2001:db8::2/64
uplink
start_shuntd
shuntctl add-br br0 -- add-port br0 c1 -- add-port br0 c2 -- add-port br0 eth0.181
addresses host br0 10.0.0.9/24 2001:db8::9/64
leaf_vlans 181=10.0.0.4/24
addresses leaf vlan181 2001:db8::4/64
for on in tx-checksum-ip-generic generic-segmentation-offload; do
    check "$on is on in the container" bash -c "ip netns exec c1 ethtool -k eth0 | grep -q '$on: on'"
done
say "between containers"
transfer c1 c2 10.0.0.2
transfer c1 c2 2001:db8::2
transfer c1 c2 10.0.0.2 -u -b 50M
transfer c1 c2 2001:db8::2 -u -b 50M
transfer c1 c2 10.0.0.2 -P 4
say "to and from the host's leg"
transfer c1 host 10.0.0.9
transfer host c2 10.0.0.2
transfer host c1 2001:db8::1 -u -b 20M
say "to and from the uplink, where the wire is watched"
capture_start leaf swp1 vlan 181
transfer c1 leaf 10.0.0.4 -b 50M
transfer c1 leaf 2001:db8::4 -b 50M
transfer c2 leaf 10.0.0.4 -u -b 20M
transfer c2 leaf 2001:db8::4 -u -b 20M
transfer leaf c1 10.0.0.1 -b 50M
transfer host leaf 10.0.0.4 -b 50M
capture_stop
wrong='ip.checksum.status == "Bad" || tcp.checksum.status != "Good" || udp.checksum.status != "Good"'
for what in 'tcp && ip' 'tcp && ipv6' 'udp && ip' 'udp && ipv6'; do
    n=$(packets "vlan.id == 181 && $what")
    check "$n packets of $what on the wire" test "$n" -gt 100
done
check "none of them has a wrong checksum" test "$(packets "$wrong")" = 0
check "none is larger than the MTU" test "$(packets 'frame.len > 1518')" = 0
for c in c1 c2 leaf; do
    check "$c received no bad segment" bash -c "ip netns exec $c nstat -asz | awk '/TcpInCsumErrors|UdpInCsumErrors|Udp6InCsumErrors/ && \$2 > 0 {bad=1} END {exit bad}'"
done
