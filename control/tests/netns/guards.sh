# Do the guards stop storms, flapping addresses and too many of them, and can it be seen?
. "$(dirname "$0")/_init.sh"
for c in g1 g2 g3; do container $c; done
for c in g1 g2 g3; do in_ns $c sysctl -qw net.ipv6.conf.all.disable_ipv6=1; done
start_shuntd
shuntctl set Open_vSwitch . other_config:stats-update-interval=1000
shuntctl add-br br0
for c in g1 g2 g3; do shuntctl add-port br0 $c; done
status() { shuntctl get Port "$1" "status:$2" | tr -d '"'; }
shows() { [ "$(status "$1" "$2")" -ge "$3" ]; }
shows_exactly() { [ "$(status "$1" "$2")" = "$3" ]; }
no_status() { [ "$(shuntctl get Port "$1" status)" = "{}" ]; }
# burst PORT COUNT [OPTIONS…]: not faster than a worker on a busy machine takes them.
burst() { frames send "$1" --count "$2" --every 0.0001 "${@:3}"; }
dropped_in_all() { [ "$(counter "$1" ".drops.$2")" = "$3" ]; }

say "off unless set"
burst g1 500
check "500 broadcasts pass" wait_for 5 bash -c '[ "$(shuntctl --format=json port/stats g2 | jq .g2.tx_packets)" -ge 500 ]'
check "no status" no_status g1

say "a storm of each kind is limited by itself, and named"
shuntctl set Port g1 other_config:storm-broadcast-pps=10 other_config:storm-unknown-pps=20 other_config:storm-multicast-pps=30
burst g1 300
check "broadcast" wait_for 5 dropped g1 storm_broadcast 250
burst g1 300 --dst 02:00:00:00:00:99
check "unknown unicast" wait_for 5 dropped g1 storm_unknown 230
burst g1 300 --dst 01:00:5e:01:02:03
check "multicast" wait_for 5 dropped g1 storm_multicast 210
for kind in broadcast unknown multicast; do check "status:storm-$kind" wait_for 5 shows g1 storm-$kind 200; done
burst g2 300
burst g1 300 --dst 02:00:00:00:00:09 --src 02:00:00:00:00:08
check "known destinations and other ports pass" dropped_in_all g2 storm_broadcast 0
shuntctl remove Port g1 other_config storm-broadcast-pps storm-unknown-pps storm-multicast-pps
check "off again, nothing in status" wait_for 5 no_status g1

say "source guard: a container is held to its addresses"
in_ns g1 ip addr add 10.7.0.1/24 dev eth0
in_ns g2 ip addr add 10.7.0.2/24 dev eth0
shuntctl set Port g1 other_config:allowed-addresses=10.7.0.1
reaches g1 10.7.0.2
in_ns g1 ip addr add 10.7.0.9/24 dev eth0
reaches_not g1 -I 10.7.0.9 10.7.0.2
check "dropped with its reason" wait_for 5 dropped g1 source_guard 1
check "status:allowed-addresses" wait_for 5 shows g1 allowed-addresses 1
refused 65 'allowed-addresses of port g1 has "10.7.0.999"' shuntctl set Port g1 other_config:allowed-addresses=10.7.0.999
shuntctl remove Port g1 other_config allowed-addresses
reaches g1 -I 10.7.0.9 10.7.0.2
for c in g1 g2; do in_ns $c ip addr flush dev eth0; done

say "mac-limit: three addresses, the fourth is not served"
shuntctl fdb/flush br0
shuntctl set Port g1 other_config:mac-limit=3
frames send g1 --src 02:00:00:00:01:00 --step 1 --count 5
check "two dropped" wait_for 5 dropped_in_all g1 mac_limit 2
check "the third is known" learned br0 02:00:00:00:01:02 0 g1
refute "the fourth is known" learned br0 02:00:00:00:01:03 0
check "status:mac-limit" wait_for 5 shows_exactly g1 mac-limit 2
check "one is forgotten" shuntctl fdb/del br0 0 02:00:00:00:01:00
frames send g1 --src 02:00:00:00:01:03
check "now there is room" wait_for 5 learned br0 02:00:00:00:01:03 0 g1
shuntctl remove Port g1 other_config mac-limit

say "mac-flap: an address that moves more than twice in a minute is held where it is"
for c in g1 g2; do shuntctl set Port $c other_config:mac-flap-limit=2 other_config:mac-flap-window-s=60; done
flap() { frames send "$1" --src 02:00:00:00:02:00; wait_for 5 learned br0 02:00:00:00:02:00 0 "$1"; }
for c in g1 g2 g1; do check "on $c" flap $c; done
probes <<END
g2 untagged src=02:00:00:00:02:00 -> nobody
g1 untagged src=02:00:00:00:02:00 -> g2=untagged g3=untagged
g3 untagged dst=02:00:00:00:02:00 -> g1=untagged
END
check "dropped with its reason" dropped g2 mac_flap 1
for c in g1 g2; do check "status:mac-flap of $c" wait_for 5 shows_exactly $c mac-flap 1; done
check "the hold ends with the address" shuntctl fdb/del br0 0 02:00:00:00:02:00
check "it may be on g2 now" flap g2
check "nothing is held any more" wait_for 5 shows_exactly g2 mac-flap 0
for c in g1 g2; do shuntctl remove Port $c other_config mac-flap-limit mac-flap-window-s; done

say "port-security=strict turns all on; single keys still count"
shuntctl set Port g3 other_config:port-security=strict other_config:mac-limit=2
burst g3 4000
check "a storm" wait_for 5 dropped g3 storm_broadcast 100
frames send g3 --src 02:00:00:00:03:00 --step 1 --count 9
check "mac-limit=2" wait_for 5 dropped g3 mac_limit 7
shuntctl set Port g3 other_config:storm-broadcast-pps=0
before=$(counter g3 .drops.storm_broadcast)
burst g3 3000 --src 02:00:00:00:00:09
check "storm-broadcast-pps=0: off" dropped_in_all g3 storm_broadcast "$before"
check "nothing wrong" no_error g3

say "a value that makes no sense reaches the operator"
refused 65 'storm-unknown-pps=lots of port g3 is no number from 0 to' shuntctl set Port g3 other_config:storm-unknown-pps=lots
check "in error" has_error g3 'storm-unknown-pps=lots'
refused 65 'port-security=paranoid of port g3 is unknown' shuntctl set Port g3 other_config:port-security=paranoid
shuntctl clear Port g3 other_config
check "gone with it" wait_for 5 no_error g3
