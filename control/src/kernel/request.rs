//! How do we make, change, read and remove one link?
use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkExtentMask, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, tc::TcMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::{Error, Kernel, Link, Statistics};

/// IFNAMSIZ without the final zero.
pub const NAME_BYTES_MAX: usize = 15;
/// rtnetlink answers in microseconds, but its one lock is held while a thousand namespaces are torn down.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

impl Kernel {
    /// Reads one link afresh. [`Error::NoDevice`] if there is none.
    pub async fn link(&self, ifindex: u32) -> Result<Link, Error> {
        let request = self.handle.link().get().match_index(ifindex);
        self.get(request, &format!("#{ifindex}")).await
    }

    /// Reads one link afresh by its name. [`Error::NoDevice`] if there is none.
    pub async fn link_by_name(&self, name: &str) -> Result<Link, Error> {
        check_name(name)?;
        self.get(self.handle.link().get().match_name(name), name).await
    }

    /// The kernel's counters of one link, read afresh.
    pub async fn statistics(&self, ifindex: u32) -> Result<Statistics, Error> {
        let device = format!("#{ifindex}");
        let request = self.handle.link().get().match_index(ifindex);
        let message = first(request.execute(), &device).await?;
        let found = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Stats64(s) => Some(Statistics::from(s)),
            _ => None,
        });
        Ok(found.unwrap_or_default())
    }

    async fn get(&self, request: rtnetlink::LinkGetRequest, device: &str) -> Result<Link, Error> {
        let message = first(without_statistics(request).execute(), device).await?;
        Link::from_message(&message).ok_or_else(|| Error::NoDevice { device: device.to_owned() })
    }

    /// All links of our namespace.
    pub(super) async fn dump(&self) -> Result<Vec<Link>, Error> {
        let action = || "list the links".to_owned();
        let all = without_statistics(self.handle.link().get()).execute().try_collect::<Vec<_>>();
        let messages = in_time(action, all).await?.map_err(|e| Error::from_netlink(action(), "all devices", e))?;
        Ok(messages.iter().filter_map(Link::from_message).collect())
    }

    /// Makes a veth pair with one queue in each direction and the same MTU at both ends, both down.
    pub async fn create_veth(&self, name: &str, peer_name: &str, mtu: u32) -> Result<(), Error> {
        check_name(name)?;
        check_name(peer_name)?;
        let queues = [LinkAttribute::NumRxQueues(1), LinkAttribute::NumTxQueues(1), LinkAttribute::Mtu(mtu)];
        let peer = queues
            .iter()
            .cloned()
            .fold(LinkUnspec::new_with_name(peer_name), LinkMessageBuilder::append_extra_attribute);
        let message = queues
            .into_iter()
            .fold(LinkVeth::new(name, peer_name), LinkMessageBuilder::append_extra_attribute)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
            .build();
        let action = || format!("create the veth pair {name} and {peer_name} with MTU {mtu}");
        in_time(action, self.handle.link().add(message).execute())
            .await?
            .map_err(|error| Error::from_netlink(action(), name, error))
    }

    /// Deletes a link (both ends of a veth). One that is gone already is no error.
    pub async fn delete(&self, ifindex: u32) -> Result<(), Error> {
        let action = || format!("delete the device #{ifindex}");
        let answer = in_time(action, self.handle.link().del(ifindex).execute()).await?;
        match answer.map_err(|error| Error::from_netlink(action(), &format!("#{ifindex}"), error)) {
            Err(error) if error.is_gone() => Ok(()),
            other => other,
        }
    }

    /// Sets a link up.
    pub async fn set_up(&self, ifindex: u32) -> Result<(), Error> {
        self.change(ifindex, |device| format!("set {device} up"), change_of(ifindex).up().build()).await
    }

    /// Sets a link down.
    pub async fn set_down(&self, ifindex: u32) -> Result<(), Error> {
        self.change(ifindex, |device| format!("set {device} down"), change_of(ifindex).down().build()).await
    }

    /// Sets or clears promiscuous mode, as `ip link set DEV promisc on` does.
    pub async fn set_promiscuous(&self, ifindex: u32, on: bool) -> Result<(), Error> {
        let action = |device: &str| format!("set {device} {}promiscuous", if on { "" } else { "not " });
        self.change(ifindex, action, change_of(ifindex).promiscuous(on).build()).await
    }

    /// Sets the MAC address.
    pub async fn set_mac(&self, ifindex: u32, mac: [u8; 6]) -> Result<(), Error> {
        let text = mac.map(|byte| format!("{byte:02x}")).join(":");
        let action = |device: &str| format!("set the MAC address of {device} to {text}");
        self.change(ifindex, action, change_of(ifindex).address(mac.to_vec()).build()).await
    }

    /// Sets the alias, a text that `ip link` shows.
    pub async fn set_alias(&self, ifindex: u32, text: &str) -> Result<(), Error> {
        let action = |device: &str| format!("set the alias of {device} to '{text}'");
        self.change(ifindex, action, change_of(ifindex).alias(text).build()).await
    }

    /// Sets the MTU, in bytes. Both ends of a veth have their own.
    pub async fn set_mtu(&self, ifindex: u32, mtu: u32) -> Result<(), Error> {
        let action = |device: &str| format!("set the MTU of {device} to {mtu}");
        let answer = self.change(ifindex, action, change_of(ifindex).mtu(mtu).build()).await;
        let Err(Error::Refused { action, reason, errno, remedy }) = answer else { return answer };
        let remedy = match self.link(ifindex).await {
            Ok(link) if mtu < link.mtu_min || mtu > link.mtu_max => {
                format!("{} takes {} to {}", link.name, link.mtu_min, link.mtu_max)
            }
            Ok(link) if link.xdp.is_some() => {
                format!("{} takes up to {}, but its driver takes less with XDP attached", link.name, link.mtu_max)
            }
            _ => remedy,
        };
        Err(Error::Refused { action, reason, errno, remedy })
    }

    /// Changes one link. Only when that fails is the device's name looked up, for the message.
    pub(super) async fn change(
        &self,
        ifindex: u32,
        action: impl Fn(&str) -> String,
        message: LinkMessage,
    ) -> Result<(), Error> {
        let number = format!("#{ifindex}");
        match in_time(|| action(&number), self.handle.link().change(message).execute()).await? {
            Ok(()) => Ok(()),
            Err(error) => {
                let name = self.link(ifindex).await.map_or(number, |link| link.name);
                Err(Error::from_netlink(action(&name), &name, error))
            }
        }
    }

    /// Has the link a hook for tc filters at its ingress (`ingress` or `clsact`)? AF_XDP takes frames before them.
    pub(super) async fn has_ingress_filters(&self, ifindex: u32) -> bool {
        /// TC_H_INGRESS (`pkt_sched.h`).
        const PARENT_INGRESS: u32 = 0xffff_fff1;
        let mut question = TcMessage::default();
        question.header.index = i32::try_from(ifindex).unwrap_or(0);
        question.header.parent = PARENT_INGRESS.into();
        let answer = self.ask(RouteNetlinkMessage::GetQueueDiscipline(question)).await;
        matches!(answer, Some(RouteNetlinkMessage::NewQueueDiscipline(_)))
    }

    /// Sends a question that has one answer. `None` if the kernel answers with an error, or not at all.
    pub(super) async fn ask(&self, question: RouteNetlinkMessage) -> Option<RouteNetlinkMessage> {
        let mut request = NetlinkMessage::from(question);
        request.header.flags = NLM_F_REQUEST;
        let mut answers = self.handle.clone().request(request).ok()?;
        match tokio::time::timeout(ANSWER_TIME_MAX, answers.next()).await.ok()??.payload {
            NetlinkPayload::InnerMessage(answer) => Some(answer),
            _ => None,
        }
    }
}

/// The start of a message that changes a link.
pub(super) fn change_of(ifindex: u32) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_index(ifindex)
}

/// Counters are most of a link's description and change all the time.
fn without_statistics(request: rtnetlink::LinkGetRequest) -> rtnetlink::LinkGetRequest {
    request.set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats])
}

async fn first(
    answers: impl futures_util::Stream<Item = Result<LinkMessage, rtnetlink::Error>>,
    device: &str,
) -> Result<LinkMessage, Error> {
    let action = || format!("read the device {device}");
    let mut answers = std::pin::pin!(answers);
    match in_time(action, answers.try_next()).await? {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(Error::NoDevice { device: device.to_owned() }),
        Err(error) => Err(Error::from_netlink(action(), device, error)),
    }
}

pub(super) async fn in_time<T, A: Display>(
    action: impl Fn() -> A,
    answer: impl Future<Output = T>,
) -> Result<T, Error> {
    tokio::time::timeout(ANSWER_TIME_MAX, answer)
        .await
        .map_err(|_| Error::Silent { action: action().to_string(), seconds: ANSWER_TIME_MAX.as_secs() })
}

/// The kernel's own rule for names of devices (`dev_valid_name`).
pub(super) fn check_name(name: &str) -> Result<(), Error> {
    let reason = if name.is_empty() || name.len() > NAME_BYTES_MAX {
        format!("it has {} bytes", name.len())
    } else if name == "."
        || name == ".."
        || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0')
    {
        "it has a character that the kernel does not allow in one".to_owned()
    } else {
        return Ok(());
    };
    let remedy = format!("choose a name of 1 to {NAME_BYTES_MAX} bytes without space, slash and colon");
    Err(Error::refused(format!("use '{name}' as the name of a device"), reason, remedy))
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names_that_the_kernel_refuses_are_refused_with_a_remedy() {
        for name in ["br0", "eth0.181", "a23456789012345", "-x", "é"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a b", "a:b", "a\0", "a234567890123456"] {
            let text = check_name(name).expect_err(name).to_string();
            assert!(text.contains("1 to 15 bytes"), "{text}");
        }
    }
}
