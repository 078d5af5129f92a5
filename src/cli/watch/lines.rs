//! Lines of the day as characters: a column for each span of time, eight heights a row.
//!
//! What is not known stays blank and is never drawn as nothing; nothing is drawn as a line at the bottom.

/// Heights of one row, from nothing to all of it.
const HEIGHTS: [char; 9] = ['▁', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Values gathered into so many columns. A column of several values is their mean, so that heights stay comparable;
/// without any known value it is not known.
pub(super) fn columns(values: &[Option<f64>], width: usize) -> Vec<Option<f64>> {
    let (len, width) = (values.len(), width.max(1));
    let column = |at: usize| {
        let from = at * len / width;
        let to = ((at + 1) * len / width).max(from + 1).min(len);
        let known: Vec<f64> = values.get(from..to).unwrap_or_default().iter().copied().flatten().collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    };
    (0..width).map(column).collect()
}

/// Rows of characters, the highest first, of columns that may be as high as `most`.
pub(super) fn rows(columns: &[Option<f64>], most: f64, height: usize) -> Vec<String> {
    let most = if most > 0.0 { most } else { 1.0 };
    let row = |row: usize| {
        let below = (height - 1 - row) as f64;
        let cell = |value: &Option<f64>| {
            let Some(value) = value else { return ' ' };
            let eighths = (value.max(0.0) / most * height as f64 - below) * 8.0;
            match eighths.ceil().clamp(0.0, 8.0) as usize {
                0 if row + 1 == height => '▁',
                0 => ' ',
                eighths => HEIGHTS.get(eighths).copied().unwrap_or('█'),
            }
        };
        columns.iter().map(cell).collect()
    };
    (0..height).map(row).collect()
}

/// The largest known value.
pub(super) fn most(values: &[Option<f64>]) -> f64 {
    values.iter().flatten().copied().fold(0.0, f64::max)
}

/// How much of a goal, and where it usually is by now: `████──┃───`.
pub(super) fn bar(done: f64, pace: Option<f64>, width: usize) -> String {
    let column = |part: f64| (part.clamp(0.0, 1.0) * width as f64).round() as usize;
    let (done, pace) = (column(done), pace.map(|pace| column(pace).min(width.saturating_sub(1))));
    let cell = |at: usize| match at {
        at if Some(at) == pace => '┃',
        at if at < done => '█',
        _ => '─',
    };
    (0..width).map(cell).collect()
}

/// A number in digits three rows high; `None` where it has signs that there is no such digit for.
pub(super) fn large(number: &str) -> Option<[String; 3]> {
    const GLYPHS: [(char, [&str; 3]); 17] = [
        ('0', ["█▀█", "█ █", "▀▀▀"]),
        ('1', ["▀█ ", " █ ", "▀▀▀"]),
        ('2', ["▀▀█", "█▀▀", "▀▀▀"]),
        ('3', ["▀▀█", " ▀█", "▀▀▀"]),
        ('4', ["█ █", "▀▀█", "  ▀"]),
        ('5', ["█▀▀", "▀▀█", "▀▀▀"]),
        ('6', ["█▀▀", "█▀█", "▀▀▀"]),
        ('7', ["▀▀█", "  █", "  ▀"]),
        ('8', ["█▀█", "█▀█", "▀▀▀"]),
        ('9', ["█▀█", "▀▀█", "▀▀▀"]),
        (',', [" ", " ", ","]),
        ('.', [" ", " ", "."]),
        ('–', ["   ", "▀▀▀", "   "]),
        ('-', ["   ", "▀▀▀", "   "]),
        ('≈', [" ", "≈", " "]),
        (' ', ["", "", ""]),
        ('%', [" ", "%", " "]),
    ];
    let mut rows = [String::new(), String::new(), String::new()];
    for digit in number.chars() {
        let glyph = match GLYPHS.iter().find(|(known, _)| *known == digit) {
            Some((_, glyph)) => glyph.map(str::to_owned),
            // A unit stands beside the digits as it is.
            None if !digit.is_alphanumeric() => [" ".to_owned(), digit.to_string(), " ".to_owned()],
            None => return None,
        };
        for (row, part) in rows.iter_mut().zip(glyph) {
            row.push_str(&part);
            row.push(' ');
        }
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_blank_and_nothing_is_a_line() {
        let values = [Some(0.0), None, Some(4.0), Some(8.0)];
        assert_eq!(rows(&values, most(&values), 1), ["▁ ▄█"]);
        assert_eq!(rows(&values, most(&values), 2), ["   █", "▁ ██"]);
        assert_eq!(rows(&[Some(0.0)], 0.0, 1), ["▁"]);
    }

    #[test]
    fn columns_are_means_of_what_is_known() {
        let values = [Some(1.0), Some(3.0), None, None, None, Some(5.0)];
        assert_eq!(columns(&values, 3), [Some(2.0), None, Some(5.0)]);
        assert_eq!(columns(&values[..2], 4), [Some(1.0), Some(1.0), Some(3.0), Some(3.0)]);
        assert_eq!(columns(&[], 2), [None, None]);
    }

    #[test]
    fn bars_show_the_pace() {
        assert_eq!(bar(0.6, Some(0.8), 10), "██████──┃─");
        assert_eq!(bar(7.0, Some(1.0), 4), "███┃");
    }
}
