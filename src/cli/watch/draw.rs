//! The page as a terminal shows it: the hero and what stands beside it, thirds below, ticker and footer.
//!
//! In come a page and how live it is; out go cells. Meaning is never in a colour alone. What does not fit is left
//! out from the end; a terminal too small for tiles gets a list.

use super::lines::{bar, columns, large, most, rows};
use super::page::{Figure, Page};
use super::standing::Standing;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Paragraph};

/// Smaller than this, there are no tiles.
const TILES_WIDTH_MIN: u16 = 60;
const TILES_HEIGHT_MIN: u16 = 18;
/// Narrower than this, a third is not worth a tile.
const THIRD_WIDTH_MIN: u16 = 24;

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, page: Option<&Page>, standing: &Standing, place: &str) {
    let area = frame.area();
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)]).areas(area);
    draw_head(frame, head, page, standing);
    let Some(page) = page else {
        let words = [standing.words(None), format!("asking {place}")];
        frame.render_widget(Paragraph::new(words.map(Line::from).to_vec()), body);
        return;
    };
    let scene = Scene { page, stale: standing.is_stale() };
    scene.draw_body(frame, body);
    draw_foot(frame, foot, page);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, page: Option<&Page>, standing: &Standing) {
    let words = standing.words(page.map(|page| &*page.zone));
    let style = match standing {
        Standing::Live => Style::new().fg(Color::Green),
        Standing::Late { .. } => Style::new().fg(Color::Yellow),
        Standing::Stale { .. } | Standing::Connecting { .. } => Style::new().add_modifier(Modifier::REVERSED),
    };
    let left = page.map_or_else(String::new, |page| {
        format!(" {}  {} {} {}", page.name.title, page.day, page.clock, page.zone)
    });
    // What is said of the connection is worth more than the date.
    let right = Span::styled(format!(" {words} "), style);
    let width = (right.width() as u16).min(area.width);
    let [left_area, right_area] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(width)]).areas(area);
    frame.render_widget(Line::styled(left, Modifier::BOLD), left_area);
    frame.render_widget(Line::from(right), right_area);
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, page: &Page) {
    let more = if page.pages.len() > 1 { "tab: next page  " } else { "" };
    let keys = format!("{more}q: quit ");
    let mut words = format!(" {}", page.guarantee);
    if let Some(note) = &page.note {
        words = format!(" {note} ·{words}");
    }
    let width = (keys.len() as u16).min(area.width);
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(width)]).areas(area);
    frame.render_widget(Line::styled(words, Modifier::DIM), left);
    frame.render_widget(Line::styled(keys, Modifier::DIM), right);
}

/// A page that is drawn.
struct Scene<'a> {
    page: &'a Page,
    stale: bool,
}

impl Scene<'_> {
    fn draw_body(&self, frame: &mut Frame<'_>, area: Rect) {
        let area = match &self.page.partial {
            Some(why) => {
                let [line, rest] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
                let words = format!(" ≈ numbers may be too low: {why}");
                frame.render_widget(Line::styled(words, Style::new().fg(Color::Yellow)), line);
                rest
            }
            None => area,
        };
        if self.page.figures.is_empty() {
            frame.render_widget(Paragraph::new(" nothing has come in yet"), area);
        } else if area.width < TILES_WIDTH_MIN || area.height < TILES_HEIGHT_MIN {
            self.draw_list(frame, area);
        } else {
            let ticker = if area.height >= 36 { 6 } else { 2 };
            let ticker = ticker.min(self.page.ticker.len() as u16);
            let [tiles, below] =
                Layout::vertical([Constraint::Fill(1), Constraint::Length(ticker)]).areas(area);
            self.draw_tiles(frame, tiles);
            self.draw_ticker(frame, below);
        }
    }

    fn draw_list(&self, frame: &mut Frame<'_>, area: Rect) {
        let stale = if self.stale { " (stale)" } else { "" };
        let line = |figure: &Figure| {
            let compared = figure.comparisons().into_iter().next().unwrap_or_default();
            Line::from(vec![
                Span::from(format!(" {}{stale}  ", figure.title())),
                Span::styled(figure.number(), self.number_style()),
                Span::styled(format!("  {compared}"), Modifier::DIM),
            ])
        };
        frame.render_widget(Paragraph::new(self.page.figures.iter().map(line).collect::<Vec<_>>()), area);
    }

    fn draw_ticker(&self, frame: &mut Frame<'_>, area: Rect) {
        let event = |event: &super::page::Event| Line::from(format!(" {}  {}", event.clock, event.text));
        let shown = self.page.ticker.iter().take(area.height.into()).map(event);
        frame.render_widget(Paragraph::new(shown.collect::<Vec<_>>()), area);
    }

    fn draw_tiles(&self, frame: &mut Frame<'_>, area: Rect) {
        let (thirds, lead): (Vec<_>, Vec<_>) =
            self.page.figures.iter().partition(|figure| &*figure.slot == "third");
        let grid = (thirds.len() as u16).min(area.width / THIRD_WIDTH_MIN).clamp(1, 3);
        let lines = (thirds.len() as u16).div_ceil(grid);
        let below = match (lead.is_empty(), lines) {
            (_, 0) => 0,
            (true, _) => area.height,
            // Tiles of five lines where there is room, and never more than the hero has.
            (false, lines) => {
                (lines * 5).min(area.height * 11 / 20).max(lines * (area.height / (lines + 2) / 2))
            }
        };
        let [top, bottom] = Layout::vertical([Constraint::Fill(1), Constraint::Length(below)]).areas(area);
        self.draw_lead(frame, top, &lead);
        let heights = vec![Constraint::Fill(1); lines.into()];
        for (row, figures) in Layout::vertical(heights).split(bottom).iter().zip(thirds.chunks(grid.into())) {
            let widths = vec![Constraint::Fill(1); grid.into()];
            for (cell, figure) in Layout::horizontal(widths).split(*row).iter().zip(figures) {
                self.draw_tile(frame, *cell, figure, false);
            }
        }
    }

    fn draw_lead(&self, frame: &mut Frame<'_>, area: Rect, lead: &[&Figure]) {
        let Some((hero, seconds)) = lead.split_first() else { return };
        if seconds.is_empty() {
            self.draw_tile(frame, area, hero, true);
            return;
        }
        let [left, right] =
            Layout::horizontal([Constraint::Percentage(55), Constraint::Percentage(45)]).areas(area);
        self.draw_tile(frame, left, hero, true);
        let heights = vec![Constraint::Fill(1); seconds.len()];
        for (cell, figure) in Layout::vertical(heights).split(right).iter().zip(seconds) {
            self.draw_tile(frame, *cell, figure, false);
        }
    }

    fn draw_tile(&self, frame: &mut Frame<'_>, area: Rect, figure: &Figure, hero: bool) {
        let alarm = figure.quiet.as_ref().is_some_and(|quiet| quiet.alarm);
        let stale = if self.stale { " (stale)" } else { "" };
        let block = Block::bordered()
            .border_type(if hero { BorderType::Thick } else { BorderType::Plain })
            .border_style(if alarm {
                Style::new().fg(Color::Red)
            } else {
                Style::new().add_modifier(Modifier::DIM)
            })
            .title(Span::styled(format!(" {}{stale} ", figure.title()), Modifier::BOLD));
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let lines = self.tile_lines(figure, inner.width.into(), inner.height.into(), hero);
        frame.render_widget(Paragraph::new(lines), inner);
    }

    /// As much of a figure as fits, in the order of what it is worth; the line of the day stands at the bottom.
    fn tile_lines(&self, figure: &Figure, width: usize, height: usize, hero: bool) -> Vec<Line<'static>> {
        let mut lines: Vec<Line<'static>> = self.number_lines(figure, width, height, hero);
        let mut words: Vec<Line<'static>> = Vec::new();
        let urgent = figure.quiet.is_some() || &*figure.state == "never";
        let yellow = Style::new().fg(Color::Yellow);
        words.extend(
            figure.remarks().into_iter().next().filter(|_| urgent).map(|words| Line::styled(words, yellow)),
        );
        let comparisons: Vec<String> = figure.comparisons();
        let tones = figure.compare.iter().map(|compare| tone(&compare.tone, figure.lower_is_better));
        let tones = tones.chain(std::iter::repeat(Style::new()));
        words.extend(comparisons.into_iter().zip(tones).map(|(words, style)| Line::styled(words, style)));
        for goal in &figure.goals {
            words.push(Line::from(goal.words()));
            if hero {
                words.push(Line::from(bar(goal.done, goal.pace, width.min(40))));
            }
        }
        let dim = |words: String| Line::styled(words, Modifier::DIM);
        words.extend(figure.remarks().into_iter().skip(usize::from(urgent)).map(dim));
        words.extend(figure.last_words.iter().map(|words| dim(words.to_string())));
        let free = height.saturating_sub(lines.len());
        let drawn = if figure.spark.is_some() && free >= 2 { (free / 3).clamp(1, 8) } else { 0 };
        let room = free - drawn;
        words.truncate(room);
        let air = room - words.len();
        lines.extend(words);
        lines.extend(spark(figure, width, if drawn > 0 { drawn + air } else { 0 }));
        lines
    }

    fn number_lines(&self, figure: &Figure, width: usize, height: usize, hero: bool) -> Vec<Line<'static>> {
        let style = self.number_style();
        let number = figure.number();
        if hero
            && height >= 7
            && let Some(rows) = large(&number)
            && rows.iter().all(|row| row.chars().count() <= width)
        {
            return rows.map(|row| Line::styled(row, style)).to_vec();
        }
        vec![Line::styled(number, style)]
    }

    /// What is stale is grey and struck out.
    fn number_style(&self) -> Style {
        if self.stale {
            Style::new().fg(Color::DarkGray).add_modifier(Modifier::CROSSED_OUT)
        } else {
            Style::new().add_modifier(Modifier::BOLD)
        }
    }
}

fn tone(tone: &str, lower_is_better: bool) -> Style {
    match (tone, lower_is_better) {
        ("up", false) | ("down", true) => Style::new().fg(Color::Green),
        ("up", true) | ("down", false) => Style::new().fg(Color::Red),
        _ => Style::new(),
    }
}

/// Today's line, and in the lower half last week's where there is room for both.
fn spark(figure: &Figure, width: usize, height: usize) -> Vec<Line<'static>> {
    let Some(spark) = figure.spark.as_ref().filter(|_| height > 0) else { return Vec::new() };
    let upto = (spark.now_index + 1).min(spark.today.len());
    let mut today = spark.today.clone();
    today.iter_mut().skip(upto).for_each(|value| *value = None);
    let (today, before) = (columns(&today, width), columns(&spark.last_week, width));
    let top = most(&today).max(most(&before));
    let mut lines = Vec::new();
    if height >= 3 {
        let below = height / 2;
        lines.extend(rows(&today, top, height - below).into_iter().map(Line::from));
        lines.extend(rows(&before, top, below).into_iter().map(|row| Line::styled(row, Modifier::DIM)));
        if let Some(last) = lines.last_mut() {
            // The two lines need their names once.
            let named: String = last.to_string().chars().take(width.saturating_sub(9)).collect();
            *last = Line::styled(named + "last week", Modifier::DIM);
        }
    } else {
        lines.extend(rows(&today, top, height).into_iter().map(Line::from));
    }
    lines
}
