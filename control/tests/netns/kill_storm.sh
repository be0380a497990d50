# Does every acknowledged transaction survive kill -9 in the middle of a storm of them, and no half of one?
. "$(dirname "$0")/_init.sh"
rounds=$([ -n "${SHUNT_LONG:-}" ] && echo 200 || echo 20)
python3 "$HERE/storm.py" "$rounds" /run/shunt/db.sock "$OUT/shuntd.log" shuntd ${SHUNTD_ARGS:-} || fail "see above"
start_shuntd
check "the last state is served" shuntctl get Open_vSwitch . external_ids:c0
