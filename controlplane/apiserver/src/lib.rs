//! The API server: requests → authentication → authorization → admission → store → watch cache → watchers.
//!
//! Must not know: the scheduler, the controllers, the kubelet; they are clients.

pub mod access;
pub mod admission;
mod aggregation;
pub mod auth;
pub mod body;
pub mod bootstrap;
pub mod cache;
pub mod call;
pub mod client;
pub mod config;
pub(crate) mod conversion;
mod custom;
pub mod expiry;
pub mod handler;
pub mod negotiate;
pub mod outbound;
pub mod relay;
pub mod render;
pub mod request;
pub mod rules;
pub mod serve;
pub mod server;
pub mod services;
pub mod telemetry;
pub mod verbs;
pub mod wellknown;

pub use config::Config;
pub use server::ApiServer;
