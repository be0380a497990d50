# Does SIGTERM leave the devices as they were found, and the configuration for the next start?
. "$(dirname "$0")/_init.sh"
uplink
addresses host eth0 10.9.0.1/24; addresses leaf swp1 10.9.0.2/24
container c1 10.0.0.1/24; container c2 10.0.0.2/24
devices() { # all that attaching changes
    local d; for d in eth0 c1 c2; do ethtool -k $d; ip -d link show $d | grep -o 'promiscuity [0-9]*\|prog/xdp'; cat /sys/class/net/$d/mtu; done
    for d in c1 c2; do ip netns exec $d ethtool -k eth0; done
}
can_ping leaf 10.9.0.1
devices >"$OUT/before"
start_shuntd
shuntctl add-br br0 -- add-port br0 eth0.181 -- add-port br0 c1 -- add-port br0 c2
reaches c1 10.0.0.2
devices >"$OUT/while"
refute "attaching changed nothing (the check below could not fail)" cmp -s "$OUT/before" "$OUT/while"
exits() { kill -TERM "$SHUNTD_PID"; wait "$SHUNTD_PID"; }
check "SIGTERM ends it with status 0" exits
SHUNTD_PID=
devices >"$OUT/after"
check "features, promiscuity, MTU and programs are as before" diff "$OUT/before" "$OUT/after"
refute "the socket is still there" test -e /run/shunt/db.sock
reaches leaf 10.9.0.1
reaches_not c1 10.0.0.2
say "the next start takes up where this one left off"
start_shuntd
reaches c1 10.0.0.2

say "del-port, and shuntctl exit, do the same"
shuntctl del-port c1
devices >"$OUT/one"
check "c1 is as before" diff <(sed -n '/^Features for c1/,/^Features for c2/p' "$OUT/before") <(sed -n '/^Features for c1/,/^Features for c2/p' "$OUT/one")
shuntctl exit
check "the process is gone" wait_for 5 eval '! kill -0 $SHUNTD_PID'
SHUNTD_PID=
devices >"$OUT/after"
check "features, promiscuity, MTU and programs are as before" diff "$OUT/before" "$OUT/after"
