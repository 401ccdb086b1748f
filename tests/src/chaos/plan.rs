//! What happens to one run: its faults, in the order of a run, and on how many ranks each start is.

use super::fault::{ChaosFault, Means};
use super::job::{JobDeterminism, Launcher};
use super::moment::FaultMoment;
use crate::draw::Draw;

/// Most faults of one run.
const MOST: u64 = 5;
/// The place of a fault after which nothing more can be disturbed.
const LAST: u8 = 2;
/// Most ranks.
const MOST_RANKS: usize = 4;

/// The faults of one run.
#[derive(Clone, Debug)]
pub struct ChaosPlan {
    /// What the run computes.
    pub determinism: JobDeterminism,
    /// What happens.
    pub events: Vec<ChaosEvent>,
    /// The last start, which nothing disturbs.
    pub last: ChaosWorld,
}

/// A fault, when it strikes, and the start that it strikes if none is under way.
#[derive(Clone, Debug)]
pub struct ChaosEvent {
    /// What goes wrong.
    pub fault: ChaosFault,
    /// When.
    pub moment: FaultMoment,
    /// On what.
    pub world: ChaosWorld,
}

/// Number of ranks, and who starts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChaosWorld {
    /// Number of ranks.
    pub ranks: usize,
    /// Who starts them.
    pub launcher: Launcher,
}

impl ChaosPlan {
    /// The plan of a case.
    pub fn draw(seed: u64, case: u64, means: Means) -> Self {
        let mut draw = Draw::of_case(seed, case);
        let determinism = if draw.chance(85) { JobDeterminism::AnyWorld } else { JobDeterminism::TwoRanks };
        let count = draw.within(1, MOST);
        let mut events: Vec<ChaosEvent> = Vec::new();
        while (events.len() as u64) < count {
            let event = ChaosEvent::draw(&mut draw, determinism, means);
            // After the first of these the run is at its end: another would come too late.
            if !(event.is_last() && events.iter().any(ChaosEvent::is_last)) {
                events.push(event);
            }
        }
        order(&mut events, &mut draw);
        Self { determinism, events, last: ChaosWorld::draw(&mut draw, determinism) }
    }

    /// Whether some fault is of this kind.
    pub fn any(&self, so: impl Fn(&ChaosFault) -> bool) -> bool {
        self.events.iter().any(|event| so(&event.fault))
    }
}

impl ChaosEvent {
    fn draw(draw: &mut Draw, determinism: JobDeterminism, means: Means) -> Self {
        let (fault, moment) = ChaosFault::draw(draw, means);
        let mut world = ChaosWorld::draw(draw, determinism);
        match fault {
            // Nobody notices that the only rank is stopped.
            ChaosFault::Freeze(_) if world.ranks == 1 => {
                world = ChaosWorld { ranks: 2, launcher: Launcher::Mpirun }
            }
            ChaosFault::KillLauncher if world.launcher == Launcher::Nobody => {
                world.launcher = Launcher::Mpirun;
            }
            _ => {}
        }
        Self { fault, moment, world }
    }
}

impl ChaosEvent {
    /// Whether the run may well go on to its end after it, or is there already.
    fn is_last(&self) -> bool {
        let goes_on = matches!(self.fault, ChaosFault::FullDisk(_) | ChaosFault::LostFile(_));
        goes_on || (self.moment == FaultMoment::Results && !matches!(self.fault, ChaosFault::Call(_)))
    }
}

impl ChaosWorld {
    fn draw(draw: &mut Draw, determinism: JobDeterminism) -> Self {
        let ranks = draw.weighted(&[(15, 1), (60, 2), (15, 3), (10, MOST_RANKS)]);
        let ranks = if determinism == JobDeterminism::TwoRanks { 2 } else { ranks };
        let launcher = match draw.below(3) {
            0 => Launcher::Lift,
            _ if ranks == 1 => Launcher::Nobody,
            _ => Launcher::Mpirun,
        };
        Self { ranks, launcher }
    }
}

/// Sorts by how far in a run a fault strikes. One that strikes at a start may be anywhere but at the end.
fn order(events: &mut [ChaosEvent], draw: &mut Draw) {
    let key = |event: &ChaosEvent, draw: &mut Draw| match event.moment.order() {
        _ if event.is_last() => LAST,
        Some(order) => order,
        None => draw.below(2) as u8,
    };
    let keys: Vec<u8> = events.iter().map(|event| key(event, draw)).collect();
    let mut keyed: Vec<(u8, ChaosEvent)> = keys.into_iter().zip(events.iter().cloned()).collect();
    keyed.sort_by_key(|&(key, _)| key);
    for (place, (_, event)) in events.iter_mut().zip(keyed) {
        *place = event;
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::ChaosFaultKind;
    use super::*;

    #[test]
    fn a_seed_draws_the_same_plan_and_every_kind_comes_up() {
        let means = Means { mounts: true, calls: true };
        let mut kinds = std::collections::BTreeSet::new();
        for case in 0..100 {
            let plan = ChaosPlan::draw(3, case, means);
            assert_eq!(format!("{plan:?}"), format!("{:?}", ChaosPlan::draw(3, case, means)));
            let kind = |event: &ChaosEvent| event.fault.kind(event.world.launcher).name();
            kinds.extend(plan.events.iter().map(kind));
            let last = plan.events.iter().position(ChaosEvent::is_last).unwrap_or(plan.events.len());
            assert!(last + 1 >= plan.events.len(), "{plan:?}");
            let orders: Vec<u8> =
                plan.events[..last].iter().filter_map(|event| event.moment.order()).collect();
            assert!(orders.is_sorted(), "{plan:?}");
        }
        assert_eq!(kinds.len(), ChaosFaultKind::ALL.len());
    }

    #[test]
    fn what_is_not_possible_here_is_not_drawn() {
        let means = Means { mounts: false, calls: false };
        let unwanted = |fault: &ChaosFault| matches!(fault, ChaosFault::FullDisk(_) | ChaosFault::Call(_));
        assert!(!(0..200).any(|case| ChaosPlan::draw(0, case, means).any(unwanted)));
    }
}
