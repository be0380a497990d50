"""Do the mirrors of Open vSwitch and of shunt take the same copies, in the same form?"""

import re

from ovs_rig import PORTS, USERS, Port, mac_text, probe


def run(judge, sources, destinations):
    """Ports of all modes are selected and are outputs, some of them both; to ports and to VLANs."""
    switches = judge.switches
    number = {name: n for n, (name, _) in enumerate(PORTS)}
    shapes = ("untagged", "0p5", "10", "10p3", "11p2", "12", "20", "10/20", "0/11", "ad10/11")

    def mirror(title, *mirrors):
        """Mirrors are lists of columns; a port stands in them as [NAME].

        Which frames with a customer's tags leave by which port is not the same in both, and so neither are the mirrors' copies.
        """
        is_exact = not any("select_dst_port" in columns for columns in mirrors)
        senders = [port for port in USERS if is_exact or Port(PORTS[port][1]).mode != "dot1q-tunnel"]
        forms = [tags for tags in shapes if is_exact or "/" not in tags]
        words, names = [], []
        for index, columns in enumerate(mirrors):
            for name in re.findall(r"\[([^]]+)\]", columns):
                words += ["--", f"--id=@p{number[name]}", "get", "Port", f"@{number[name]}"] if name not in names else []
                names.append(name)
            columns = re.sub(r"\[([^]]+)\]", lambda m: f"@p{number[m[1]]}", columns)
            words += ["--", f"--id=@m{index}", "create", "Mirror", f"name=m{index}", *columns.split()]
        switches.vsctl(*words, "--", "set", "Bridge", "@br", "mirrors=" + ",".join(f"@m{n}" for n in range(len(mirrors))))
        switches.flush()
        title = f"mirror {title}"
        judge.run(title, [probe(sources, port, tags) for port in senders for tags in forms])
        judge.run(title, destinations(sources, ["01:80:c2:00:00:03", "01:80:c2:00:00:0e", "01:80:c2:00:00:0f", "01:00:5e:00:00:01"]))
        for tags in "untagged", "10":
            judge.run(title, [probe(sources, port, tags, source=hosts[port]) for port in USERS])
        switches.forget_flows()
        judge.run(f"{title}, to known hosts", [probe(sources, port, tags, mac_text(hosts[to]))
                          for to in USERS for port in selected if port in senders for tags in ("untagged", "10", "10/20") if tags in forms])

    some = ("trunk", "access 10", "native-untagged 10", "tunnel 10", "access 10 protected")
    listed = ",".join(f"[{name}]" for name in some)
    selected = [number[name] for name in some]
    hosts = {port: b"\x02\x40" + port.to_bytes(4, "big") for port in USERS}
    # One port at a time: of several that a flooded packet leaves by, Open vSwitch mirrors the first, in no certain order.
    for output in "trunk always", "access 11, trunks ignored", "native-untagged 10 trunks 10,11 if-nonzero", "tunnel 12 always", "trunk protected":
        mirror(f"of what comes in, to {output}", f"select_src_port={listed} output_port=[{output}]")
        for name in some:
            mirror(f"of what leaves {name}, to {output}", f"select_dst_port=[{name}] output_port=[{output}]")
    mirror("by VLAN", f"select_src_port={listed} select_dst_port=[trunk] select_vlan=0,11 output_port=[trunk with tag 10]")
    mirror("to a VLAN", f"select_src_port={listed} output_vlan=12")
    for name in some:
        mirror(f"of what leaves {name}, to a VLAN", f"select_dst_port=[{name}] select_vlan=10,20 output_vlan=11")
    mirror("snaplen", f"select_src_port={listed} output_port=[trunk always] snaplen=48")
    judge.compare_mirror("snaplen")
    mirror("two with one output", f"select_src_port={listed} output_port=[trunk always]", "select_dst_port=[trunk] output_port=[trunk always]")
    mirror("two outputs that select each other",
           f"select_src_port={listed} select_dst_port=[access 0] output_port=[access 10 always]",
           "select_dst_port=[access 10 always] output_port=[access 0]")
    mirror("to a VLAN that another mirrors", "select_src_port=[access 10] output_vlan=12", "select_dst_port=[trunk if-nonzero] output_port=[trunk always]")
    judge.compare_fdb("mirrors")
    switches.vsctl("clear", "Bridge", "@br", "mirrors")
    switches.flush()
