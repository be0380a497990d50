/* SPDX-License-Identifier: Apache-2.0 */
/* How many frames of the generator have arrived? Two programs that count alike and drop all: one at the namespace's tc
 * ingress, one in the driver. */
#include "kernel.h"
#include <linux/pkt_cls.h>

/* Third octet of the addresses that frames must come from and go to. */
const volatile __u8 SOURCE_SIDE = 0;
const volatile __u8 DESTINATION_SIDE = 0;

enum { OURS, OCTETS, FOREIGN, COUNTERS };

struct {
	MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_UINT(max_entries, COUNTERS);
	__u32 *key;
	__u64 *value;
} COUNTS SEC(".maps");

static inline __attribute__((always_inline)) void add(__u32 counter, __u64 value)
{
	__u64 *count = bpf_map_lookup_elem(&COUNTS, &counter);
	if (count)
		*count += value;
}

static inline __attribute__((always_inline)) void count(const __u8 *frame, const void *end, __u32 octets)
{
	if ((const void *)(frame + 14) <= end && frame[0] == OUI_FIRST && frame[1] == OUI_SECOND &&
	    frame[2] == DESTINATION_SIDE && frame[6] == OUI_FIRST && frame[7] == OUI_SECOND && frame[8] == SOURCE_SIDE) {
		add(OURS, 1);
		add(OCTETS, octets);
	} else {
		add(FOREIGN, 1);
	}
}

SEC("classifier")
int sink_tc(struct __sk_buff *skb)
{
	count((void *)(long)skb->data, (void *)(long)skb->data_end, skb->len);
	return TC_ACT_SHOT;
}

SEC("xdp")
int sink_xdp(struct xdp_md *ctx)
{
	count((void *)(long)ctx->data, (void *)(long)ctx->data_end, ctx->data_end - ctx->data);
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Apache-2.0";
