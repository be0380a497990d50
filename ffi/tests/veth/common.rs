//! What do the kernel tests share? A switch's and a container's namespace, and a raw socket at the container's end.

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice};
use shunt_ffi::netns::TestNamespace;
use shunt_ffi::{AttachError, Attachment, Claims, QueueOptions, WantedMode, XskRx, XskTx};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a packet may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A veth pair between two namespaces.
pub(crate) struct Wire {
    pub(crate) switch: TestNamespace,
    pub(crate) container: TestNamespace,
    pub(crate) ifindex: u32,
}

impl Wire {
    /// `sw0` in the switch's namespace, `ct0` in the container's. `more`: see [`TestNamespace::veth`].
    pub(crate) fn new(more: &str) -> Self {
        let (switch, container) = (TestNamespace::new(), TestNamespace::new());
        let ifindex = switch.veth("sw0", &container, "ct0", more);
        Self { switch, container, ifindex }
    }

    pub(crate) fn attach(&self, queues: u32, claims: &Claims) -> (Attachment, Vec<(XskRx, XskTx)>) {
        let options = QueueOptions::default();
        self.switch
            .run(|| Attachment::open(self.ifindex, "sw0", queues, WantedMode::BestEffort, false, &options, claims))
            .expect("attach")
    }

    pub(crate) fn try_attach(
        &self,
        queues: u32,
        wanted: WantedMode,
        options: &QueueOptions,
    ) -> Result<(Attachment, Vec<(XskRx, XskTx)>), AttachError> {
        self.switch.run(|| Attachment::open(self.ifindex, "sw0", queues, wanted, false, options, &Claims::Everything))
    }

    /// A raw socket on the container's end.
    pub(crate) fn raw(&self) -> Raw {
        self.container.run(|| Raw::open("ct0"))
    }
}

/// A packet socket on one device.
pub(crate) struct Raw(OwnedFd);

impl Raw {
    /// In the current namespace.
    pub(crate) fn open(device: &str) -> Self {
        let all = Some(rustix::net::Protocol::from_raw(
            std::num::NonZero::new(u32::from((libc::ETH_P_ALL as u16).to_be())).expect("not zero"),
        ));
        let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, all)
            .expect("packet socket");
        let index = netdevice::name_to_index(&socket, device).expect(device);
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
            sll_ifindex: index as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        use std::os::fd::AsRawFd;
        // SAFETY: a whole sockaddr_ll.
        let bound = unsafe {
            libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
        };
        assert_eq!(bound, 0);
        Self(socket)
    }

    pub(crate) fn send(&self, packet: &[u8]) {
        assert_eq!(rustix::net::send(&self.0, packet, SendFlags::empty()).expect("send"), packet.len());
    }

    /// How many packets are there now, which it takes.
    pub(crate) fn count_now(&self) -> usize {
        let mut buffer = [0; 2048];
        std::iter::from_fn(|| rustix::net::recv(&self.0, &mut buffer, RecvFlags::DONTWAIT).ok()).count()
    }

    /// The next packet that `wanted` likes, within [`PATIENCE`].
    pub(crate) fn receive(&self, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = vec![0; 1 << 16];
        while readable(self.0.as_fd(), deadline) {
            let (len, _) = rustix::net::recv(&self.0, &mut buffer, RecvFlags::DONTWAIT).unwrap_or((0, 0));
            if len > 0 && wanted(&buffer[..len]) {
                buffer.truncate(len);
                return Some(buffer);
            }
        }
        None
    }
}

/// Waits until the descriptor is readable; false at the deadline.
pub(crate) fn readable(fd: std::os::fd::BorrowedFd<'_>, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = rustix::event::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(fd, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&timeout)).unwrap_or(0) > 0
}

/// A frame of `len` octets with an EtherType of its own and a counting payload.
pub(crate) fn frame(tag: Option<u16>, len: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if let Some(vid) = tag {
        frame.extend([0x81, 0x00]);
        frame.extend(vid.to_be_bytes());
    }
    frame.extend([0x88, 0xb5]);
    frame.extend((frame.len()..len).map(|n| n as u8));
    frame
}

/// The next packet that comes in by the queue, its octets joined, within [`PATIENCE`].
pub(crate) fn next_packet(rx: &mut XskRx) -> Option<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if rx.receive(1) > 0 {
            let mut octets = Vec::new();
            rx.packets().for_each(|packet| octets = packet.to_vec());
            rx.release();
            return Some(octets);
        }
        if !readable(rx.as_fd().expect("a real socket"), deadline) {
            return None;
        }
    }
}

/// Sends a packet, written in pieces of odd sizes.
pub(crate) fn send(tx: &mut XskTx, octets: &[u8], checksum: Option<shunt_ffi::ChecksumRequest>) -> shunt_ffi::Flush {
    let mut writer = tx.start(octets.len()).expect("a free frame");
    for piece in octets.chunks(617) {
        writer.append(piece);
    }
    writer.commit(checksum);
    drop(writer);
    tx.flush()
}

/// A UDP packet of a flow of its own.
pub(crate) fn udp_packet(flow: u32) -> Vec<u8> {
    let mut packet = frame(None, 60);
    packet[12..14].copy_from_slice(&[8, 0]);
    packet[14..34].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet[26..30].copy_from_slice(&(0x0a00_0000 + flow).to_be_bytes());
    packet[34..42].copy_from_slice(&[(flow >> 8) as u8, flow as u8, 0, 53, 0, 26, 0, 0]);
    packet
}
