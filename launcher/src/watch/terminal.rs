//! A watched run on the whole terminal.

use super::WatchError;
use super::follow::Watched;
use super::lines::{of_evaluation, of_step};
use super::screen;
use crate::run::signals;
use protocol::terminal::print;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use std::time::{Duration, Instant};

/// Longest wait for a key, so that a signal is noticed soon.
const PATIENCE: Duration = Duration::from_millis(100);

/// Shows the run until it ends, the user leaves, or a signal arrives. The terminal is as before afterwards, with the last
/// figures on it.
pub fn show(watched: &mut Watched, interval: Duration) -> Result<(), WatchError> {
    signals::record().map_err(|error| WatchError::Terminal(error.into()))?;
    let mut terminal = ratatui::try_init().map_err(WatchError::Terminal)?;
    let shown = until_end(&mut terminal, watched, interval);
    let restored = ratatui::try_restore().map_err(WatchError::Terminal);
    shown.and(restored)?;
    let step = watched.metrics.steps.last().map(of_step);
    let evaluation = watched.metrics.evaluations.last().map(of_evaluation);
    let lines: Vec<String> = step.into_iter().chain(evaluation).chain([watched.state()]).collect();
    print(&(lines.join("\n") + "\n"))?;
    Ok(())
}

fn until_end(
    terminal: &mut ratatui::DefaultTerminal,
    watched: &mut Watched,
    interval: Duration,
) -> Result<(), WatchError> {
    loop {
        terminal.draw(|frame| screen::draw(frame, watched)).map_err(WatchError::Terminal)?;
        if watched.has_ended() || is_left(terminal, watched, interval)? {
            return Ok(());
        }
        watched.look()?;
    }
}

/// Waits for the interval; whether the user leaves meanwhile. A new size of the terminal is drawn at once.
fn is_left(
    terminal: &mut ratatui::DefaultTerminal,
    watched: &Watched,
    interval: Duration,
) -> Result<bool, WatchError> {
    let start = Instant::now();
    while start.elapsed() < interval {
        let seen = signals::requests();
        if seen.interrupts + seen.preemptions > 0 {
            return Ok(true);
        }
        if !event::poll(PATIENCE.min(interval)).map_err(WatchError::Terminal)? {
            continue;
        }
        match event::read().map_err(WatchError::Terminal)? {
            Event::Key(key) if key.kind == KeyEventKind::Press => {
                let is_control_c =
                    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if is_control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    return Ok(true);
                }
            }
            Event::Resize(..) => {
                terminal.draw(|frame| screen::draw(frame, watched)).map_err(WatchError::Terminal)?;
            }
            _ => {}
        }
    }
    Ok(false)
}
