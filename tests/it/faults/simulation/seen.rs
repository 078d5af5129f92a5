//! What befell in histories.

/// What befell, so that nothing is missed without notice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) promised: u64,
    pub(super) lost: u64,
    pub(super) kills: u64,
    pub(super) power_losses: u64,
    pub(super) stops: u64,
    pub(super) jumps: u64,
    pub(super) replayed: u64,
    pub(super) not_durable: u64,
    pub(super) checkpoints_failed: u64,
    pub(super) deliveries_failed: u64,
    pub(super) carbons_killed: u64,
    pub(super) amended: u64,
    pub(super) refused: u64,
    pub(super) gathered: u64,
}

impl Seen {
    fn each(&self) -> [u64; 14] {
        let Self { promised, lost, kills, power_losses, stops, jumps, .. } = *self;
        let Self {
            replayed,
            not_durable,
            checkpoints_failed,
            deliveries_failed,
            carbons_killed,
            amended,
            refused,
            gathered,
            ..
        } = *self;
        [
            promised,
            lost,
            kills,
            power_losses,
            stops,
            jumps,
            replayed,
            not_durable,
            checkpoints_failed,
            deliveries_failed,
            carbons_killed,
            amended,
            refused,
            gathered,
        ]
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.promised += other.promised;
        self.lost += other.lost;
        self.kills += other.kills;
        self.power_losses += other.power_losses;
        self.stops += other.stops;
        self.jumps += other.jumps;
        self.replayed += other.replayed;
        self.not_durable += other.not_durable;
        self.checkpoints_failed += other.checkpoints_failed;
        self.deliveries_failed += other.deliveries_failed;
        self.carbons_killed += other.carbons_killed;
        self.amended += other.amended;
        self.refused += other.refused;
        self.gathered += other.gathered;
    }

    /// Nothing is missing of what may befall.
    pub(super) fn is_everything(&self) {
        assert!(self.each().iter().all(|times| *times >= 200), "{self:?}");
    }
}
