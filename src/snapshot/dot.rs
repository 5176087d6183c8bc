//! A snapshot as a graph for Graphviz.

use std::collections::HashMap;
use std::fmt::{self, Write};

use super::{Group, Row, Snapshot, Who};

impl Snapshot {
    /// Draws what is held or waited for as a graph in the DOT language: `owner -> lock` waits, `lock -> owner` is held by.
    /// Following the arrows from an owner leads to whoever it waits for; a circle is a deadlock.
    ///
    /// Names are labels and never syntax, whatever is in them.
    ///
    /// # Examples
    /// ```
    /// use tierlock::{LockMonitor, Owner, SharedLock};
    ///
    /// let (lock, owner) = (SharedLock::new("config"), Owner::new("job-19"));
    /// let monitor = LockMonitor::new();
    /// monitor.register(&lock);
    /// let _guard = lock.shared(&owner).now()?;
    /// assert!(monitor.snapshot().to_dot().contains(r#"lock0 -> owner0 [label="shared"];"#));
    /// # Ok::<(), tierlock::AcquireError>(())
    /// ```
    #[must_use]
    pub fn to_dot(&self) -> String {
        let mut graph = Graph { text: String::new(), owners: HashMap::new(), drawn: 0 };
        // A string can always be written to.
        let _ = graph.draw(self.rows.iter().filter(|row| !row.is_free()));
        graph.text
    }
}

struct Graph<'s> {
    text: String,
    /// By name, each with the number of its node.
    owners: HashMap<&'s str, Vec<(&'s Who, usize)>>,
    drawn: usize,
}

impl<'s> Graph<'s> {
    fn draw(&mut self, rows: impl Iterator<Item = &'s Row>) -> fmt::Result {
        self.text.push_str("digraph locks {\n    rankdir=LR;\n");
        for (at, row) in rows.enumerate() {
            writeln!(self.text, "    lock{at} [shape=box, label={}];", Label(&row.name))?;
            for holder in &row.owners {
                let owner = self.owner(&holder.owner)?;
                writeln!(self.text, "    lock{at} -> owner{owner} [label=\"{}\"];", holder.mode)?;
            }
            for group in &row.pending {
                self.draw_waiting(at, group)?;
            }
        }
        self.text.push_str("}\n");
        Ok(())
    }

    fn draw_waiting(&mut self, lock: usize, group: &'s Group) -> fmt::Result {
        for waiting in &group.members {
            let owner = self.owner(&waiting.owner)?;
            let (mode, waited) = (group.mode, waiting.waited);
            writeln!(
                self.text,
                "    owner{owner} -> lock{lock} [style=dashed, label=\"{mode} {waited:.1?}\"];"
            )?;
        }
        Ok(())
    }

    /// The number of the owner's node, which is drawn when it is first met.
    fn owner(&mut self, who: &'s Who) -> Result<usize, fmt::Error> {
        let namesakes = self.owners.entry(who.name()).or_default();
        if let Some((_, number)) = namesakes.iter().find(|(other, _)| other.is(who)) {
            return Ok(*number);
        }
        let number = self.drawn;
        namesakes.push((who, number));
        self.drawn += 1;
        writeln!(self.text, "    owner{number} [label={}];", Label(who))?;
        Ok(number)
    }
}

/// A name as a quoted string, in which Graphviz sees neither an escape, nor an entity, nor an end.
struct Label<T>(T);

impl<T: fmt::Display> fmt::Display for Label<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.to_string().chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '&' => f.write_str("&amp;")?,
                _ => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}
