//! tallyd counts what servers report, exactly, and tells Graphite.
//!
//! ```text
//!  app servers                                                              Grafana ◀─ Graphite
//!      │ datagrams, lines                                                                 ▲
//!      ▼                                                                                  │ absolute values
//!   ingest ─ wire::statsd ─ Sample ─▶ aggregate ─ Tick ─▶ flush ─ Batch ─▶ store ─ bucket ─▶ forward
//!                                     (per thread,                           │
//!                                      lock-free)                            └▶ serve, console
//! ```
//!
//! Modules are listed in the order of their layers: each looks only at those above it in this list.
//! ARCHITECTURE.md is the map.

pub mod calendar;
pub mod clock;
pub mod fetch;
pub mod health;
pub mod limits;
pub mod panics;
pub mod sys;
pub mod tls;

pub mod metric;
pub mod wire;

pub mod aggregate;
pub mod journal;
pub mod store;

pub mod query;

pub mod figures;

pub mod console;
pub mod flush;
pub mod forward;
pub mod ingest;
pub mod notify;
pub mod serve;

pub mod config;
pub mod run;

pub mod cli;
