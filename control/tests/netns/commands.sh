# Does every command of ovs-vsctl's that shuntctl has do what an OVS user expects?
. "$(dirname "$0")/_init.sh"
container c1 10.0.0.1/24; container c2 10.0.0.2/24
start_shuntd
is() { local want=$1; shift; check "$* → $want" test "$("$@" | xargs)" = "$want"; }
check "version" shuntctl version
check "--version" shuntctl --version
check "--help" shuntctl --help
check "list-commands names fdb/show" bash -c "shuntctl list-commands | grep -q fdb/show"
shuntctl add-br br0
is br0 shuntctl list-br
check "br-exists" shuntctl br-exists br0
check "--may-exist add-br" shuntctl --may-exist add-br br0
shuntctl add-port br0 c1 tag=10
shuntctl --may-exist add-port br0 c1
shuntctl -- --may-exist add-br br1 -- --may-exist add-port br0 c2 tag=20 external_ids:owner=me
is "br0 br1" shuntctl list-br
is "c1 c2" shuntctl list-ports br0
is "c1 c2" shuntctl list-ifaces br0
is br0 shuntctl port-to-br c2
is br0 shuntctl iface-to-br c2
is 20 shuntctl get Port c2 tag
is '{owner=me}' shuntctl get Port c2 external_ids
is me shuntctl get Port c2 external_ids:owner
shuntctl show | tee "$OUT/show"
for text in 'Bridge br0' 'Port c2' 'tag: 20' 'Interface c2' 'type: internal'; do check "show has '$text'" grep -q "$text" "$OUT/show"; done
say "set, add, remove, clear"
shuntctl set Port c2 tag=10 trunks=1,2,3
is '[1, 2, 3]' shuntctl get Port c2 trunks
shuntctl remove Port c2 trunks 2; shuntctl add Port c2 trunks 7
is '[1, 3, 7]' shuntctl get Port c2 trunks
shuntctl clear Port c2 trunks
is '[]' shuntctl get Port c2 trunks
shuntctl set Port c2 other_config:a=1 other_config:b=2; shuntctl remove Port c2 other_config a
is '{b=2}' eval "shuntctl get Port c2 other_config | tr -d '\"'"
reaches c1 10.0.0.2
shuntctl remove Port c2 tag 10
reaches_not c1 10.0.0.2
shuntctl set Port c2 tag=10
say "list and find, in every format"
is c1 shuntctl --bare --columns=name find Port name=c1
is "c1 c2" eval "shuntctl --bare --columns=name find Port tag=10 | sort"
check "--format=json is JSON" bash -c "shuntctl --format=json --columns=name,tag list Port | jq -e '.headings == [\"name\",\"tag\"] and (.data | length) == 4'"
check "--format=table" bash -c "shuntctl -f table --columns=name list Port | grep -q '^name'"
check "--format=csv" bash -c "shuntctl -f csv --columns=name list Port | grep -qx c1"
check "list of one record" bash -c "shuntctl list Port c1 | grep -q '^tag *: 10'"
say "columns that the switch fills"
is "$(cat /sys/class/net/c1/ifindex)" shuntctl get Interface c1 ifindex
is "$(cat /sys/class/net/c1/address)" shuntctl get Interface c1 mac_in_use
is up shuntctl get Interface c1 admin_state
is up shuntctl get Interface c1 link_state
is 1500 shuntctl get Interface c1 mtu
check "ofport is a number" bash -c "shuntctl get Interface c1 ofport | grep -qx '[0-9]*'"
say "and away again"
shuntctl --if-exists del-port br0 nobody
shuntctl --if-exists del-br nowhere
shuntctl del-port br0 c2
is c1 shuntctl list-ports br0
is 0 eval "shuntctl --bare --columns=name find Interface name=c2 | wc -l"
shuntctl del-br br0 -- del-br br1
is '' shuntctl list-br
is 0 eval "shuntctl --bare --columns=name list Port | wc -l"
check "shell completions" bash -c "shuntctl completions bash | bash -n"
reaches_not c1 10.0.0.2
