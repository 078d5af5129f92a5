//! The page's own files: dashboards/live, part of the program.
//!
//! A debug build reads them from the source tree at each request, so that a change shows at once. Their address
//! holds a checksum of all of them: a browser may keep them for ever, and a new version has new addresses.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::borrow::Cow;
use std::sync::OnceLock;

/// Name, type and content of a file.
type File = (&'static str, &'static str, &'static [u8]);

macro_rules! files {
    ($($name:literal: $kind:literal),* $(,)?) => {
        const FILES: &[File] =
            &[$(($name, $kind, include_bytes!(concat!("../../../dashboards/live/", $name)))),*];
    };
}

files! {
    "page.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "dom.js": "text/javascript; charset=utf-8",
    "spark.js": "text/javascript; charset=utf-8",
    "stream.js": "text/javascript; charset=utf-8",
    "tv.js": "text/javascript; charset=utf-8",
    "view.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "icon.png": "image/png",
    "app.webmanifest": "application/manifest+json",
}

/// The template of the page itself, which is not served as a file.
const TEMPLATE: &str = "page.html";
const FOR_EVER: &str = "public, max-age=31536000, immutable";
const NEVER: &str = "no-store";

fn content(file: &File) -> Cow<'static, [u8]> {
    #[cfg(debug_assertions)]
    {
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards/live").join(file.0);
        if let Ok(bytes) = std::fs::read(source) {
            return Cow::Owned(bytes);
        }
    }
    Cow::Borrowed(file.2)
}

fn find(name: &str) -> Option<&'static File> {
    FILES.iter().find(|(known, ..)| *known == name)
}

/// Where the files are: `/assets/1f2e3d4c`.
pub(super) fn base() -> &'static str {
    static BASE: OnceLock<String> = OnceLock::new();
    BASE.get_or_init(|| {
        let mut sum = crc32fast::Hasher::new();
        for (name, _, bytes) in FILES {
            sum.update(name.as_bytes());
            sum.update(bytes);
        }
        format!("/assets/{:08x}", sum.finalize())
    })
}

/// The page with its places still open.
pub(super) fn template() -> String {
    let bytes = find(TEMPLATE).map(content).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `GET /assets/SUM/NAME`. With another sum, of a page older than the program, it is what there is now.
pub(in crate::serve) async fn asset(Path((sum, name)): Path<(String, String)>) -> Response {
    let Some(file) = find(&name).filter(|_| name != TEMPLATE) else {
        return (StatusCode::NOT_FOUND, "the page has no such file\n").into_response();
    };
    let current = !cfg!(debug_assertions) && base().strip_prefix("/assets/") == Some(sum.as_str());
    let headers = [
        (header::CONTENT_TYPE, file.1),
        (header::CACHE_CONTROL, if current { FOR_EVER } else { NEVER }),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, content(file).into_owned()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that a browser loads for the page, uncompressed.
    #[test]
    fn the_page_is_at_most_60_kilobytes() {
        let bytes: usize = FILES.iter().map(|(.., bytes)| bytes.len()).sum();
        assert!(bytes <= 60_000, "{bytes} bytes");
    }

    #[test]
    fn no_file_names_another_server() {
        for (name, kind, bytes) in FILES {
            if *kind == "image/png" {
                continue;
            }
            let text = std::str::from_utf8(bytes).unwrap().replace("http://www.w3.org/2000/svg", "");
            for word in ["http:", "https:", "src=\"//", "url(", "@import", "innerHTML", "eval("] {
                assert!(!text.contains(word), "{name} has {word}");
            }
        }
    }
}
