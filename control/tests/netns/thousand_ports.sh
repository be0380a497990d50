# alone
# Do 1000 ports attach in seconds, cost little, and go back to the kernel within a second when the daemon is killed?
. "$(dirname "$0")/_init.sh"
N=${SHUNT_PORTS:-1000}
namespace far # one namespace for all the other ends: what counts is the ports
for i in $(seq "$N"); do echo "link add p$i type veth peer name q$i netns far"; done | ip -batch -
for i in $(seq "$N"); do echo "link set p$i up"; done | ip -batch -
for i in $(seq "$N"); do echo "link set q$i up"; done | ip -n far -batch -
container c1 10.0.0.1/24; container c2 10.0.0.2/24
kernel_kib() { awk '/^(Slab|KernelStack|PageTables|SecPageTables|Percpu|VmallocUsed):/ {k += $2} END {print k}' /proc/meminfo; }
programs() { ip -d link | grep -c prog/xdp; }
in_ms() { local start=$EPOCHREALTIME; "$@" || true; MS=$(echo "$EPOCHREALTIME $start" | awk '{printf "%d", ($1 - $2) * 1000}'); }

ulimit -n 1048576 2>/dev/null || true
start_shuntd --metrics unix:/run/metrics.sock
shuntctl add-br br0 -- add-port br0 c1 -- add-port br0 c2
before=$(kernel_kib)
commands=(); for i in $(seq "$N"); do commands+=(-- add-port br0 "p$i" "tag=$((i % 4000 + 1))"); done
in_ms shuntctl --timeout=60 "${commands[@]:1}"
ok "$N ports attached in $MS ms"
check "within 20 s" test $MS -lt 20000
check "all have a program" test "$(programs)" -ge $((N + 2))
each=$((($(kernel_kib) - before) / N))
check "kernel memory for each: $each KiB, less than 200" test $each -lt 200
reaches c1 10.0.0.2
shuntctl set Port p1 tag=5 -- set Port "p$N" tag=5
frames send far:q1
check "the first reaches the last" wait_for 5 eval '[ "$(counter p$N .tx_packets)" -ge 1 ]'
scrape() { printf 'GET /metrics HTTP/1.0\r\n\r\n' | socat -t5 - UNIX:/run/metrics.sock >"$OUT/metrics"; }
in_ms scrape
check "metrics of all in $MS ms" test "$(grep -c '^shunt_port_receive_bytes_total{' "$OUT/metrics")" -ge $((N + 2))

gone() { kill -KILL "$SHUNTD_PID"; while sleep 0.05 && [ "$(programs)" != 0 ]; do :; done; } # looking takes 50 ms, too
in_ms gone
ok "killed: all devices back in $MS ms"
# A quiet machine takes less than 1 s, one whose cores spin for somebody else longer; sockets before programs would take 13 s.
check "within 1 s, or 6 s on a busy machine" test $MS -lt 6000
in_ms wait "$SHUNTD_PID" # its sockets take longer
ok "the process is gone $MS ms later"
in_ms start_shuntd
ok "started again with $N ports in $MS ms"
check "all have a program" test "$(programs)" -ge $((N + 2))
reaches c1 10.0.0.2
commands=(); for i in $(seq "$N"); do commands+=(-- del-port "p$i"); done
in_ms shuntctl --timeout=60 "${commands[@]:1}"
ok "$N ports detached in $MS ms"
check "only the two are left" eval '[ "$(programs)" -le 4 ]'
check "list-ports agrees" test "$(shuntctl list-ports br0 | xargs)" = "c1 c2"
reaches c1 10.0.0.2
