//! Table of rows, for people.

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use crate::suite::Row;

/// Columns of figures, by their place.
const FIGURES: [usize; 5] = [2, 3, 4, 5, 6];

/// Prints rows in Markdown.
pub fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header([
        "attack",
        "finding",
        "MiB before",
        "at most",
        "after",
        "CPU s",
        "good",
        "p99 ms alone, attacked",
        "refused by",
        "answer",
    ]);
    for row in rows {
        table.add_row(cells(row));
    }
    for column in FIGURES {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn cells(row: &Row) -> Vec<String> {
    let mib =
        |bytes: Option<u64>| bytes.map_or("ended".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1_048_576.0));
    let cpu = row
        .during
        .map(|during| during.cpu.saturating_sub(row.before.cpu).as_secs_f64());
    let (asked, failed) = row.seen.iter().fold((0, 0), |(asked, failed), (_, _, during)| {
        (asked + during.asked, failed + during.failed)
    });
    let share = 100.0 * (asked - failed) as f64 / asked.max(1) as f64;
    let latencies = row.seen.iter().map(|(name, alone, during)| {
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        format!("{name} {:.1}, {:.1}", ms(alone.p99), ms(during.p99))
    });
    vec![
        format!("{}, {:?}", row.name, row.listener),
        row.finding.to_owned(),
        mib(Some(row.before.rss)),
        mib(row.peak()),
        mib(row.after.map(|usage| usage.rss)),
        cpu.map_or_else(|| "ended".to_owned(), |cpu| format!("{cpu:.1}")),
        format!("{share:.1} %"),
        latencies.collect::<Vec<_>>().join("; "),
        row.refused.join(", "),
        row.answer
            .as_ref()
            .map_or_else(|broken| format!("NOT KEPT: {broken}"), Clone::clone),
    ]
}
