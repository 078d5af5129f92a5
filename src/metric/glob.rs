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

#[cfg(test)]
mod tests {
    use super::*;

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
