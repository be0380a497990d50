# Do the run-time commands work from the real ovs-appctl, and say what is true?
. "$(dirname "$0")/_init.sh"
container c1 10.0.0.1/24; container c2 10.0.0.2/24
start_shuntd
shuntctl add-br br0 -- add-port br0 c1 tag=10 -- add-port br0 c2 tag=10
appctl() { ovs-appctl -T 5 -t /run/shunt/db.sock "$@"; }
says() { local regex=$1; shift; appctl "$@" >"$OUT/said" 2>&1 || { cat "$OUT/said"; fail "$*"; }
    grep -qE -- "$regex" "$OUT/said" || { cat "$OUT/said"; fail "$* does not say /$regex/"; }; ok "$* says /$regex/"; }
reaches c1 10.0.0.2
in_ns c1 ping -q -c 50 -i 0.002 10.0.0.2 >"$OUT/ping"

says '^  fdb/show +BRIDGE$' list-commands
says '^shuntd [0-9.]+$' version
says '^ port  VLAN  MAC                Age$' fdb/show br0
says 'Total number of learned MAC entries     : [2-9]' fdb/stats-show br0
says 'statistics successfully cleared' fdb/stats-clear br0
says 'Total number of learned MAC entries     : 0' fdb/stats-show br0
says '^table successfully flushed$' fdb/flush br0

says '^netdev@shunt: hit:[0-9]+ missed:0$' dpif/show
says '^    br0 65534/[0-9]+: \(internal\)$' dpif/show
says '^    c1 1/[0-9]+: \(afxdp: n_rxq=1, xdp-mode=native\)$' dpif/show

says '^Displaying last 60 seconds pmd usage %$' dpif-netdev/pmd-rxq-show
says '^  port: c1                queue-id:  0 \(enabled\)   pmd usage:' dpif-netdev/pmd-rxq-show
says '^pmd thread numa_id 0 core_id [0-9]+:$' dpif-netdev/pmd-perf-show
says '^  Rx packets: +[1-9][0-9]+  \([0-9]+ Kpps, [1-9][0-9]* cycles/pkt\)$' dpif-netdev/pmd-perf-show
says '^  - sleep iterations: +[1-9]' dpif-netdev/pmd-stats-show
received() { shuntctl --format=json dpif-netdev/pmd-perf-show | jq '[.[].rx_packets] | add'; }
before=$(received)
check "about a hundred packets came" test "$before" -ge 100
appctl dpif-netdev/pmd-stats-clear
check "cleared, few did" test "$(received)" -lt "$before"
says 'max sleep: until packets come' dpif-netdev/pmd-sleep-show

says '^packet_forwarded +[0-9.]+/sec +[0-9.]+/sec +[0-9.]+/sec   total: [1-9]' coverage/show
says '^[0-9]+ events never hit$' coverage/show
says '^[1-9][0-9]*$' coverage/read-counter packet_received
says 'devices:3 .*frame-KiB:[1-9][0-9]* ' memory/show

says '^reconcile +INFO +OFF +OFF$' vlog/list
debug_lines() { grep -c ' DEBUG ' "$OUT/shuntd.log" || true; }
check "nothing is logged for debugging" test "$(debug_lines)" = 0
appctl vlog/set rpc:dbg state:console:dbg daemon:dbg
says '^daemon +DBG +OFF +OFF$' vlog/list
shuntctl set Bridge br0 external_ids:a=b
wait_for 5 grep -q ' DEBUG ' "$OUT/shuntd.log"
ok "until it is asked for"
appctl vlog/set ANY:ANY:err
says '^rpc +ERR +OFF +OFF$' vlog/list

say "what is wrong is told"
refused 2 'is not a valid command \(use "list-commands"' appctl dpctl/dump-flows
refused 2 'requires at least 1 arguments' appctl fdb/show
refused 2 'takes at most 0 arguments' appctl memory/show x
refused 2 'no destination, level, or module "bridges"' appctl vlog/set bridges:dbg
refused 2 'does not log to syslog' appctl vlog/set ANY:syslog:dbg
refused 2 'No such counter: flows' appctl coverage/read-counter flows
refused 2 'no such bridge: br9' appctl fdb/stats-clear br9
check "JSON from all of them" bash -c 'for c in dpif/show dpif-netdev/pmd-rxq-show dpif-netdev/pmd-perf-show dpif-netdev/pmd-sleep-show coverage/show memory/show vlog/list; do
    shuntctl --format=json $c | jq -e . >/dev/null || { echo $c; exit 1; }; done'
appctl exit
wait_for 5 bash -c "! kill -0 $SHUNTD_PID"
SHUNTD_PID=
ok "exit ends it"
