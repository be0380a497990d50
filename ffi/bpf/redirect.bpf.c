// Which received frames belong to the switch, and which to the kernel?
//
// Self-contained on purpose: clang alone compiles it. The few kernel interface facts below are those of
// include/uapi/linux/bpf.h.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define MAP_UINT(name, value) int (*name)[value]
#define MAP_TYPE(name, type) type *name

enum { MAP_TYPE_ARRAY = 2, MAP_TYPE_XSKMAP = 17 };
enum { XDP_PASS = 2 };
// Devices that share the program and its maps: the kernel looks up each further program that is attached in a table of 48, and waits for
// an RCU grace period whenever that changes. A device's place is its number modulo DEVICES; see program.rs.
enum { VLANS = 4096, QUEUES_MAX = 64, DEVICES = 1024 };

struct xdp_md {
	u32 data;
	u32 data_end;
	u32 data_meta;
	u32 ingress_ifindex;
	u32 rx_queue_index;
	u32 egress_ifindex;
};

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const redirect_map)(void *map, u64 key, u64 flags) = (void *)51;

// Written by program.rs as an array of u64: keep the two alike.
struct claims {
	u64 ifindex;
	u64 everything;
	u64 vlans[VLANS / 64];
};

struct {
	MAP_UINT(type, MAP_TYPE_ARRAY);
	MAP_UINT(max_entries, DEVICES);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct claims);
} claims SEC(".maps");

struct {
	MAP_UINT(type, MAP_TYPE_XSKMAP);
	MAP_UINT(max_entries, DEVICES * QUEUES_MAX);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u32);
} sockets SEC(".maps");

static __attribute__((always_inline)) int claimed(const struct claims *claim, const struct xdp_md *context)
{
	const u8 *frame = (const u8 *)(long)context->data;
	const u8 *end = (const u8 *)(long)context->data_end;

	if (claim->everything)
		return 1;
	if (frame + 16 > end || frame[12] != 0x81 || frame[13] != 0x00)
		return 0;
	u32 vid = ((frame[14] & 0x0f) << 8 | frame[15]) & (VLANS - 1);
	return claim->vlans[vid / 64] >> (vid % 64) & 1;
}

SEC("xdp.frags")
int redirect(struct xdp_md *context)
{
	u32 ifindex = context->ingress_ifindex, queue = context->rx_queue_index;
	u32 place = ifindex % DEVICES;
	const struct claims *claim = map_lookup(&claims, &place);

	if (!claim || claim->ifindex != ifindex || queue >= QUEUES_MAX || !claimed(claim, context))
		return XDP_PASS;
	// A queue without a socket: the kernel gets its frames.
	return redirect_map(&sockets, place * QUEUES_MAX + queue, XDP_PASS);
}

char license_text[] SEC("license") = "Apache-2.0";
