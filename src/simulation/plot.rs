//! A plot of counts over the days, in bars of eighths of a character, and how counts are written.

/// The counts of the days, the highest of those that share a column, with an axis; 80 columns wide.
pub(super) fn render_bars(by_day: &[u64]) -> String {
    let per_column = by_day.len().div_ceil(COLUMNS).max(1);
    let columns: Vec<u64> = by_day.chunks(per_column).map(|days| days.iter().copied().max().unwrap_or(0)).collect();
    let top = columns.iter().copied().max().unwrap_or(0).max(1);
    let title = format!("Orders a day, the most of {per_column} in each column");
    let rows = (0..ROWS).rev().map(|row| {
        let label = if row == ROWS - 1 { group_thousands(top) } else { String::new() };
        let bar: String = columns.iter().map(|count| block(*count, top, row)).collect();
        format!("{label:>LABEL$} │{}", bar.trim_end())
    });
    let axis = format!("{:>LABEL$} └{}", 0, "─".repeat(columns.len()));
    let (last, rest) = (format!("day {}", by_day.len().saturating_sub(1)), columns.len().saturating_sub(1));
    let days = format!("{:LABEL$}  0{last:>rest$}", "");
    let lines: Vec<String> = std::iter::once(title).chain(rows).chain([axis, days]).collect();
    lines.join("\n")
}

/// What of a bar lies in a row, counted from the bottom.
fn block(count: u64, top: u64, row: u64) -> char {
    let eighths = (count * ROWS * 8).div_ceil(top);
    let here = eighths.saturating_sub(row * 8).min(8);
    BLOCKS[usize::try_from(here).unwrap_or_default()]
}

/// `1,000,000`.
pub(super) fn group_thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

const COLUMNS: usize = 68;
const LABEL: usize = 10;
const ROWS: u64 = 8;
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_fits_80_columns_and_a_bar_is_as_high_as_its_share() {
        let days: Vec<u64> = (0..365).map(|day| if day == 200 { 8_000 } else { 1_000 }).collect();
        let plot = render_bars(&days);
        assert!(plot.lines().all(|line| line.chars().count() <= 80), "{plot}");
        let rows: Vec<&str> = plot.lines().skip(1).take(8).collect();
        assert!(rows[..7].iter().all(|row| row.matches('█').count() == 1), "{plot}");
        assert_eq!(rows[7].matches('█').count(), 61, "{plot}");
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(group_thousands), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn nothing_gives_empty_axes() {
        assert!(render_bars(&[0; 3]).contains("day 2"));
    }
}
