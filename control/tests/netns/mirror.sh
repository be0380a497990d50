# Do mirrors copy what they select, to a port or to a VLAN, and count it?
. "$(dirname "$0")/_init.sh"
for c in m1 m2 m3 probe; do container $c; done
uplink
for c in m1 m2 m3 probe leaf; do in_ns $c sysctl -qw net.ipv6.conf.all.disable_ipv6=1; done
start_shuntd
shuntctl set Open_vSwitch . other_config:stats-update-interval=1000
shuntctl add-br br0
for c in m1 m2; do shuntctl add-port br0 $c tag=10; done
shuntctl add-port br0 m3 tag=20 -- add-port br0 probe -- add-port br0 eth0 -- set Port eth0 other_config:uplink=true
statistic() { [ "$(shuntctl get Mirror "$1" "statistics:$2")" -ge "$3" ]; }
problem() { shuntctl get Bridge br0 "status:mirror-$1" | grep -qF -- "$2"; }
no_problem() { [ "$(shuntctl get Bridge br0 status)" = "{}" ]; }
learn() { for c in m1 m2; do frames send $c --src "$(in_ns $c cat /sys/class/net/eth0/address)"; done; }

say "without a mirror the probe is a port like others"
probes <<END
m1 untagged -> m2=untagged probe=10 leaf=10
END

say "SPAN: everything of m1, once, in both directions; the probe gets nothing else"
shuntctl -- --id=@m1 get Port m1 -- --id=@p get Port probe \
    -- --id=@m create Mirror name=span select_src_port=@m1 select_dst_port=@m1 output_port=@p -- set Bridge br0 mirrors=@m
learn
m1=$(in_ns m1 cat /sys/class/net/eth0/address) m2=$(in_ns m2 cat /sys/class/net/eth0/address)
probes <<END
m1 untagged dst=$m2 -> m2=untagged probe=10
m2 untagged dst=$m1 -> m1=untagged probe=10
m2 untagged -> m1=untagged leaf=10 probe=10
m3 untagged -> leaf=20
m1 untagged dst=01:80:c2:00:00:0e -> probe=10
m1 20 -> nobody
END
traced() { shuntctl trace br0 "in_port=m1,dl_src=$m1,$1" >"$OUT/traced"; grep -qE -- "$2" "$OUT/traced" || { cat "$OUT/traced"; return 1; }; }
check "a trace tells of the mirror's copy" traced "dl_dst=$m2" '^  mirror    probe: '
check "and of one of what is dropped" traced dl_dst=01:80:c2:00:00:0e '^  mirror    probe: '
refute "of one of another VLAN" traced dl_vlan=20 '^  mirror '
check "the mirror counts them" wait_for 5 statistic span tx_packets 4
check "and their octets" statistic span tx_bytes 240

say "what comes in by the mirror's port is dropped and teaches nothing"
probes <<END
probe untagged src=02:00:00:00:00:77 -> nobody
END
check "with its reason" dropped probe mirror_ingress 1
refute "its source is known" learned br0 02:00:00:00:00:77 0
check "fdb/add binds an address to the mirror's port" shuntctl fdb/add br0 probe 10 02:00:00:00:00:78
probes <<END
m1 untagged dst=02:00:00:00:00:78 -> probe=10
END
check "that leads nowhere but to the mirror" dropped m1 mirror_egress 1

say "select_vlan, select_all and snaplen, changed while it runs"
shuntctl set Mirror span select_all=true select_vlan=20
probes <<END
m1 untagged -> m2=untagged leaf=10
m3 untagged -> leaf=20 probe=20
leaf 20 -> m3=untagged probe=20
leaf 30 -> nobody
END
shuntctl set Mirror span snaplen=100
capture_start probe eth0 ether proto 0x88b5 or vlan
frames send m3 --size 1000 --src 02:00:00:00:00:55
frames send leaf 20 --size 80 --src 02:00:00:00:00:55
capture_stop
lengths() { tcpdump -nner "$OUT/wire.pcap" ether src 02:00:00:00:00:55 2>/dev/null | grep -o ' length [0-9]*' | head -2 | xargs; }
check "1004 octets become 100, 84 stay: $(lengths)" [ "$(tcpdump -nner "$OUT/wire.pcap" 2>/dev/null | grep -c 'length 100:\|length 84:')" = 2 ]
shuntctl clear Mirror span select_vlan snaplen

say "RSPAN: copies go to all ports of VLAN 99, tagged there"
shuntctl set Mirror span output_port=[] output_vlan=99 select_all=false
shuntctl set Port probe tag=99
probes <<END
m1 untagged dst=$m2 -> m2=untagged probe=untagged leaf=99
m2 untagged dst=$m1 -> m1=untagged probe=untagged leaf=99
m1 untagged dst=01:80:c2:00:00:0e -> nobody
m3 untagged -> leaf=20
END
probes <<END
probe untagged -> leaf=99
END

say "what cannot work is said, and does no harm"
refused 65 'span.*does not specify output' shuntctl clear Mirror span output_vlan
check "no output" problem span 'does not specify output'
check "logged, too" grep -q 'mirror span does not specify output' "$OUT/shuntd.log"
probes <<END
m1 untagged dst=$m2 -> m2=untagged
END
shuntctl add-br br1 -- add-port br1 other -- set Interface other type=internal
refused 65 'outputs to port not on bridge' shuntctl -- --id=@o get Port other -- set Mirror span output_port=@o
check "a port of another bridge" problem span 'outputs to port not on bridge'
refused 65 'ignoring output vlan' shuntctl -- --id=@p get Port probe -- set Mirror span output_port=@p output_vlan=99
check "both outputs: the port counts" problem span 'ignoring output vlan'
probes <<END
m1 untagged dst=$m2 -> m2=untagged probe=untagged
END
shuntctl clear Mirror span output_vlan
check "nothing to complain of any more" no_problem
shuntctl del-port br0 probe
check "the output is gone" problem span 'does not specify output'
shuntctl clear Bridge br0 mirrors
check "and so is the mirror" bash -c '[ -z "$(shuntctl --bare list Mirror)" ]'
check "nothing is left of it" no_problem
