# Can an operator set up a router by its commands alone, and see what it does and why?
. "$(dirname "$0")/_init.sh"
MTU=1500
container c10 192.168.10.2/24; container c20 192.168.20.2/24
start_shuntd
shuntctl add-br br0 -- add-port br0 c10 tag=10 -- add-port br0 c20 tag=20
says() { local regex=$1; shift; "$@" >"$OUT/said" 2>&1 || { cat "$OUT/said"; fail "$*"; }
    grep -qE -- "$regex" "$OUT/said" || { cat "$OUT/said"; fail "$* does not say /$regex/"; }; ok "$* says /$regex/"; }
json() { local filter=$1; shift; check "$* | $filter" bash -c 'shuntctl --format=json "${@:2}" | jq -e "$1" >/dev/null' - "$filter" "$@"; }

say "ports, in the words of network people"
says '^Interface +VLAN +Type +Mode +Status +Reason +Speed\(Mb/s\) +Port channel +Address$' shuntctl interface brief
says '^c10 +10 +veth +access +up +none +10000 +-- +--$' shuntctl interface brief
says '^br0 +all +internal +trunk +down +admin down ' shuntctl interface brief
ip link set c20 down
wait_for 5 bash -c "shuntctl interface brief | grep -qE '^c20 +20 +veth +access +down +admin down'"
ip link set c20 up
refused 65 'could not open network device nope' shuntctl add-port br0 nope tag=10
says '^nope +10 +-- +access +down +no device +-- +-- +--$' shuntctl interface brief
says '^  error: +could not open network device nope' shuntctl interface nope
shuntctl del-port nope
says '^c10 is up$' shuntctl interface c10
says '^  bridge: +br0, port c10, ofport 1$' shuntctl interface c10
json '.interface == "c10" and .vlan == 10 and .mtu == 1500 and .status == "up" and .rx_packets >= 0' interface c10
refused 1 'no such interface: c11' shuntctl interface c11
says '^c10 is up$' ovs-appctl -t /run/shunt/db.sock interface c10
