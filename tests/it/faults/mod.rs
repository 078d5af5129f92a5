//! Faults, from outside and simulated: what a kill, a full disk, damage or an absent Graphite comes to.
//!
//! `make test` runs these as a suite of their own, since most of them wait for real time to pass.

pub(crate) mod damage;
mod disks;
pub(crate) mod durability;
mod forwarding;
mod graphite_outage;
mod large;
mod names;
mod restarts;
mod simulation;
