//! Commands, one file each, on top of everything.

pub mod args;
mod ask;
pub mod backup;
pub mod check;
pub mod demo;
pub mod doctor;
pub mod graphite_rules;
pub mod health;
pub mod link;
pub mod manual;
pub mod migrate;
pub mod notices;
pub mod notify;
mod pages;
pub mod run;
pub mod token;
mod told;
pub mod watch;
