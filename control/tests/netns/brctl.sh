# Do the Linux bridge's old commands work, with their columns and messages?
. "$(dirname "$0")/_init.sh"
container c1 10.0.0.1/24; container c2 10.0.0.2/24; container c3 10.0.0.3/24
start_shuntd
mkdir -p /run/names && ln -s "$BIN/shuntctl" /run/names/brctl && PATH=/run/names:$PATH
check "addbr" brctl addbr br0
ip link set br0 up
check "addif takes several interfaces" brctl addif br0 c1 c2
reaches c1 10.0.0.2
brctl show | tee "$OUT/show"
id=8000.$(tr -d : </sys/class/net/br0/address)
printf 'bridge name\tbridge id\t\tSTP enabled\tinterfaces\nbr0\t\t%s\tno\t\tc1\n\t\t\t\t\t\t\tc2\n' "$id" >"$OUT/want"
check "show has the Linux tool's columns" diff "$OUT/want" "$OUT/show"
check "so has shuntctl brctl" diff "$OUT/want" <(shuntctl brctl show br0)
check "in JSON too" bash -c "shuntctl --format=json brctl show | jq -e '.[0].interfaces == [\"c1\", \"c2\"] and .[0].stp == false'"
brctl showmacs br0 | tee "$OUT/macs"
check "showmacs has its heading" bash -c "head -1 '$OUT/macs' | grep -qP '^port no\tmac addr\t\tis local\?\tageing timer$'"
mac=$(in_ns c1 cat /sys/class/net/eth0/address)
check "and the container's address" grep -qP "^ +[0-9]+\t$mac\tno\t\t +[0-9]+\.[0-9]{2}$" "$OUT/macs"
check "and the bridge's own" grep -qP "^ +0\t$(cat /sys/class/net/br0/address)\tyes\t\t   0\.00$" "$OUT/macs"
check "sorted by address" bash -c "tail -n +2 '$OUT/macs' | cut -f2 | sort -c"
check "setageing" brctl setageing br0 60
check "is mac-aging-time" test "$(shuntctl get Bridge br0 other_config:mac-aging-time)" = '"60"'
say "the same refusals"
refused 1 "^device br0 already exists; can't create bridge with the same name$" brctl addbr br0
refused 1 "^bridge nope does not exist!$" brctl addif nope c3
refused 1 "^interface nope does not exist!" brctl addif br0 c3 nope
check "which has done nothing" test "$(shuntctl list-ports br0 | xargs)" = "c1 c2"
refused 1 "^device c1 is already a member of a bridge; can't add it to bridge br0\.$" brctl addif br0 c1
refused 1 "^device c3 is not a port of br0$" brctl delif br0 c3
refused 1 "^read of forward table failed: No such device$" brctl showmacs nope
refused 1 "^set ageing time failed: No such device$" brctl setageing nope 60
refused 1 "^bad ageing time value" brctl setageing br0 soon
refused 1 "^bridge nope doesn't exist; can't delete it$" brctl delbr nope
refused 1 "^bridge br0 is still up; can't delete it" brctl delbr br0
refused 1 "^never heard of command \[adbr\] \(did you mean addbr\?\)$" brctl adbr br0
refused 1 "^stp is not supported: the switch speaks no spanning tree" brctl stp br0 on
refused 1 "^setfd is not supported" brctl setfd br0 0
refused 1 "^hairpin is not supported: a frame never leaves by the port that it came in by" brctl hairpin br0 c1 on
check "a wrong number of words shows the usage" bash -c "brctl addif br0 | grep -q 'Usage: brctl addif <bridge> <device>'"
say "and away again"
check "delif takes several" brctl delif br0 c1 c2
check "no ports" test -z "$(shuntctl list-ports br0)"
reaches_not c1 10.0.0.2
ip link set br0 down
check "delbr once it is down" wait_for 5 brctl delbr br0
check "no bridge" test -z "$(shuntctl list-br)"
