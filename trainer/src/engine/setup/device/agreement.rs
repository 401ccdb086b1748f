//! What the devices of all ranks mean together: they are of one kind, and rank 0 reports each problem once.

use super::judge::{DeviceError, Judgement, NoGpu};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The device of a rank, as every rank knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RankDevice {
    /// Name of its host.
    pub(super) host: String,
    /// Identifier of its host: the lowest rank on it.
    pub(super) node: usize,
    pub(super) judgement: Judgement,
}

impl RankDevice {
    fn without_gpu(&self) -> Option<(&NoGpu, bool)> {
        match &self.judgement {
            Judgement::Cpu { why, surprising } => Some((why, *surprising)),
            Judgement::Gpu { .. } => None,
        }
    }
}

/// Checks that all ranks compute on GPUs, or all on CPUs: each kind has its own process group, and ranks of two groups would
/// wait for each other.
pub(super) fn same_kind(ranks: &[RankDevice]) -> Result<(), DeviceError> {
    let gpu = ranks.iter().position(|rank| rank.without_gpu().is_none());
    let without = ranks.iter().enumerate().find_map(|(cpu, rank)| Some((cpu, rank, rank.without_gpu()?.0)));
    let (Some(gpu), Some((cpu, rank, why))) = (gpu, without) else { return Ok(()) };
    let NoGpu { reason, hint } = why.clone();
    Err(DeviceError::Mixed { gpu, cpu, host: rank.host.clone(), reason, hint })
}

/// A warning if the CPU is used on a host that seems to have a GPU.
pub(super) fn warning(ranks: &[RankDevice]) -> Option<String> {
    let surprised = |rank: &&RankDevice| rank.without_gpu().is_some_and(|(_, surprising)| surprising);
    let first = ranks.iter().find(surprised)?;
    let (why, _) = first.without_gpu()?;
    let mut others: Vec<usize> = ranks.iter().filter(surprised).map(|rank| rank.node).collect();
    others.dedup();
    let hosts = match others.len() {
        0 | 1 => format!("`{}`", first.host),
        number => format!("`{}` and {} more", first.host, number - 1),
    };
    Some(format!("the GPU of {hosts} is not used, the CPU computes: {}\nhint: {}", why.reason, why.hint))
}

/// A note if hosts have more GPUs than ranks: a line for each group of hosts that are alike.
pub(super) fn idle_gpus(ranks: &[RankDevice]) -> Option<String> {
    let mut hosts: BTreeMap<usize, (&str, usize, usize)> = BTreeMap::new();
    for rank in ranks {
        let Judgement::Gpu { devices } = rank.judgement else { return None };
        let (_, used, usable) = hosts.entry(rank.node).or_insert((&rank.host, 0, 0));
        // A rank may see only the GPU that a scheduler bound it to.
        (*used, *usable) = (*used + 1, devices.max(*usable));
    }
    let mut alike: BTreeMap<(usize, usize), Vec<&str>> = BTreeMap::new();
    for (host, used, usable) in hosts.values().filter(|(_, used, usable)| used < usable) {
        alike.entry((*used, *usable)).or_default().push(host);
    }
    if alike.is_empty() {
        return None;
    }
    let lines = alike.iter().map(|((used, usable), hosts)| {
        let (place, are) = (place(hosts), if *used == 1 { "is" } else { "are" });
        format!("note: {used} of {usable} GPUs of {place} {are} used\n")
    });
    let most: usize = hosts.values().map(|(_, used, usable)| used.max(usable)).sum();
    Some(
        lines.collect::<String>()
            + &format!("hint: use all of them with {most} ranks, one for each GPU (`-n {most}`)"),
    )
}

/// Hosts by name; the first few of many.
fn place(hosts: &[&str]) -> String {
    const SHOWN: usize = 4;
    let names = hosts.iter().take(SHOWN).map(|host| format!("`{host}`")).collect::<Vec<_>>().join(", ");
    match hosts.len() {
        1 => format!("host {names}"),
        number if number > SHOWN => format!("each of {number} hosts ({names}, ...)"),
        _ => format!("each of the hosts {names}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(host: &str, node: usize, devices: usize) -> RankDevice {
        RankDevice { host: host.to_owned(), node, judgement: Judgement::Gpu { devices } }
    }

    fn cpu(host: &str, node: usize, surprising: bool) -> RankDevice {
        let why = NoGpu { reason: "no driver".to_owned(), hint: "install one".to_owned() };
        RankDevice { host: host.to_owned(), node, judgement: Judgement::Cpu { why, surprising } }
    }

    #[test]
    fn idle_gpus_are_told_once_for_hosts_that_are_alike() {
        assert_eq!(idle_gpus(&[gpu("a", 0, 2), gpu("a", 0, 2)]), None);
        assert_eq!(
            idle_gpus(&[gpu("a", 0, 8), gpu("a", 0, 8)]).unwrap(),
            "note: 2 of 8 GPUs of host `a` are used\nhint: use all of them with 8 ranks, one for each GPU (`-n 8`)"
        );
        let three = [gpu("a", 0, 4), gpu("b", 1, 4), gpu("c", 2, 2), gpu("c", 2, 2)];
        assert_eq!(
            idle_gpus(&three).unwrap(),
            "note: 1 of 4 GPUs of each of the hosts `a`, `b` is used\n\
             hint: use all of them with 10 ranks, one for each GPU (`-n 10`)"
        );
    }

    #[test]
    fn ranks_that_see_one_gpu_each_leave_none_idle() {
        let bound: Vec<_> = (0..4).map(|_| gpu("a", 0, 1)).collect();
        assert_eq!(idle_gpus(&bound), None);
        assert_eq!(idle_gpus(&[cpu("a", 0, false)]), None);
    }

    #[test]
    fn gpus_on_some_ranks_only_are_refused() {
        let error = same_kind(&[gpu("a", 0, 1), cpu("b", 1, true)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "rank 0 computes on a GPU, but rank 1 on `b` cannot: no driver\nhint: install one"
        );
        assert!(same_kind(&[gpu("a", 0, 1), gpu("b", 1, 1)]).is_ok());
        assert!(same_kind(&[cpu("a", 0, true), cpu("b", 1, false)]).is_ok());
    }

    #[test]
    fn a_gpu_that_is_not_used_is_told_once_for_all_hosts() {
        assert_eq!(warning(&[cpu("a", 0, false)]), None);
        let ranks = [cpu("a", 0, true), cpu("a", 0, true), cpu("b", 2, true)];
        assert_eq!(
            warning(&ranks).unwrap(),
            "the GPU of `a` and 1 more is not used, the CPU computes: no driver\nhint: install one"
        );
        assert_eq!(
            warning(&ranks[..2]).unwrap(),
            "the GPU of `a` is not used, the CPU computes: no driver\nhint: install one"
        );
    }
}
