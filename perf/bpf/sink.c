/* SPDX-License-Identifier: Apache-2.0 */
/* How many frames of the generator have arrived, and how long were the stamped ones on their way? Two programs that count
 * alike and drop all but the samples that are to go back: one at the namespace's tc ingress, one in the driver. */
#include "kernel.h"
#include <linux/pkt_cls.h>

/* Third octet of the addresses that frames must come from and go to. */
const volatile __u8 SOURCE_SIDE = 0;
const volatile __u8 DESTINATION_SIDE = 0;
/* Not zero: stamped frames go back to where they came from. */
const volatile __u8 REFLECT = 0;

enum { OURS, OCTETS, FOREIGN, TAGGED, COUNTERS };

struct {
	MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_UINT(max_entries, COUNTERS);
	__u32 *key;
	__u64 *value;
} COUNTS SEC(".maps");

/* Delays in ns: below 256 each has its own bucket, above each power of two has 128 (see src/delays.rs). */
#define BUCKETS 4096

struct {
	MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_UINT(max_entries, BUCKETS);
	__u32 *key;
	__u64 *value;
} DELAYS SEC(".maps");

INLINE void add(void *map, __u32 index, __u64 value)
{
	__u64 *count = bpf_map_lookup_elem(map, &index);
	if (count)
		*count += value;
}

INLINE __u32 bucket(__u64 delay)
{
	__u32 shift = 0;
	__u64 rest = delay >> 8;
	/* How many bits are above the lowest eight? */
	if (rest >> 16) { shift += 16; rest >>= 16; }
	if (rest >> 8) { shift += 8; rest >>= 8; }
	if (rest >> 4) { shift += 4; rest >>= 4; }
	if (rest >> 2) { shift += 2; rest >>= 2; }
	if (rest >> 1) { shift += 1; rest >>= 1; }
	shift += rest ? 1 : 0;
	__u64 index = ((__u64)shift << 7) + (delay >> shift);
	return index < BUCKETS ? index : BUCKETS - 1;
}

/* Counts one frame; 1 if it is a sample that is to go back, with its addresses swapped already. */
INLINE int count(__u8 *frame, void *end, __u32 octets, int tag_apart)
{
	if ((void *)(frame + STAMP_OFFSET(14) + 8) > end || frame[0] != OUI_FIRST || frame[1] != OUI_SECOND ||
	    frame[2] != DESTINATION_SIDE || frame[6] != OUI_FIRST || frame[7] != OUI_SECOND || frame[8] != SOURCE_SIDE) {
		add(&COUNTS, FOREIGN, 1);
		return 0;
	}
	add(&COUNTS, OURS, 1);
	add(&COUNTS, OCTETS, octets);
	int tag_inside = frame[12] == 0x81 && frame[13] == 0;
	if (tag_inside || tag_apart)
		add(&COUNTS, TAGGED, 1);
	__u64 *stamp = (void *)(frame + STAMP_OFFSET(14));
	if (tag_inside) {
		stamp = (void *)(frame + STAMP_OFFSET(18));
		if ((void *)(stamp + 1) > end)
			return 0;
	}
	if (!*stamp)
		return 0;
	add(&DELAYS, bucket(bpf_ktime_get_ns() - *stamp), 1);
	if (!REFLECT)
		return 0;
	__u16 *words = (void *)frame;
	for (int i = 0; i < 3; i++) {
		__u16 word = words[i];
		words[i] = words[i + 3];
		words[i + 3] = word;
	}
	return 1;
}

SEC("classifier")
int sink_tc(struct __sk_buff *skb)
{
	int back = count((void *)(long)skb->data, (void *)(long)skb->data_end, skb->len, skb->vlan_present);
	return back ? bpf_redirect(skb->ifindex, 0) : TC_ACT_SHOT;
}

SEC("xdp")
int sink_xdp(struct xdp_md *ctx)
{
	int back = count((void *)(long)ctx->data, (void *)(long)ctx->data_end, ctx->data_end - ctx->data, 0);
	return back ? XDP_TX : XDP_DROP;
}

char LICENSE[] SEC("license") = "Apache-2.0";
