# Does an MTU of 9000 work from end to end, beside ports of 1500?
. "$(dirname "$0")/_init.sh"
container small 10.0.0.3/24
MTU=9000
container c1 10.0.0.1/24; container c2 10.0.0.2/24
uplink
start_shuntd
shuntctl add-br br0
for p in c1 c2 small; do shuntctl add-port br0 $p; done
shuntctl add-port br0 eth0.181
leaf_vlans 181=10.0.0.4/24
reaches c1 -s 8972 -M do 10.0.0.2
reaches c1 -s 8900 -M do 10.0.0.4
reaches c1 -s 1472 -M do 10.0.0.3
for size in 3454 3500 4050 4096 8100 8192; do check "a ping of $size octets" can_ping c1 -s $size -M do 10.0.0.2; done
transfer c1 c2 10.0.0.2
transfer c1 leaf 10.0.0.4
transfer leaf c1 10.0.0.1
transfer c1 c2 10.0.0.2 -u -l 8900 -b 200M
say "too long for the port that it should leave by: dropped and counted"
reaches_not c1 -s 8900 -M do 10.0.0.3
check "the drops have their reason" dropped small mtu_exceeded 3

say "the host's leg follows the smallest device of its bridge"
check "br0 has MTU 1500" grep -qx 1500 /sys/class/net/br0/mtu
shuntctl del-port br0 small
check "without the small one 9000" grep -qx 9000 /sys/class/net/br0/mtu
shuntctl set Interface br0 mtu_request=2000
check "unless it is told" grep -qx 2000 /sys/class/net/br0/mtu
shuntctl clear Interface br0 mtu_request -- add-port br0 small
check "1500 again" grep -qx 1500 /sys/class/net/br0/mtu
refused 65 'mtu_request=2000 of eth0.181 is not followed' shuntctl set Interface eth0.181 mtu_request=2000
shuntctl clear Interface eth0.181 mtu_request

say "mtu_request sets the device's MTU"
shuntctl set Interface small mtu_request=9000
check "the column says so" test "$(column small mtu)" = 9000
check "the device has it" grep -qx 9000 /sys/class/net/small/mtu
in_ns small ip link set eth0 mtu 9000
reaches c1 -s 8972 -M do 10.0.0.3
shuntctl set Interface small mtu_request=576
check "576 is the least" grep -qx 576 /sys/class/net/small/mtu
refused 65 'mtu_request=10 of small is out of range' shuntctl set Interface small mtu_request=10
reaches_not c1 -s 1400 -M do 10.0.0.3
