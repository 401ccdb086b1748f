//! Labels as tables hold them, numbers or names, and the classes that they mean.

use super::finding::{Finding, counted, first_few};
use super::lists::{below_first, numbered};
use std::collections::HashMap;

/// Edits between a label and the class that it may stand for.
const NEAR: usize = 2;

/// A column of labels. Each different text is kept once.
#[derive(Debug, Default)]
pub(super) struct LabelColumn {
    texts: Vec<Box<str>>,
    rows: Vec<u32>,
    known: HashMap<Box<str>, u32>,
}

impl LabelColumn {
    pub(super) fn push(&mut self, text: &str) {
        let text = text.trim();
        let number = self.known.get(text).copied().unwrap_or_else(|| {
            let number = self.texts.len() as u32;
            self.texts.push(text.into());
            self.known.insert(text.into(), number);
            number
        });
        self.rows.push(number);
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The first row with a text.
    fn row_of(&self, text: usize) -> usize {
        self.rows.iter().position(|&row| row as usize == text).unwrap_or(0)
    }

    /// The numbers of all texts, if they are numbers.
    fn numbers(&self) -> Option<Vec<u32>> {
        self.texts.iter().map(|text| number(text)).collect()
    }

    /// The classes of these numbers, where the smallest number is `first`.
    fn counted_from(&self, first: u32, numbers: Vec<u32>, in_test: bool) -> Result<Vec<u32>, LabelFault> {
        match numbers.iter().position(|&number| number < first) {
            None => Ok(numbers.into_iter().map(|number| number - first).collect()),
            Some(text) => {
                let reason = below_first(numbers[text], first);
                Err(LabelFault { in_test, row: self.row_of(text), reason })
            }
        }
    }

    fn classes(&self, of_text: &[u32]) -> Vec<u32> {
        self.rows.iter().map(|&row| of_text[row as usize]).collect()
    }
}

/// `7`, or `7.0`, which programs write for a column with a gap.
fn number(text: &str) -> Option<u32> {
    let whole = text.split_once('.').map_or(text, |(whole, rest)| {
        if !rest.is_empty() && rest.bytes().all(|byte| byte == b'0') { whole } else { text }
    });
    if whole.bytes().all(|byte| byte.is_ascii_digit()) { whole.parse().ok() } else { None }
}

/// Labels as classes.
#[derive(Debug)]
pub(super) struct Classes {
    pub(super) names: Vec<String>,
    pub(super) train: Vec<u32>,
    pub(super) test: Vec<u32>,
    pub(super) findings: Vec<Finding>,
}

/// A label that is no class.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LabelFault {
    pub(super) in_test: bool,
    pub(super) row: usize,
    pub(super) reason: String,
}

/// Finds the classes: the given ones, else the numbers from `first` to the largest label, else all names of the training
/// labels in byte order.
pub(super) fn classes(
    train: &LabelColumn,
    test: &LabelColumn,
    given: Option<Vec<String>>,
    first: u32,
) -> Result<Classes, LabelFault> {
    if let (Some(train_numbers), Some(test_numbers)) = (train.numbers(), test.numbers()) {
        let numbers = [(train, train_numbers, false), (test, test_numbers, true)];
        let [of_train, of_test] =
            numbers.map(|(column, numbers, in_test)| column.counted_from(first, numbers, in_test));
        return by_number((train, &of_train?), (test, &of_test?), given, first);
    }
    if first > 0 {
        let reason = "`data.first_label` has no effect with labels that are names".to_owned();
        return Err(LabelFault { in_test: false, row: 0, reason });
    }
    let is_given = given.is_some();
    let names = given.unwrap_or_else(|| {
        let mut names: Vec<String> = train.texts.iter().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    });
    // In reverse, so that the first of equal names counts.
    let index: HashMap<&str, u32> =
        names.iter().enumerate().rev().map(|(class, name)| (name.as_str(), class as u32)).collect();
    let find = |column: &LabelColumn, in_test| {
        let texts = column.texts.iter().enumerate();
        let found: Result<Vec<u32>, LabelFault> = texts
            .map(|(text, name)| {
                index.get(&**name).copied().ok_or_else(|| LabelFault {
                    in_test,
                    row: column.row_of(text),
                    reason: unknown(name, &names, is_given),
                })
            })
            .collect();
        found.map(|of_text| column.classes(&of_text))
    };
    let (train, test) = (find(train, false)?, find(test, true)?);
    let mut findings = Vec::new();
    if !is_given {
        let shown = first_few(names.iter().map(|name| format!("`{name}`")));
        let count = counted(names.len(), "class").replace("classs", "classes");
        findings.push(Finding::note(format!("the labels are names; {count} in byte order: {shown}")));
    }
    Ok(Classes { names, train, test, findings })
}

fn unknown(name: &str, names: &[String], is_given: bool) -> String {
    let home = if is_given { "`data.class_names`" } else { "the training labels" };
    let nearest = names.iter().find(|known| strsim::damerau_levenshtein(name, known) <= NEAR);
    let hint = nearest.map(|near| format!("; the nearest is `{near}`")).unwrap_or_default();
    format!("label `{}` is not among the {} classes of {home}{hint}", short(name), names.len())
}

fn by_number(
    (train, train_numbers): (&LabelColumn, &[u32]),
    (test, test_numbers): (&LabelColumn, &[u32]),
    given: Option<Vec<String>>,
    first: u32,
) -> Result<Classes, LabelFault> {
    let largest = train_numbers.iter().max().copied().unwrap_or(0);
    let fault = |column: &LabelColumn, text, in_test, reason| LabelFault {
        in_test,
        row: column.row_of(text),
        reason,
    };
    let names = match given {
        Some(names) => names,
        None => numbered(largest, first, train.len()).map_err(|reason| {
            let text = train_numbers.iter().position(|&number| number == largest).unwrap_or(0);
            fault(train, text, false, reason)
        })?,
    };
    for (column, numbers, in_test) in [(train, train_numbers, false), (test, test_numbers, true)] {
        if let Some(text) = numbers.iter().position(|&number| number as usize >= names.len()) {
            let from_one = numbers[text] as usize == names.len() && !numbers.contains(&0);
            let hint = if from_one {
                "; labels are counted from 0, and none is 0 here\nhint: set `data.first_label=1`"
            } else {
                ""
            };
            let reason = format!(
                "label {} is outside the {} classes (0 to {}){hint}",
                numbers[text],
                names.len(),
                names.len().saturating_sub(1)
            );
            return Err(fault(column, text, in_test, reason));
        }
    }
    let (train, test) = (train.classes(train_numbers), test.classes(test_numbers));
    Ok(Classes { names, train, test, findings: Vec::new() })
}

/// A text as it is shown in a message.
pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(texts: &[&str]) -> LabelColumn {
        let mut column = LabelColumn::default();
        for text in texts {
            column.push(text);
        }
        column
    }

    #[test]
    fn numbers_are_classes_and_names_are_sorted() {
        let found = classes(&column(&["2", "0", "2.0"]), &column(&["1"]), None, 0).unwrap();
        assert_eq!((found.names.len(), found.train, found.test), (3, vec![2, 0, 2], vec![1]));
        let found = classes(&column(&["dog", "7", " cat "]), &column(&["cat"]), None, 0).unwrap();
        assert_eq!(found.names, ["7", "cat", "dog"]);
        assert_eq!((found.train, found.test), (vec![2, 0, 1], vec![1]));
        assert!(
            found.findings[0].text.starts_with("the labels are names; 3 classes in byte order: `7`, `cat`")
        );
        let given = vec!["dog".to_owned(), "cat".to_owned()];
        let found = classes(&column(&["cat"]), &column(&["dog"]), Some(given), 0).unwrap();
        assert_eq!((found.train, found.test), (vec![1], vec![0]));
    }

    #[test]
    fn a_label_without_a_class_is_named_with_its_row() {
        let fault = classes(&column(&["cat", "dog"]), &column(&["cat", "dgo"]), None, 0).unwrap_err();
        let reason =
            "label `dgo` is not among the 2 classes of the training labels; the nearest is `dog`".to_owned();
        assert_eq!(fault, LabelFault { in_test: true, row: 1, reason });
        let fault = classes(&column(&["0", "1"]), &column(&["0", "5"]), None, 0).unwrap_err();
        assert_eq!(fault.reason, "label 5 is outside the 2 classes (0 to 1)");
        let two = Some(vec!["a".to_owned(), "b".to_owned()]);
        let fault = classes(&column(&["1", "2"]), &column(&["1"]), two, 0).unwrap_err();
        assert!(fault.reason.ends_with("none is 0 here\nhint: set `data.first_label=1`"), "{}", fault.reason);
        let fault = classes(&column(&["0", "4000000000"]), &column(&["0"]), None, 0).unwrap_err();
        assert_eq!((fault.row, fault.in_test), (1, false));
    }

    #[test]
    fn labels_may_count_from_another_number() {
        let found = classes(&column(&["3", "1"]), &column(&["2"]), None, 1).unwrap();
        assert_eq!(
            (found.names, found.train, found.test),
            (["1", "2", "3"].map(String::from).to_vec(), vec![2, 0], vec![1])
        );
        let fault = classes(&column(&["1"]), &column(&["1", "0"]), None, 1).unwrap_err();
        let reason = "label 0 is below `data.first_label` = 1, the smallest one".to_owned();
        assert_eq!(fault, LabelFault { in_test: true, row: 1, reason });
        let fault = classes(&column(&["cat"]), &column(&[]), None, 1).unwrap_err();
        assert_eq!(fault.reason, "`data.first_label` has no effect with labels that are names");
    }
}
