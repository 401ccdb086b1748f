//! The faults of one run, in order, and the number of ranks of each start.

use super::fault::{ChaosFault, SupportedFaults};
use super::job::{JobDeterminism, Launcher};
use super::moment::FaultMoment;
use crate::draw::Draw;

/// Maximum number of faults per run.
const MAX_FAULTS: u64 = 5;
/// Order of a moment after which no further fault can hit the run.
const LAST_ORDER: u8 = 2;
/// Maximum number of ranks.
const MAX_RANKS: usize = 4;

/// The faults of one run.
#[derive(Clone, Debug)]
pub struct ChaosPlan {
    /// The determinism of the run.
    pub determinism: JobDeterminism,
    /// The faults.
    pub events: Vec<ChaosEvent>,
    /// The last start, without a fault.
    pub last: ChaosWorld,
}

/// A fault, its moment, and the ranks of a new start if none is running.
#[derive(Clone, Debug)]
pub struct ChaosEvent {
    /// The fault.
    pub fault: ChaosFault,
    /// Its moment.
    pub moment: FaultMoment,
    /// The ranks of a new start.
    pub world: ChaosWorld,
}

/// Number of ranks and their launcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChaosWorld {
    /// Number of ranks.
    pub ranks: usize,
    /// Their launcher.
    pub launcher: Launcher,
}

impl ChaosPlan {
    /// Draws the plan of a case.
    pub fn draw(seed: u64, case: u64, supported: SupportedFaults) -> Self {
        let mut draw = Draw::of_case(seed, case);
        let determinism = if draw.chance(85) { JobDeterminism::AnyWorld } else { JobDeterminism::TwoRanks };
        let count = draw.within(1, MAX_FAULTS);
        let mut events: Vec<ChaosEvent> = Vec::new();
        while (events.len() as u64) < count {
            let event = ChaosEvent::draw(&mut draw, determinism, supported);
            // After such a fault the run is at its end, so a second one would come too late.
            if !(event.is_last() && events.iter().any(ChaosEvent::is_last)) {
                events.push(event);
            }
        }
        order(&mut events, &mut draw);
        Self { determinism, events, last: ChaosWorld::draw(&mut draw, determinism) }
    }

    /// Whether any fault satisfies the condition.
    pub fn any(&self, condition: impl Fn(&ChaosFault) -> bool) -> bool {
        self.events.iter().any(|event| condition(&event.fault))
    }
}

impl ChaosEvent {
    fn draw(draw: &mut Draw, determinism: JobDeterminism, supported: SupportedFaults) -> Self {
        let (fault, moment) = ChaosFault::draw(draw, supported);
        let mut world = ChaosWorld::draw(draw, determinism);
        match fault {
            // No other rank could detect that the only rank is stopped.
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
    /// Whether the run may finish after it, or is already at its end.
    fn is_last(&self) -> bool {
        let goes_on = matches!(self.fault, ChaosFault::FullDisk(_) | ChaosFault::LostFile(_));
        goes_on || (self.moment == FaultMoment::Results && !matches!(self.fault, ChaosFault::Call(_)))
    }
}

impl ChaosWorld {
    fn draw(draw: &mut Draw, determinism: JobDeterminism) -> Self {
        let ranks = draw.weighted(&[(15, 1), (60, 2), (15, 3), (10, MAX_RANKS)]);
        let ranks = if determinism == JobDeterminism::TwoRanks { 2 } else { ranks };
        let launcher = match draw.below(3) {
            0 => Launcher::Lift,
            _ if ranks == 1 => Launcher::Nobody,
            _ => Launcher::Mpirun,
        };
        Self { ranks, launcher }
    }
}

/// Sorts faults by their order in a run. A fault at a start may be anywhere except at the end.
fn order(events: &mut [ChaosEvent], draw: &mut Draw) {
    let key = |event: &ChaosEvent, draw: &mut Draw| match event.moment.order() {
        _ if event.is_last() => LAST_ORDER,
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
    fn a_seed_draws_the_same_plan_and_every_kind() {
        let supported = SupportedFaults { mounts: true, calls: true };
        let mut kinds = std::collections::BTreeSet::new();
        for case in 0..100 {
            let plan = ChaosPlan::draw(3, case, supported);
            assert_eq!(format!("{plan:?}"), format!("{:?}", ChaosPlan::draw(3, case, supported)));
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
    fn unsupported_faults_are_not_drawn() {
        let supported = SupportedFaults { mounts: false, calls: false };
        let unwanted = |fault: &ChaosFault| matches!(fault, ChaosFault::FullDisk(_) | ChaosFault::Call(_));
        assert!(!(0..200).any(|case| ChaosPlan::draw(0, case, supported).any(unwanted)));
    }
}
