//! Text for people: columns, shortened names, decimals.

use std::ops::Range;

use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

/// Fits a terminal that is not small, and a mail.
const WIDTH: usize = 120;

/// Between two columns: the padding of the left one and where a vertical line would be.
const GAP: usize = 2;

/// Nothing but a line below the header.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table no wider than a page. The columns in `numbers` stand on the right and are never
/// shortened; names share what those leave.
pub(in crate::cli) fn table(
    header: &[String],
    rows: &[Vec<String>],
    numbers: Range<usize>,
) -> String {
    let longest = longest_name(header, rows, &numbers);
    let mut table = Table::new();
    table
        .load_style(STYLE)
        // Wraps the numbers of a table that has too many columns for any page.
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH as u16);
    let cells = |row: &[String]| -> Vec<Cell> {
        let cell = |(at, text): (usize, &String)| match numbers.contains(&at) {
            true => Cell::new(text).set_alignment(CellAlignment::Right),
            false => Cell::new(cell(text, longest)),
        };
        row.iter().enumerate().map(cell).collect()
    };
    table.set_header(cells(header));
    for row in rows {
        table.add_row(cells(row));
    }
    let last = header.len().saturating_sub(1);
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, u16::from(at != last)));
    }
    format!("{}\n", table.trim_fmt())
}

/// The longest a name may be so that all columns fit; short columns leave room to the others.
fn longest_name(header: &[String], rows: &[Vec<String>], numbers: &Range<usize>) -> usize {
    let width = |at: usize| {
        let texts = rows.iter().filter_map(|row| row.get(at));
        texts
            .chain([&header[at]])
            .map(|text| text.chars().count())
            .max()
            .unwrap_or(0)
    };
    let (taken, names): (Vec<usize>, Vec<usize>) =
        (0..header.len()).partition(|at| numbers.contains(at));
    let gaps = header.len().saturating_sub(1) * GAP;
    let room = WIDTH.saturating_sub(taken.into_iter().map(width).sum::<usize>() + gaps);
    let names: Vec<usize> = names.into_iter().map(width).collect();
    let fits = |longest: &usize| names.iter().map(|name| name.min(longest)).sum::<usize>() <= room;
    (SHORTEST..=WIDTH).rev().find(fits).unwrap_or(SHORTEST)
}

/// Of shorter names nothing could be recognised.
const SHORTEST: usize = 6;

/// One line of columns with these widths, with spaces between; `true` puts the text on the right. A
/// text that is too long takes its room from nobody and pushes the others on.
pub(super) fn fixed<const N: usize>(columns: &[(usize, bool); N], texts: &[String; N]) -> String {
    let mut line = String::new();
    for (&(width, right), text) in columns.iter().zip(texts) {
        match right {
            true => line.push_str(&format!("{text:>width$} ")),
            false => line.push_str(&format!("{text:<width$} ")),
        }
    }
    let length = line.trim_end().len();
    line.truncate(length);
    line.push('\n');
    line
}

/// `text` in at most `width` characters, without any that could drive the terminal: clients choose
/// model names and ids.
pub(super) fn cell(text: &str, width: usize) -> String {
    let mut shown: String = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(width + 1)
        .collect();
    if shown.chars().count() > width {
        shown = shown.chars().take(width.saturating_sub(1)).collect();
        shown.push('…');
    }
    shown
}

/// A count with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Billionths as an exact decimal with at least `decimals` (up to nine) behind the point.
pub(super) fn nanos(amount: u128, decimals: usize) -> String {
    let text = format!("{}.{:09}", amount / NANOS, amount % NANOS);
    let spare = text.len() - text.trim_end_matches('0').len();
    let drop = spare.min(9 - decimals.min(9));
    text[..text.len() - drop].to_owned()
}

/// How many decimals `amount` needs, and never fewer than two.
pub(super) fn decimals(amount: u128) -> usize {
    let text = nanos(amount, 2);
    text.len() - text.find('.').map_or(text.len(), |at| at + 1)
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanos_are_written_exactly() {
        for (amount, decimals, text) in [
            (0, 2, "0.00"),
            (1, 2, "0.000000001"),
            (1_500_000_000, 2, "1.50"),
            (1_500_000_000, 0, "1.5"),
            (2_000_000_000, 0, "2."),
            (12_500, 9, "0.000012500"),
            (12_500, 2, "0.0000125"),
            (u128::from(u64::MAX), 2, "18446744073.709551615"),
            (10_000_000_000, 2, "10.00"),
        ] {
            assert_eq!(nanos(amount, decimals), text, "{amount}");
        }
        assert_eq!([0, 12_500, 1_250_000_000].map(decimals), [2, 7, 2]);
    }

    #[test]
    fn counts_are_read_in_thousands() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (123_456, "123,456"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn names_are_shortened_and_harmless() {
        assert_eq!(cell("model", 5), "model");
        assert_eq!(cell("models", 5), "mode…");
        assert_eq!(cell("ключик", 5), "ключ…");
        assert_eq!(cell("\u{1b}[31mx\n", 10), "\u{fffd}[31mx\u{fffd}");
    }

    #[test]
    fn a_table_is_no_wider_than_a_page() {
        let long = |at: usize| "word ".repeat(at + 4);
        let header: Vec<String> = (0..8).map(long).collect();
        let text = table(&header, std::slice::from_ref(&header), 4..8);
        assert!(
            text.lines().all(|line| line.chars().count() <= 120),
            "{text}"
        );
    }
}
