//! A reading of `/metrics`.

use std::collections::BTreeMap;

/// One line of the exposition.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// All lines of one scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub text: String,
    pub samples: Vec<Sample>,
}

impl Metrics {
    /// # Panics
    /// When a line is not OpenMetrics.
    pub fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(sample)
            .collect();
        Metrics {
            text: text.to_owned(),
            samples,
        }
    }

    /// The sum over all samples of this name that carry these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    pub fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> + 'a {
        self.samples.iter().filter(move |sample| {
            let carries = |(key, value): &(&str, &str)| {
                sample.labels.get(*key).is_some_and(|has| has == value)
            };
            sample.name == name && labels.iter().all(carries)
        })
    }

    /// The families that the exposition declares.
    pub fn families(&self) -> Vec<&str> {
        self.text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect()
    }
}

fn sample(line: &str) -> Sample {
    // An exemplar stands behind ` # `; only the sample itself matters here.
    let line = line.split(" # ").next().unwrap_or(line);
    let (key, rest) = match line.find('{') {
        Some(_) => {
            let end = line
                .rfind('}')
                .unwrap_or_else(|| panic!("no end of labels: {line}"));
            line.split_at(end + 1)
        }
        None => line
            .split_once(' ')
            .unwrap_or_else(|| panic!("no value: {line}")),
    };
    let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
    let value = rest.split_whitespace().next().unwrap_or_default();
    let value = value
        .parse()
        .unwrap_or_else(|_| panic!("{value:?} is not a number: {line}"));
    Sample {
        name: name.to_owned(),
        labels: pairs(labels.trim_end_matches('}'), line),
        value,
    }
}

fn pairs(mut text: &str, line: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (key, rest) = text
            .split_once("=\"")
            .unwrap_or_else(|| panic!("no value of a label: {line}"));
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next() {
                Some((at, '"')) => break at + 1,
                Some((_, '\\')) => value.push(
                    chars
                        .next()
                        .map_or('\\', |(_, c)| if c == 'n' { '\n' } else { c }),
                ),
                Some((_, c)) => value.push(c),
                None => panic!("no end of a label: {line}"),
            }
        };
        labels.insert(key.trim_start_matches(',').to_owned(), value);
        text = &rest[end..];
    }
    labels
}
