//! SSF (Lian et al., 2022, section 3.2): `scale * y + shift` by channel, of the outputs of attention's layers, of the MLP's
//! layers or of the norms.

use super::{Attached, MakeTuner, ParameterNames, Tuner};
use crate::model::precision::Precision;
use crate::model::tower::{Field, LinearSite, NormSite, TowerShape, UnitTuner};
use crate::model::trainables::{Init, ParameterSpec, Trainables, UnknownParameter};
use crate::options::Method;
use std::ops::Range;
use tch::Tensor;

/// SSF of attention.
pub const ATTENTION: Method<MakeTuner> = Method {
    word: "ssf_attn",
    about: "Scale and shift after both linear layers of attention (SSF).",
    official: &["ssf_attn"],
    options: &[],
    make: |_, site| {
        let sites = vec![
            ("attn_in", SsfSite::Linear(LinearSite::Qkv)),
            ("attn_out", SsfSite::Linear(LinearSite::Proj)),
        ];
        Box::new(Ssf { list: ParameterNames("ssf_attn_list"), shape: site.shape, sites })
    },
};

/// SSF of the MLP.
pub const MLP: Method<MakeTuner> = Method {
    word: "ssf_mlp",
    about: "Scale and shift after both linear layers of the MLP (SSF).",
    official: &["ssf_mlp"],
    options: &[],
    make: |_, site| {
        let sites =
            vec![("mlp_in", SsfSite::Linear(LinearSite::Fc1)), ("mlp_out", SsfSite::Linear(LinearSite::Fc2))];
        Box::new(Ssf { list: ParameterNames("ssf_mlp_list"), shape: site.shape, sites })
    },
};

/// SSF of the norms.
pub const NORMS: Method<MakeTuner> = Method {
    word: "ssf_ln",
    about: "Scale and shift after both layer norms (SSF).",
    official: &["ssf_ln"],
    options: &[],
    make: |_, site| {
        let sites = vec![("ln_1", SsfSite::Norm(NormSite::First)), ("ln_2", SsfSite::Norm(NormSite::Second))];
        Box::new(Ssf { list: ParameterNames("ssf_ln_list"), shape: site.shape, sites })
    },
};

/// Spread of the first values around 1 and 0.
const STD: f64 = 0.02;

#[derive(Debug, Clone, Copy, PartialEq)]
enum SsfSite {
    Linear(LinearSite),
    Norm(NormSite),
}

#[derive(Debug)]
struct Ssf {
    list: ParameterNames,
    shape: TowerShape,
    sites: Vec<(&'static str, SsfSite)>,
}

impl Tuner for Ssf {
    fn parameters(&self, block: usize, _: &dyn Fn(Field) -> Tensor) -> Vec<ParameterSpec> {
        let of_site = |(name, site): &(&str, SsfSite)| {
            let channels = match site {
                SsfSite::Linear(site) => site.sizes(&self.shape).1,
                SsfSite::Norm(_) => self.shape.width,
            };
            let spec = |what: &str, mean| {
                let init = Init::Normal { mean, std: STD };
                self.list.spec(block, &format!("{name}.{what}"), &[channels], init)
            };
            [spec("scale", 1.0), spec("shift", 0.0)]
        };
        self.sites.iter().flat_map(of_site).collect()
    }

    fn attach(&self, block: usize, trainables: &Trainables, _: Precision) -> Attached {
        let get = |name: &str, what: &str| self.list.get(trainables, block, &format!("{name}.{what}"));
        let factors =
            self.sites.iter().map(|(name, site)| Ok((*site, get(name, "scale")?, get(name, "shift")?)));
        Ok(Some(Box::new(Module { factors: factors.collect::<Result<_, UnknownParameter>>()? })))
    }
}

#[derive(Debug)]
struct Module {
    factors: Vec<(SsfSite, Tensor, Tensor)>,
}

impl Module {
    fn apply(&self, site: SsfSite, columns: Option<&Range<i64>>, y: Tensor) -> Tensor {
        let Some((_, scale, shift)) = self.factors.iter().find(|(its, ..)| *its == site) else { return y };
        let of = |values: &Tensor| {
            let values = columns.map_or_else(
                || values.shallow_clone(),
                |columns| values.narrow(0, columns.start, columns.end - columns.start),
            );
            values.to_kind(y.kind())
        };
        &y * of(scale) + of(shift)
    }
}

impl UnitTuner for Module {
    fn linear(&self, site: LinearSite, _: &Tensor, columns: &Range<i64>, y: Tensor) -> Tensor {
        self.apply(SsfSite::Linear(site), Some(columns), y)
    }

    fn norm(&self, site: NormSite, y: Tensor) -> Tensor {
        self.apply(SsfSite::Norm(site), None, y)
    }

    fn acts_on_norms(&self) -> bool {
        self.factors.iter().any(|(site, ..)| matches!(site, SsfSite::Norm(_)))
    }
}
