//! The one integration-test binary; its modules share their helpers.
//!
//! `cfg(test)` on each module lets clippy know that helpers outside test functions are tests too.

#[cfg(test)]
mod access;
#[cfg(test)]
mod batch;
#[cfg(test)]
mod books;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod config;
#[cfg(test)]
mod deploy;
#[cfg(test)]
mod destination;
#[cfg(test)]
mod differential;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod encoding;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod graphite;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod journal;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod links;
#[cfg(test)]
mod migrate;
#[cfg(test)]
mod model;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod naive;
#[cfg(test)]
mod notices;
#[cfg(test)]
mod page;
#[cfg(test)]
mod query;
#[cfg(test)]
mod query_http;
#[cfg(test)]
mod redis;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod service;
#[cfg(test)]
mod signed;
#[cfg(test)]
mod statsd;
#[cfg(test)]
mod store;
#[cfg(test)]
mod store_oracle;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod support;
#[cfg(test)]
mod table;
#[cfg(test)]
mod tally;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod unharmed;
#[cfg(test)]
mod unique;
#[cfg(test)]
mod watch;
