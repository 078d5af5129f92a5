//! Names by pattern, as `rollup.history` and figures write them: `*` is any run of characters, `?` is any one.

/// Whether a name is what the pattern says. Time grows with the product of both lengths at worst; both are
/// bounded.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut from) = (0, 0);
    // Where to go on if what follows the last star does not match here: one character later.
    let mut star: Option<(usize, usize)> = None;
    while from < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, from));
                at += 1;
            }
            Some(&byte) if byte == b'?' || name.get(from) == Some(&byte) => {
                at += 1;
                from += 1;
            }
            _ => match &mut star {
                Some((after, again)) => {
                    *again += 1;
                    (at, from) = (*after, *again);
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).is_none_or(|rest| rest.iter().all(|&byte| byte == b'*'))
}

/// Whether there is a name that both patterns mean.
#[must_use]
pub fn meet(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    // Whether the rest of `one` from here meets the rest of `other` from each place in it; the last row first.
    let mut below = vec![false; other.len() + 1];
    for from in (0..=one.len()).rev() {
        let mut row = vec![false; other.len() + 1];
        for at in (0..=other.len()).rev() {
            let (a, b) = (one.get(from), other.get(at));
            let met = match (a, b) {
                (None, None) => true,
                // A star is nothing more, or one character more.
                (Some(b'*'), _) | (_, Some(b'*')) => {
                    (a.is_some() && below.get(at) == Some(&true))
                        || (b.is_some() && row.get(at + 1) == Some(&true))
                }
                (Some(a), Some(b)) if a == b || *a == b'?' || *b == b'?' => below.get(at + 1) == Some(&true),
                _ => false,
            };
            if let Some(cell) = row.get_mut(at) {
                *cell = met;
            }
        }
        below = row;
    }
    below.first() == Some(&true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_meet_where_some_name_is_meant_by_both() {
        for (one, other, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a.*", "a.b", true),
            ("a.*", "*.b", true),
            ("a.*.c", "*.b.c", true),
            ("a*b", "b*", false),
            ("*a", "*b", false),
            ("*a*", "*b*", true),
            ("a?c", "ab*", true),
            ("a?", "a", false),
            ("*", "", true),
            ("a*", "a", true),
            ("a**", "*", true),
            ("?", "*", true),
            ("", "?", false),
        ] {
            assert_eq!((meet(one, other), meet(other, one)), (expected, expected), "{one} {other}");
        }
    }

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "a.b", true),
            ("revenue.*", "revenue.eur", true),
            ("revenue.*", "revenue", false),
            ("*.count", "a.b.count", true),
            ("a*b*c", "a__b_b_c", true),
            ("a*b*c", "a__b_b_d", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("", "", true),
            ("", "a", false),
            ("a**", "a", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
