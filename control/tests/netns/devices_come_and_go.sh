# Does a port wait for its device, attach when it appears, and again when it is replaced?
. "$(dirname "$0")/_init.sh"
container c1 10.0.0.1/24
start_shuntd
shuntctl add-br br0 -- add-port br0 c1
say "missing: kept, said, status 65"
refused 65 'late.*(No such device|does not exist|could not open)' shuntctl add-port br0 late
check "the port is kept" test "$(shuntctl list-ports br0 | xargs)" = "c1 late"
check "its error says so" has_error late 'No such device|does not exist|could not open'
refused 65 'eth0' shuntctl add-port br0 eth0.181

say "appears: attaches by itself"
container late 10.0.0.2/24
check "its error goes" wait_for 5 no_error late
reaches c1 10.0.0.2
first=$(column late ifindex)
uplink
check "so does the sub-port's" wait_for 5 no_error eth0.181
probes <<END
leaf 181 -> c1=untagged late=untagged
END

say "goes away: kept, says so"
ip link del late
check "its error says so" wait_for 5 has_error late 'No such device|does not exist|could not open'
check "the port is kept" test "$(shuntctl port-to-br late)" = br0
refute "its address is still known" bash -c "shuntctl fdb/show br0 | grep -q ' $(shuntctl get Interface late ofport) '"

say "another device of that name, with another ifindex"
ip netns del late
container late 10.0.0.2/24
check "attached again" wait_for 5 no_error late
check "under its new ifindex" test "$(column late ifindex)" != "$first"
in_ns c1 ip neigh flush all # another device, another MAC
reaches c1 10.0.0.2

say "renamed away, and back"
ip link set late down; ip link set late name gone; ip link set gone up
check "its error says so" wait_for 5 has_error late 'No such device|does not exist|could not open'
refute "the renamed device still has a program" has_xdp gone
ip link set gone down; ip link set gone name late; ip link set late up
check "attached again" wait_for 5 no_error late
reaches c1 10.0.0.2

say "ten times gone and back"
for i in $(seq 10); do ip link del late; ip netns del late; container late 10.0.0.2/24; done
check "attached" wait_for 10 no_error late
in_ns c1 ip neigh flush all
reaches c1 10.0.0.2
shuntctl del-port late
ip link del late; ip netns del late; container late 10.0.0.2/24
reaches_not c1 10.0.0.2
