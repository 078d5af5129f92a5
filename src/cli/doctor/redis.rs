//! The store of many nodes: whether Redis answers, takes writes, and keeps what it is told.

use super::{Patient, Report};
use crate::clock::Clock;
use crate::store::redis::{Finding, examine};

pub(super) fn check(patient: &Patient, report: &mut Report, url: &str) {
    let store = &patient.loaded.config.store;
    for finding in examine(url, &store.prefix, store.partitions, &Clock::system()) {
        match finding {
            Finding::Good(said) => report.good(said),
            Finding::Trouble(said, cure) => report.finding(said, cure),
        }
    }
}
