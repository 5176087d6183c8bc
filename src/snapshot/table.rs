//! A snapshot as a table for people.

use std::fmt::{self, Write};

use super::{Field, Group, Holder, Row, Snapshot};

/// A longer cell stands out of its column, so that one long name does not widen every line.
const WIDTH_MAX: usize = 48;
/// What is shown where there is nothing.
const NOTHING: &str = "-";

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header: Vec<_> = self.fields.iter().map(|field| title(field).to_owned()).collect();
        let body =
            self.rows.iter().map(|row| self.fields.iter().map(|field| cell(row, field)).collect());
        let lines: Vec<Vec<String>> = std::iter::once(header).chain(body).collect();
        let widths = widths(&lines);
        for line in &lines {
            write_line(f, line, &widths)?;
        }
        Ok(())
    }
}

fn title(field: Field) -> &'static str {
    match field {
        Field::Name => "Name",
        Field::Mode => "Mode",
        Field::Owner => "Owner",
        Field::Pending => "Pending",
    }
}

fn cell(row: &Row, field: Field) -> String {
    let text = match field {
        Field::Name => quoted(&row.name),
        Field::Mode => mode(row),
        Field::Owner => owners(row),
        Field::Pending => joined(row.pending.iter().map(group), "; "),
    };
    if text.is_empty() { NOTHING.to_owned() } else { text }
}

fn mode(row: &Row) -> String {
    if row.deleted {
        return "deleted".to_owned();
    }
    let mut text = row.mode.map_or_else(|| NOTHING.to_owned(), |mode| mode.to_string());
    if let Some(by) = &row.abandoned {
        let by = super::Who::from(by.as_ref());
        let _ = write!(text, " (abandoned by {})", quoted(&by));
    }
    text
}

fn owners(row: &Row) -> String {
    let mut text = joined(row.owners.iter().map(|holder| owner(holder, row)), ", ");
    if row.unsettled {
        text.push_str(if text.is_empty() { "(changing)" } else { " (changing)" });
    }
    text
}

/// The mode is said where it is not that of the row.
fn owner(holder: &Holder, row: &Row) -> String {
    let name = quoted(&holder.owner);
    if row.mode == Some(holder.mode) { name } else { format!("{name} ({})", holder.mode) }
}

fn group(group: &Group) -> String {
    let mut text = group.mode.to_string();
    if let Some(from) = group.from {
        let _ = write!(text, " from {from}");
    }
    if group.priority != 0 {
        let _ = write!(text, " at {}", group.priority);
    }
    let member = |w: &super::Waiting| format!("{} {:.1?}", quoted(&w.owner), w.waited);
    text + ": " + &joined(group.members.iter().map(member), ", ")
}

fn joined(parts: impl Iterator<Item = String>, between: &str) -> String {
    parts.collect::<Vec<_>>().join(between)
}

/// A name as it is, or in quotation marks if it might be taken for more than a name.
fn quoted(name: &impl fmt::Display) -> String {
    let name = name.to_string();
    let suspect = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '(' | ')' | '"');
    if name.is_empty() || name == NOTHING || name.contains(suspect) {
        format!("\"{}\"", name.replace('"', "\\\""))
    } else {
        name
    }
}

fn widths(lines: &[Vec<String>]) -> Vec<usize> {
    let mut widths = vec![0; lines[0].len()];
    for (width, cell) in lines.iter().flat_map(|line| widths_of(line)) {
        widths[width] = cell.max(widths[width]);
    }
    widths
}

fn widths_of(line: &[String]) -> impl Iterator<Item = (usize, usize)> {
    let width = |cell: &String| Some(cell.chars().count()).filter(|width| *width <= WIDTH_MAX);
    line.iter().enumerate().filter_map(move |(column, cell)| Some((column, width(cell)?)))
}

fn write_line(f: &mut fmt::Formatter<'_>, line: &[String], widths: &[usize]) -> fmt::Result {
    for (column, cell) in line.iter().enumerate() {
        if column + 1 == line.len() {
            f.write_str(cell)?;
        } else {
            write!(f, "{cell:width$}  ", width = widths[column])?;
        }
    }
    f.write_char('\n')
}
