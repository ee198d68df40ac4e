//! The link that makes the cluster DNS address one of this host's: pods and the host then reach it like any local one.
//!
//! A dummy link where the kernel has them, else a bridge without ports. Must not know: who listens there.

use std::net::IpAddr;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use nix::errno::Errno;
use rtnetlink::{Handle, LinkBridge, LinkDummy, LinkUnspec, new_connection};

pub const LINK: &str = "pintle-dns";

/// Makes each address one of this host's; what is there already stays.
pub async fn add_addresses(addresses: &[IpAddr]) -> anyhow::Result<()> {
    let handle = connect()?;
    let index = match index(&handle).await? {
        Some(index) => index,
        None => create(&handle).await?,
    };
    // without a peer there is nobody to find a duplicate, and the address would stay tentative
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{LINK}/accept_dad"), "0");
    let up = LinkUnspec::new_with_index(index).up().build();
    handle.link().set(up).execute().await.with_context(|| format!("bringing {LINK} up"))?;
    for address in addresses {
        let length = if address.is_ipv4() { 32 } else { 128 };
        let added = handle.address().add(index, *address, length).replace().execute().await;
        added.with_context(|| format!("adding {address} to {LINK}"))?;
    }
    Ok(())
}

/// Deletes the link with its addresses; `false` when there was none.
pub async fn remove_link() -> anyhow::Result<bool> {
    let handle = connect()?;
    let Some(index) = index(&handle).await? else { return Ok(false) };
    handle.link().del(index).execute().await.with_context(|| format!("deleting the link {LINK}"))?;
    Ok(true)
}

fn connect() -> anyhow::Result<Handle> {
    let (connection, handle, _) = new_connection().context("opening a route netlink socket")?;
    tokio::spawn(connection);
    Ok(handle)
}

async fn create(handle: &Handle) -> anyhow::Result<u32> {
    let dummy = handle.link().add(LinkDummy::new(LINK).build()).execute().await;
    if dummy.is_err() {
        let bridge = handle.link().add(LinkBridge::new(LINK).build()).execute().await;
        bridge.with_context(|| format!("adding the link {LINK}"))?;
    }
    index(handle).await?.with_context(|| format!("the link {LINK} went as soon as it was made"))
}

async fn index(handle: &Handle) -> anyhow::Result<Option<u32>> {
    match handle.link().get().match_name(LINK.to_string()).execute().try_next().await {
        Ok(found) => Ok(found.map(|link| link.header.index)),
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -(Errno::ENODEV as i32) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("looking for the link {LINK}")),
    }
}
