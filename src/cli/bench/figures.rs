//! The figures of runs: named, in order, with their medians.

use serde_json::{Map, Value, json};

/// One figure of one run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    /// Stable, for programs.
    pub(super) key: String,
    /// For people.
    pub(super) label: String,
    pub(super) value: f64,
    /// Digits behind the point.
    pub(super) digits: usize,
}

/// The figures of one run.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures(pub(super) Vec<Figure>);

impl Figures {
    pub(super) fn put(&mut self, key: &str, label: &str, value: f64, digits: usize) {
        self.0.push(Figure { key: key.to_owned(), label: label.to_owned(), value, digits });
    }

    pub(super) fn count(&mut self, key: &str, label: &str, value: u64) {
        self.put(key, label, value as f64, 0);
    }

    pub(super) fn get(&self, key: &str) -> Option<f64> {
        self.0.iter().find(|figure| figure.key == key).map(|figure| figure.value)
    }

    fn to_json(&self) -> Value {
        let number = |figure: &Figure| match figure.digits {
            0 => json!(figure.value.round() as i64),
            _ => json!((figure.value * 1e6).round() / 1e6),
        };
        Value::Object(self.0.iter().map(|figure| (figure.key.clone(), number(figure))).collect::<Map<_, _>>())
    }
}

/// Of each figure the one in the middle, or the mean of the two there.
pub(super) fn median(runs: &[Figures]) -> Figures {
    let Some(first) = runs.first() else { return Figures::default() };
    let of = |figure: &Figure| {
        let mut values: Vec<f64> = runs.iter().filter_map(|run| run.get(&figure.key)).collect();
        values.sort_by(f64::total_cmp);
        let middle = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
        Figure { value: middle, ..figure.clone() }
    };
    Figures(first.0.iter().map(of).collect())
}

/// A line for each figure, a column for each run and for the median.
pub(super) fn table(runs: &[Figures], median: &Figures) -> Vec<String> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    if runs.len() > 1 {
        let heads = (1..=runs.len()).map(|number| format!("run {number}"));
        rows.push([String::new()].into_iter().chain(heads).chain(["median".to_owned()]).collect());
    }
    for figure in &median.0 {
        let text = |value: Option<f64>| value.map_or("-".to_owned(), |value| grouped(value, figure.digits));
        let mut row = vec![figure.label.clone()];
        row.extend(runs.iter().map(|run| text(run.get(&figure.key))));
        if runs.len() > 1 {
            row.push(text(Some(figure.value)));
        }
        rows.push(row);
    }
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let numbers = row[1..].iter().zip(&widths[1..]).map(|(cell, width)| format!("  {cell:>width$}"));
        format!("{:<width$}{}", row[0], numbers.collect::<String>(), width = widths[0])
    };
    rows.iter().map(line).collect()
}

/// Everything, for programs.
pub(super) fn json(workload: &str, conditions: &Value, runs: &[Figures], median: &Figures) -> String {
    let runs: Vec<Value> = runs.iter().map(Figures::to_json).collect();
    json!({"workload": workload, "conditions": conditions, "runs": runs, "median": median.to_json()})
        .to_string()
}

/// A number with its thousands apart.
pub(super) fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), ""), |(whole, rest)| (whole, rest));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let mut out = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if rest.is_empty() { out } else { format!("{out}.{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(value: f64) -> Figures {
        let mut figures = Figures::default();
        figures.put("a", "some figure", value, 1);
        figures.count("b", "b", 7);
        figures
    }

    #[test]
    fn one_bad_run_does_not_move_the_median() {
        let runs = [run(3.0), run(1_000.0), run(2.0)];
        let median = median(&runs);
        assert_eq!(median.get("a"), Some(3.0));
        assert_eq!(
            table(&runs, &median),
            [
                "             run 1    run 2  run 3  median",
                "some figure    3.0  1,000.0    2.0     3.0",
                "b                7        7      7       7",
            ]
        );
        let text = json("unicast", &json!({}), &runs[..1], &median);
        assert_eq!(
            text,
            r#"{"conditions":{},"median":{"a":3.0,"b":7},"runs":[{"a":3.0,"b":7}],"workload":"unicast"}"#
        );
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(grouped(1_234_567.0, 0), "1,234,567");
        assert_eq!(grouped(-123.25, 2), "-123.25");
        assert_eq!(grouped(1_000.0, 1), "1,000.0");
    }
}
