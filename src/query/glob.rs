//! Patterns for names and values, as in Graphite: `*`, `?`, `[a-z]`, `{a,b}`, and `**` for anything.
//!
//! In a name `*`, `?` and `[…]` stay within one part between dots; in the value of a tag, where dots mean nothing,
//! they do not. `\` takes the next character as it is. Braces are multiplied out when a pattern is read; matching
//! goes back only to the last star of each sort, so it takes at most pattern × text steps and no memory.
//!
//! Why that is enough: what stands between two `**` may as well match at the first place where it can, for the
//! second `**` swallows the rest. The same holds between two `*` as long as no dot is crossed, and a dot in the
//! pattern can only be the next dot of the text.

use crate::limits;
use std::iter::Peekable;
use std::str::Chars;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Char(char),
    /// `?`
    One,
    /// `[…]`
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// `*`
    Star,
    /// `**`
    Anything,
}

/// A pattern, ready to match.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Glob {
    alternatives: Vec<Vec<Token>>,
    /// What `*`, `?` and `[…]` do not cross.
    border: Option<char>,
}

impl Glob {
    /// Reads a pattern; in words what is wrong with it.
    pub(super) fn new(pattern: &str, border: Option<char>) -> Result<Self, String> {
        let mut reader = Reader { chars: pattern.chars().peekable(), border };
        let alternatives = reader.sequence(0)?;
        match reader.chars.next() {
            None => Ok(Self { alternatives, border }),
            Some(',') => Err("a comma outside of braces".to_owned()),
            Some(_) => Err("a } without its {".to_owned()),
        }
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        self.alternatives.iter().any(|tokens| matches(tokens, text, self.border))
    }
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    border: Option<char>,
}

impl Reader<'_> {
    /// Tokens up to the end, a comma or a closing brace, with braces multiplied out.
    fn sequence(&mut self, depth: usize) -> Result<Vec<Vec<Token>>, String> {
        let mut all = vec![Vec::new()];
        while let Some(&c) = self.chars.peek() {
            if c == ',' || c == '}' {
                break;
            }
            self.chars.next();
            if c == '{' {
                let options = self.braces(depth + 1)?;
                if all.len() * options.len() > limits::QUERY_ALTERNATIVES_MAX {
                    return Err(format!("more than {} alternatives", limits::QUERY_ALTERNATIVES_MAX));
                }
                let joined = |before: &Vec<Token>, option: &Vec<Token>| {
                    before.iter().chain(option).cloned().collect::<Vec<_>>()
                };
                all = all
                    .iter()
                    .flat_map(|before| options.iter().map(move |option| joined(before, option)))
                    .collect();
            } else {
                let token = self.token(c)?;
                for tokens in &mut all {
                    tokens.push(token.clone());
                }
            }
        }
        Ok(all)
    }

    fn braces(&mut self, depth: usize) -> Result<Vec<Vec<Token>>, String> {
        if depth > 8 {
            return Err("braces within braces, more than eight deep".to_owned());
        }
        let mut options = Vec::new();
        loop {
            options.extend(self.sequence(depth)?);
            match self.chars.next() {
                Some(',') => {}
                Some(_) => return Ok(options),
                None => return Err("a { without its }".to_owned()),
            }
        }
    }

    fn token(&mut self, first: char) -> Result<Token, String> {
        Ok(match first {
            '*' => {
                let mut stars = 1;
                while self.chars.next_if_eq(&'*').is_some() {
                    stars += 1;
                }
                if stars > 1 || self.border.is_none() { Token::Anything } else { Token::Star }
            }
            '?' => Token::One,
            '[' => self.class()?,
            '\\' => Token::Char(self.chars.next().ok_or("a \\ with nothing behind it")?),
            c => Token::Char(c),
        })
    }

    fn class(&mut self) -> Result<Token, String> {
        let open = || "a [ without its ]".to_owned();
        let negated = self.chars.next_if(|c| matches!(c, '!' | '^')).is_some();
        let mut ranges = Vec::new();
        loop {
            let low = match self.chars.next().ok_or_else(open)? {
                ']' if ranges.is_empty() => return Err("an empty []".to_owned()),
                ']' => return Ok(Token::Class { negated, ranges }),
                '\\' => self.chars.next().ok_or_else(open)?,
                c => c,
            };
            let mut ahead = self.chars.clone();
            let high = match (ahead.next(), ahead.next()) {
                (Some('-'), Some(high)) if high != ']' => {
                    self.chars = ahead;
                    high
                }
                _ => low,
            };
            if high < low {
                return Err(format!("the range {low}-{high} is empty"));
            }
            ranges.push((low, high));
        }
    }
}

impl Token {
    fn takes(&self, c: char, border: Option<char>) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::One => Some(c) != border,
            Self::Class { negated, ranges } => {
                Some(c) != border && ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
            Self::Star | Self::Anything => false,
        }
    }
}

/// Which token to go on with, and from where in the text.
type Back<'a> = (usize, Chars<'a>);

fn matches(tokens: &[Token], text: &str, border: Option<char>) -> bool {
    let (mut at, mut rest) = (0, text.chars());
    // Where to go on after the last star of each sort, and how far it has reached.
    let (mut star, mut anything): (Option<Back<'_>>, Option<Back<'_>>) = (None, None);
    loop {
        match tokens.get(at) {
            Some(Token::Anything) => {
                at += 1;
                (star, anything) = (None, Some((at, rest.clone())));
                continue;
            }
            Some(Token::Star) => {
                at += 1;
                star = Some((at, rest.clone()));
                continue;
            }
            Some(token) => {
                let mut ahead = rest.clone();
                if ahead.next().is_some_and(|c| token.takes(c, border)) {
                    (at, rest) = (at + 1, ahead);
                    continue;
                }
            }
            None if rest.as_str().is_empty() => return true,
            None => {}
        }
        if let Some((after, reached)) = &mut star
            && reached.next().is_some_and(|c| Some(c) != border)
        {
            (at, rest) = (*after, reached.clone());
            continue;
        }
        star = None;
        let Some((after, reached)) = &mut anything else {
            return false;
        };
        if reached.next().is_none() {
            return false;
        }
        (at, rest) = (*after, reached.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(pattern: &str, text: &str) -> bool {
        Glob::new(pattern, Some('.')).unwrap().matches(text)
    }

    #[test]
    fn stars_stay_between_dots_unless_doubled() {
        for (pattern, text) in [
            ("shop.*.orders", "shop.de.orders"),
            ("*", "signups"),
            ("**", "a.b.c"),
            ("a.**", "a.b.c"),
            ("**.count", "a.b.count"),
            ("a?c", "abc"),
            ("web[0-9]", "web7"),
            ("web[!0-9]", "webx"),
            ("{a,b}.{x,y*}", "b.yz"),
            ("a{,.b}", "a"),
            ("a{,.b}", "a.b"),
            ("a\\*b", "a*b"),
            ("**.a*b*c.**", "q.axxbyyc.z"),
            ("*a*b", "aaab"),
            ("", ""),
        ] {
            assert!(name(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("*", "a.b"),
            ("shop.*", "shop.de.orders"),
            ("a?c", "a.c"),
            ("a[!x]c", "a.c"),
            ("**.count", "count"),
            ("{a,b}", "c"),
            ("*b", "a.b"),
            ("a*", "ba"),
            ("", "a"),
        ] {
            assert!(!name(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn dots_mean_nothing_where_there_is_no_border() {
        let value = |pattern, text| Glob::new(pattern, None).unwrap().matches(text);
        assert!(value("1.*", "1.2.3") && value("1?2", "1.2") && value("[.]", "."));
    }

    #[test]
    fn what_is_not_a_pattern_is_said_in_words() {
        for pattern in ["{a", "a}", "a,b", "[a", "[]", "[z-a]", "a\\", "{{{{{{{{{a}}}}}}}}}"] {
            assert!(Glob::new(pattern, Some('.')).is_err(), "{pattern}");
        }
        let many = "{a,b}".repeat(8);
        assert!(Glob::new(&many, Some('.')).unwrap_err().contains("128"));
    }

    /// Every way to match, tried one after the other.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['*', '*', rest @ ..] => (0..=text.len()).any(|n| naive(rest, &text[n..])),
            ['*', rest @ ..] => {
                (0..=text.len()).take_while(|&n| !text[..n].contains(&'.')).any(|n| naive(rest, &text[n..]))
            }
            ['?', rest @ ..] => matches!(text, [c, more @ ..] if *c != '.' && naive(rest, more)),
            [own, rest @ ..] => matches!(text, [c, more @ ..] if c == own && naive(rest, more)),
        }
    }

    #[test]
    fn going_back_to_the_last_stars_is_enough() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut hits = 0;
        for _ in 0..100_000 {
            let mut text_of = |letters: &[char], max| {
                (0..random.usize(..max)).map(|_| letters[random.usize(..letters.len())]).collect::<Vec<_>>()
            };
            let pattern: String = text_of(&['a', 'b', '.', '*', '*', '?'], 9).into_iter().collect();
            // Three stars are two; the naive matcher would see two and one.
            let pattern = pattern.replace("***", "**").replace("***", "**").replace("***", "**");
            let text = text_of(&['a', 'b', '.'], 9);
            let expected = naive(&pattern.chars().collect::<Vec<_>>(), &text);
            hits += u32::from(expected);
            let text: String = text.into_iter().collect();
            assert_eq!(name(&pattern, &text), expected, "{pattern} {text}");
        }
        assert!(hits > 1_000, "{hits}");
    }
}
