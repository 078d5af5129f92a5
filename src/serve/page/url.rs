//! Parts of URLs, written and read.

use std::fmt::Write as _;

/// Percent-encoded as JavaScript's `encodeURIComponent` does.
pub(super) fn component(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            write!(encoded, "%{byte:02X}").ok();
        }
    }
    encoded
}

#[test]
fn components_are_encoded_as_the_page_does() {
    assert_eq!(component("revenue.*;plan=a b&ü"), "revenue.*%3Bplan%3Da%20b%26%C3%BC");
}
