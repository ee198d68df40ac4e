//! The stories, in the order they are told.
//!
//! Must not know: how the machine is made.

mod churn;
mod commands;
mod conformance;
mod disk;
mod hostile;
mod images;
mod kills;
mod lifecycle;
mod observed;
mod power;
mod restarts;
mod sandboxes;

use futures::future::LocalBoxFuture;

use crate::node::Node;

/// A story: told on the machine that all share.
pub type Story = for<'a> fn(&'a mut Node) -> LocalBoxFuture<'a, ()>;

pub fn all() -> Vec<(&'static str, Story)> {
    let parts = [
        lifecycle::STORIES,
        sandboxes::STORIES,
        commands::STORIES,
        observed::STORIES,
        conformance::STORIES,
        restarts::STORIES,
        hostile::STORIES,
        images::STORIES,
        kills::STORIES,
        churn::STORIES,
        disk::STORIES,
        power::STORIES,
    ];
    parts.concat()
}
