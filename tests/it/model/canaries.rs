//! Without any one of its checks the protocol fails, and the exploration finds how: a model that cannot fail says
//! nothing.

use super::slot::Rules;
use super::state::World;
use super::{APART, DOUBTING, FOLDING, FORGETFUL, HIDDEN, JOURNAL, LATE, SENDING, STATING};

/// What an exploration has to find.
struct Canary {
    without: &'static str,
    world: World,
    rules: Rules,
    /// Words of what is then wrong.
    wrong: &'static str,
}

const TWICE: &str = "counts twice";
const MISSING: &str = "neither there nor passed over";
const LOST: &str = "lost that the journal should have had";
const OLDER: &str = "Graphite has an older version";

fn canaries() -> Vec<Canary> {
    let canary = |without, world, rules, wrong| Canary { without, world, rules, wrong };
    let all = Rules::ALL;
    vec![
        canary("the watermark", SENDING, Rules { watermark: false, ..all }, TWICE),
        canary("the check for gaps", SENDING, Rules { gap: false, ..all }, MISSING),
        canary("the check of the version", FOLDING, Rules { version: false, ..all }, TWICE),
        canary("the check of presence", FOLDING, Rules { presence: false, ..all }, TWICE),
        canary("a read of one version", FOLDING, Rules { same_read: false, ..all }, TWICE),
        canary("versions that are never used again", SENDING, Rules { fresh: false, ..all }, MISSING),
        canary("handing up in the same script", APART, Rules { together: false, ..all }, MISSING),
        canary("an end of writing", LATE, Rules { keep: false, ..all }, "is not what was counted"),
        canary("the journal first", JOURNAL, Rules { journal_first: false, ..all }, LOST),
        canary("the hold", JOURNAL, Rules { hold: false, ..all }, LOST),
        canary("a look at who is there now", JOURNAL, Rules { still_there: false, ..all }, LOST),
        canary("looks of the idle", SENDING, Rules { looks: false, ..all }, "has not sent all it made"),
        canary("probation", STATING, Rules { probation: false, ..all }, OLDER),
        canary("doubt", DOUBTING, Rules { doubt: false, ..all }, OLDER),
        canary("stating once more", STATING, Rules { once_more: false, ..all }, OLDER),
        canary("striking off by version", STATING, Rules { strike: false, ..all }, OLDER),
        canary("settling", DOUBTING, Rules { settled: false, ..all }, "Graphite has 0 of bucket"),
        canary("the mark of damage", FORGETFUL, Rules { damaged: false, ..all }, "is told less"),
        canary("the newest of what is lost", HIDDEN, Rules { newest: false, ..all }, "Graphite has"),
    ]
}

#[test]
fn without_any_one_check_something_goes_wrong() {
    for canary in canaries() {
        let world = World { rules: canary.rules, ..canary.world };
        let Some((wrong, way)) = world.explore(super::STATES_MAX).wrong else {
            panic!("nothing goes wrong without {}", canary.without);
        };
        println!("without {}, in {} steps: {wrong}", canary.without, way.len());
        assert!(wrong.contains(canary.wrong), "without {}: {wrong}, by {way:?}", canary.without);
    }
}
