//! What a drawing shows: a texture, a colour and a shape; and which compositions belong to the demo.

/// The outline of the figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Outline {
    Circle,
    Square,
    Triangle,
    Star,
    Cross,
    Heart,
    Ring,
    Moon,
    Arrow,
    Bar,
    Flower,
    Drop,
}

/// The colour of the figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FigureColour {
    Red,
    Orange,
    Yellow,
    Green,
    Cyan,
    Blue,
    Purple,
    Pink,
    Brown,
    White,
}

/// How the figure is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Texture {
    /// The colour alone.
    Plain,
    /// Parallel stripes of ink.
    Striped,
    /// Dots of ink in rows.
    Dotted,
    /// Squares of ink and colour in turn.
    Checkered,
    /// A broad rim of ink.
    Bordered,
    /// One half of it ink.
    Halved,
    /// The colour alone, and light of that colour around the figure.
    Glowing,
}

const SHAPES: [(Outline, &str); 12] = [
    (Outline::Circle, "circle"),
    (Outline::Square, "square"),
    (Outline::Triangle, "triangle"),
    (Outline::Star, "star"),
    (Outline::Cross, "cross"),
    (Outline::Heart, "heart"),
    (Outline::Ring, "ring"),
    (Outline::Moon, "moon"),
    (Outline::Arrow, "arrow"),
    (Outline::Bar, "bar"),
    (Outline::Flower, "flower"),
    (Outline::Drop, "drop"),
];

const COLOURS: [(FigureColour, &str); 10] = [
    (FigureColour::Red, "red"),
    (FigureColour::Orange, "orange"),
    (FigureColour::Yellow, "yellow"),
    (FigureColour::Green, "green"),
    (FigureColour::Cyan, "cyan"),
    (FigureColour::Blue, "blue"),
    (FigureColour::Purple, "purple"),
    (FigureColour::Pink, "pink"),
    (FigureColour::Brown, "brown"),
    (FigureColour::White, "white"),
];

const TEXTURES: [(Texture, &str); 7] = [
    (Texture::Plain, "plain"),
    (Texture::Striped, "striped"),
    (Texture::Dotted, "dotted"),
    (Texture::Checkered, "checkered"),
    (Texture::Bordered, "bordered"),
    (Texture::Halved, "halved"),
    (Texture::Glowing, "glowing"),
];

/// Number of compositions, those of the demo and those for pretraining together.
pub const COMPOSITIONS: usize = SHAPES.len() * COLOURS.len() * TEXTURES.len();

/// Number of classes of the demo: two colours by two textures for each shape.
pub const CLASSES: usize = 4 * SHAPES.len();

/// A texture, a colour and a shape, as one number below [`COMPOSITIONS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Composition(u16);

impl Composition {
    /// The composition with this number, or none if it is not below [`COMPOSITIONS`].
    pub fn from_id(id: usize) -> Option<Self> {
        (id < COMPOSITIONS).then_some(Self(id as u16))
    }

    /// Its number.
    pub fn id(self) -> usize {
        usize::from(self.0)
    }

    /// What it shows in words, e.g. `striped red triangle`.
    pub fn name(self) -> String {
        let [texture, colour, shape] = self.words();
        format!("{texture} {colour} {shape}")
    }

    /// The words for its texture, its colour and its shape.
    pub fn words(self) -> [&'static str; 3] {
        let [shape, colour, texture] = self.parts();
        [TEXTURES[texture].1, COLOURS[colour].1, SHAPES[shape].1]
    }

    pub(super) fn shape(self) -> Outline {
        SHAPES[self.parts()[0]].0
    }

    pub(super) fn colour(self) -> FigureColour {
        COLOURS[self.parts()[1]].0
    }

    pub(super) fn texture(self) -> Texture {
        TEXTURES[self.parts()[2]].0
    }

    fn new(shape: usize, colour: usize, texture: usize) -> Self {
        Self(((shape * COLOURS.len() + colour) * TEXTURES.len() + texture) as u16)
    }

    fn parts(self) -> [usize; 3] {
        let id = self.id();
        [id / TEXTURES.len() / COLOURS.len(), id / TEXTURES.len() % COLOURS.len(), id % TEXTURES.len()]
    }
}

/// The demo's classes, from the most frequent to the rarest, for every seed the same.
///
/// Each shape has four: two colours by two textures. So every class has two neighbours that differ from
/// it in one word only, and since the four stand in different quarters of the list, a rare class is next
/// to frequent ones that a careless training would take it for.
pub fn demo_classes() -> [Composition; CLASSES] {
    std::array::from_fn(|class| {
        let shape = class % SHAPES.len();
        let corner = (class / SHAPES.len() + shape) % 4;
        let colour = (3 * shape + 4 * (corner / 2)) % COLOURS.len();
        let texture = (2 * shape + 3 * (corner % 2)) % TEXTURES.len();
        Composition::new(shape, colour, texture)
    })
}

/// The compositions seen in pretraining: all that are not classes of the demo, in the order of their numbers.
pub fn pretraining_compositions() -> Vec<Composition> {
    let classes = demo_classes();
    (0..COMPOSITIONS).filter_map(Composition::from_id).filter(|one| !classes.contains(one)).collect()
}

/// The words for textures, colours and shapes.
pub(super) fn attribute_words() -> impl Iterator<Item = &'static str> {
    let textures = TEXTURES.iter().map(|entry| entry.1);
    let colours = COLOURS.iter().map(|entry| entry.1);
    textures.chain(colours).chain(SHAPES.iter().map(|entry| entry.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    #[test]
    fn a_number_is_its_three_parts() {
        let mut names = HashSet::new();
        for id in 0..COMPOSITIONS {
            let one = Composition::from_id(id).unwrap();
            let [shape, colour, texture] = one.parts();
            assert_eq!(Composition::new(shape, colour, texture).id(), id);
            assert!(names.insert(one.name()), "{} twice", one.name());
        }
        assert_eq!(Composition::from_id(COMPOSITIONS), None);
    }

    #[test]
    fn pretraining_shows_no_class_of_the_demo() {
        let classes: HashSet<_> = demo_classes().into_iter().collect();
        let others: HashSet<_> = pretraining_compositions().into_iter().collect();
        assert_eq!(classes.len(), CLASSES);
        assert!(classes.is_disjoint(&others));
        assert_eq!(classes.len() + others.len(), COMPOSITIONS);
    }

    #[test]
    fn every_pair_of_a_class_is_seen_in_pretraining() {
        let others = pretraining_compositions();
        for class in demo_classes() {
            let words = class.words();
            for pair in [[0, 1], [0, 2], [1, 2]] {
                let seen =
                    others.iter().filter(|other| pair.iter().all(|&i| other.words()[i] == words[i])).count();
                assert!(seen >= 3, "{:?} of `{}` in {seen} compositions", pair, class.name());
            }
        }
    }

    #[test]
    fn the_classes_use_every_word_about_equally() {
        let mut uses: HashMap<&str, usize> = attribute_words().map(|word| (word, 0)).collect();
        for word in demo_classes().iter().flat_map(|class| class.words()) {
            *uses.get_mut(word).unwrap() += 1;
        }
        assert!(uses.values().all(|count| (4..=8).contains(count)), "{uses:?}");
    }

    #[test]
    fn every_class_has_two_neighbours_one_word_away() {
        let classes = demo_classes();
        for class in classes {
            let words = class.words();
            let near = classes
                .iter()
                .filter(|other| other.words().iter().zip(words).filter(|(a, b)| *a == b).count() == 2)
                .count();
            assert!(near >= 2, "`{}` has {near}", class.name());
        }
    }
}
