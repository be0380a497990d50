# Do protected ports, flood_vlans and the table's limits hold, also when they change under traffic?
. "$(dirname "$0")/_init.sh"
for n in 1 2 3; do container p$n 10.0.0.$n/24; in_ns p$n sysctl -qw net.ipv6.conf.all.disable_ipv6=1; done
start_shuntd
shuntctl add-br br0
for c in p1 p2 p3; do shuntctl add-port br0 $c tag=10; done
p2=$(in_ns p2 cat /sys/class/net/eth0/address)

say "protected ports talk to others, not to each other"
ip netns exec p3 ping -n -i 0.01 10.0.0.1 >"$OUT/ping" & PING=$!
pings() { [ "$(wc -l <"$OUT/ping")" -ge "$1" ]; }
wait_for 5 pings 20
for c in p1 p2; do shuntctl set Port $c protected=true; done
reaches p3 10.0.0.2
reaches_not p1 10.0.0.2
probes <<END
p1 untagged -> p3=untagged
p1 untagged dst=$p2 -> nobody
p3 untagged -> p1=untagged p2=untagged
END
check "the drop has its reason" dropped p1 protected 1
shuntctl set Port p2 protected=false
reaches p1 10.0.0.2

say "in flood_vlans everybody gets everything, and nothing is learned"
shuntctl set Bridge br0 flood_vlans=10
refute "an address is known in VLAN 10" learned br0 "$p2" 10
probes <<END
p3 untagged dst=$p2 -> p1=untagged p2=untagged
END
reaches p1 10.0.0.2
refute "an address is known in VLAN 10 after that" learned br0 "$p2" 10
shuntctl clear Bridge br0 flood_vlans
reaches p1 10.0.0.2
check "learned again" learned br0 "$p2" 10 p2

say "values out of range count as the nearest, as in Open vSwitch"
maximum() { shuntctl --format=json fdb/stats-show br0 | jq .maximum; }
for pair in 1:10 20:20 2000000:1000000 8192:8192; do
    shuntctl set Bridge br0 other_config:mac-table-size=${pair%:*} other_config:mac-aging-time=${pair%:*}
    check "mac-table-size=${pair%:*} is ${pair#*:}" [ "$(maximum)" = "${pair#*:}" ]
done
check "what was known before is known still" learned br0 "$p2" 10 p2

say "none of that disturbed p3"
before=$(wc -l <"$OUT/ping")
check "its ping goes on" wait_for 5 pings $((before + 20))
kill -INT $PING; wait $PING || true
lost() { sed -n 's/.* \([0-9.]*\)% packet loss.*/\1/p' "$OUT/ping"; }
check "without loss: $(lost) %" [ "$(lost)" = 0 ]
