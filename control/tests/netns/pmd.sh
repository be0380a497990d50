# Do the poll-mode settings of OVS move queues from core to core under traffic, without losing any?
. "$(dirname "$0")/_init.sh"
[ "$(nproc)" -ge 2 ] || { echo "  (one core only: nowhere to move to)"; exit 0; }
mapfile -t CORES < <(awk '/Cpus_allowed_list/ {print $2}' /proc/self/status | tr , '\n' |
    while IFS=- read -r a b; do seq "$a" "${b:-$a}"; done)
A=${CORES[0]} B=${CORES[1]}
mask() { local c m=0; for c; do m=$((m | 1 << c)); done; printf '0x%x' $m; }
QUEUES=2
for i in 1 2 3; do container c$i 10.0.0.$i/24; done
start_shuntd --cores "$B" --frames 4096 --ring 2048
shuntctl add-br br0
for i in 1 2 3; do shuntctl add-port br0 c$i; done
set_root() { shuntctl set Open_vSwitch . "$@"; }
workers() { shuntctl --format=json worker/show | jq -c "$1"; }
polled_on() { [ "$(workers "[.[] | select(.queues | any(.port == \"$1\" and .queue == $2)) | .core]")" = "[$3]" ]; }
cores_are() { [ "$(workers '[.[].core]' | tr -d '[]')" = "$1" ]; }
check "at first the command line's core" cores_are "$B"

say "a TCP session and a stream of datagrams run while queues move, 60 times"
in_ns c3 iperf3 -s -p 5202 -1 >/dev/null 2>&1 &
in_ns c2 iperf3 -s -p 5203 -1 >"$OUT/udp-server" 2>&1 &
wait_for 5 listening c3 5202
wait_for 5 listening c2 5203
in_ns c1 iperf3 -c 10.0.0.3 -p 5202 -t 8 -b 200M -J >"$OUT/tcp" 2>&1 & TCP=$!
in_ns c1 iperf3 -c 10.0.0.2 -p 5203 -u -t 8 -b 20M -l 1000 -J >"$OUT/udp" 2>&1 & UDP=$!
wait_for 5 grep -q . <(workers '.[0].packets')
moves=0
while kill -0 $UDP 2>/dev/null && [ $moves -lt 60 ]; do
    set_root other_config:pmd-cpu-mask="$(mask "$A" "$B")"
    set_root other_config:pmd-cpu-mask="$(mask "$A")"
    shuntctl set Interface c1 other_config:pmd-rxq-affinity="\"0:$A,1:$B\""  -- set Open_vSwitch . other_config:pmd-cpu-mask="$(mask "$A" "$B")"
    shuntctl clear Interface c1 other_config -- clear Open_vSwitch . other_config
    moves=$((moves + 4))
done
wait $TCP || fail "the TCP session broke: $(jq -r .error "$OUT/tcp")"
wait $UDP || fail "the datagrams: $(jq -r .error "$OUT/udp")"
check "queues moved at least 20 times" test "$moves" -ge 20
ok "the TCP session lived: $(jq '.end.sum_received.bits_per_second / 1e6 | floor' "$OUT/tcp") Mbit/s"
lost=$(jq '.end.sum.lost_packets' "$OUT/udp")
drops=$(shuntctl --format=json port/stats | jq -c '[.[].drops | to_entries[] | select(.value > 0 and .key != "flood_empty" and .key != "rx_no_frame")] | map({(.key): .value}) | add // {}')
check "the switch lost none of $(jq .end.sum.packets "$OUT/udp") datagrams in $moves moves ($lost lost by all, drops $drops)" \
    jq -ne --argjson d "$drops" '$d | (.tx_down // 0) + (.crossing_full // 0) + (.stale_port // 0) == 0'

say "cores and affinity do what they say"
set_root other_config:pmd-cpu-mask="$(mask "$A" "$B")"
check "two workers" cores_are "$A,$B"
check "both have queues" test "$(workers '[.[] | select(.queues | length > 0)] | length')" = 2
shuntctl set Interface c1 other_config:pmd-rxq-affinity="\"0:$B,1:$B\""
check "c1's queues are on core $B" polled_on c1 0 "$B"
check "both of them" polled_on c1 1 "$B"
check "and core $B is kept for them" polled_on c2 0 "$A"
check "pmd-rxq-show says so" bash -c "shuntctl dpif-netdev/pmd-rxq-show | grep -A1 'core_id $B:' | grep -qx '  isolated : true'"
set_root other_config:pmd-rxq-isolate=false
check "unless cores are not to be isolated" bash -c "shuntctl dpif-netdev/pmd-rxq-show | grep -c 'isolated : false' | grep -qx 2"
check "each device has its two queues" test "$(workers '[.[].queues[] | select(.port == "c2")] | length')" = 2
refused 65 'options:n_rxq=1 is refused.*peer' shuntctl set Interface c2 options:n_rxq=1
refused 65 'n_rxq=0 of c2 is not a number of queues' shuntctl set Interface c2 options:n_rxq=0
shuntctl clear Interface c2 options
check "and served again" no_error c2
for i in 2 3; do reaches c1 10.0.0.$i; done

say "a port's rings are as long as it is told"
shuntctl set Interface c2 options:n_rxq_desc=512
check "512 entries" test "$(shuntctl get Interface c2 status:n_rxq_desc)" = '"512"'
reaches c1 10.0.0.2
refused 65 'n_rxq_desc=500 of c2 is not a power of two' shuntctl set Interface c2 options:n_rxq_desc=500
check "as everybody's again" test "$(shuntctl get Interface c2 status:n_rxq_desc)" = '"2048"'
shuntctl clear Interface c2 options
reaches c1 10.0.0.2

say "what cannot be followed is told"
refused 65 'core 4000.*(no worker runs|pmd-cpu-mask)' shuntctl set Interface c1 other_config:pmd-rxq-affinity="\"0:4000\""
refused 65 'names queue 7.*n_rxq' shuntctl set Interface c1 other_config:pmd-rxq-affinity="\"7:$A\""
refused 65 'not a list of queue:core' shuntctl set Interface c1 other_config:pmd-rxq-affinity=nonsense
shuntctl clear Interface c1 other_config
check "and cleared with its cause" no_error c1
refused 65 'names no cores' shuntctl set Open_vSwitch . other_config:pmd-cpu-mask=zebra
refused 65 'cores \[200\].*may not use' shuntctl set Open_vSwitch . other_config:pmd-cpu-mask="0x1$(printf '0%.0s' {1..50})"
refused 65 'microseconds from 0 to 10000' shuntctl set Open_vSwitch . other_config:pmd-cpu-mask="$(mask "$A")" other_config:pmd-sleep-max=forever
reaches c1 10.0.0.2
shuntctl clear Open_vSwitch . other_config
check "the command line's core again" cores_are "$B"
check "no error is left" test "$(shuntctl get Open_vSwitch . error)" = '[]'

say "pmd-sleep-max"
ticks() { awk '{print $14 + $15}' "/proc/$SHUNTD_PID/task/$(grep -l "^worker$B\$" /proc/"$SHUNTD_PID"/task/*/comm | head -1 | cut -d/ -f5)/stat"; }
spins() { local t; t=$(ticks); wait_for 5 eval '[ $(($(ticks) - '"$t"')) -ge 20 ]'; }
set_root other_config:pmd-sleep-max=0
check "0: the worker never sleeps" spins
check "pmd-sleep-show says so" bash -c "shuntctl dpif-netdev/pmd-sleep-show | grep -q 'max sleep:    0 us'"
set_root other_config:pmd-sleep-max=500
reaches c1 10.0.0.2
check "500: it sleeps, for 500 µs at a time" bash -c "shuntctl --format=json dpif-netdev/pmd-sleep-show | jq -e 'all(.max_sleep_us == 500)'"
set_root other_config:pmd-sleep-max=10000
slept() { shuntctl --format=json dpif-netdev/pmd-perf-show | jq '[.[].sleep_iterations] | add'; }
before=$(slept)
wait_for 5 eval '[ "$(slept)" -gt $((before + 5)) ]'
ok "it wakes up by itself"
