//! The exact text of every refusal.

use super::super::{Order, Sampler};

fn refusal(sampler: Sampler, labels: &[u32], classes: usize) -> String {
    Order::new(sampler, labels, classes, 0).expect_err("it is to be refused").to_string()
}

#[test]
fn lists_without_an_order() {
    for sampler in super::SAMPLERS {
        assert_eq!(
            refusal(sampler, &[], 3),
            "the training list has no samples: expected at least one\nhint: check the list file and the data root"
        );
        assert_eq!(
            refusal(sampler, &[0, 2, 3, 9], 3),
            "sample 2 has label 3: expected a label below the number of classes, 3\nhint: \
             correct the list or the class names"
        );
        assert_eq!(
            refusal(sampler, &[0], 0),
            "sample 0 has label 0: expected a label below the number of classes, 0\nhint: \
             correct the list or the class names"
        );
        assert_eq!(
            refusal(sampler, &[0], 1 << 40),
            "the data set declares 1099511627776 classes: expected at most 4294967295\nhint: check the class names"
        );
    }
}

#[test]
fn settings_without_an_order() {
    assert_eq!(
        refusal(Sampler::ClassAware { samples_per_class: 0 }, &[0], 1),
        "sampler `class_aware` takes 0 samples per class: expected at least 1; LIFT uses 4"
    );
    for (threshold, text) in
        [(0.0, "0"), (-1.0, "-1"), (1.5, "1.5"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")]
    {
        assert_eq!(
            refusal(Sampler::RepeatFactor { threshold }, &[0], 1),
            format!(
                "sampler `repeat_factor` has threshold {text}: expected a share of the images, above 0 and \
                 at most 1; LVIS uses 0.001"
            )
        );
    }
    assert_eq!(
        refusal(Sampler::Progressive { epochs: 0 }, &[0], 1),
        "sampler `progressive` runs over 0 epochs: expected at least 1\nhint: set it to the epochs of the run"
    );
    assert_eq!(
        refusal(Sampler::NShot { shots: 0 }, &[0], 1),
        "sampler `n_shot` keeps 0 images of each class: expected at least 1"
    );
}

#[test]
#[should_panic(expected = "positions up to 4 asked of epoch 2, which has 3")]
fn a_position_past_the_end() {
    let order = Order::new(Sampler::Instance, &[0, 0, 0], 1, 0).expect("valid");
    order.sample_at(2, 3);
}

#[test]
#[should_panic(expected = "positions up to 4 asked of epoch 0, which has 3")]
fn a_range_past_the_end() {
    let order = Order::new(Sampler::Instance, &[0, 0, 0], 1, 0).expect("valid");
    order.fill(0, 2..4, &mut Vec::new());
}

#[test]
fn names_are_those_of_the_configuration() {
    assert_eq!(super::SAMPLERS.map(|sampler| sampler.name()), Sampler::NAMES);
}
