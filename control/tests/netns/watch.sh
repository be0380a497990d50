# Does `shuntctl watch` tell every change as it happens, and end as it should?
. "$(dirname "$0")/_init.sh"
container c1 10.0.0.1/24; container c2 10.0.0.2/24
start_shuntd
shuntctl add-br br0
shuntctl add-br br1
watching() { # FILE [WORDS…]: starts one and waits until it follows
    local file=$1; shift
    shuntctl "$@" >"$file" 2>"$file.err" & WATCH=$!
    local i=0
    until [ -s "$file" ]; do # it says nothing until something happens
        i=$((i + 1)); shuntctl set Bridge br0 other_config:marker=$i; sleep 0.1
        kill -0 $WATCH || fail "watch ended: $(cat "$file.err")"
        [ $i -lt 100 ] || fail "watch says nothing"
    done
}
time='^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z'
seen() { wait_for 5 grep -qE "$time $2" "$1"; }

watching "$OUT/all" watch; all=$WATCH
shuntctl add-port br0 c1 tag=5
check "a new port" seen "$OUT/all" '\+ Port c1 .*tag=5'
check "and what the switch says of it" seen "$OUT/all" '~ Interface c1 .*link_state: \[\] → up'
check "which port the bridge got, by its name" seen "$OUT/all" '~ Bridge br0 ports: \+c1$'
shuntctl set Port c1 tag=6
check "a changed column, before and after" seen "$OUT/all" '~ Port c1 tag: 5 → 6'
in_ns c1 ip link set eth0 down
check "a link that goes down" seen "$OUT/all" '~ Interface c1 .*link_state: up → down'
shuntctl del-port c1
check "a port that goes" seen "$OUT/all" '- Port c1'
check "and from where" seen "$OUT/all" '~ Bridge br0 ports: -c1$'
refute "counters" grep -qE 'statistics|cur_cfg' "$OUT/all"
kill -INT $all; status=0; wait $all || status=$?
check "Ctrl-C ends it with status 0" test $status = 0
check "without a word" test ! -s "$OUT/all.err"

say "one bridge, in JSON"
watching "$OUT/json" --format=json watch br0; json=$WATCH
shuntctl add-port br1 c2
shuntctl add-port br0 c1
is_json() { jq -se "$1" "$OUT/json"; }
check "an object a line" wait_for 5 is_json 'any(.[]; .op == "insert" and .table == "Port" and .name == "c1")'
check "with old and new values" is_json 'any(.[]; .op == "modify" and .columns.other_config.new.marker != null and .columns.other_config.old != null)'
refute "the other bridge's port" is_json 'any(.[]; .name == "c2")'
kill -INT $json; wait $json || true

say "a table by its name has all of its columns"
watching "$OUT/table" watch Bridge open; table=$WATCH
check "also what changes all the time" seen "$OUT/table" '~ Open_vSwitch .*cur_cfg: '
refused 1 "no bridge or table named br7 \(did you mean br[01]\?\)" shuntctl watch br7
say "the daemon goes"
stop_shuntd KILL
status=0; wait $table || status=$?
check "it ends with status 1" test $status = 1
check "and says so" grep -q 'the daemon closed the connection\|the connection to the daemon broke' "$OUT/table.err"
start_shuntd
say "a daemon that is alive but silent"
watching "$OUT/hung" watch; hung=$WATCH
kill -STOP "$SHUNTD_PID"
status=0; wait $hung || status=$?
kill -CONT "$SHUNTD_PID"
check "it ends with status 1" test $status = 1
check "and says so" grep -q 'the daemon does not answer any more' "$OUT/hung.err"
shuntctl watch | head -1 >"$OUT/first" & first=$!
i=0; until [ -s "$OUT/first" ]; do i=$((i + 1)); shuntctl set Bridge br0 other_config:marker=$i; sleep 0.1; [ $i -lt 100 ]; done
ended() { shuntctl set Bridge br0 other_config:marker=$RANDOM; ! kill -0 $first 2>/dev/null; }
check "a reader that has seen enough ends it" wait_for 5 ended
