//! Which tables and columns does the switch have? The whole vswitch schema 8.3.1 of Open vSwitch 3.1, so that every
//! client of Open vSwitch finds what it looks for; what the switch does not act on is stored all the same. The router's tables
//! are our own.

use super::build::*;
use super::{DatabaseSchema, TableSchema};

/// Another one for every other schema: of the text that it is made from. A client that has the same one needs not be sent
/// the schema.
pub const DIGEST: u64 = digest(include_bytes!("vswitch.rs"), digest(include_bytes!("build.rs"), FNV_START));

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a.
const fn digest(bytes: &[u8], start: u64) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    let (mut digest, mut at) = (start, 0);
    while at < bytes.len() {
        digest = (digest ^ bytes[at] as u64).wrapping_mul(PRIME);
        at += 1;
    }
    digest
}

/// The schema of the database `Open_vSwitch`.
pub fn schema() -> DatabaseSchema {
    let tables = [
        open_vswitch(),
        bridge(),
        port(),
        interface(),
        flow_table(),
        qos(),
        queue(),
        mirror(),
        netflow(),
        sflow(),
        ipfix(),
        flow_sample_collector_set(),
        controller(),
        manager(),
        datapath(),
        ct_zone(),
        ct_timeout_policy(),
        ssl(),
        auto_attach(),
        svi(),
        route(),
        neighbor(),
    ];
    DatabaseSchema {
        name: "Open_vSwitch".to_owned(),
        version: "8.3.1".to_owned(),
        tables: tables.into_iter().map(|table| (table.name.clone(), table)).collect(),
    }
}

fn open_vswitch() -> TableSchema {
    table(
        "Open_vSwitch",
        vec![
            config("datapaths", map(string(), strong("Datapath"))),
            config("bridges", any(strong("Bridge"))),
            config("manager_options", any(strong("Manager"))),
            config("ssl", optional(strong("SSL"))),
            config("other_config", text_map()),
            config("external_ids", text_map()),
            config("next_cfg", one(integer())),
            config("cur_cfg", one(integer())),
            status("statistics", text_map()),
            status("error", optional(string())),
            config("ovs_version", optional(string())),
            config("db_version", optional(string())),
            config("system_type", optional(string())),
            config("system_version", optional(string())),
            config("datapath_types", any(string())),
            config("iface_types", any(string())),
            config("dpdk_initialized", one(boolean())),
            config("dpdk_version", optional(string())),
        ],
    )
    .root()
    .rows(1)
}

fn bridge() -> TableSchema {
    table(
        "Bridge",
        vec![
            fixed("name", one(string())),
            config("datapath_type", one(string())),
            config("datapath_version", one(string())),
            status("datapath_id", optional(string())),
            config("stp_enable", one(boolean())),
            config("rstp_enable", one(boolean())),
            config("mcast_snooping_enable", one(boolean())),
            config("ports", any(strong("Port"))),
            config("mirrors", any(strong("Mirror"))),
            config("netflow", optional(strong("NetFlow"))),
            config("sflow", optional(strong("sFlow"))),
            config("ipfix", optional(strong("IPFIX"))),
            config("controller", any(strong("Controller"))),
            config(
                "protocols",
                any(one_of(&["OpenFlow10", "OpenFlow11", "OpenFlow12", "OpenFlow13", "OpenFlow14", "OpenFlow15"])),
            ),
            config("fail_mode", optional(one_of(&["standalone", "secure"]))),
            status("status", text_map()),
            status("rstp_status", text_map()),
            config("other_config", text_map()),
            config("external_ids", text_map()),
            config("flood_vlans", up_to(4096, range(0, 4095))),
            config("flow_tables", map(range(0, 254), strong("Flow_Table"))),
            config("auto_attach", optional(strong("AutoAttach"))),
        ],
    )
    .index(&["name"])
}

fn port() -> TableSchema {
    table(
        "Port",
        vec![
            fixed("name", one(string())),
            config("interfaces", some(strong("Interface"))),
            config("trunks", up_to(4096, range(0, 4095))),
            config("cvlans", up_to(4096, range(0, 4095))),
            config("tag", optional(range(0, 4095))),
            config(
                "vlan_mode",
                optional(one_of(&["trunk", "access", "native-tagged", "native-untagged", "dot1q-tunnel"])),
            ),
            config("qos", optional(strong("QoS"))),
            config("mac", optional(string())),
            config("bond_mode", optional(one_of(&["balance-tcp", "balance-slb", "active-backup"]))),
            config("lacp", optional(one_of(&["active", "passive", "off"]))),
            config("bond_updelay", one(integer())),
            config("bond_downdelay", one(integer())),
            config("bond_active_slave", optional(string())),
            config("bond_fake_iface", one(boolean())),
            config("fake_bridge", one(boolean())),
            status("status", text_map()),
            status("rstp_status", text_map()),
            status("rstp_statistics", counters()),
            status("statistics", counters()),
            config("protected", one(boolean())),
            config("other_config", text_map()),
            config("external_ids", text_map()),
        ],
    )
    .index(&["name"])
}

fn interface() -> TableSchema {
    table(
        "Interface",
        vec![
            fixed("name", one(string())),
            config("type", one(string())),
            config("options", text_map()),
            config("ingress_policing_rate", one(at_least(0))),
            config("ingress_policing_burst", one(at_least(0))),
            config("ingress_policing_kpkts_rate", one(at_least(0))),
            config("ingress_policing_kpkts_burst", one(at_least(0))),
            status("mac_in_use", optional(string())),
            config("mac", optional(string())),
            status("ifindex", optional(range(0, 4294967295))),
            config("external_ids", text_map()),
            config("ofport", optional(integer())),
            config("ofport_request", optional(range(1, 65279))),
            config("bfd", text_map()),
            status("bfd_status", text_map()),
            config("cfm_mpid", optional(integer())),
            status("cfm_remote_mpids", any(integer())),
            config("cfm_flap_count", optional(integer())),
            status("cfm_fault", optional(boolean())),
            status("cfm_fault_status", any(string())),
            status("cfm_remote_opstate", optional(one_of(&["up", "down"]))),
            status("cfm_health", optional(range(0, 100))),
            status("lacp_current", optional(boolean())),
            config("lldp", text_map()),
            config("other_config", text_map()),
            status("statistics", counters()),
            status("status", text_map()),
            status("admin_state", optional(one_of(&["up", "down"]))),
            status("link_state", optional(one_of(&["up", "down"]))),
            status("link_resets", optional(integer())),
            status("link_speed", optional(integer())),
            status("duplex", optional(one_of(&["half", "full"]))),
            status("mtu", optional(integer())),
            config("mtu_request", optional(at_least(1))),
            config("error", optional(string())),
            config("svi", optional(strong("SVI"))),
        ],
    )
    .index(&["name"])
}

fn flow_table() -> TableSchema {
    table(
        "Flow_Table",
        vec![
            config("name", optional(string())),
            config("flow_limit", optional(at_least(0))),
            config("overflow_policy", optional(one_of(&["refuse", "evict"]))),
            config("groups", any(string())),
            config("prefixes", up_to(3, string())),
            config("external_ids", text_map()),
        ],
    )
}

fn qos() -> TableSchema {
    table(
        "QoS",
        vec![
            config("type", one(string())),
            config("queues", map(range(0, 4294967295), strong("Queue"))),
            config("other_config", text_map()),
            config("external_ids", text_map()),
        ],
    )
    .root()
}

fn queue() -> TableSchema {
    table(
        "Queue",
        vec![
            config("dscp", optional(range(0, 63))),
            config("other_config", text_map()),
            config("external_ids", text_map()),
        ],
    )
    .root()
}

fn mirror() -> TableSchema {
    table(
        "Mirror",
        vec![
            config("name", one(string())),
            config("select_all", one(boolean())),
            config("select_src_port", any(weak("Port"))),
            config("select_dst_port", any(weak("Port"))),
            config("select_vlan", up_to(4096, range(0, 4095))),
            config("output_port", optional(weak("Port"))),
            config("output_vlan", optional(range(1, 4095))),
            config("snaplen", optional(range(14, 65535))),
            status("statistics", counters()),
            config("external_ids", text_map()),
        ],
    )
}

fn netflow() -> TableSchema {
    table(
        "NetFlow",
        vec![
            config("targets", some(string())),
            config("engine_type", optional(range(0, 255))),
            config("engine_id", optional(range(0, 255))),
            config("add_id_to_interface", one(boolean())),
            config("active_timeout", one(at_least(-1))),
            config("external_ids", text_map()),
        ],
    )
}

fn sflow() -> TableSchema {
    table(
        "sFlow",
        vec![
            config("targets", some(string())),
            config("sampling", optional(integer())),
            config("polling", optional(integer())),
            config("header", optional(integer())),
            config("agent", optional(string())),
            config("external_ids", text_map()),
        ],
    )
}

fn ipfix() -> TableSchema {
    table(
        "IPFIX",
        vec![
            config("targets", any(string())),
            config("sampling", optional(range(1, 4294967295))),
            config("obs_domain_id", optional(range(0, 4294967295))),
            config("obs_point_id", optional(range(0, 4294967295))),
            config("cache_active_timeout", optional(range(0, 4200))),
            config("cache_max_flows", optional(range(0, 4294967295))),
            config("other_config", text_map()),
            config("external_ids", text_map()),
        ],
    )
}

fn flow_sample_collector_set() -> TableSchema {
    table(
        "Flow_Sample_Collector_Set",
        vec![
            config("id", one(range(0, 4294967295))),
            config("bridge", one(strong("Bridge"))),
            config("ipfix", optional(strong("IPFIX"))),
            config("external_ids", text_map()),
        ],
    )
    .root()
    .index(&["id", "bridge"])
}

fn controller() -> TableSchema {
    table(
        "Controller",
        vec![
            config("type", optional(one_of(&["primary", "service"]))),
            config("target", one(string())),
            config("max_backoff", optional(at_least(1000))),
            config("inactivity_probe", optional(integer())),
            config("connection_mode", optional(one_of(&["in-band", "out-of-band"]))),
            config("local_ip", optional(string())),
            config("local_netmask", optional(string())),
            config("local_gateway", optional(string())),
            config("enable_async_messages", optional(boolean())),
            config("controller_queue_size", optional(range(1, 512))),
            config("controller_rate_limit", optional(at_least(100))),
            config("controller_burst_limit", optional(at_least(25))),
            config("other_config", text_map()),
            config("external_ids", text_map()),
            status("is_connected", one(boolean())),
            status("role", optional(one_of(&["other", "master", "slave"]))),
            status("status", text_map()),
        ],
    )
}

fn manager() -> TableSchema {
    table(
        "Manager",
        vec![
            config("target", one(string())),
            config("max_backoff", optional(at_least(1000))),
            config("inactivity_probe", optional(integer())),
            config("connection_mode", optional(one_of(&["in-band", "out-of-band"]))),
            config("other_config", text_map()),
            config("external_ids", text_map()),
            status("is_connected", one(boolean())),
            status("status", text_map()),
        ],
    )
    .index(&["target"])
}

fn datapath() -> TableSchema {
    table(
        "Datapath",
        vec![
            config("datapath_version", one(string())),
            config("ct_zones", map(range(0, 65535), strong("CT_Zone"))),
            config("capabilities", text_map()),
            config("external_ids", text_map()),
        ],
    )
}

fn ct_zone() -> TableSchema {
    table(
        "CT_Zone",
        vec![config("timeout_policy", optional(strong("CT_Timeout_Policy"))), config("external_ids", text_map())],
    )
}

fn ct_timeout_policy() -> TableSchema {
    table(
        "CT_Timeout_Policy",
        vec![
            config(
                "timeouts",
                map(
                    one_of(&[
                        "tcp_syn_sent",
                        "tcp_syn_recv",
                        "tcp_established",
                        "tcp_fin_wait",
                        "tcp_close_wait",
                        "tcp_last_ack",
                        "tcp_time_wait",
                        "tcp_close",
                        "tcp_syn_sent2",
                        "tcp_retransmit",
                        "tcp_unack",
                        "udp_first",
                        "udp_single",
                        "udp_multiple",
                        "icmp_first",
                        "icmp_reply",
                    ]),
                    range(0, 4294967295),
                ),
            ),
            config("external_ids", text_map()),
        ],
    )
}

fn ssl() -> TableSchema {
    table(
        "SSL",
        vec![
            config("private_key", one(string())),
            config("certificate", one(string())),
            config("ca_cert", one(string())),
            config("bootstrap_ca_cert", one(boolean())),
            config("external_ids", text_map()),
        ],
    )
    .rows(1)
}

fn auto_attach() -> TableSchema {
    table(
        "AutoAttach",
        vec![
            config("system_name", one(string())),
            config("system_description", one(string())),
            config("mappings", map(range(0, 16777215), range(0, 4095))),
        ],
    )
}

fn svi() -> TableSchema {
    table(
        "SVI",
        vec![
            fixed("name", one(string())),
            config("addresses", any(string())),
            config("vrf", optional(string())),
            status("status", text_map()),
            status("error", optional(string())),
            config("other_config", text_map()),
            config("external_ids", text_map()),
        ],
    )
    .index(&["name"])
}

fn route() -> TableSchema {
    table(
        "Route",
        vec![
            config("vrf", optional(string())),
            config("prefix", one(string())),
            config("type", optional(one_of(&["unicast", "blackhole", "unreachable", "prohibit"]))),
            config("next_hops", any(string())),
            config("metric", one(range(0, 4294967295))),
            status("error", optional(string())),
            config("external_ids", text_map()),
        ],
    )
    .root()
    .index(&["vrf", "prefix", "metric"])
}

fn neighbor() -> TableSchema {
    table(
        "Neighbor",
        vec![
            config("vrf", optional(string())),
            config("interface", one(string())),
            config("address", one(string())),
            config("mac", one(string())),
            status("error", optional(string())),
            config("external_ids", text_map()),
        ],
    )
    .root()
    .index(&["vrf", "interface", "address"])
}
