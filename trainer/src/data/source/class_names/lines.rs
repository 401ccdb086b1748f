//! One class per line: plain names, and lines that contain more than a name.

use super::folders::{Folders, Match};
use super::{NameTable, RowOrder, TableForm};
use crate::data::error::DataError;
use crate::data::source::finding::Finding;
use std::collections::HashSet;
use std::path::Path;

/// Reads a file of lines.
pub(super) fn read(path: &Path, text: &str, folders: &Folders) -> Result<TableForm, DataError> {
    let mut lines: Vec<&str> = text.lines().map(str::trim).collect();
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    if let Some(line) = lines.iter().position(|line| line.is_empty()) {
        return Err(DataError::line(path, line + 1, "the class name is empty"));
    }
    if let Some((table, words)) = numbered(&lines).or_else(|| with_ids(&lines, folders)) {
        return Ok(TableForm::of(table, words));
    }
    let doubt = doubt(&lines).map(|doubt| {
        let path = path.display();
        Finding::warning(format!(
            "class names `{path}`: {doubt}; each line is taken as a name as it stands, and goes into the prompt"
        ))
    });
    Ok(TableForm {
        findings: doubt.into_iter().collect(),
        ..TableForm::plain(lines.into_iter().map(str::to_owned).collect())
    })
}

/// Lines with the number of their class before the name (`0 tench`, `1: tench`, `001.tench`) or behind it
/// (`/a/airfield 0`). Names that differ in nothing but the number (`class 0`, `class 1`) are whole.
fn numbered(lines: &[&str]) -> Option<(NameTable, String)> {
    let before = rows(lines, |line| {
        let end = line.find(|c: char| !c.is_ascii_digit())?;
        let rest = line[end..].strip_prefix([' ', '\t', ':', '.', ')', ';', ','])?;
        Some((line[..end].parse().ok()?, rest.trim_start()))
    });
    if let Some(rows) = before.filter(|rows| counts_from(rows, &[0, 1])) {
        let names: Vec<&str> = rows.iter().map(|&(_, name)| name).collect();
        // `1 001.Black_footed_Albatross`
        let again = numbered(&names).is_some();
        let name = |name: &str| match name.split_once('.') {
            Some((_, name)) if again => name.trim().to_owned(),
            _ => name.to_owned(),
        };
        let rows = rows.into_iter().map(|(number, text)| (number, name(text))).collect();
        return Some((NameTable::Numbered(rows), "the numbers before the names are left out".to_owned()));
    }
    let behind = rows(lines, |line| {
        let (name, number) = line.rsplit_once([' ', '\t'])?;
        Some((number.parse().ok()?, name.trim_end()))
    });
    let rows = behind.filter(|rows| counts_from(rows, &[0]))?;
    let rows = rows.into_iter().map(|(number, name)| (number, last_part(name).to_owned())).collect();
    Some((NameTable::Numbered(rows), "the numbers behind the names are left out".to_owned()))
}

/// Every line as a number and a name, if all of them are and no two names are the same.
fn rows<'a>(
    lines: &[&'a str],
    split: impl Fn(&'a str) -> Option<(u64, &'a str)>,
) -> Option<Vec<(u64, &'a str)>> {
    let rows: Vec<(u64, &str)> = lines.iter().map(|&line| split(line)).collect::<Option<_>>()?;
    let names: HashSet<&str> = rows.iter().map(|&(_, name)| name).collect();
    (rows.len() > 1 && names.len() == rows.len() && !names.contains("")).then_some(rows)
}

fn counts_from(rows: &[(u64, &str)], firsts: &[u64]) -> bool {
    let numbers: HashSet<u64> = rows.iter().map(|&(number, _)| number).collect();
    firsts.iter().any(|&first| (0..rows.len() as u64).all(|index| numbers.contains(&(first + index))))
}

/// `/a/airfield` is a place in a tree of classes; its name is the last part.
fn last_part(name: &str) -> &str {
    if name.starts_with('/') { name.rsplit_once('/').map_or(name, |(_, last)| last) } else { name }
}

/// Lines whose first word is certainly an id or a folder: all of them are `WordNet` ids, all are paths from `/`, all
/// are folders of the training images, or all are repeated by the name after them.
fn with_ids(lines: &[&str], folders: &Folders) -> Option<(NameTable, String)> {
    let split = |line: &&str| {
        line.split_once([' ', '\t']).map(|(key, name)| (key.to_owned(), name.trim().to_owned()))
    };
    let rows: Vec<(String, String)> = lines.iter().map(split).collect::<Option<_>>()?;
    let keys: Vec<&str> = rows.iter().map(|(key, _)| key.as_str()).collect();
    if keys.iter().collect::<HashSet<_>>().len() < keys.len() || keys.len() < 2 {
        return None;
    }
    let what = if keys.iter().all(|key| is_wordnet_id(key)) {
        "WordNet ids"
    } else if keys.iter().all(|key| key.starts_with('/')) || rows.iter().all(|(key, name)| repeats(key, name))
    {
        "folders"
    } else if is_one_each(&rows)
        && matches!(folders.find(&keys), Match::InOrder { whole: true } | Match::Rows(_))
    {
        "folders of the training pictures"
    } else {
        return None;
    };
    let words = format!("the first words are {what}, and are left out");
    Some((NameTable::Keyed(rows, RowOrder::OfLabels), words))
}

/// Without their first words, names that were parts of one (`African elephant`, `Indian elephant`) are the same.
fn is_one_each(rows: &[(String, String)]) -> bool {
    rows.iter().map(|(_, name)| name).collect::<HashSet<_>>().len() == rows.len()
}

/// `n01440764`
pub(in crate::data::source) fn is_wordnet_id(word: &str) -> bool {
    word.len() == 9 && word.starts_with('n') && word[1..].bytes().all(|byte| byte.is_ascii_digit())
}

/// `aquarium_fish aquarium fish`, `a/apartment_building/outdoor apartment building outdoor`
fn repeats(key: &str, name: &str) -> bool {
    let plain = |text: &str| text.replace(['_', '/', '-'], " ").trim().to_lowercase();
    let (key, name) = (plain(key), plain(name));
    key == name || key.strip_suffix(&name).is_some_and(|rest| rest.ends_with(' '))
}

/// Describes why lines do not look like one name each.
fn doubt(lines: &[&str]) -> Option<String> {
    let all = |test: &dyn Fn(&str) -> bool| lines.len() > 1 && lines.iter().all(|line| test(line));
    if all(&is_wordnet_id) {
        return Some("its lines are WordNet ids and not names".to_owned());
    }
    if all(&|line| line.bytes().all(|byte| byte.is_ascii_digit())) {
        return Some("its lines are numbers and not names".to_owned());
    }
    if all(&|line| line.starts_with("- ")) {
        return Some("its lines begin with `- `, as a YAML list does".to_owned());
    }
    if all(&|line| line.starts_with(['"', '\'']) || line.ends_with(',')) {
        return Some("its lines are quoted or end with a comma, as in program code".to_owned());
    }
    for (mark, what) in
        [('\t', "a tab"), (';', "a semicolon"), ('=', "`=`"), (':', "a colon"), (',', "a comma")]
    {
        if all(&|line| line.matches(mark).count() == 1) {
            return Some(format!("each line has {what} in it, as if it had two fields"));
        }
    }
    let header =
        ["name", "names", "class", "classes", "class_name", "classname", "class_names", "label", "labels"];
    if lines.len() > 1 && header.contains(&lines[0].to_lowercase().as_str()) {
        return Some(format!("its first line `{}` looks like a header", lines[0]));
    }
    let first_words: HashSet<&str> = lines.iter().filter_map(|line| Some(line.split_once(' ')?.0)).collect();
    let id_like = |line: &str| {
        line.split_once(' ')
            .is_some_and(|(word, _)| word.contains(|c: char| c.is_ascii_digit() || "_/".contains(c)))
    };
    if first_words.len() == lines.len() && all(&id_like) {
        let first = lines[0].split(' ').next().unwrap_or_default();
        return Some(format!("its first words look like ids (`{first}`), but the lists do not confirm it"));
    }
    None
}
