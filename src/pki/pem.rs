//! PEM: DER between lines that say what it is.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{Error, Result};

/// One block with its label, such as `CERTIFICATE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What it is.
    pub label: String,
    /// The bytes.
    pub der: Vec<u8>,
}

/// Writes one block.
pub fn encode(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().map(|byte| char::from(*byte)));
        out.push('\n');
    }
    out.push_str("-----END ");
    out.push_str(label);
    out.push_str("-----\n");
    out
}

/// Reads all blocks, skipping whatever stands between them.
///
/// # Errors
/// When a block does not end or is not base64.
pub fn decode(text: &str) -> Result<Vec<Block>> {
    const BAD: Error = Error::Malformed("PEM");
    let mut blocks = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(label) = marker(line, "-----BEGIN ") else { continue };
        let mut body = String::new();
        loop {
            let line = lines.next().ok_or(BAD)?;
            if let Some(end) = marker(line, "-----END ") {
                if end != label {
                    return Err(BAD);
                }
                break;
            }
            if line.contains(':') {
                // A header, as RFC 1421 has them. Nobody asks what it says.
                continue;
            }
            body.push_str(line);
        }
        let der = STANDARD.decode(body).map_err(|_| BAD)?;
        blocks.push(Block { label: label.to_owned(), der });
    }
    Ok(blocks)
}

fn marker<'a>(line: &'a str, prefix: &str) -> Option<&'a str> {
    line.strip_prefix(prefix)?.strip_suffix("-----")
}

/// The certificates of a bundle, as DER.
///
/// # Errors
/// When the text is not PEM or holds no certificate.
pub fn certificates(text: &str) -> Result<Vec<Vec<u8>>> {
    let blocks = decode(text)?;
    let found: Vec<_> = blocks
        .into_iter()
        .filter(|block| block.label == "CERTIFICATE")
        .map(|block| block.der)
        .collect();
    if found.is_empty() { Err(Error::Malformed("certificate bundle")) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_round_trip_among_other_text() {
        let der: Vec<u8> = (0..200).collect();
        let text = format!("a comment\n{}and\n{}", encode("A", &der), encode("CERTIFICATE", &[1]));
        let blocks = decode(&text).unwrap();
        assert_eq!(blocks[0], Block { label: "A".into(), der });
        assert_eq!(certificates(&text).unwrap(), [[1]]);
    }

    #[test]
    fn headers_are_skipped() {
        let text = "-----BEGIN A-----\nNote: x\n\nAQ==\n-----END A-----\n";
        assert_eq!(decode(text).unwrap()[0].der, [1]);
    }

    #[test]
    fn unfinished_blocks_are_refused() {
        assert!(decode("-----BEGIN A-----\nAAAA\n").is_err());
        assert!(decode("-----BEGIN A-----\nAAAA\n-----END B-----\n").is_err());
        assert!(certificates("nothing").is_err());
    }
}
