# Do the forwarding database's commands work: show, add, del, flush, stats, ageing, size?
. "$(dirname "$0")/_init.sh"
container c1 10.0.0.1/24; container c2 10.0.0.2/24; container c3 10.0.0.3/24
for c in c1 c2 c3; do in_ns $c sysctl -qw net.ipv6.conf.all.disable_ipv6=1; done
start_shuntd
shuntctl add-br br0
for c in c1 c2 c3; do shuntctl add-port br0 $c tag=10; done
mac() { in_ns "$1" cat /sys/class/net/eth0/address; }
reaches c1 10.0.0.2
check "c1 is known on its port" learned br0 "$(mac c1)" 10 c1
check "the heading is OVS's" bash -c "shuntctl fdb/show br0 | head -1 | grep -qx ' port  VLAN  MAC                Age'"
check "a row is OVS's" bash -c "shuntctl fdb/show br0 | grep -qE '^ +[0-9]+ +10  $(mac c1) +[0-9]+$'"

say "known: only its port gets the frame; unknown: all of the VLAN"
probes <<END
c3 untagged dst=$(mac c1) -> c1=untagged
c3 untagged dst=02:00:00:00:00:99 -> c1=untagged c2=untagged
c3 10       dst=02:00:00:00:00:99 src=02:00:00:00:00:98 -> nobody
END
refute "a dropped frame's source is known" learned br0 02:00:00:00:00:98 10

say "a MAC moves"
frames send c1 --src 02:00:00:00:00:77; check "on c1" wait_for 3 learned br0 02:00:00:00:00:77 10 c1
frames send c2 --src 02:00:00:00:00:77; check "on c2" wait_for 3 learned br0 02:00:00:00:00:77 10 c2
check "moves are counted" bash -c "shuntctl fdb/stats-show br0 | grep -i moved | grep -q '[1-9]'"

say "static entries stay where they are"
check "fdb/add" shuntctl fdb/add br0 c3 10 02:00:00:00:00:88
frames send c1 --src 02:00:00:00:00:88
probes <<END
c2 untagged dst=02:00:00:00:00:88 -> c3=untagged
END
check "shown as static" bash -c "shuntctl fdb/show br0 | grep 02:00:00:00:00:88 | grep -q static"
check "fdb/flush" shuntctl fdb/flush br0
check "the static one is still there" learned br0 02:00:00:00:00:88 10 c3
refute "a learned one is still there" learned br0 02:00:00:00:00:77 10
check "fdb/del" shuntctl fdb/del br0 10 02:00:00:00:00:88
refute "the static one is still there after fdb/del" learned br0 02:00:00:00:00:88 10
refused 1 'nowhere' shuntctl fdb/show nowhere
refused 1 'nobody' shuntctl fdb/add br0 nobody 10 02:00:00:00:00:88
refused 1 '5000' shuntctl fdb/add br0 c3 5000 02:00:00:00:00:88
refused 1 'xx' shuntctl fdb/add br0 c3 10 xx:00

say "size: 20 entries; one port full of addresses does not push the others out"
shuntctl set Bridge br0 other_config:mac-table-size=20
for c in 1 2; do frames send c$c --src 02:00:00:00:0$c:01; done
frames send c3 --src 02:00:00:00:03:01 --step 1 --count 200
count() { shuntctl --format=json fdb/show br0 | jq length; }
check "20 entries" wait_for 3 eval '[ "$(count)" = 20 ]'
for c in 1 2; do check "c$c's is still there" learned br0 02:00:00:00:0$c:01 10 c$c; done
check "the last of c3's is there" learned br0 02:00:00:00:03:c8 10 c3
refute "the first of c3's is still there" learned br0 02:00:00:00:03:01 10
check "evictions are counted" bash -c "shuntctl fdb/stats-show br0 | grep -i evicted | grep -q '[1-9]'"

say "ageing: 15 s is the least"
shuntctl set Bridge br0 other_config:mac-aging-time=15
frames send c1 --src 02:00:00:00:00:66
check "c1's new address is known" wait_for 3 learned br0 02:00:00:00:00:66 10 c1
check "after 15 s without a frame it is not" wait_for 25 eval '! learned br0 02:00:00:00:00:66 10'
check "expiries are counted" bash -c "shuntctl fdb/stats-show br0 | grep -i expired | grep -q '[1-9]'"
