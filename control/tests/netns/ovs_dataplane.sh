# Do Open vSwitch and shunt send the same frames out of the same ports? Both run here, with the same ports and commands.
#
# Open vSwitch's userspace datapath on `oN`, shuntd on `sN`; the far ends `oNp` and `sNp` are in the namespace `hosts`, where
# ovs_dataplane.py sends each frame to both and compares what comes out. OVS's own reading is the reference.
. "$(dirname "$0")/_init.sh"
PORTS=$("$HERE/ovs_dataplane.py" --count)
export OVS_RUNDIR=/run/openvswitch OVS_LOGDIR=$OUT OVS_DBDIR=/run/openvswitch OVS_SYSCONFDIR=/run/openvswitch

start_ovs() {
    mkdir -p $OVS_RUNDIR
    ovsdb-tool create $OVS_RUNDIR/conf.db /usr/share/openvswitch/vswitch.ovsschema
    ovsdb-server $OVS_RUNDIR/conf.db --remote=punix:$OVS_RUNDIR/db.sock --unixctl=$OVS_RUNDIR/ovsdb.ctl 2>"$OUT/ovsdb-server.log" &
    wait_for 20 test -S $OVS_RUNDIR/db.sock
    # Frames with two tags are told apart, as shunt does; without this Open vSwitch reads only the outer one.
    ovs-vsctl --no-wait init -- set Open_vSwitch . other_config:vlan-limit=2
    ovs-vswitchd unix:$OVS_RUNDIR/db.sock --unixctl=$OVS_RUNDIR/vswitchd.ctl 2>"$OUT/ovs-vswitchd.log" &
    wait_for 20 test -S $OVS_RUNDIR/vswitchd.ctl
}

namespace hosts
sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1
in_ns hosts sysctl -qw net.ipv6.conf.default.disable_ipv6=1
for side in o s; do
    for ((n = 0; n < PORTS; n++)); do
        echo "link add $side$n numrxqueues 1 numtxqueues 1 type veth peer name $side${n}p numrxqueues 1 numtxqueues 1 netns hosts"
        echo "link set $side$n up"
        echo "link set $side${n}p up" >&3
    done
done 3>"$OUT/far" | ip -batch -
ip -n hosts -batch "$OUT/far"
start_ovs
start_shuntd
ovs-vsctl --timeout=20 add-br obr -- set bridge obr datapath_type=netdev
shuntctl add-br sbr
check "both switches send the same frames out of the same ports" \
    ip netns exec hosts "$HERE/ovs_dataplane.py" --ovs=$OVS_RUNDIR --shunt=/run/shunt/db.sock
cat "$OUT/check"
