//! The grammar of lines, written to be read: the oracle for `wire::statsd`.
//!
//! It copies, allocates and splits as the documents describe it, and knows none of the fast parser's ways.
//! Shared by the tests and the fuzz targets.

use tallyd::health::Refusal;
use tallyd::wire::Dialect;
use tallyd::wire::statsd::{self, Grammar, Sample, UnknownType, Value, Visitor};

/// What one line holds, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    Sample { name: Vec<u8>, tags: Vec<u8>, value: FoundValue, weight: f64, timestamp: Option<i64> },
    Refused(Refusal),
    FieldIgnored,
    Event,
    ServiceCheck,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FoundValue {
    Count(f64),
    Time(f64),
    Set(f64),
    Add(f64),
    Member(Vec<u8>),
}

/// What the fast parser finds.
pub(crate) fn fast(grammar: Grammar, line: &[u8]) -> Vec<Found> {
    struct Collect(Vec<Found>);
    impl Visitor for Collect {
        fn sample(&mut self, sample: &Sample<'_>) {
            let value = match sample.value {
                Value::Count(number) => FoundValue::Count(number.to_f64()),
                Value::Time(value) => FoundValue::Time(value),
                Value::Set(value) => FoundValue::Set(value),
                Value::Add(value) => FoundValue::Add(value),
                Value::Member(member) => FoundValue::Member(member.to_vec()),
            };
            let (name, tags) = (sample.name.to_vec(), sample.tags.to_vec());
            self.0.push(Found::Sample {
                name,
                tags,
                value,
                weight: sample.weight,
                timestamp: sample.timestamp,
            });
        }
        fn refused(&mut self, reason: Refusal) {
            self.0.push(Found::Refused(reason));
        }
        fn field_ignored(&mut self) {
            self.0.push(Found::FieldIgnored);
        }
        fn event(&mut self) {
            self.0.push(Found::Event);
        }
        fn service_check(&mut self) {
            self.0.push(Found::ServiceCheck);
        }
    }
    let mut found = Collect(Vec::new());
    statsd::line(grammar, line, &mut found);
    found.0
}

/// What this reader finds.
pub(crate) fn naive(grammar: Grammar, line: &[u8]) -> Vec<Found> {
    match grammar.dialect {
        Dialect::Native => native(grammar.unknown_type, line.trim_ascii_end()),
        Dialect::Statsd => original(grammar.unknown_type, line),
    }
}

fn split(text: &[u8], byte: u8) -> Vec<Vec<u8>> {
    text.split(|&b| b == byte).map(<[u8]>::to_vec).collect()
}

fn cut(text: &[u8], byte: u8) -> (Vec<u8>, Option<Vec<u8>>) {
    match text.iter().position(|&b| b == byte) {
        Some(at) => (text[..at].to_vec(), Some(text[at + 1..].to_vec())),
        None => (text.to_vec(), None),
    }
}

fn native(unknown: UnknownType, line: &[u8]) -> Vec<Found> {
    if line.is_empty() {
        return Vec::new();
    }
    if line.starts_with(b"_e{") {
        return vec![if is_event(line) { Found::Event } else { Found::Refused(Refusal::BadEvent) }];
    }
    if line.starts_with(b"_sc|") {
        let parts = split(line, b'|');
        let status = parts.get(2).is_some_and(|s| [&b"0"[..], b"1", b"2", b"3"].contains(&s.as_slice()));
        return vec![if status && !parts[1].is_empty() {
            Found::ServiceCheck
        } else {
            Found::Refused(Refusal::BadEvent)
        }];
    }
    let (name, Some(rest)) = cut(line, b':') else {
        return vec![Found::Refused(Refusal::NoType)];
    };
    if name.is_empty() {
        return vec![Found::Refused(Refusal::EmptyName)];
    }
    let fields = split(&rest, b'|');
    let tags = fields
        .iter()
        .skip(2)
        .find(|field| field.starts_with(b"#"))
        .map_or(Vec::new(), |field| field[1..].to_vec());
    let mut found = Vec::new();
    let mut values = fields[0].clone();
    let mut at = 1;
    loop {
        let Some(ty) = fields.get(at) else {
            found.push(Found::Refused(Refusal::NoType));
            return found;
        };
        at += 1;
        let (ty, mut next) = cut(ty, b':');
        let (mut weight, mut timestamp) = (Ok(1.0), Ok(None));
        while next.is_none() && at < fields.len() {
            let field = &fields[at];
            at += 1;
            if field.starts_with(b"@") {
                let (rate, rest) = cut(&field[1..], b':');
                weight = weight_of(&rate);
                next = rest;
            } else if field.starts_with(b"T") {
                timestamp = timestamp_of(&field[1..]).map(Some);
            } else if ![&b"#"[..], b"c:", b"e:", b"card:"].iter().any(|known| field.starts_with(known)) {
                found.push(Found::FieldIgnored);
            }
        }
        for text in if ty == b"s" { vec![values.clone()] } else { split(&values, b':') } {
            let sample = native_value(unknown, &ty, &text).and_then(|value| {
                let (weight, timestamp) = (weight?, timestamp?);
                Ok(Found::Sample { name: name.clone(), tags: tags.clone(), value, weight, timestamp })
            });
            found.push(sample.unwrap_or_else(Found::Refused));
        }
        match next {
            Some(next) => values = next,
            None => return found,
        }
    }
}

fn native_value(unknown: UnknownType, ty: &[u8], text: &[u8]) -> Result<FoundValue, Refusal> {
    match ty {
        b"c" => Ok(FoundValue::Count(number(text)?)),
        b"ms" if number(text)? < 0.0 => Err(Refusal::NegativeTimer),
        b"ms" | b"h" | b"d" => Ok(FoundValue::Time(number(text)?)),
        b"g" => Ok(gauge(text, number(text)?)),
        b"s" if text.is_empty() => Err(Refusal::BadValue),
        b"s" => Ok(FoundValue::Member(text.to_vec())),
        b"" => Err(Refusal::NoType),
        _ if unknown == UnknownType::Counter => Ok(FoundValue::Count(number(text)?)),
        _ => Err(Refusal::UnknownType),
    }
}

fn gauge(text: &[u8], value: f64) -> FoundValue {
    let signed = text.starts_with(b"+") || text.starts_with(b"-");
    if signed { FoundValue::Add(value) } else { FoundValue::Set(value) }
}

/// Sign, digits with at most one point and at least one digit, exponent.
fn number(text: &[u8]) -> Result<f64, Refusal> {
    let Ok(text) = std::str::from_utf8(text) else {
        return Err(Refusal::BadValue);
    };
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if ["inf", "infinity", "nan"].contains(&unsigned.to_lowercase().as_str()) {
        return Err(Refusal::NotFinite);
    }
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let good_mantissa =
        mantissa.chars().filter(|&c| c == '.').count() <= 1 && digits(&mantissa.replacen('.', "", 1));
    let good_exponent =
        exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)));
    if !good_mantissa || !good_exponent {
        return Err(Refusal::BadValue);
    }
    let value: f64 = text.parse().map_err(|_| Refusal::BadValue)?;
    if value.is_finite() { Ok(value) } else { Err(Refusal::NotFinite) }
}

fn weight_of(rate: &[u8]) -> Result<f64, Refusal> {
    let weight = 1.0 / number(rate).map_err(|_| Refusal::BadRate)?;
    if weight > 0.0 && weight.is_finite() { Ok(weight) } else { Err(Refusal::BadRate) }
}

fn timestamp_of(text: &[u8]) -> Result<i64, Refusal> {
    let text = std::str::from_utf8(text).map_err(|_| Refusal::BadTimestamp)?;
    if text.is_empty() || text.len() > 12 || !text.chars().all(|c| c.is_ascii_digit()) {
        return Err(Refusal::BadTimestamp);
    }
    text.parse().map_err(|_| Refusal::BadTimestamp)
}

fn is_event(line: &[u8]) -> bool {
    let (lengths, Some(body)) = cut(&line[3..], b'}') else {
        return false;
    };
    let lengths: Vec<Option<usize>> = split(&lengths, b',')
        .iter()
        .map(|text| {
            let text = std::str::from_utf8(text).ok()?;
            if text.chars().all(|c| c.is_ascii_digit()) { text.parse().ok() } else { None }
        })
        .collect();
    let [Some(title), Some(text)] = lengths[..] else {
        return false;
    };
    let Some(body) = body.strip_prefix(b":") else {
        return false;
    };
    let Some(end) = title.checked_add(text).and_then(|both| both.checked_add(1)) else {
        return false;
    };
    title > 0
        && body.len() >= end
        && body[title..].first() == Some(&b'|')
        && [None, Some(&b'|')].contains(&body.get(end))
}

/// statsd's own parser, step by step as its source does it, without its crashes.
fn original(unknown: UnknownType, line: &[u8]) -> Vec<Found> {
    if line.is_empty() {
        return Vec::new();
    }
    let mut line = line.to_vec();
    let mut timestamp = Ok(None);
    while let Some(at) = line.iter().rposition(|&b| b == b'|') {
        let (head, field) = (line[..at].to_vec(), js_trim(&line[at + 1..]));
        let typed = head.iter().position(|&b| b == b':').is_some_and(|colon| head[colon..].contains(&b'|'));
        let id = [&b"c:"[..], b"e:", b"card:"].iter().find_map(|known| field.strip_prefix(*known));
        if typed && field.len() > 1 && field[0] == b'T' && field[1].is_ascii_digit() {
            timestamp = timestamp_of(&field[1..]).map(Some);
        } else if !(typed && id.is_some_and(|id| !id.is_empty() && js_number(id).is_err())) {
            break;
        }
        line = head;
    }
    let text = line;
    let marks: Vec<usize> =
        (0..text.len().saturating_sub(1)).filter(|&at| text[at..].starts_with(b"|#")).collect();
    let head = marks.first().map_or(&text[..], |&at| &text[..at]);
    let tags = marks.first().map_or(&b""[..], |&at| {
        let rest = &text[at + 2..];
        let end = (0..rest.len()).find(|&at| rest[at..].starts_with(b"|#")).unwrap_or(rest.len());
        &rest[..end]
    });
    let parts = split(head, b':');
    if parts.len() == 1 {
        return vec![Found::Refused(Refusal::NoType)];
    }
    let sample = |part: &Vec<u8>| {
        let (value, weight) = original_value(unknown, &split(part, b'|'))?;
        Ok(Found::Sample {
            name: parts[0].clone(),
            tags: tags.to_vec(),
            value,
            weight,
            timestamp: timestamp?,
        })
    };
    parts[1..].iter().map(|part| sample(part).unwrap_or_else(Found::Refused)).collect()
}

fn original_value(unknown: UnknownType, fields: &[Vec<u8>]) -> Result<(FoundValue, f64), Refusal> {
    let text = &fields[0];
    let ty = fields.get(1).ok_or(Refusal::NoType)?;
    let mut weight = 1.0;
    if let Some(rate) = fields.get(2) {
        let rate = rate.strip_prefix(b"@").ok_or(Refusal::BadRate)?;
        js_number(rate).map_err(|_| Refusal::BadRate)?;
        let digits: Vec<u8> = rate.iter().copied().take_while(|b| b.is_ascii_digit() || *b == b'.').collect();
        weight = weight_of(&digits)?;
    }
    if ty == b"ms" && js_number(text)? < 0.0 {
        return Err(Refusal::NegativeTimer);
    }
    if ty == b"s" {
        let member = if text.is_empty() { b"0".to_vec() } else { text.clone() };
        return Ok((FoundValue::Member(member), weight));
    }
    let number = js_number(text)?;
    let counter = unknown == UnknownType::Counter;
    let value = match js_trim(ty).as_slice() {
        b"ms" => FoundValue::Time(number),
        b"g" => gauge(text, number),
        b"s" => FoundValue::Member(text.clone()),
        b"c" => FoundValue::Count(number),
        _ if counter => FoundValue::Count(number),
        b"h" | b"d" => FoundValue::Time(number),
        b"" => return Err(Refusal::NoType),
        _ => return Err(Refusal::UnknownType),
    };
    Ok((value, weight))
}

fn js_trim(text: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(text) {
        Ok(text) => text
            .trim_matches(|c: char| c == '\u{feff}' || (c.is_whitespace() && c != '\u{85}'))
            .as_bytes()
            .to_vec(),
        Err(_) => text.trim_ascii().to_vec(),
    }
}

fn js_number(text: &[u8]) -> Result<f64, Refusal> {
    match js_trim(text).as_slice() {
        _ if text.is_empty() => Err(Refusal::BadValue),
        b"" => Ok(0.0),
        trimmed => match number(trimmed) {
            Err(Refusal::NotFinite) if trimmed.len() < text.len() => Err(Refusal::NotFinite),
            result => result,
        },
    }
}
