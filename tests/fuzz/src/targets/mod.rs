//! What is tried: each target a function that holds some of Pintle against hostile input.
//!
//! Must not know: where input comes from.

mod archives;
mod blobs;
mod cage;
mod images;
mod layers;
mod logs;
mod monitor;
mod network;
mod registry;
mod requests;
mod spdy;
mod websocket;

use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;

use crate::Input::{Bytes, Choices};
use crate::{Input, Target};

/// All there is.
pub const TARGETS: &[Target] = &[
    target("layers", Choices(layers::stay_in_their_folder)),
    target("archives", Choices(archives::are_images_or_errors)),
    target("registries", Choices(registry::pulls_are_images_or_errors)),
    target("manifests", Bytes(images::manifests_are_read_or_refused)),
    target("references", Bytes(images::references_are_read_or_refused)),
    target("log-records", Bytes(logs::records_are_read_or_refused)),
    target("logs", Choices(logs::are_read_to_their_end)),
    target("sound-logs", Choices(logs::are_shown_whole)),
    target("cri-requests", Choices(requests::make_specifications_or_errors)),
    target("monitor-requests", Choices(monitor::requests_are_read_or_refused)),
    target("monitor-replies", Choices(monitor::replies_are_read_or_refused)),
    target("spdy", Choices(spdy::sessions_end)),
    target("websocket", Choices(websocket::sessions_end)),
    target("cni-configurations", Bytes(network::configurations_are_read_or_refused)),
    target("cni-results", Bytes(network::results_are_read_or_refused)),
];

const fn target(name: &'static str, input: Input) -> Target {
    Target { name, input }
}

/// What takes longer does not end.
const WITHIN: Duration = Duration::from_secs(20);

/// Runs something on this thread to its end.
///
/// # Panics
/// It does not end.
fn ended<T>(what: &str, work: impl Future<Output = T>) -> T {
    thread_local! {
        static TOKIO: LazyLock<tokio::runtime::Runtime> =
            LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
    }
    TOKIO.with(|tokio| {
        let ended = tokio.block_on(async { tokio::time::timeout(WITHIN, work).await });
        ended.unwrap_or_else(|_| panic!("{what} that does not end"))
    })
}
