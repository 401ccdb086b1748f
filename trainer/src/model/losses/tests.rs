//! Every loss of the list against the equations in plain `f64`, in any cut of a batch, and with classes that never come.

use super::*;
use proptest::prelude::*;
use tch::Device;

/// A batch: logits by sample and class, labels, and how often each class comes.
#[derive(Debug, Clone)]
struct Batch {
    logits: Vec<Vec<f64>>,
    labels: Vec<usize>,
    counts: Vec<f64>,
}

impl Batch {
    fn logits(&self, kind: Kind) -> Tensor {
        Tensor::from_slice2(&self.logits).to_kind(kind).set_requires_grad(true)
    }

    fn labels(&self) -> Tensor {
        Tensor::from_slice(&self.labels.iter().map(|&label| label as i64).collect::<Vec<_>>())
    }

    /// Counts with the rule for classes that never come, and the shares that go with them.
    fn filled(&self) -> (Vec<f64>, Vec<f64>) {
        let rarest = self.counts.iter().copied().filter(|&n| n > 0.0).fold(f64::INFINITY, f64::min);
        let total: f64 = self.counts.iter().sum();
        let counts: Vec<f64> = self.counts.iter().map(|&n| if n > 0.0 { n } else { rarest }).collect();
        let shares = counts.iter().map(|n| n / total).collect();
        (counts, shares)
    }

    fn build(&self, method: &Method<MakeLoss>, options: &Options, kind: Kind) -> Box<dyn Loss> {
        let frequencies = &|_| Frequencies::new(&self.counts);
        (method.make)(&options.values(), &LossContext { frequencies, kind, device: Device::Cpu })
    }
}

/// Options of all losses.
#[derive(Debug, Clone, Default)]
struct Options {
    focal: focal::FocalOptions,
    ldam: ldam::LdamOptions,
    class_balanced: class_balanced::ClassBalancedOptions,
    reweighted: reweighted::ReweightedOptions,
    logit_adjusted: logit_adjusted::LogitAdjustedOptions,
    lade: lade::LadeOptions,
}

/// Options that are no default, so that each of them is seen to act.
const OPTIONS: Options = Options {
    focal: focal::FocalOptions { gamma: 1.5 },
    ldam: ldam::LdamOptions { max_margin: 0.7, scale: 3.0 },
    class_balanced: class_balanced::ClassBalancedOptions { beta: 0.95 },
    reweighted: reweighted::ReweightedOptions { exponent: 0.8 },
    logit_adjusted: logit_adjusted::LogitAdjustedOptions { tau: 1.3 },
    lade: lade::LadeOptions { remine_lambda: 0.2, estimation_weight: 0.3 },
};

impl Options {
    fn values(&self) -> Values {
        let mut values = Values::default();
        values.put_all(&self.focal);
        values.put_all(&self.ldam);
        values.put_all(&self.class_balanced);
        values.put_all(&self.reweighted);
        values.put_all(&self.logit_adjusted);
        values.put_all(&self.lade);
        values
    }
}

fn log_sum_exp(values: impl Iterator<Item = f64>) -> f64 {
    values.map(f64::exp).sum::<f64>().ln()
}

/// The mean loss of a batch, as the papers have it.
fn oracle(official: &str, options: &Options, batch: &Batch) -> f64 {
    let (counts, shares) = batch.filled();
    let rarest = counts.iter().copied().fold(f64::INFINITY, f64::min);
    let nll = |shift: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
        let of_sample = |(logits, &label): (&Vec<f64>, &usize)| {
            let shifted: Vec<f64> = logits.iter().enumerate().map(|(c, z)| z + shift(c, label)).collect();
            log_sum_exp(shifted.iter().copied()) - shifted[label]
        };
        batch.logits.iter().zip(&batch.labels).map(of_sample).collect()
    };
    let mean = |losses: Vec<f64>| losses.iter().sum::<f64>() / losses.len() as f64;
    let weighted = |weight: &dyn Fn(usize) -> f64| {
        let losses = nll(&|_, _| 0.0);
        let sum: f64 = losses.iter().zip(&batch.labels).map(|(loss, &label)| loss * weight(label)).sum();
        sum / batch.labels.iter().map(|&label| weight(label)).sum::<f64>()
    };
    match official {
        "CE" => mean(nll(&|_, _| 0.0)),
        "Focal" => {
            let focal = |nll: f64| (1.0 - (-nll).exp()).powf(options.focal.gamma) * nll;
            mean(nll(&|_, _| 0.0).into_iter().map(focal).collect())
        }
        "LDAM" => {
            let margin = |c: usize| options.ldam.max_margin * (rarest / counts[c]).powf(0.25);
            mean(nll(&|c, label| if c == label { -options.ldam.scale * margin(c) } else { 0.0 }))
        }
        "CB" => weighted(&|c| 1.0 / (1.0 - options.class_balanced.beta.powf(counts[c]))),
        "GRW" => weighted(&|c| shares[c].powf(-options.reweighted.exponent)),
        "BS" => mean(nll(&|c, _| counts[c].ln())),
        "LA" => mean(nll(&|c, _| options.logit_adjusted.tau * shares[c].ln())),
        "LADE" => {
            let term: f64 =
                (0..counts.len()).map(|c| shares[c] * estimate(options, batch, c, shares[c])).sum();
            mean(nll(&|c, _| shares[c].ln())) - options.lade.estimation_weight * term
        }
        other => panic!("{other} has no oracle"),
    }
}

/// LADE's estimate of one class.
fn estimate(options: &Options, batch: &Batch, class: usize, share: f64) -> f64 {
    let own = batch.logits.iter().zip(&batch.labels).filter(|(_, label)| **label == class);
    let own: Vec<f64> = own.map(|(logits, _)| logits[class]).collect();
    let of_labels = own.iter().sum::<f64>() / (own.len() as f64 + 1e-8);
    let spread = (1.0 / batch.counts.len() as f64 + 1e-9).ln() - (share + 1e-9).ln();
    let log_mean = log_sum_exp(batch.logits.iter().map(|logits| logits[class] + spread))
        - (batch.logits.len() as f64).ln();
    of_labels - log_mean - options.lade.remine_lambda * log_mean * log_mean
}

fn batches() -> impl Strategy<Value = Batch> {
    (1_usize..9, 2_usize..6).prop_flat_map(|(samples, classes)| {
        let logits = prop::collection::vec(prop::collection::vec(-4.0..4.0, classes), samples);
        let labels = prop::collection::vec(0..classes, samples);
        let counts = prop::collection::vec(prop_oneof![1 => Just(0_u32), 4 => 1_u32..300], classes);
        (logits, labels, counts).prop_map(|(logits, labels, counts)| {
            let mut counts: Vec<f64> = counts.into_iter().map(f64::from).collect();
            counts[labels[0]] += 1.0;
            Batch { logits, labels, counts }
        })
    })
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().to_kind(Kind::Double).reshape([-1])).unwrap()
}

fn assert_near(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() <= tolerance * expected.abs().max(1.0),
            "{what}: {found}, {expected}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Value by the equation; gradient by differences of the equation.
    #[test]
    fn every_loss_is_its_equation(batch in batches()) {
        for entry in Losses::METHODS {
            let logits = batch.logits(Kind::Double);
            let found = batch.build(entry, &OPTIONS, Kind::Double).forward(&logits, &batch.labels()).mean();
            let expected = oracle(entry.official[0], &OPTIONS, &batch);
            assert_near(&numbers(&found), &[expected], 1e-10, entry.word);
            found.backward();
            let mut gradient = Vec::new();
            for (sample, row) in batch.logits.iter().enumerate() {
                gradient.extend((0..row.len()).map(|class| {
                    let moved = |by: f64| {
                        let mut moved = batch.clone();
                        moved.logits[sample][class] += by;
                        oracle(entry.official[0], &OPTIONS, &moved)
                    };
                    (moved(1e-5) - moved(-1e-5)) / 2e-5
                }));
            }
            assert_near(&numbers(&logits.grad()), &gradient, 1e-6, entry.word);
        }
    }

    /// Parts of any size, each by itself, add up to the whole: values, normalisers and gradients.
    #[test]
    fn law_1_any_cut_of_a_batch_gives_its_loss(batch in batches(), cuts in prop::collection::vec(0_usize..9, 0..3)) {
        let samples = batch.labels.len();
        let mut cuts: Vec<i64> = cuts.into_iter().map(|cut| cut.min(samples) as i64).collect();
        cuts.extend([0, samples as i64]);
        cuts.sort_unstable();
        let parts: Vec<(i64, i64)> = cuts.windows(2).map(|pair| (pair[0], pair[1] - pair[0])).collect();
        for entry in Losses::METHODS {
            let loss = batch.build(entry, &OPTIONS, Kind::Double);
            let (whole, cut, labels) = (batch.logits(Kind::Double), batch.logits(Kind::Double), batch.labels());
            let expected = loss.forward(&whole, &labels).mean();
            expected.backward();
            let parts = || parts.iter().filter(|(_, len)| *len > 0).map(|&(start, len)| {
                (cut.narrow(0, start, len), labels.narrow(0, start, len))
            });
            let nothing = Columns::none(batch.counts.len() as i64, Device::Cpu);
            let columns = parts().fold(nothing, |all, (logits, labels)| all.with(&Columns::of(&logits, &labels)));
            let of_part = |(logits, labels): (Tensor, Tensor)| loss.of_part(&logits, &labels, Some(&columns));
            let found: Vec<LossSum> = parts().map(of_part).collect();
            let sum: Tensor = found.iter().map(|part| part.sum.shallow_clone()).sum();
            let normaliser: Tensor = found.iter().map(|part| part.normaliser.shallow_clone()).sum();
            let mean = sum / normaliser;
            assert_near(&numbers(&mean), &numbers(&expected), 1e-12, entry.word);
            mean.backward();
            assert_near(&numbers(&cut.grad()), &numbers(&whole.grad()), 1e-12, entry.word);
        }
    }
}

/// The sum of plain cross entropies is libtorch's own, bitwise.
#[test]
fn cross_entropy_and_logit_adjustment_have_the_bits_of_the_fused_function() {
    let counts = vec![700.0, 90.0, 11.0, 3.0, 1.0];
    let values = (Tensor::arange(61 * 5, (Kind::Double, Device::Cpu)) * 2.3).sin().view([61, 5]) * 9.0;
    let labels: Vec<usize> = (0..61).map(|i| i * i % 5).collect();
    let batch = Batch { logits: Vec::new(), labels, counts };
    for kind in [Kind::Float, Kind::Double] {
        for word in ["cross_entropy", "logit_adjusted"] {
            let loss = batch.build(of_word(word), &OPTIONS, kind);
            let leaf = || values.to_kind(kind).set_requires_grad(true);
            let (ours, fused) = (leaf(), leaf());
            let found = loss.forward(&ours, &batch.labels());
            found.sum.backward();
            let adjusted = loss.adjust(fused.shallow_clone(), &batch.labels(), &(0..5));
            let expected =
                adjusted.cross_entropy_loss(&batch.labels(), None::<Tensor>, Reduction::Sum, -100, 0.0);
            expected.backward();
            assert_eq!(found.sum, expected, "{word}");
            assert_eq!(ours.grad(), fused.grad(), "{word}");
            assert_eq!(found.normaliser.double_value(&[]), 61.0);
        }
    }
}

/// Also where logits are far apart, as an untrained head with a large scale has them.
#[test]
fn a_class_that_never_comes_makes_nothing_infinite() {
    for (size, kind) in [(1.0, Kind::Double), (1.0, Kind::Float), (1e4, Kind::Float)] {
        let logits =
            vec![vec![size, -size, 0.0, 0.3], vec![-size, size, 0.1, 0.2], vec![0.0, 0.5, size, -size]];
        let batch = Batch { logits, labels: vec![0, 1, 0], counts: vec![40.0, 3.0, 0.0, 0.0] };
        for entry in Losses::METHODS {
            let loss = batch.build(entry, &Options::default(), kind);
            let logits = batch.logits(kind);
            let found = loss.forward(&logits, &batch.labels());
            found.mean().backward();
            let adjusted = loss.adjust(batch.logits(kind), &batch.labels(), &(0..4));
            for (tensor, what) in [
                (&adjusted, "logits"),
                (&found.sum, "loss"),
                (&found.normaliser, "normaliser"),
                (&logits.grad(), "gradient"),
            ] {
                let numbers = numbers(tensor);
                assert!(
                    numbers.iter().all(|n| n.is_finite()),
                    "{} of size {size}, {what}: {numbers:?}",
                    entry.word
                );
            }
        }
    }
}

/// Options at the end of their range.
#[test]
fn a_loss_with_its_option_at_zero_is_cross_entropy() {
    let options = Options {
        focal: focal::FocalOptions { gamma: 0.0 },
        ldam: ldam::LdamOptions { max_margin: 0.0, scale: 25.0 },
        class_balanced: class_balanced::ClassBalancedOptions { beta: 0.0 },
        reweighted: reweighted::ReweightedOptions { exponent: 0.0 },
        logit_adjusted: logit_adjusted::LogitAdjustedOptions { tau: 0.0 },
        lade: lade::LadeOptions::default(),
    };
    let logits = vec![vec![0.4, -1.0, 2.0], vec![1.0, 0.5, -0.5]];
    let batch = Batch { logits, labels: vec![1, 0], counts: vec![9.0, 4.0, 0.0] };
    let expected = oracle("CE", &options, &batch);
    for entry in Losses::METHODS.iter().filter(|entry| !matches!(entry.official[0], "BS" | "LADE")) {
        let loss = batch.build(entry, &options, Kind::Double);
        let found = loss.forward(&batch.logits(Kind::Double), &batch.labels()).mean();
        assert_near(&numbers(&found), &[expected], 1e-12, entry.word);
    }
}

#[test]
fn official_names_are_found_once() {
    for method in Losses::METHODS {
        let same = Losses::METHODS.iter().filter(|other| other.official == method.official);
        assert_eq!(same.count(), 1, "{}", method.word);
    }
}

fn of_word(word: &str) -> &'static Method<MakeLoss> {
    Losses::METHODS.iter().find(|method| method.word == word).unwrap()
}
