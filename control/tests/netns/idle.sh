# alone
# Does an idle switch leave the processor alone?
. "$(dirname "$0")/_init.sh"
for i in 1 2 3 4; do container c$i 10.0.0.$i/24; done
start_shuntd
shuntctl add-br br0
for i in 1 2 3 4; do shuntctl add-port br0 c$i; done
reaches c1 10.0.0.4
ticks() { awk '{print $14 + $15}' "/proc/$SHUNTD_PID/stat"; } # a hundred to the second
can_ping c1 10.0.0.2
sleep 1
before=$(ticks)
sleep 10
used=$(($(ticks) - before))
check "under 1 % of a core in ten seconds of nothing ($used ticks of 10 ms)" test $used -lt 10
say "and wakes up for the first packet"
reaches c1 10.0.0.2
say "--busy-poll spins: the measure above is able to fail"
stop_shuntd
start_shuntd --busy-poll
before=$(ticks)
refute "under 1 % with --busy-poll" eval 'sleep 1; [ $(($(ticks) - before)) -lt 10 ]'
