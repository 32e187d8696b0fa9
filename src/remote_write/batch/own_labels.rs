//! A series' own labels in the order of a request, without copying them.

use crate::catalogue::SeriesText;
use crate::labels::{BodyLabels, METRIC_NAME, body_labels};

/// The labels of a series, metric name included, one after the other in the order of their names.
///
/// Gives up on what cannot be taken as it stands: escapes, empty values, names out of order, damage.
pub struct OwnLabels<'a> {
    /// The label that is next.
    pub next: Option<(&'a str, &'a str)>,
    /// It gave up; `next` is `None` from then on.
    pub is_unusual: bool,
    /// The metric name while it is to come.
    metric: Option<&'a str>,
    /// The label behind `next`, when the metric name has its turn before it.
    behind: Option<(&'a str, &'a str)>,
    labels: BodyLabels<'a>,
}

impl<'a> OwnLabels<'a> {
    /// Stands at the first label of `series`.
    pub fn new(series: SeriesText<'a>) -> Self {
        let mut own = Self {
            next: None,
            is_unusual: false,
            metric: Some(series.name).filter(|name| !name.is_empty()),
            behind: None,
            labels: body_labels(series.body),
        };
        own.behind = own.read("");
        own.take_turn();
        own
    }

    /// Goes on to the next label.
    pub fn advance(&mut self) {
        if let (Some((last, _)), None) = (self.next, self.behind) {
            // The metric name says nothing about where the body stands, and only it leaves a label behind.
            if last != METRIC_NAME {
                self.behind = self.read(last);
            }
        }
        self.take_turn();
    }

    /// The next label of the body, whose name must come after `last`.
    fn read(&mut self, last: &str) -> Option<(&'a str, &'a str)> {
        let Some(label) = self.labels.next() else {
            self.is_unusual |= !self.labels.rest().is_empty();
            return None;
        };
        let plain = label.name.plain().zip(label.value.plain());
        let usual = plain.filter(|&(name, value)| name > last && name != METRIC_NAME && !value.is_empty());
        self.is_unusual |= usual.is_none();
        usual
    }

    /// Moves the metric name or the label behind to `next`.
    fn take_turn(&mut self) {
        let metric_first = self.behind.is_none_or(|(name, _)| METRIC_NAME < name);
        self.next = match self.metric {
            Some(metric) if metric_first => {
                self.metric = None;
                Some((METRIC_NAME, metric))
            }
            _ => self.behind.take(),
        };
        if self.is_unusual {
            self.next = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn read<'a>(name: &'a str, body: &'a str) -> (Vec<(&'a str, &'a str)>, bool) {
        let mut own = OwnLabels::new(SeriesText { name, body });
        let mut all = Vec::new();
        while let Some(label) = own.next {
            all.push(label);
            own.advance();
        }
        (all, own.is_unusual)
    }

    #[test]
    fn the_metric_name_takes_its_place_by_bytes() {
        let own = read("up", r#"A="1",a="2",b="3""#);
        assert_eq!(
            own,
            (
                alloc::vec![("A", "1"), ("__name__", "up"), ("a", "2"), ("b", "3")],
                false
            )
        );
        assert_eq!(read("up", ""), (alloc::vec![("__name__", "up")], false));
        assert_eq!(
            read("up", r#"A="1""#),
            (alloc::vec![("A", "1"), ("__name__", "up")], false)
        );
        assert_eq!(read("", r#"a="1""#), (alloc::vec![("a", "1")], false));
        assert_eq!(read("", ""), (alloc::vec![], false));
    }

    #[test]
    fn what_is_unusual_is_given_up() {
        for body in [
            r#"a="quo\"ted""#,
            r#"a="""#,
            r#"a="1",a="2""#,
            r#"b="1",a="2""#,
            r#"a="1",b"#,
            r#"a="1",__name__="x""#,
            "damage",
        ] {
            assert!(read("up", body).1, "{body}");
        }
    }
}
