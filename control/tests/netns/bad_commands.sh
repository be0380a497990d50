# Does each wrong command name the object and the remedy, give its exit status, and change nothing?
. "$(dirname "$0")/_init.sh"
container c1 10.0.0.1/24; container c2 10.0.0.2/24; container c3
mkdir /run/small && mount -t tmpfs -o size=256k tmpfs /run/small
start_shuntd --state /run/small/conf.db
shuntctl add-br br0 -- add-br br1 -- add-port br0 c1 tag=10 -- add-port br0 c2 tag=10
configuration() { shuntctl show; for t in Open_vSwitch Bridge Port Interface; do shuntctl --columns=_uuid list $t; done; shuntctl --columns=name,tag,other_config list Port; }
configuration >"$OUT/before"

say "what is not there"
refused 1 'Nothing' shuntctl list Nothing
refused 1 'nothing' shuntctl get Port c1 nothing
refused 1 'nothing' shuntctl set Port c1 nothing=1
refused 1 'no row "nobody" in table Port' shuntctl set Port nobody tag=1
refused 1 'no bridge named nowhere' shuntctl del-br nowhere
refused 1 'no bridge named nowhere' shuntctl add-port nowhere c3
refused 1 'no bridge named nowhere' shuntctl list-ports nowhere
refused 1 'no port named nobody' shuntctl del-port nobody
refused 1 'no port named nobody' shuntctl port-to-br nobody
check "br-exists nowhere → 2" eval 's=0; shuntctl br-exists nowhere || s=$?; [ $s = 2 ]'
refused 1 'no-such-command' shuntctl no-such-command
refused 1 'bogus' shuntctl --bogus show
refused 1 '/run/nothing.sock' shuntctl --db=unix:/run/nothing.sock show
say "what is out of range, or of the wrong type"
refused 1 '4096.*0 to 4095' shuntctl set Port c1 tag=4096
refused 1 '5000' shuntctl add-port br0 c3 tag=5000
refused 1 '5000' shuntctl set Port c1 trunks=1,5000
refused 1 'ten' shuntctl set Port c1 tag=ten
refused 1 'sideways' shuntctl set Port c1 vlan_mode=sideways
refused 65 'VLAN 5000 of eth0' shuntctl add-port br0 eth0.5000 # a device may have such a name one day
shuntctl del-port eth0.5000
refused 1 'add-port' shuntctl add-port br0
say "what is already there"
refused 1 'br0.*already exists' shuntctl add-br br0
refused 1 'c1.*already exists on bridge br0' shuntctl add-port br0 c1
refused 1 'c1.*already exists on bridge br0' shuntctl add-port br1 c1
refused 1 'c1.*br0' shuntctl --may-exist add-port br1 c1
refused 1 'c1.*br0' shuntctl del-port br1 c1
say "one wrong command in a chain undoes the chain"
refused 1 'no bridge named nowhere' shuntctl add-br br9 -- add-port nowhere c3
refused 1 '9999' shuntctl add-port br0 c3 -- set Port c3 tag=9999
say "a malformed request"
for request in 'rubbish' '{"method":' '{"method":"nothing","params":[],"id":1}' '{"method":"transact","params":["Open_vSwitch",{"op":"drop"}],"id":2}' '[]'; do
    echo "$request" | timeout 5 socat -t1 - UNIX-CONNECT:/run/shunt/db.sock >"$OUT/reply" || true
    check "$request → $(head -c 90 "$OUT/reply")" shuntctl show
done
head -c 3000000 /dev/zero | tr '\0' '[' | timeout 5 socat -t1 - UNIX-CONNECT:/run/shunt/db.sock >"$OUT/reply" 2>&1 || true
check "three million brackets" shuntctl show
say "a full disk under the journal"
fill() { dd if=/dev/zero of=/run/small/fill bs=1k count=1000 2>/dev/null || true; }
fill
long=$(printf 'x%.0s' $(seq 5000))
refused 1 'No space left|disk' shuntctl set Port c1 "external_ids:a=$long"
rm /run/small/fill
configuration >"$OUT/after"
check "nothing has changed" diff "$OUT/before" "$OUT/after"
check "with space again it works" shuntctl set Port c1 "external_ids:a=b"
shuntctl remove Port c1 external_ids a
stop_shuntd -KILL; start_shuntd --state /run/small/conf.db
configuration >"$OUT/after"
check "and after a restart" diff "$OUT/before" "$OUT/after"
reaches c1 10.0.0.2
