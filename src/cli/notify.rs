//! What the service manager is told: ready, reloading, stopping, and that ticks still come.
//!
//! Speaks systemd's protocol where the environment names its socket, and says nothing anywhere else.

use sd_notify::NotifyState;
use std::io;
use std::time::Duration;

/// Lines are taken in.
pub fn ready(listening: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(listening)]);
}

/// The configuration is read again; [`ready`] ends it.
pub fn reloading() {
    tell(&[NotifyState::Reloading]);
}

/// No more lines are taken in.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stating what is left")]);
}

/// How often to say [`alive`], if somebody watches: three times in the time that he is patient for.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|patience| patience / 3)
}

/// Ticks still come.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

fn tell(states: &[NotifyState<'_>]) {
    let told: io::Result<()> = sd_notify::notify(states);
    if let Err(error) = told {
        tracing::warn!(%error, "the service manager is not told");
    }
}
