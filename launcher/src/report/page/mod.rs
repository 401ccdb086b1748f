//! The report as one HTML page, which loads nothing.
//!
//! Every name passes through [`visible`], which shows control characters and marks of direction instead of sending them to
//! the browser, and through the escaping of the template. A policy in the page forbids every request.

mod classes;
mod curves;
mod run;

use super::charts::{Bar, BarGroup, Curve, CurveLook, bars, curve};
use super::compare::{FIGURES, Setting, settings, spread};
use super::pictures::Picture;
use super::table::{Table, percent};
use super::{ChartError, of_all_runs};
use crate::records::RunRecords;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use protocol::terminal::escaped_line;
use std::borrow::Cow;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
/// Nothing but what the page itself holds.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";
/// Most settings whose bars fit side by side.
const MOST_BARS: usize = 6;
/// Points of a curve among those of other settings, which would hide each other.
const FEW_POINTS: usize = 40;

/// The page of these runs, with the pictures of each.
pub fn html(runs: &[RunRecords], pictures: &[Vec<Picture>]) -> Result<String, ChartError> {
    let title = title(runs);
    let body = if let [run] = runs {
        run::section(run, pictures.first())?
    } else {
        html! {
            (comparison(runs)?)
            h2 { "Each run" }
            @for (number, run) in runs.iter().enumerate() {
                details {
                    summary { (visible(&run.folder.display().to_string())) " – " (headline(run)) }
                    (run::section(run, pictures.get(number))?)
                }
            }
        }
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="referrer" content="no-referrer";
                // Without an icon, browsers ask the server for one.
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { (title) }
                    p.lead { (lead(runs)) }
                    (body)
                }
                footer { "Written by lift " (env!("CARGO_PKG_VERSION")) " from the run folders alone. Figures are in percent unless they say otherwise." }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    Ok(page.into_string())
}

/// Text with its control characters and marks of direction shown.
fn visible(text: &str) -> Cow<'_, str> {
    escaped_line(text)
}

fn title(runs: &[RunRecords]) -> String {
    let names = runs.iter().find_map(|run| {
        let of_result = run.result.as_ref().map(|result| (&result.data, &result.model, &result.method));
        of_result.or_else(|| {
            run.settings.as_ref().map(|settings| (&settings.names[0], &settings.names[1], &settings.names[2]))
        })
    });
    let Some((data, model, method)) = names else { return "Report".to_owned() };
    if runs.len() > 1 {
        return visible(&format!("{} runs on {data}", runs.len())).into_owned();
    }
    visible(&format!("{method} on {data} with {model}")).into_owned()
}

fn lead(runs: &[RunRecords]) -> Markup {
    let folders: Vec<String> = runs.iter().map(|run| run.folder.display().to_string()).collect();
    html! { @if let [run] = runs { (headline(run)) " – " (visible(&folders[0])) } @else { (visible(&folders.join(", "))) } }
}

/// One line about a run.
fn headline(run: &RunRecords) -> String {
    let Some(result) = &run.result else { return super::tables::state(run) };
    let correct = protocol::numbers::grouped(result.correct);
    format!(
        "{} % of {} images ({correct} correct)",
        percent(result.accuracy),
        protocol::numbers::grouped(result.total)
    )
}

/// The part over several runs.
fn comparison(runs: &[RunRecords]) -> Result<Markup, ChartError> {
    let settings = settings(runs);
    let names: Vec<String> = settings.iter().map(|setting| visible(&setting.name).into_owned()).collect();
    let shown = settings.len().min(MOST_BARS);
    let bars =
        if settings.is_empty() { None } else { Some(bars(&groups(&settings[..shown]), &names[..shown])?) };
    let losses: Vec<Curve> = settings[..shown].iter().map(losses).collect();
    let look = CurveLook {
        title: "Mean loss of each setting over the steps",
        quantity: "loss",
        from_zero: false,
        most: FEW_POINTS,
    };
    let losses = curve(&losses, look)?;
    Ok(html! {
        h2 { "Side by side" }
        @for table in of_all_runs(runs) { (html_table(&table)) }
        div.charts {
            @if let Some(bars) = bars {
                figure {
                    (legend(&names[..shown]))
                    (PreEscaped(bars))
                    figcaption { "Accuracy by group of classes. Whiskers show one standard deviation over seeds." }
                }
            }
            @if let Some(losses) = losses {
                figure {
                    (legend(&names[..shown]))
                    (PreEscaped(losses))
                    figcaption { "Loss over the steps, mean of the seeds and of neighbouring steps." }
                }
            }
        }
        @if settings.len() > shown { p.note { "The chart has the first " (shown) " of " (settings.len()) " settings." } }
    })
}

/// The losses of all seeds of a setting by step, which the chart averages.
fn losses(setting: &Setting<'_>) -> Curve {
    let mut losses: Curve = setting.runs.iter().flat_map(|run| curves::loss(run)).collect();
    losses.sort_by(|one, other| one.0.total_cmp(&other.0));
    losses
}

fn groups(settings: &[Setting<'_>]) -> Vec<BarGroup> {
    let group = |(name, figure): (&str, super::compare::Figure)| BarGroup {
        name: name.to_owned(),
        bars: settings
            .iter()
            .map(|setting| spread(&setting.runs, figure))
            .map(|spread| spread.map(|spread| Bar { value: spread.mean, deviation: spread.deviation }))
            .collect(),
    };
    FIGURES.into_iter().take(4).map(group).collect()
}

fn legend(names: &[impl AsRef<str>]) -> Markup {
    html! {
        ul.legend {
            @for (number, name) in names.iter().enumerate() {
                li style=(format!("--colour: var(--series-{number})")) { (visible(name.as_ref())) }
            }
        }
    }
}

/// A table with its caption and note.
fn html_table(table: &Table) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(visible(&table.caption)) {
            table {
                caption { span { (visible(&table.caption)) } }
                thead {
                    tr { @for column in &table.columns { th scope="col" class=[column.is_number.then_some("number")] { (column.head) } } }
                }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (at, (column, cell)) in table.columns.iter().zip(row).enumerate() {
                                @if at == 0 {
                                    th scope="row" { bdi { (visible(cell)) } }
                                } @else {
                                    td class=[column.is_number.then_some("number")] { bdi { (visible(cell)) } }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if let Some(note) = &table.note { p.note { (visible(note)) } }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn names_are_harmless_and_visible() {
        let page = html(&[fixtures::run("runs/<i>\u{202e}a")], &[]).unwrap();
        for forbidden in ["<img src=x", "\u{1b}", "\u{202e}", "<i>"] {
            assert!(!page.contains(forbidden), "{forbidden:?}");
        }
        assert_eq!(page.matches("</script>").count(), 2, "a name ends a script");
        assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;") && page.contains("\\u{202e}"));
        assert!(page.contains("\\u003cimg src=x"), "the rows of the script");
    }

    #[test]
    fn a_page_has_every_part() {
        let page = html(&[fixtures::run("runs/a")], &[]).unwrap();
        for part in [
            "Accuracy of 3 classes against",
            "Accuracy by group",
            "Loss",
            "Learning rate",
            "Images a second",
            "Waiting for images",
            "Reliability diagram of",
            "From head to tail",
            "Classes of the lowest accuracy",
            "Settings that differ",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(
            !page.contains("http://www.w3.org")
                || page.matches("http").count() == page.matches("http://www.w3.org/2000/svg").count() + 1
        );
    }

    #[test]
    fn unfinished_runs_have_a_page_too() {
        let mut run = fixtures::run("runs/a");
        (run.result, run.evaluation) = (None, None);
        let page = html(&[run], &[]).unwrap();
        assert!(page.contains("not finished (no status, step 20)") && page.contains("Loss"));
    }

    #[test]
    fn several_runs_are_compared() {
        let mut other = fixtures::run("runs/b");
        other.result.as_mut().unwrap().method = "full".into();
        let page = html(&[fixtures::run("runs/a"), other], &[]).unwrap();
        assert!(page.contains("2 runs on birds") && page.contains("Paired differences to lift"));
        assert_eq!(page.matches("<details>").count(), 2);
    }

    #[test]
    fn eight_thousand_classes_take_less_than_five_megabytes() {
        let mut run = fixtures::run("runs/a");
        let (result, evaluation) = (run.result.as_mut().unwrap(), run.evaluation.as_mut().unwrap());
        let class = result.per_class[2].clone();
        result.per_class = (0..8142)
            .map(|label| {
                let mut class = class.clone();
                (class.name, class.train_count) = (format!("Genus species number {label}"), 1 + label % 1000);
                class
            })
            .collect();
        evaluation.classes = 8142;
        evaluation.confusion = (0..8142).map(|label| (label, (label * 7 + 1) % 8142, 3)).collect();
        let page = html(&[run], &[]).unwrap();
        assert!(page.len() < 2_000_000, "{}", page.len());
    }
}
