//! Which figures of a timer are wanted: percentiles and the bins of histograms.
//!
//! In comes one element of `timers.percentiles` or `timers.histogram`; out comes what is computed, with the
//! text that becomes part of a Graphite name. That text is what JavaScript makes of the number, since
//! dashboards were built on statsd's names.

use super::problem::Reason;
use super::raw::Raw;
use crate::forward::expand::Histogram;
use crate::limits;
use toml::Value;

/// A percentile and its text: `99.9` is also "99.9", `90.0` is "90".
pub(super) fn percentile(raw: Raw<'_>) -> Result<(f64, String), Reason> {
    let percentile = raw.number()?;
    if !(-100.0..=100.0).contains(&percentile) {
        return Err(Reason::new(
            "a percentile lies between -100 and 100",
            "write a number such as 90, or -90 for the upper end",
        ));
    }
    Ok((percentile, number_text(percentile)))
}

/// `{ metric = "substring of the name", bins = [10, 100, "inf"] }`
pub(super) fn histogram(raw: Raw<'_>) -> Result<Histogram, Reason> {
    let cure = "write { metric = \"part of the name\", bins = [10, 100, \"inf\"] } in the file";
    let Raw::File(Value::Table(table)) = raw else {
        return Err(Reason::new("this is no table, and only the file can hold tables", cure));
    };
    if let Some(key) = table.keys().find(|key| !["metric", "bins"].contains(&key.as_str())) {
        return Err(Reason::new(format!("\"{key}\" is no key of a histogram"), cure));
    }
    let (Some(Value::String(metric)), Some(Value::Array(bins))) = (table.get("metric"), table.get("bins"))
    else {
        return Err(Reason::new("a histogram has a text \"metric\" and a list \"bins\"", cure));
    };
    let bins = bins.iter().map(bin).collect::<Result<Vec<_>, _>>()?;
    if bins.len() > limits::TIMER_OUTPUTS_MAX {
        let cure = format!("write at most {}", limits::TIMER_OUTPUTS_MAX);
        return Err(Reason::new(format!("there are {} bins", bins.len()), cure));
    }
    if !bins.is_sorted_by(|(bound, _), (next, _)| bound < next) {
        return Err(Reason::new("bins must ascend", "sort them; \"inf\" comes last"));
    }
    Ok(Histogram { metric: metric.clone(), bins })
}

/// The upper bound of a bin and its text.
fn bin(value: &Value) -> Result<(f64, String), Reason> {
    let infinite = (f64::INFINITY, "inf".to_owned());
    match value {
        Value::String(text) if text == "inf" => Ok(infinite),
        Value::Float(bound) if *bound == f64::INFINITY => Ok(infinite),
        Value::Float(bound) if bound.is_finite() => Ok((*bound, number_text(*bound))),
        Value::Integer(bound) => Ok((*bound as f64, number_text(*bound as f64))),
        other => Err(Reason::new(
            format!("{other} is no bound of a bin"),
            "write numbers, and \"inf\" for the rest",
        )),
    }
}

/// A number as JavaScript writes it.
pub(super) fn number_text(number: f64) -> String {
    ryu_js::Buffer::new().format(number).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Histogram, Reason> {
        let table: toml::Table = toml::from_str(&format!("it = {text}")).unwrap();
        histogram(Raw::File(&table["it"]))
    }

    #[test]
    fn percentiles_keep_the_text_of_javascript() {
        let texts =
            ["99.9", "90", "90.0", "-90", "0", "1e-7"].map(|text| percentile(Raw::Env(text)).unwrap().1);
        assert_eq!(texts, ["99.9", "90", "90", "-90", "0", "1e-7"]);
        for text in ["100.1", "-101", "NaN", "inf", ""] {
            assert!(percentile(Raw::Env(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn bins_ascend_and_end_in_infinity() {
        let histogram = read("{ metric = 'a', bins = [1, 2.5, 'inf'] }").unwrap();
        let texts: Vec<&str> = histogram.bins.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["1", "2.5", "inf"]);
        assert!(read("{ metric = '', bins = [] }").is_ok());
        for text in [
            "{ metric = 'a', bins = [2, 1] }",
            "{ metric = 'a', bins = [1, 1] }",
            "{ metric = 'a', bins = ['inf', 1] }",
            "{ metric = 'a', bins = ['1'] }",
            "{ metric = 'a', bins = [nan] }",
            "{ metric = 1, bins = [] }",
            "{ bins = [] }",
            "{ metric = 'a' }",
            "{ metric = 'a', bins = [], bin = 1 }",
            "'a'",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
