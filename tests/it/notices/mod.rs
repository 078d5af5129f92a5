//! Notices: exactly what is to be told is told, to real receivers.

mod events;
mod half_year;
pub(crate) mod receiver;
mod told;
