# Has the host a leg in its bridges: `ip link set br0 up; ip addr add … dev br0`?
. "$(dirname "$0")/_init.sh"
container c1 10.0.0.1/24 2001:db8::1/64; container c2 10.0.2.1/24
start_shuntd
shuntctl add-br br0 -- add-port br0 c1
shuntctl add-br br-vlan182 -- add-port br-vlan182 c2
check "the bridge is a device" ip link show br0
ip link set br0 up; ip addr add 10.0.0.254/24 dev br0; ip addr add 2001:db8::fe/64 dev br0
ip link set br-vlan182 up; ip addr add 10.0.2.254/24 dev br-vlan182
reaches c1 10.0.0.254
reaches host 10.0.0.1
reaches c1 2001:db8::fe
reaches host 10.0.2.1
transfer c1 host 10.0.0.254
transfer host c1 10.0.0.1
check "the bridge's own port is LOCAL in fdb/show" bash -c "shuntctl fdb/show br0 | grep -q LOCAL"
check "list-ports leaves it out" test "$(shuntctl list-ports br0)" = c1
reaches_not c1 10.0.2.1

say "the host routes between its bridges once it is told to"
sysctl -qw net.ipv4.ip_forward=1
in_ns c1 ip route add default via 10.0.0.254; in_ns c2 ip route add default via 10.0.2.254
reaches c1 10.0.2.1
transfer c1 c2 10.0.2.1

say "the leg has a VLAN like any port"
shuntctl set Port br0 tag=10
reaches_not c1 10.0.0.254
shuntctl set Port c1 tag=10
reaches c1 10.0.0.254

say "addresses survive a crash of the daemon"
stop_shuntd -KILL
check "still there" bash -c "ip addr show dev br0 | grep -q 10.0.0.254"
start_shuntd
reaches c1 10.0.0.254
shuntctl del-br br0
refute "the device is still there after del-br" ip link show br0
reaches_not c1 10.0.0.254
