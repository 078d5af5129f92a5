//! The one integration-test binary; its modules share their helpers.

mod config;
mod differential;
mod naive;
mod statsd;
