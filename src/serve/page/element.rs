//! HTML as a tree of elements, written out with everything escaped.
//!
//! Names, labels and texts of marks come from anywhere: they enter as text or as a value of an attribute, and there
//! is no way to enter as HTML. The page's own scripts build the same tree with `h` of dashboards/live/dom.js.

/// A piece of text or an element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Text(String),
    Element(Element),
}

/// An element with its attributes and children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    tag: String,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Node>,
}

/// An element by its name and classes: `h("p.note")`.
pub(super) fn h(name: &str) -> Element {
    let (tag, classes) = name.split_once('.').unwrap_or((name, ""));
    let element = Element { tag: tag.to_owned(), attributes: Vec::new(), children: Vec::new() };
    if classes.is_empty() { element } else { element.with("class", classes.replace('.', " ")) }
}

impl Element {
    /// Sets an attribute. Its name is the program's own.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    /// By which the page's scripts find it again.
    pub(super) fn key(self, key: impl Into<String>) -> Self {
        self.with("data-key", key)
    }

    /// Adds a child.
    pub(super) fn add(mut self, child: impl Into<Node>) -> Self {
        self.children.push(child.into());
        self
    }

    /// Adds children: of a list or, where there is one, of an option.
    pub(super) fn all<N: Into<Node>>(mut self, children: impl IntoIterator<Item = N>) -> Self {
        self.children.extend(children.into_iter().map(Into::into));
        self
    }

    fn write(&self, into: &mut String) {
        into.push('<');
        into.push_str(&self.tag);
        for (name, value) in &self.attributes {
            into.push(' ');
            into.push_str(name);
            into.push_str("=\"");
            escape(value, into);
            into.push('"');
        }
        into.push('>');
        for child in &self.children {
            child.write(into);
        }
        into.push_str("</");
        into.push_str(&self.tag);
        into.push('>');
    }
}

impl Node {
    fn write(&self, into: &mut String) {
        match self {
            Self::Text(text) => escape(text, into),
            Self::Element(element) => element.write(into),
        }
    }
}

impl From<Element> for Node {
    fn from(element: Element) -> Self {
        Self::Element(element)
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Node {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Writes nodes one after the other.
pub(super) fn html(nodes: &[Node]) -> String {
    let mut written = String::new();
    for node in nodes {
        node.write(&mut written);
    }
    written
}

/// Text as it stands in HTML, between tags or in a quoted value.
pub(in crate::serve) fn escaped(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    escape(text, &mut written);
    written
}

fn escape(text: &str, into: &mut String) {
    for character in text.chars() {
        match character {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' => into.push_str("&quot;"),
            '\'' => into.push_str("&#39;"),
            // HTML knows no NUL, and a carriage return would be read as a newline.
            '\0' | '\r' => into.push('\u{fffd}'),
            character => into.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_put_in_gets_out_of_its_place() {
        let hostile = "\"><script>alert('1')</script>&amp;\r\0";
        let written = html(&[h("p.note").with("title", hostile).add(hostile).into()]);
        let escaped = "&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;amp;\u{fffd}\u{fffd}";
        assert_eq!(written, format!("<p class=\"note\" title=\"{escaped}\">{escaped}</p>"));
    }

    #[test]
    fn elements_stand_in_their_order() {
        let list = h("ul").all(["a", "b"].map(|text| h("li").key(text).add(text))).all(None::<Node>);
        assert_eq!(
            html(&[list.into(), "after".into()]),
            "<ul><li data-key=\"a\">a</li><li data-key=\"b\">b</li></ul>after"
        );
    }
}
