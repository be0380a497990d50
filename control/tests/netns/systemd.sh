# Does systemd hear when the daemon is ready, and when it stops? (systemd's side is a datagram socket.)
. "$(dirname "$0")/_init.sh"
socat -u UNIX-RECV:/run/notify.sock OPEN:"$OUT/notify",creat,append &
wait_for 5 test -S /run/notify.sock
container c1 10.0.0.1/24; container c2 10.0.0.2/24
NOTIFY_SOCKET=/run/notify.sock start_shuntd
check "it is ready" wait_for 5 grep -q READY=1 "$OUT/notify"
shuntctl add-br br0 -- add-port br0 c1 -- add-port br0 c2
stop_shuntd
check "it is stopping" wait_for 5 grep -q STOPPING=1 "$OUT/notify"
say "what is ready has the stored configuration in force"
rm -f "$OUT/notify"; touch "$OUT/notify"
socat -u UNIX-RECV:/run/notify2.sock OPEN:"$OUT/notify",append &
wait_for 5 test -S /run/notify2.sock
NOTIFY_SOCKET=/run/notify2.sock shuntd >>"$OUT/shuntd.log" 2>&1 & SHUNTD_PID=$!
wait_for 20 grep -q READY=1 "$OUT/notify"
check "the ports have their programs" eval 'has_xdp c1 && has_xdp c2'
one_ping c1 10.0.0.2 || fail "c1 does not reach c2 at the moment of READY"
ok "c1 reaches c2"
say "the unit names the binary and waits for READY"
grep -q '^Type=notify' "$ROOT/scripts/shuntd.service" || fail "scripts/shuntd.service is not Type=notify"
