//! IA3 (Liu et al., 2022, section 3.3): keys, values and the hidden layer of the MLP times trained factors, one a channel.
//!
//! `softmax(q (l_k k)^T / sqrt(d)) (l_v v)` in attention and `W2 (l_h act(W1 x))` in the MLP, with factors of each block's own
//! that all start at one, so an untrained module changes nothing. The official code does not have it, so that the names of the
//! tensors are our own. It acts after all tuners that change these outputs: what they add is scaled too.

use super::{Attached, MakeTuner, ParameterNames, Tuner};
use crate::model::precision::Precision;
use crate::model::tower::{Field, LinearSite, TowerShape, UnitTuner};
use crate::model::trainables::{Init, ParameterSpec, Trainables};
use crate::options::Method;
use std::ops::Range;
use tch::Tensor;

/// IA3.
pub const METHOD: Method<MakeTuner> = Method {
    word: "ia3",
    about: "Scales of the keys, the values and the hidden layer of the MLP (IA3).",
    official: &[],
    options: &[],
    make: |_, site| Box::new(Ia3 { shape: site.shape }),
};

#[derive(Debug)]
struct Ia3 {
    shape: TowerShape,
}

const LIST: ParameterNames = ParameterNames("ia3_list");

impl Tuner for Ia3 {
    fn parameters(&self, block: usize, _: &dyn Fn(Field) -> Tensor) -> Vec<ParameterSpec> {
        let TowerShape { width, hidden, .. } = self.shape;
        let spec = |name, channels| LIST.spec(block, name, &[channels], Init::Ones);
        vec![spec("k", width), spec("v", width), spec("hidden", hidden)]
    }

    fn attach(&self, block: usize, trainables: &Trainables, _: Precision) -> Attached {
        let get = |name: &str| LIST.get(trainables, block, name);
        Ok(Some(Box::new(Factors { k: get("k")?, v: get("v")?, hidden: get("hidden")? })))
    }
}

/// The factors of one block.
#[derive(Debug)]
struct Factors {
    k: Tensor,
    v: Tensor,
    hidden: Tensor,
}

impl UnitTuner for Factors {
    /// One product for keys and values, and for the queries beside them, whose factors are one.
    fn linear(&self, site: LinearSite, _: &Tensor, columns: &Range<i64>, y: Tensor) -> Tensor {
        let first_key = self.k.size()[0];
        if site != LinearSite::Qkv || columns.end <= first_key {
            return y;
        }
        let factors = Tensor::cat(&[&self.k.ones_like(), &self.k, &self.v], 0);
        let factors = factors.narrow(0, columns.start, columns.end - columns.start);
        &y * factors.to_kind(y.kind())
    }

    fn is_homogeneous(&self) -> bool {
        true
    }

    fn hidden(&self, x: Tensor) -> Tensor {
        &x * self.hidden.to_kind(x.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::backbone_config::TowerConfig;
    use crate::model::block::{Attention, Block, OutputRows};
    use crate::model::layers::Activation;
    use crate::model::tower::BlockNames;
    use crate::model::tuners::{TunerContext, Tuners, bottleneck};
    use crate::options::{Registry, Values};
    use std::collections::BTreeMap;
    use tch::{Device, Kind};

    const WIDTH: i64 = 6;
    const HIDDEN: i64 = 10;
    const TOKENS: i64 = 5;
    const HEADS: i64 = 2;
    const EPS: f64 = 1e-5;
    /// The block that is compared.
    const BLOCK: usize = 2;
    /// Inner width of the low-rank factors.
    const DIM: u32 = 3;

    type Named = BTreeMap<String, Tensor>;
    type Fields = BTreeMap<Field, Tensor>;

    /// Values without a pattern, the same in every run.
    fn values(shape: &[i64], start: f64) -> Tensor {
        let places = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
        ((places * 1.7 + start).sin() * 0.6 + 0.1).view(shape)
    }

    fn fields() -> Fields {
        let shapes: [(Field, &[i64]); 12] = [
            (Field::Norm1Weight, &[WIDTH]),
            (Field::Norm1Bias, &[WIDTH]),
            (Field::QkvWeight, &[3 * WIDTH, WIDTH]),
            (Field::QkvBias, &[3 * WIDTH]),
            (Field::ProjWeight, &[WIDTH, WIDTH]),
            (Field::ProjBias, &[WIDTH]),
            (Field::Norm2Weight, &[WIDTH]),
            (Field::Norm2Bias, &[WIDTH]),
            (Field::Fc1Weight, &[HIDDEN, WIDTH]),
            (Field::Fc1Bias, &[HIDDEN]),
            (Field::Fc2Weight, &[WIDTH, HIDDEN]),
            (Field::Fc2Bias, &[WIDTH]),
        ];
        (1..).zip(shapes).map(|(start, (field, shape))| (field, values(shape, f64::from(start)))).collect()
    }

    fn block() -> Block {
        let config = TowerConfig { activation: Activation::QuickGelu, heads: HEADS, norm_eps: EPS };
        Block::from_tensors(fields().into_iter().collect(), config, Attention::Full, Precision::FP64)
    }

    /// Tuners of these words with their first values, in the order in which they act.
    fn tuners(words: &[&str]) -> (Trainables, Vec<Box<dyn UnitTuner>>) {
        let shape = TowerShape {
            width: WIDTH,
            hidden: HIDDEN,
            layers: BLOCK + 1,
            patch: 4,
            resolution: 8,
            tokens: TOKENS,
            joint: 0,
            registers: 0,
        };
        let site = TunerContext { shape, names: BlockNames::OpenAi, classes: 10, blocks: 0..shape.layers };
        let mut options = Values::default();
        options.put_all(&bottleneck::BottleneckOptions { adapter_dim: DIM });
        let methods = Tuners::METHODS.iter().filter(|method| words.contains(&method.word));
        let tuners: Vec<_> = methods.map(|method| (method.make)(&options, &site)).collect();
        let specs = tuners.iter().flat_map(|tuner| tuner.parameters(BLOCK, &|_| Tensor::new())).collect();
        let trainables = Trainables::new(specs, Kind::Double, Device::Cpu, 0);
        let mut units = Vec::new();
        for tuner in &tuners {
            units.extend(tuner.attach(BLOCK, &trainables, Precision::FP64).unwrap());
        }
        (trainables, units)
    }

    /// The whole block as the papers write it, one head at a time; with low-rank factors where they are given.
    fn plain(x: &Tensor, own: &Fields, trained: &Named) -> Tensor {
        let norm = |x: &Tensor, weight: Field, bias: Field| {
            let centred = x - x.mean_dim([-1i64].as_slice(), true, Kind::Double);
            let variance = centred.square().mean_dim([-1i64].as_slice(), true, Kind::Double);
            centred / (variance + EPS).sqrt() * &own[&weight] + &own[&bias]
        };
        let linear = |x: &Tensor, weight: Field, bias: Field| x.matmul(&own[&weight].tr()) + &own[&bias];
        let factor = |name: &str| &trained[&format!("tuner.ia3_list.{BLOCK}.{name}")];
        let low_rank = |x: &Tensor, name: &str| {
            let get = |what: &str| trained.get(&format!("tuner.lora_list.{BLOCK}.{name}.lora_{what}"));
            let product = |(a, b): (&Tensor, &Tensor)| x.matmul(a).matmul(b) / f64::from(DIM);
            get("A").zip(get("B")).map_or_else(|| x.zeros_like(), product)
        };

        let read = norm(x, Field::Norm1Weight, Field::Norm1Bias);
        let qkv = linear(&read, Field::QkvWeight, Field::QkvBias);
        let q = qkv.narrow(-1, 0, WIDTH) + low_rank(&read, "q");
        let k = qkv.narrow(-1, WIDTH, WIDTH) * factor("k");
        let v = (qkv.narrow(-1, 2 * WIDTH, WIDTH) + low_rank(&read, "v")) * factor("v");
        let width = WIDTH / HEADS;
        let head = |head: i64| {
            let [q, k, v] = [&q, &k, &v].map(|all| all.narrow(-1, head * width, width));
            let weights = q.matmul(&k.transpose(1, 2)) / (width as f64).sqrt();
            weights.softmax(-1, Kind::Double).matmul(&v)
        };
        let attended = Tensor::cat(&(0..HEADS).map(head).collect::<Vec<_>>(), -1);
        let x = x + linear(&attended, Field::ProjWeight, Field::ProjBias);

        let read = norm(&x, Field::Norm2Weight, Field::Norm2Bias);
        let hidden = linear(&read, Field::Fc1Weight, Field::Fc1Bias);
        let hidden = &hidden * (&hidden * 1.702).sigmoid() * factor("hidden");
        &x + linear(&hidden, Field::Fc2Weight, Field::Fc2Bias)
    }

    fn assert_near(ours: &Tensor, plain: &Tensor, what: &str) {
        let (away, size) = ((ours - plain).abs().max(), plain.abs().max());
        let [away, size] = [away, size].map(|tensor| tensor.double_value(&[]));
        assert!(size > 1e-3, "{what}: nothing to compare, {size}");
        assert!(away < 1e-13 * size.max(1.0), "{what}: {away} of {size}");
    }

    #[test]
    fn a_block_and_its_gradients_are_those_of_the_equation() {
        let (block, own) = (block(), fields());
        for words in [&["ia3"][..], &["ia3", "lora"]] {
            for rows in [OutputRows::All, OutputRows::First] {
                let (trainables, units) = tuners(words);
                let mut twins = Named::new();
                for (start, (name, tensor)) in (20..).zip(trainables.iter()) {
                    let values = values(&tensor.size(), f64::from(start)) + 0.5;
                    trainables.set(name, &values).unwrap();
                    twins.insert(name.to_owned(), values.set_requires_grad(true));
                }
                let x = values(&[3, TOKENS, WIDTH], 40.0);
                let [ours, plainly] = [&x, &x].map(|x| x.copy().set_requires_grad(true));

                let y = block.forward(&ours, rows, &units, None);
                let expected = plain(&plainly, &own, &twins);
                let expected = if rows == OutputRows::First { expected.narrow(1, 0, 1) } else { expected };
                assert_eq!(y.size(), expected.size());
                assert_near(&y, &expected, &format!("{words:?} {rows:?}"));

                let weights = values(&y.size(), 50.0);
                (y * &weights).sum(Kind::Double).backward();
                (expected * &weights).sum(Kind::Double).backward();
                assert_near(&ours.grad(), &plainly.grad(), &format!("{words:?} {rows:?} hidden state"));
                for (name, tensor) in trainables.iter() {
                    assert_near(&tensor.grad(), &twins[name].grad(), &format!("{words:?} {rows:?} {name}"));
                }
            }
        }
    }

    #[test]
    fn an_untrained_module_changes_nothing() {
        let (block, x) = (block(), values(&[3, TOKENS, WIDTH], 40.0));
        let (trainables, units) = tuners(&["ia3"]);
        let shapes: Vec<_> = trainables.shapes().collect();
        let name = |name: &str| format!("tuner.ia3_list.{BLOCK}.{name}");
        let [k, v, hidden] = [name("k"), name("v"), name("hidden")];
        assert_eq!(shapes, [(&*k, vec![WIDTH]), (&*v, vec![WIDTH]), (&*hidden, vec![HIDDEN])]);
        for rows in [OutputRows::All, OutputRows::First] {
            let [tuned, plain] = [&units[..], &[]].map(|tuners| block.forward(&x, rows, tuners, None));
            assert_eq!(tuned, plain, "{rows:?}");
        }
    }

    #[test]
    fn some_columns_are_scaled_as_in_the_whole() {
        let (trainables, units) = tuners(&["ia3"]);
        trainables.flat().copy_(&values(&[trainables.count()], 7.0));
        let (x, y) = (Tensor::new(), values(&[2, 3 * WIDTH], 8.0));
        let scaled = |columns: Range<i64>| {
            let y = y.narrow(1, columns.start, columns.end - columns.start);
            units[0].linear(LinearSite::Qkv, &x, &columns, y)
        };
        let whole = scaled(0..3 * WIDTH);
        assert_eq!(whole.narrow(1, 0, WIDTH), y.narrow(1, 0, WIDTH), "queries stay");
        for columns in [0..WIDTH, WIDTH..3 * WIDTH, 2..WIDTH + 1, WIDTH + 1..2 * WIDTH + 2] {
            let expected = whole.narrow(1, columns.start, columns.end - columns.start);
            assert_eq!(scaled(columns.clone()), expected, "{columns:?}");
        }
    }
}
