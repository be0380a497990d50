// May a packet take the short way from one device to another inside the kernel, because the switch decided so before?
//
// Self-contained on purpose: clang alone compiles it. The few kernel interface facts below are those of
// include/uapi/linux/bpf.h and include/uapi/linux/if_ether.h. The layout of what is shared with the switch is told in
// switch/src/table/shortcut.rs: keep the two alike.
//
// Whatever is not known to be right is handed to the switch: a packet is never forwarded here unless a decision for exactly its
// device, tag and addresses stands, and nothing that the decision depends on has changed since.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static __attribute__((always_inline))
#define MAP_UINT(name, value) int (*name)[value]
#define MAP_TYPE(name, type) type *name
// Once, where it is written, and as a whole.
#define READ(x) (*(const volatile __typeof__(x) *)&(x))

enum { MAP_TYPE_HASH = 1, MAP_TYPE_ARRAY = 2, MAP_MMAPABLE = 1 << 10 };
enum { TC_NEXT = -1, TC_DROP = 2 };
enum { WAYS = 4, BUCKETS = 1 << 14, DEPENDS = 5, EPOCHS = 1 << 16, PLACES = 1 << 12 };
enum { TO_PEER = 1, POP = 2, PUSH = 4, PUSH_STAG = 8 };
enum { ADDRESSES = 12, ETHERNET = 14, TAG = 4, FRAME_MIN = 60 };
enum { CTAG = 0x8100, STAG = 0x88a8, IPV4 = 0x0800, IPV6 = 0x86dd, TCP = 6, UDP = 17 };

// struct __sk_buff, as far as it is read.
struct sk_buff {
	u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority;
	u32 ingress_ifindex, ifindex, tc_index, cb[5], hash, tc_classid, data, data_end, napi_id;
	u32 family, remote_ip4, local_ip4, remote_ip6[4], local_ip6[4], remote_port, local_port, data_meta;
	u64 flow_keys, tstamp;
	u32 wire_len, gso_segs;
	u64 sk;
	u32 gso_size;
};

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static u32 (*const processor)(void) = (void *)8;
static long (*const vlan_push)(struct sk_buff *skb, u16 proto, u16 tci) = (void *)18;
static long (*const vlan_pop)(struct sk_buff *skb) = (void *)19;
static long (*const redirect)(u32 ifindex, u64 flags) = (void *)23;
static long (*const load_bytes)(const struct sk_buff *skb, u32 offset, void *to, u32 len) = (void *)26;
static long (*const redirect_peer)(u32 ifindex, u64 flags) = (void *)155;
static u64 (*const coarse_ns)(void) = (void *)160;

INLINE u16 swap(u16 x) { return __builtin_bswap16(x); }

// A decision of the switch. The version is odd while it is written.
struct shortcut {
	u64 version;
	u64 key[3];
	u32 out_ifindex;
	u32 payload_max;
	u16 in_place;
	u16 out_place;
	u16 flags;
	u16 tci;
	// Place in `epochs` (16 bits), and what was there when the switch decided (48 bits).
	u64 depends[DEPENDS];
	// Last use, in units of 2^30 ns.
	u64 used;
	u64 spare[4];
};

struct bucket {
	struct shortcut ways[WAYS];
};

struct {
	MAP_UINT(type, MAP_TYPE_ARRAY);
	MAP_UINT(map_flags, MAP_MMAPABLE);
	MAP_UINT(max_entries, BUCKETS);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct bucket);
} shortcuts SEC(".maps");

// What changes whenever something else does. Behind it the secret of the hash.
struct epochs {
	u64 words[EPOCHS];
	u64 seed;
};

struct {
	MAP_UINT(type, MAP_TYPE_ARRAY);
	MAP_UINT(map_flags, MAP_MMAPABLE);
	MAP_UINT(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct epochs);
} epochs SEC(".maps");

// Of one place on one processor. Packets are those on the wire: each segment counts.
struct counters {
	u64 rx_packets, rx_bytes, tx_packets, tx_bytes, punted, lost, spare[2];
};

struct {
	MAP_UINT(type, MAP_TYPE_ARRAY);
	MAP_UINT(map_flags, MAP_MMAPABLE);
	// For each processor: set by shortcut.rs.
	MAP_UINT(max_entries, PLACES);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct counters);
} counters SEC(".maps");

// Where packets of a device go that the switch has to decide on.
struct device {
	u32 punt_ifindex;
	// Also the VID of the tag by which the switch knows the device again.
	u32 place;
};

struct {
	MAP_UINT(type, MAP_TYPE_HASH);
	MAP_UINT(max_entries, PLACES);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct device);
} devices SEC(".maps");

INLINE struct counters *counted_at(u32 place)
{
	u32 index = processor() * PLACES + (place & (PLACES - 1));
	return map_lookup(&counters, &index);
}

// To the switch.
INLINE int punt(struct sk_buff *skb)
{
	u32 ifindex = skb->ifindex;
	const struct device *device = map_lookup(&devices, &ifindex);

	if (!device)
		return TC_NEXT;
	struct counters *counted = counted_at(device->place);
	if (vlan_push(skb, swap(STAG), device->place)) {
		if (counted)
			counted->lost++;
		return TC_DROP;
	}
	if (counted)
		counted->punted++;
	return redirect(device->punt_ifindex, 0);
}

// Octets of the headers that each segment carries, or 0 if they cannot be told.
INLINE u32 headers(struct sk_buff *skb)
{
	u32 offset = ETHERNET;
	u8 first, protocol;

	if (skb->protocol == swap(IPV4)) {
		if (load_bytes(skb, offset, &first, 1) || load_bytes(skb, offset + 9, &protocol, 1))
			return 0;
		offset += (first & 0x0f) * 4;
	} else if (skb->protocol == swap(IPV6)) {
		if (load_bytes(skb, offset + 6, &protocol, 1))
			return 0;
		offset += 40;
	} else {
		return 0;
	}
	if (protocol == UDP)
		return offset + 8;
	if (protocol != TCP || load_bytes(skb, offset + 12, &first, 1))
		return 0;
	return offset + (first >> 4) * 4;
}

INLINE u64 hash(const u64 *key, u64 seed)
{
	u64 h = (key[0] ^ seed) * 0x9e3779b97f4a7c15;
	h = (h ^ h >> 32 ^ key[1]) * 0xbf58476d1ce4e5b9;
	h = (h ^ h >> 29 ^ key[2]) * 0x94d049bb133111eb;
	return h >> 32;
}

INLINE int is_outdated(const struct shortcut *shortcut, const struct epochs *now)
{
	u64 changed = 0;

	for (int i = 0; i < DEPENDS; i++) {
		u64 depends = READ(shortcut->depends[i]);
		// Only the lower 48 bits count.
		changed |= (READ(now->words[depends >> 48]) ^ depends) << 16;
	}
	return changed != 0;
}

SEC("classifier")
int shortcut(struct sk_buff *skb)
{
	const u8 *frame = (const u8 *)(long)skb->data;
	u32 zero = 0;
	const struct epochs *now = map_lookup(&epochs, &zero);

	// Who is in a second tag cannot be told apart here.
	if (!now || frame + ETHERNET > (const u8 *)(long)skb->data_end || frame[0] & 1 ||
	    skb->protocol == swap(CTAG) || skb->protocol == swap(STAG))
		return punt(skb);

	u32 tag = 0;
	if (skb->vlan_present)
		tag = 1 << 16 | (skb->vlan_proto == swap(STAG)) << 17 | (skb->vlan_tci & 0xffff);
	u64 key[3] = { (u64)skb->ifindex << 32 | tag, *(const u64 *)frame, *(const u32 *)(frame + 8) };
	u32 place = hash(key, READ(now->seed)) & (BUCKETS - 1);
	struct bucket *bucket = map_lookup(&shortcuts, &place);
	struct shortcut *found = 0;

	if (!bucket)
		return punt(skb);
	for (int way = 0; way < WAYS; way++) {
		struct shortcut *one = &bucket->ways[way];
		if (READ(one->key[0]) == key[0] && READ(one->key[1]) == key[1] && READ(one->key[2]) == key[2]) {
			found = one;
			break;
		}
	}
	if (!found)
		return punt(skb);
	// Everything is read between two looks at the version; loads stay in order on x86-64, where alone this is used.
	u64 version = READ(found->version);
	if (version & 1 || READ(found->key[0]) != key[0] || READ(found->key[1]) != key[1] ||
	    READ(found->key[2]) != key[2] || is_outdated(found, now))
		return punt(skb);
	u32 out_ifindex = READ(found->out_ifindex), payload_max = READ(found->payload_max);
	u16 in_place = READ(found->in_place), out_place = READ(found->out_place);
	u16 flags = READ(found->flags), tci = READ(found->tci);
	if (READ(found->version) != version)
		return punt(skb);

	u32 packets = 1, octets = skb->len, longest = skb->len;
	if (skb->gso_size) {
		u32 each = headers(skb);
		if (!each || !skb->gso_segs)
			return punt(skb);
		packets = skb->gso_segs;
		octets += (packets - 1) * each;
		longest = each + skb->gso_size;
	}
	if (longest > ETHERNET + payload_max)
		return punt(skb);

	u64 coarse = coarse_ns() >> 30;
	if (READ(found->used) != coarse)
		found->used = coarse;
	u32 tagged = skb->vlan_present ? TAG : 0, leaves = tagged;
	if (flags & POP) {
		if (vlan_pop(skb))
			goto lost;
		leaves = 0;
	}
	if (flags & PUSH) {
		if (vlan_push(skb, swap(flags & PUSH_STAG ? STAG : CTAG), tci))
			goto lost;
		leaves += TAG;
	}
	struct counters *counted = counted_at(in_place);
	if (counted) {
		counted->rx_packets += packets;
		counted->rx_bytes += octets + packets * tagged;
	}
	counted = counted_at(out_place);
	if (counted) {
		u32 length = octets + packets * leaves;
		counted->tx_packets += packets;
		counted->tx_bytes += length < FRAME_MIN ? FRAME_MIN : length;
	}
	return flags & TO_PEER ? redirect_peer(out_ifindex, 0) : redirect(out_ifindex, 0);
lost:
	counted = counted_at(in_place);
	if (counted)
		counted->lost++;
	return TC_DROP;
}

char license_text[] SEC("license") = "Apache-2.0";
