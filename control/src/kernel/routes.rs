//! Which routes, next-hop objects and neighbours does our network namespace have, and when does that change?
//!
//! A [`Routes`] subscribes, then reads everything there is, and from then on tells each change. If news come faster than they
//! are read the kernel drops some and says so once (ENOBUFS): everything is read again, and what the reading does not
//! show is gone. Meanwhile what was known stays in force.

use std::collections::VecDeque;
use std::io;

use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer};
use rtnetlink::sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use rustix::net::sockopt;

use super::Error;
use crate::routing::decode::{News, decode};

/// RTNLGRP_* of `rtnetlink.h`: links, neighbours, routes and rules of both families, next-hop objects.
const GROUPS: [u32; 7] = [1, 3, 7, 11, 8, 19, 32];
/// Space for news that we have not read yet: some 100 000 routes.
const NEWS_BUFFER_BYTES: usize = 64 << 20;
/// The largest datagram of a dump.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;
/// Messages told in one visit, so that a storm of them cannot keep the control thread from everything else.
const NEWS_PER_VISIT: usize = 4096;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_GETLINK: u16 = 18;
const RTM_GETROUTE: u16 = 26;
const RTM_GETNEIGH: u16 = 30;
const RTM_GETRULE: u16 = 34;
const RTM_GETNEXTHOP: u16 = 106;
/// What is read, in this order (routes name objects): the request and the address family.
const READINGS: [(u16, u8); 8] = [
    (RTM_GETLINK, 0),
    (RTM_GETRULE, libc_af::INET),
    (RTM_GETRULE, libc_af::INET6),
    (RTM_GETNEXTHOP, 0),
    (RTM_GETROUTE, libc_af::INET),
    (RTM_GETROUTE, libc_af::INET6),
    (RTM_GETNEIGH, libc_af::INET),
    (RTM_GETNEIGH, libc_af::INET6),
];

mod libc_af {
    pub(super) const INET: u8 = 2;
    pub(super) const INET6: u8 = 10;
}

/// What [`Routes::next`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// All that there is follows; what is not told until [`Told::ReadingFinished`] is gone.
    ReadingStarted,
    /// Something is there, has changed or went.
    News(News),
    /// The reading is complete.
    ReadingFinished,
}

/// Where a reading is.
enum Phase {
    /// News only.
    Live,
    /// To be begun.
    Due,
    /// The reading of this number is under way. Whether it has to be done again.
    Under(usize, bool),
}

/// The news of one network namespace: that of the thread that called [`Routes::open`].
pub struct Routes {
    news: TokioSocket,
    requests: TokioSocket,
    phase: Phase,
    told: VecDeque<Told>,
    buffer: Vec<u8>,
}

impl Routes {
    /// Subscribes. Must be called in a tokio runtime with I/O.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        Self::open_with(NEWS_BUFFER_BYTES)
    }

    /// [`Routes::open`] with another size of the buffer for unread news.
    ///
    /// # Errors
    /// As [`Routes::open`].
    pub fn open_with(buffer_bytes: usize) -> Result<Self, Error> {
        let open = || -> io::Result<Self> {
            let (mut news, requests) = (TokioSocket::new(NETLINK_ROUTE)?, TokioSocket::new(NETLINK_ROUTE)?);
            let socket = news.socket_ref();
            if sockopt::set_socket_recv_buffer_size_force(socket, buffer_bytes).is_err() {
                sockopt::set_socket_recv_buffer_size(socket, buffer_bytes)?;
            }
            news.socket_mut().bind(&SocketAddr::new(0, 0))?;
            for group in GROUPS {
                news.socket_mut().add_membership(group)?;
            }
            let (told, buffer) = (VecDeque::new(), Vec::with_capacity(DATAGRAM_BYTES_MAX));
            Ok(Self { news, requests, phase: Phase::Due, told, buffer })
        };
        open().map_err(Error::Socket)
    }

    /// Waits for what is to be told next, first of all a reading of everything: some at a time, in order, never none.
    ///
    /// Nothing is lost if the future is dropped before it is ready (`select!`).
    ///
    /// # Errors
    /// [`Error::Socket`] if the kernel no longer talks to us.
    pub async fn next(&mut self) -> Result<Vec<Told>, Error> {
        while self.told.is_empty() {
            match self.phase {
                Phase::Live => {
                    let received = receive(&self.news, &mut self.buffer).await;
                    self.take_news(received)?;
                    self.take_pending()?;
                }
                Phase::Due => {
                    self.throw_away_pending()?;
                    self.told.push_back(Told::ReadingStarted);
                    self.request(0, false)?;
                }
                Phase::Under(reading, again) => {
                    receive(&self.requests, &mut self.buffer).await.map_err(Error::Socket)?;
                    self.take_reading(reading, again)?;
                }
            }
        }
        Ok(self.told.drain(..).collect())
    }

    /// What is there to be told now, without waiting: after a change of ours the news of it, unless a reading is under way.
    ///
    /// # Errors
    /// As [`Routes::next`].
    pub fn now(&mut self) -> Result<Vec<Told>, Error> {
        self.take_pending()?;
        Ok(self.told.drain(..).collect())
    }

    /// Takes what else is there, without waiting.
    fn take_pending(&mut self) -> Result<(), Error> {
        while matches!(self.phase, Phase::Live) && self.told.len() < NEWS_PER_VISIT {
            self.buffer.clear();
            match self.news.socket_ref().recv_from(&mut self.buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                received => self.take_news(received.map(drop))?,
            }
        }
        Ok(())
    }

    /// What is older than a reading is not applied on top of it.
    fn throw_away_pending(&mut self) -> Result<(), Error> {
        loop {
            self.buffer.clear();
            match self.news.socket_ref().recv_from(&mut self.buffer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_overrun(&error) || error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Socket(error)),
            }
        }
    }

    fn take_news(&mut self, received: io::Result<()>) -> Result<(), Error> {
        match received {
            Ok(()) => {
                for message in messages(&self.buffer) {
                    tell(message, &mut self.told);
                }
            }
            Err(error) if is_overrun(&error) => {
                tracing::info!("routes changed faster than they were read: reading all of them anew");
                self.phase = Phase::Due;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Socket(error)),
        }
        Ok(())
    }

    /// Takes a datagram of a reading.
    fn take_reading(&mut self, reading: usize, mut again: bool) -> Result<(), Error> {
        let mut is_done = false;
        for message in messages(&self.buffer) {
            let Ok(header) = NetlinkBuffer::new_checked(&message) else { continue };
            // The table changed under the kernel's hands: some of it may be missing.
            again |= header.flags() & NLM_F_DUMP_INTR != 0;
            match header.message_type() {
                // An error: this kernel knows no such thing, such as next-hop objects before 5.3.
                NLMSG_DONE | NLMSG_ERROR => is_done = true,
                _ => tell(message, &mut self.told),
            }
        }
        match (is_done, reading + 1) {
            (false, _) => self.phase = Phase::Under(reading, again),
            (true, next) if next < READINGS.len() => self.request(next, again)?,
            (true, _) if again => self.phase = Phase::Due,
            (true, _) => {
                self.phase = Phase::Live;
                self.told.push_back(Told::ReadingFinished);
            }
        }
        Ok(())
    }

    /// Asks for a reading: a header and a zeroed body that is long enough for each of the requests.
    fn request(&mut self, reading: usize, again: bool) -> Result<(), Error> {
        let (kind, family) = READINGS[reading];
        // ifinfomsg, nhmsg; rtmsg, ndmsg and fib_rule_hdr. The kernel is strict about more.
        let length: u32 = 16
            + match kind {
                RTM_GETLINK => 16,
                RTM_GETNEXTHOP => 8,
                _ => 12,
            };
        let mut message = vec![0; length as usize];
        message[0..4].copy_from_slice(&length.to_ne_bytes());
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
        message[16] = family;
        self.requests.socket_ref().send_to(&message, &SocketAddr::new(0, 0), 0).map_err(Error::Socket)?;
        self.phase = Phase::Under(reading, again);
        Ok(())
    }
}

fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}

async fn receive(socket: &TokioSocket, buffer: &mut Vec<u8>) -> io::Result<()> {
    std::future::poll_fn(|context| {
        buffer.clear();
        socket.poll_recv_from(context, buffer)
    })
    .await
    .map(drop)
}

fn tell(message: &[u8], told: &mut VecDeque<Told>) {
    match decode(message) {
        Ok(news) => told.extend(news.map(Told::News)),
        Err(error) => tracing::warn!("a message of the kernel on routes cannot be read: {error}"),
    }
}

/// The messages of a datagram, each with its header. Ends where the format is broken.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let message = bytes.get(..length).filter(|message| message.len() >= 16)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}
