//! Pages that come through the proxy: links to places on the target's own host are made to lead
//! through the proxy again (upstream's `proxy.Transport`).

use super::rewrite::Links;

/// A tag longer than this passes as it is: nothing that is held may grow without bounds.
const LONGEST_TAG: usize = 64 << 10;

/// The attributes that hold an address, by element.
const ADDRESSES: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Elements whose content is no markup, with the beginning of the tag that ends them.
const RAW: [(&str, &[u8]); 4] = [
    ("script", b"</script"),
    ("style", b"</style"),
    ("textarea", b"</textarea"),
    ("title", b"</title"),
];

const COMMENT: &[u8] = b"<!--";

/// Rewrites a page that comes in pieces.
pub(super) struct Page {
    links: Links,
    /// What cannot be judged before more has come.
    held: Vec<u8>,
    /// What ends the part that is no markup, if the page is in one.
    until: Option<&'static [u8]>,
}

/// What comes next in a page.
enum Step {
    /// So many bytes as they are.
    Copy(usize),
    /// A tag of so many bytes.
    Tag(usize),
}

impl Page {
    pub(super) fn new(links: Links) -> Self {
        Self { links, held: Vec::new(), until: None }
    }

    /// What can be sent on after `piece` has come.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut page = std::mem::take(&mut self.held);
        page.extend_from_slice(piece);
        let mut out = Vec::with_capacity(page.len() + 256);
        let mut rest = &page[..];
        while let Some(step) = self.step(rest) {
            match step {
                Step::Copy(length) => {
                    out.extend_from_slice(&rest[..length]);
                    rest = &rest[length..];
                }
                Step::Tag(length) => {
                    self.tag(&rest[..length], &mut out);
                    rest = &rest[length..];
                }
            }
        }
        self.held = rest.to_vec();
        out
    }

    /// The end of the page.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// `None` until more has come.
    fn step(&mut self, rest: &[u8]) -> Option<Step> {
        if let Some(end) = self.until {
            if let Some(at) = rest.windows(end.len()).position(|w| w.eq_ignore_ascii_case(end)) {
                self.until = None;
                return Some(Step::Copy(at + end.len()));
            }
            return rest.len().checked_sub(end.len()).map(|sure| Step::Copy(sure + 1));
        }
        if *rest.first()? != b'<' {
            let end = rest.iter().position(|byte| *byte == b'<').unwrap_or(rest.len());
            return Some(Step::Copy(end));
        }
        if rest.starts_with(COMMENT) {
            self.until = Some(b"-->");
            return Some(Step::Copy(COMMENT.len()));
        }
        if COMMENT.starts_with(rest) {
            return None;
        }
        if !rest[1].is_ascii_alphabetic() {
            return Some(Step::Copy(1));
        }
        let mut quote = None;
        for (at, byte) in rest.iter().enumerate() {
            match (quote, byte) {
                (None, b'>') => return Some(Step::Tag(at + 1)),
                (None, b'"' | b'\'') => quote = Some(*byte),
                (Some(open), byte) if open == *byte => quote = None,
                _ => {}
            }
        }
        (rest.len() > LONGEST_TAG).then_some(Step::Copy(rest.len()))
    }

    fn tag(&mut self, tag: &[u8], out: &mut Vec<u8>) {
        let Ok(text) = std::str::from_utf8(tag) else { return out.extend_from_slice(tag) };
        let end = text.find(|c: char| c.is_whitespace() || c == '/' || c == '>');
        let name = text[1..end.unwrap_or(text.len())].to_ascii_lowercase();
        if let Some((_, end)) = RAW.iter().find(|(raw, _)| *raw == name) {
            self.until = Some(end);
        }
        let Some((_, wanted)) = ADDRESSES.iter().find(|(element, _)| *element == name) else {
            return out.extend_from_slice(tag);
        };
        let mut rest = text;
        while let Some(equals) = rest.find('=') {
            let attribute = rest[..equals].trim_end();
            let attribute = attribute.rsplit([' ', '\t', '\n', '\r', '/']).next().unwrap_or("");
            let wanted = wanted.iter().any(|name| name.eq_ignore_ascii_case(attribute));
            let (before, value, after) = value(rest, equals + 1);
            out.extend_from_slice(before.as_bytes());
            let rewritten = wanted.then(|| self.links.through(value)).flatten();
            out.extend_from_slice(rewritten.as_deref().unwrap_or(value).as_bytes());
            rest = after;
        }
        out.extend_from_slice(rest.as_bytes());
    }
}

/// Splits a tag at the value behind the `=` that ends at `at`: what is before the value, the value
/// without its quotes, the rest.
fn value(tag: &str, at: usize) -> (&str, &str, &str) {
    let blank = tag[at..].len() - tag[at..].trim_start().len();
    let start = at + blank;
    let (start, end) = match tag[start..].chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let start = start + 1;
            (start, tag[start..].find(quote).map(|length| start + length))
        }
        _ => {
            let end = tag[start..].find(|c: char| c.is_whitespace() || c == '>');
            (start, end.map(|length| start + length))
        }
    };
    let end = end.unwrap_or(tag.len());
    (&tag[..start], &tag[start..end], &tag[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(page: &str, piece: usize) -> String {
        let mut rewriter = Page::new(Links::new("/p/proxy", "10.0.0.1", 80));
        let mut out = Vec::new();
        for piece in page.as_bytes().chunks(piece) {
            out.extend(rewriter.feed(piece));
        }
        out.extend(rewriter.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn links_to_the_target_lead_through_the_proxy_however_the_page_is_cut() {
        let page = r#"<!doctype html><a href="/x/">a</a> <A class='y' HREF=/z>b</A><img alt="a>b"
            src='http://10.0.0.1/i?q=1'/><a href="https://other/x">c</a><a href="rel">d</a><a>"#;
        let wanted = r#"<!doctype html><a href="/p/proxy/x/">a</a> <A class='y' HREF=/p/proxy/z>b</A><img alt="a>b"
            src='/p/proxy/i?q=1'/><a href="https://other/x">c</a><a href="rel">d</a><a>"#;
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(rewritten(page, piece), wanted, "pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_markup_passes_as_it_is() {
        for page in [
            r#"<!-- <a href="/x"> --> <p title="/x">"#,
            r#"<script>if (a<b) c = '<a href="/x">'</script>"#,
            r"1 < 2 <",
            "<a href=\"/x",
        ] {
            for piece in [1, 5, 1000] {
                assert_eq!(rewritten(page, piece), page, "pieces of {piece}");
            }
        }
        let page = r#"<script src="/x"><a href="/y"></script><a href="/p/proxy/z">"#;
        let wanted = r#"<script src="/p/proxy/x"><a href="/y"></script><a href="/p/proxy/z">"#;
        assert_eq!(rewritten(page, 1), wanted);
    }

    #[test]
    fn a_tag_without_end_does_not_grow_for_ever() {
        let page = format!("<a href=\"{}", "x".repeat(2 * LONGEST_TAG));
        let mut rewriter = Page::new(Links::new("/p", "h", 80));
        assert_eq!(rewriter.feed(page.as_bytes()).len(), page.len());
    }
}
