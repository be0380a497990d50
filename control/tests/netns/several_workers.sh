# Do several workers, and several queues of a device, forward as one switch?
. "$(dirname "$0")/_init.sh"
[ "$(nproc)" -ge 2 ] || { echo "  (one core only: nothing to share)"; exit 0; }
cores=$(awk '/Cpus_allowed_list/ {print $2}' /proc/self/status)
QUEUES=2
for i in 1 2 3 4; do container c$i 10.0.0.$i/24; done
uplink
start_shuntd --cores "$cores"
shuntctl add-br br0 -- add-port br0 eth0.181
for i in 1 2 3 4; do shuntctl add-port br0 c$i -- set Interface c$i options:n_rxq=2; done
leaf_vlans 181=10.0.0.9/24
workers() { shuntctl --format=json worker/show | jq "$1"; }
check "there are $(nproc) workers" test "$(workers length)" = "$(nproc)"
check "more than one has queues" test "$(workers '[.[] | select(.queues | length > 0)] | length')" -gt 1
check "c1 has two queues" test "$(workers '[.[].queues[] | select(.port == "c1")] | length')" = 2
for i in 2 3 4; do reaches c1 10.0.0.$i; done
reaches c4 10.0.0.9
transfer c1 c2 10.0.0.2 -P 4
transfer c3 c4 10.0.0.4 -P 4
transfer c2 leaf 10.0.0.9 -b 50M
transfer c1 c3 10.0.0.3 -u -b 50M -P 2
probes <<END
c1 untagged -> c2=untagged c3=untagged c4=untagged leaf=181
c4 untagged -> c1=untagged c2=untagged c3=untagged leaf=181
leaf 181    -> c1=untagged c2=untagged c3=untagged c4=untagged
END
check "no frame got stuck between the workers" test "$(shuntctl --format=json port/stats | jq '[.[].drops.crossing_full // 0] | add')" = 0
shuntctl del-port c3
for i in 2 4; do reaches c1 10.0.0.$i; done
reaches_not c1 10.0.0.3
