//! Tables as Markdown and as LaTeX.

use super::table::Table;
use protocol::terminal::escaped_line;
use std::fmt::Write;

/// A table in the form of GitHub's Markdown.
pub fn markdown(table: &Table) -> String {
    let mut text = format!("**{}**\n\n", markdown_cell(&table.caption));
    let line = |text: &mut String, cells: &[String]| {
        // Writing to a string does not fail, here and below.
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    };
    let heads: Vec<String> = table.columns.iter().map(|column| markdown_cell(&column.head)).collect();
    let rules: Vec<String> =
        table.columns.iter().map(|column| if column.is_number { "---:" } else { "---" }.to_owned()).collect();
    line(&mut text, &heads);
    line(&mut text, &rules);
    for row in &table.rows {
        line(&mut text, &row.iter().map(|cell| markdown_cell(cell)).collect::<Vec<_>>());
    }
    if let Some(note) = &table.note {
        let _ = write!(text, "\n{}\n", markdown_cell(note));
    }
    text
}

/// Text whose characters mean nothing to Markdown or to the HTML inside it.
fn markdown_cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in escaped_line(text).chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '$' | '~' => {
                safe.push('\\');
                safe.push(letter);
            }
            letter => safe.push(letter),
        }
    }
    safe
}

/// A table for the package `booktabs`; one that is longer than a page for `longtable`.
pub fn latex(table: &Table) -> String {
    const LONGEST: usize = 40;
    let columns: String =
        table.columns.iter().map(|column| if column.is_number { 'r' } else { 'l' }).collect();
    let row = |cells: Vec<String>| cells.join(" & ") + " \\\\\n";
    let heads = row(table.columns.iter().map(|column| latex_cell(&column.head)).collect());
    let rows: String =
        table.rows.iter().map(|cells| row(cells.iter().map(|cell| latex_cell(cell)).collect())).collect();
    let caption = latex_cell(&table.caption);
    let note =
        table.note.as_ref().map_or_else(String::new, |note| format!("\n\\par\\small {}\n", latex_cell(note)));
    if table.rows.len() > LONGEST {
        return format!(
            "\\begin{{longtable}}{{{columns}}}\n\\caption{{{caption}}}\\\\\n\\toprule\n{heads}\\midrule\n\\endhead\n\
             {rows}\\bottomrule\n\\end{{longtable}}\n{note}"
        );
    }
    format!(
        "\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n{heads}\
         \\midrule\n{rows}\\bottomrule\n\\end{{tabular}}\n{note}\\end{{table}}\n"
    )
}

/// Text whose characters mean nothing to LaTeX.
fn latex_cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in escaped_line(text).chars() {
        match letter {
            '\\' => safe.push_str("\\textbackslash{}"),
            '{' | '}' | '$' | '&' | '#' | '%' | '_' => {
                safe.push('\\');
                safe.push(letter);
            }
            '~' => safe.push_str("\\textasciitilde{}"),
            '^' => safe.push_str("\\textasciicircum{}"),
            '<' => safe.push_str("\\textless{}"),
            '>' => safe.push_str("\\textgreater{}"),
            '|' => safe.push_str("\\textbar{}"),
            '"' => safe.push_str("\\textquotedbl{}"),
            '±' => safe.push_str("$\\pm$"),
            '–' => safe.push_str("--"),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::HOSTILE;
    use super::*;

    fn table() -> Table {
        let mut table = Table::new("A_b", &["class", "#accuracy"]).with_note("50 %");
        table.row([HOSTILE.to_owned(), "1.0 ± 2.0".to_owned()]);
        table
    }

    #[test]
    fn names_do_not_act_in_markdown() {
        let text = markdown(&table());
        let expected = "**A\\_b**\n\n| class | accuracy |\n| --- | ---: |\n\
            | &lt;img src=x onerror=alert(1)&gt; \"q\" 'a' \\\\u{1b}\\[31m \\\\u{202e}x \\| \\$\\\\input{a}\\$ \\`c\\` &lt;/script&gt; | \
            1.0 ± 2.0 |\n\n50 %\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn names_do_not_act_in_latex() {
        let text = latex(&table());
        assert!(
            text.contains("\\textless{}img src=x onerror=alert(1)\\textgreater{} \\textquotedbl{}q"),
            "{text}"
        );
        assert!(
            text.contains("\\textbackslash{}u\\{202e\\}x \\textbar{} \\$\\textbackslash{}input\\{a\\}\\$"),
            "{text}"
        );
        assert!(text.contains("1.0 $\\pm$ 2.0 \\\\\n") && text.contains("\\small 50 \\%"), "{text}");
        assert!(!text.contains('\u{202e}') && !text.contains('\u{1b}'));
    }

    #[test]
    fn a_long_table_breaks_over_pages() {
        let mut long = Table::new("c", &["a"]);
        (0..41).for_each(|number| long.row([number.to_string()]));
        assert!(latex(&long).starts_with("\\begin{longtable}{l}"));
    }
}
