//! The Kubernetes API as pure data and functions: kinds, field facts, defaults, validation, patches, tables,
//! OpenAPI, codecs.
//!
//! Must not know: tokio, files, sockets, clocks (`now` is an argument), stores, requests.

pub mod aggregation;
pub mod apply;
pub mod canonical;
pub mod cel;
pub mod custom;
pub mod discovery;
pub mod facts;
pub mod field;
pub mod fields;
pub mod kinds;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod pod_security;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod resources;
pub mod selector;
pub mod status;
pub mod strict;
pub mod tables;
pub mod validation;
