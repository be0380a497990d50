# What is left when the daemon is killed (-9), and does a restart bring everything back by itself?
. "$(dirname "$0")/_init.sh"
uplink
addresses host eth0 10.9.0.1/24; addresses leaf swp1 10.9.0.2/24
container c1 10.0.0.1/24; container c2 10.0.0.2/24; container other 10.0.0.3/24
start_shuntd
shuntctl add-br br-vlan181 -- add-port br-vlan181 eth0.181 -- add-port br-vlan181 c1 -- add-port br-vlan181 c2
shuntctl add-br br1 -- add-port br1 other -- set Port other tag=7 external_ids:owner=me
leaf_vlans 181=10.0.0.4/24
reaches c1 10.0.0.2
reaches c1 10.0.0.4
configuration() { shuntctl show; shuntctl --columns=name,tag,trunks,vlan_mode,external_ids list Port; }
configuration >"$OUT/before"
programs() { ip -d link | grep -c prog/xdp; }
check "programs are attached" test "$(programs)" -ge 4

say "killed: the devices are the kernel's again"
stop_shuntd -KILL
check "no program is left" wait_for 1 eval '[ "$(programs)" = 0 ]'
for d in c1 c2 other eth0; do check "$d is not promiscuous" bash -c "ip -d link show $d | grep -q 'promiscuity 0'"; done
reaches leaf 10.9.0.1
reaches_not c1 10.0.0.2
refused 1 '/run/shunt/db.sock' shuntctl show

say "started again: everything as before, nobody said anything"
start_shuntd
configuration >"$OUT/after"
check "the configuration is the same" diff "$OUT/before" "$OUT/after"
check "traffic flows as soon as it serves" one_ping c1 10.0.0.2
reaches c1 10.0.0.4
reaches leaf 10.9.0.1

say "killed in the middle of changes, ten times: what was acknowledged is there"
for i in $(seq 10); do
    (n=0; while shuntctl --timeout=5 add-br "k$i-$n" 2>/dev/null; do echo "k$i-$n" >>"$OUT/acknowledged"; n=$((n + 1)); done) & writer=$!
    wait_for 5 grep -q "k$i-[1-9]" "$OUT/acknowledged"
    stop_shuntd -KILL; wait $writer || true
    start_shuntd
done
shuntctl list-br | sort >"$OUT/bridges"
check "all $(wc -l <"$OUT/acknowledged") acknowledged bridges are there" test -z "$(sort "$OUT/acknowledged" | comm -23 - "$OUT/bridges")"
reaches c1 10.0.0.2
reaches_not c1 10.0.0.3
