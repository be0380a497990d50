# Is the control socket guarded, and a second daemon on the same state or socket refused?
. "$(dirname "$0")/_init.sh"
container c1 10.0.0.1/24; container c2 10.0.0.2/24
start_shuntd
shuntctl add-br br0 -- add-port br0 c1 -- add-port br0 c2
check "the socket's mode is 660" test "$(stat -c %a /run/shunt/db.sock)" = 660
refused 1 'ermission' setpriv --reuid=65534 --regid=65534 --clear-groups env "PATH=$PATH" shuntctl show
refused 1 '/var/lib/shunt/conf.db.*(in use|already|another|lock)' shuntd --socket /run/other.sock
refused 1 '/run/shunt/db.sock.*(in use|already|another|lock|listen)' shuntd --state /run/other.db
reaches c1 10.0.0.2
check "the first one serves on" shuntctl show
say "a socket left behind by a crash is no obstacle"
stop_shuntd -KILL
check "it is left behind" test -S /run/shunt/db.sock
start_shuntd
reaches c1 10.0.0.2
say "options that make no sense"
refused '[12]' 'cores.*99|99.*core' shuntd --cores 99 --socket /run/o.sock --state /run/o.db
refused '[12]' 'ring' shuntd --ring 1000 --socket /run/o.sock --state /run/o.db
