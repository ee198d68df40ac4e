//! Bridge, veth pairs, addresses and routes, over rtnetlink, in whichever namespace the calling thread is in.
//!
//! Must not know: leases, CNI's documents.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressHeaderFlags;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkMessage, State};
use netlink_packet_route::route::RouteScope;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use rtnetlink::packet_core::{
    DefaultNla, ErrorMessage, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::{
    Error, Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, MulticastGroup, RouteMessageBuilder,
};

use crate::error::{Code, Context, Result};
use crate::range::whole;
use crate::shaping::Limit;

/// For a link to pass packets.
const UP_WITHIN: Duration = Duration::from_secs(2);
/// After how long a link is looked at, for the kernel drops events where many pods are attached at once.
const EVENT_LOST: Duration = Duration::from_millis(50);
const PASSES: LinkAttribute = LinkAttribute::OperState(State::Up);

/// A link as far as results tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    pub index: u32,
    pub mac: String,
    pub up: bool,
}

/// Netlink in this thread's namespace.
pub struct Links {
    handle: Handle,
}

impl Links {
    pub fn open() -> Result<Self> {
        let (connection, handle, _) =
            rtnetlink::new_connection().context(Code::Network, || "cannot open netlink".into())?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// What happens to links from now on. A socket of its own: one that many events fill loses answers, too.
    pub fn watch() -> Result<Events> {
        let opened = rtnetlink::new_multicast_connection(&[MulticastGroup::Link]);
        let (connection, handle, messages) = opened.context(Code::Network, || "cannot open netlink".into())?;
        tokio::spawn(connection);
        Ok(Events { messages: Box::pin(messages.map(|(message, _)| message)), _handle: handle })
    }

    pub async fn find(&self, name: &str) -> Result<Option<Link>> {
        let mut found = self.handle.link().get().match_name(name).execute();
        match found.try_next().await {
            Ok(message) => Ok(message.map(|message| link(name, &message))),
            Err(error) if is(&error, nix::libc::ENODEV) => Ok(None),
            Err(error) => Err(error).context(Code::Network, || format!("cannot look for {name}")),
        }
    }

    /// The bridge, made where missing; not necessarily up.
    pub async fn bridge(&self, name: &str, gateway: IpAddr, mtu: u32) -> Result<Link> {
        if let Some(bridge) = self.find(name).await? {
            return Ok(bridge);
        }
        // A fixed address: else it would change with the ports, and pods would lose their gateway for a while.
        let made = self
            .handle
            .link()
            .add(LinkMessageBuilder::<LinkBridge>::new(name).address(mac_of(gateway)).mtu(mtu).build())
            .execute();
        exists_or(made.await).context(Code::Network, || format!("cannot make the bridge {name}"))?;
        self.must_find(name).await
    }

    /// A veth pair: one end here, on the bridge and up; the other, `inner`, in the given namespace. Answers with
    /// the outer one's index, or `None` when a name is taken.
    pub async fn pair(&self, pair: &Pair<'_>, namespace: &File, bridge: &Link) -> Result<Option<u32>> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(pair.inner)
            .address(pair.mac.clone())
            .mtu(pair.mtu)
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let message = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth)
            .name(pair.outer)
            .address(pair.outer_mac.clone())
            .mtu(pair.mtu)
            .controller(bridge.index)
            .up()
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        match self.handle.link().add(message).execute().await {
            Err(error) if is(&error, nix::libc::EEXIST) => return Ok(None),
            made => made.context(Code::Network, || format!("cannot make the pair {}, {}", pair.outer, pair.inner))?,
        }
        let index = nix::net::if_::if_nametoindex(pair.outer);
        let index = index.context(Code::Network, || format!("there is no link {}", pair.outer))?;
        self.hairpin(index).await?;
        Ok(Some(index))
    }

    /// Where br_netfilter is loaded, a pod that reaches itself by a Service or host port goes out by the port it came by.
    async fn hairpin(&self, index: u32) -> Result<()> {
        let set = self.handle.link().set_port(LinkBridgePort::new(index).hairpin(true).build()).execute().await;
        set.context(Code::Network, || "cannot make a port of the bridge a hairpin".into())
    }

    /// Bounds what leaves by the link.
    pub async fn shape(&self, index: u32, limit: Limit) -> Result<()> {
        let options = limit.options().into_iter().map(|(kind, value)| TcOption::Other(DefaultNla::new(kind, value)));
        let mut message = TcMessage::with_index(i32::try_from(index).unwrap_or_default());
        message.header.parent = TcHandle::ROOT;
        message.header.handle = TcHandle { major: 1, minor: 0 };
        message.attributes = vec![TcAttribute::Kind("tbf".into()), TcAttribute::Options(options.collect())];
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let failed = || "cannot bound the bandwidth".to_owned();
        let mut answers = self.handle.clone().request(request).context(Code::Network, failed)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                return Err(error).context(Code::Network, failed);
            }
        }
        Ok(())
    }

    /// Removes a link; nothing to do when there is none.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let Some(link) = self.find(name).await? else { return Ok(()) };
        match self.handle.link().del(link.index).execute().await {
            Err(error) if !is(&error, nix::libc::ENODEV) => {
                Err(error).context(Code::Network, || format!("cannot remove {name}"))
            }
            _ => Ok(()),
        }
    }

    pub async fn up(&self, link: &Link) -> Result<()> {
        let set = self.handle.link().set(LinkUnspec::new_with_index(link.index).up().build()).execute().await;
        set.context(Code::Network, || format!("cannot bring {} up", link.name))
    }

    /// Usable at once: nobody else can have an address that was leased, so IPv6 need not look for duplicates.
    pub async fn address(&self, link: &Link, address: IpAddr, length: u8) -> Result<()> {
        let mut add = self.handle.address().add(link.index, address, length);
        if address.is_ipv6() {
            add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        exists_or(add.execute().await)
            .context(Code::Network, || format!("cannot give {} the address {address}/{length}", link.name))
    }

    /// Everything of the gateway's family by it; it is reached over the link although no subnet says so.
    pub async fn default_route(&self, link: &Link, gateway: IpAddr) -> Result<()> {
        let any = if gateway.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let broken = || format!("there is no route by {gateway}");
        let to = |address: IpAddr, length| {
            let route = RouteMessageBuilder::<IpAddr>::new().destination_prefix(address, length);
            route.map(|route| route.output_interface(link.index)).context(Code::Network, broken)
        };
        let on_link = to(gateway, whole(gateway))?.scope(RouteScope::Link).build();
        let default = to(any, 0)?.gateway(gateway).context(Code::Network, broken)?.build();
        for route in [on_link, default] {
            let added = self.handle.route().add(route).execute().await;
            exists_or(added).context(Code::Network, || format!("cannot add a route by {gateway}"))?;
        }
        Ok(())
    }

    /// The addresses of a link.
    pub async fn addresses(&self, link: &Link) -> Result<Vec<IpAddr>> {
        use netlink_packet_route::address::AddressAttribute;
        let get = self.handle.address().get().set_link_index_filter(link.index).execute();
        let found: Vec<_> = get.try_collect().await.context(Code::Network, || "cannot list addresses".into())?;
        let attributes = found.into_iter().flat_map(|message| message.attributes);
        Ok(attributes
            .filter_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(address),
                _ => None,
            })
            .collect())
    }

    /// Whether a link passes packets.
    async fn passes(&self, index: u32) -> bool {
        let mut found = self.handle.link().get().match_index(index).execute();
        // a link that is gone is waited for in vain, and found out elsewhere
        found.try_next().await.is_ok_and(|link| link.is_some_and(|it| it.attributes.contains(&PASSES)))
    }

    pub async fn must_find(&self, name: &str) -> Result<Link> {
        let missing = crate::error::CniError::new(Code::Network, format!("there is no link {name}"));
        self.find(name).await?.ok_or(missing)
    }
}

/// What happens to links.
pub struct Events {
    messages: Pin<Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>>>>,
    /// The connection ends with it.
    _handle: Handle,
}

impl Events {
    /// Until the link passes packets: the kernel activates a queue and a bridge's port somewhat after both ends are up,
    /// and drops what is sent before. Not for long: a link that never does is found by CHECK.
    pub async fn until_up(mut self, host: &Links, index: u32) {
        let is_up = |message: &NetlinkMessage<RouteNetlinkMessage>| match &message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) if link.header.index == index => {
                link.attributes.contains(&PASSES)
            }
            _ => false,
        };
        let come = async {
            while let Some(message) = self.messages.next().await {
                if is_up(&message) {
                    return;
                }
            }
        };
        let seen = async {
            tokio::time::sleep(EVENT_LOST).await;
            while !host.passes(index).await {
                tokio::time::sleep(EVENT_LOST).await;
            }
        };
        let (come, seen) = (pin!(come), pin!(seen));
        let up = futures::future::select(come, seen);
        let _late = tokio::time::timeout(UP_WITHIN, up).await;
    }
}

/// What a veth pair is made of.
#[derive(Debug, Clone)]
pub struct Pair<'a> {
    pub outer: &'a str,
    pub inner: &'a str,
    /// The pod's hardware address.
    pub mac: Vec<u8>,
    pub outer_mac: Vec<u8>,
    pub mtu: u32,
}

fn link(name: &str, message: &LinkMessage) -> Link {
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => Some(shown_mac(bytes)),
        _ => None,
    });
    let up = message.header.flags.contains(LinkFlags::Up);
    Link { name: name.to_owned(), index: message.header.index, mac: mac.unwrap_or_default(), up }
}

/// A hardware address that follows from the IP address: a locally administered prefix, then its last four bytes.
pub fn mac_of(address: IpAddr) -> Vec<u8> {
    let last: [u8; 4] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => (u128::from(address) as u32).to_be_bytes(),
    };
    [&[0x0a, 0x58][..], &last].concat()
}

pub fn shown_mac(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// Six bytes in hexadecimal, with colons.
pub fn parse_mac(text: &str) -> Option<Vec<u8>> {
    let bytes: Vec<u8> =
        text.split(':').map(|part| u8::from_str_radix(part, 16)).collect::<std::result::Result<_, _>>().ok()?;
    // The lowest bit of the first marks addresses of groups.
    (bytes.len() == 6 && bytes[0] & 1 == 0).then_some(bytes)
}

fn is(error: &Error, errno: i32) -> bool {
    matches!(error, Error::NetlinkError(ErrorMessage { code: Some(code), .. }) if code.get() == -errno)
}

fn exists_or(done: std::result::Result<(), Error>) -> std::result::Result<(), Error> {
    match done {
        Err(error) if is(&error, nix::libc::EEXIST) => Ok(()),
        other => other,
    }
}
