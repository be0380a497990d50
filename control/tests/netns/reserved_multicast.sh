# Do STP, LLDP and their like stay where they are, as a bridge demands?
. "$(dirname "$0")/_init.sh"
container c1; container c2
uplink
start_shuntd
shuntctl add-br br0 -- add-port br0 c1 -- add-port br0 c2 -- add-port br0 eth0
probes <<END
leaf untagged dst=01:80:c2:00:00:00 -> nobody      # STP
leaf untagged dst=01:80:c2:00:00:01 -> nobody      # pause
leaf untagged dst=01:80:c2:00:00:02 -> nobody      # LACP
leaf untagged dst=01:80:c2:00:00:0e -> nobody      # LLDP: a leaf that hears another leaf's takes the port out of service
c1   untagged dst=01:80:c2:00:00:0f -> nobody
c1   10       dst=01:80:c2:00:00:0e -> nobody
c1   untagged dst=01:00:0c:cc:cc:cc -> nobody      # CDP
c1   untagged dst=01:00:0c:cc:cc:cd -> nobody      # PVST+
c1   untagged dst=01:80:c2:00:00:10 -> c2=untagged leaf=untagged
c1   untagged dst=01:00:5e:00:00:fb -> c2=untagged leaf=untagged
END
check "the drops have their reason" dropped eth0 reserved_multicast 4
check "and on the other port" dropped c1 reserved_multicast 4
say "a reserved frame teaches nothing"
probes <<END
c1 untagged dst=01:80:c2:00:00:00 src=02:00:00:00:00:55 -> nobody
END
refute "its source is known" learned br0 02:00:00:00:00:55 0
say "unless the operator wants them through"
shuntctl set Bridge br0 other_config:forward-bpdu=true
probes <<END
leaf untagged dst=01:80:c2:00:00:00 -> c1=untagged c2=untagged
END
shuntctl remove Bridge br0 other_config forward-bpdu
probes <<END
leaf untagged dst=01:80:c2:00:00:00 -> nobody
END
