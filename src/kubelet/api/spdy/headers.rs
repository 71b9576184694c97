//! Header blocks of SPDY/3: names and values, compressed with zlib and a dictionary of words that
//! are frequent in HTTP. One compression context lasts as long as a connection.

use miniz_oxide::inflate::{
    TINFLStatus,
    core::{DecompressorOxide, decompress, inflate_flags},
};

use super::Error;

/// Words of the dictionary, each preceded by its length (draft-mbelshe-httpbis-spdy-00, 2.6.10.1).
const WORDS: [&str; 65] = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];
/// The rest of the dictionary.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416\
    417502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request\
    401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented\
    503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, \
    Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
    application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,\
    sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
/// Its checksum (Adler-32), by which zlib names it.
const DICTIONARY: u32 = 0xe3c6_a7c2;
/// The first two bytes of a zlib stream with a dictionary, for any level of compression: method and
/// window in the first, the flag for the dictionary in the second.
const ZLIB_HEADER: [u8; 2] = [0x78, 0x20];
/// Bytes of a zlib header that names a dictionary.
const ZLIB_HEADER_LENGTH: usize = 6;

/// zlib looks back this far.
const WINDOW: usize = 32 << 10;
/// The most that a block may hold when it is decompressed.
const BLOCK_LIMIT: usize = 64 << 10;

fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1423);
    for word in WORDS {
        bytes.extend_from_slice(&(word.len() as u32).to_be_bytes());
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(TAIL.as_bytes());
    bytes
}

/// Headers of a stream, names in lower case.
pub(in crate::api) type Headers = Vec<(String, String)>;

/// Reads header blocks.
pub(super) struct Decoder {
    inflate: Box<DecompressorOxide>,
    /// What was decompressed last, around and around.
    window: Box<[u8]>,
    at: usize,
    began: bool,
}

impl Decoder {
    pub(super) fn new() -> Self {
        // The dictionary is what was "decompressed" before the first block.
        let dictionary = dictionary();
        let mut window = vec![0; WINDOW].into_boxed_slice();
        window[..dictionary.len()].copy_from_slice(&dictionary);
        Self { inflate: Box::default(), window, at: dictionary.len(), began: false }
    }

    /// Reads one block. All blocks of a connection have to be read, in order.
    pub(super) fn decode(&mut self, block: &[u8]) -> Result<Headers, Error> {
        let mut rest = block;
        if !self.began {
            let (header, after) = rest
                .split_at_checked(ZLIB_HEADER_LENGTH)
                .ok_or(Error::Malformed("short zlib header"))?;
            if header[0] & 0x0f != 8
                || header[1] & 0x20 == 0
                || header[2..] != DICTIONARY.to_be_bytes()
            {
                return Err(Error::Malformed("zlib header"));
            }
            self.began = true;
            rest = after;
        }
        let plain = self.inflate(rest)?;
        parse(&plain).ok_or(Error::Malformed("header block"))
    }

    fn inflate(&mut self, mut rest: &[u8]) -> Result<Vec<u8>, Error> {
        let mut plain = Vec::new();
        loop {
            let flags = inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
            let (status, read, written) =
                decompress(&mut self.inflate, rest, &mut self.window, self.at, flags);
            rest = &rest[read..];
            plain.extend_from_slice(&self.window[self.at..self.at + written]);
            self.at = (self.at + written) % WINDOW;
            if plain.len() > BLOCK_LIMIT {
                return Err(Error::Malformed("header block too large"));
            }
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if rest.is_empty() => return Ok(plain),
                _ => return Err(Error::Malformed("compressed header block")),
            }
        }
    }
}

fn parse(mut bytes: &[u8]) -> Option<Headers> {
    fn number(bytes: &mut &[u8]) -> Option<usize> {
        let (first, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(u32::from_be_bytes(*first) as usize)
    }
    fn text(bytes: &mut &[u8]) -> Option<String> {
        let length = number(bytes)?;
        let (text, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        String::from_utf8(text.to_vec()).ok()
    }
    let count = number(&mut bytes)?;
    (0..count).map(|_| Some((text(&mut bytes)?, text(&mut bytes)?))).collect()
}

/// Writes header blocks: uncompressed, but in the form of compressed ones.
#[derive(Default)]
pub(super) struct Encoder {
    began: bool,
}

impl Encoder {
    /// A block without headers, which is all that an answer to a new stream needs.
    pub(super) fn empty(&mut self) -> Vec<u8> {
        let mut block = Vec::new();
        if !self.began {
            block.extend_from_slice(&ZLIB_HEADER);
            block.extend_from_slice(&DICTIONARY.to_be_bytes());
            self.began = true;
        }
        // A stored block of four bytes, the number of headers; then an empty one, at which readers
        // hand out what they have.
        block.extend_from_slice(&[0, 4, 0, !4, !0, 0, 0, 0, 0]);
        block.extend_from_slice(&[0, 0, 0, !0, !0]);
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_one_named() {
        let dictionary = dictionary();
        let (mut a, mut b) = (1u32, 0u32);
        for byte in &dictionary {
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!((dictionary.len(), b << 16 | a), (1423, DICTIONARY));
    }

    #[test]
    fn blocks_of_one_connection_build_on_each_other() {
        // Two blocks that zlib wrote.
        let first = [
            0x78, 0xf9, 0xe3, 0xc6, 0xa7, 0xc2, 0x02, 0x25, 0x3a, 0x70, 0x3a, 0x2b, 0x29, 0x4a,
            0x4d, 0xcc, 0x85, 0x16, 0x25, 0xac, 0xa9, 0xa0, 0x80, 0x86, 0x14, 0xcb, 0x45, 0xa0,
            0x24, 0xcc, 0x64, 0x61, 0x00, 0x24, 0x39, 0x8b, 0x20, 0x91, 0x98, 0x09, 0x4a, 0xdc,
            0x8c, 0x06, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff,
        ];
        let second =
            [0xc2, 0xaa, 0x15, 0x54, 0x0a, 0x25, 0x12, 0xd2, 0x09, 0x00, 0x00, 0x00, 0xff, 0xff];
        let headers = |kind: &str| -> Headers {
            [("streamtype", kind), ("port", "80"), ("requestid", "0")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec()
        };
        let mut decoder = Decoder::new();
        assert_eq!(decoder.decode(&first).unwrap(), headers("error"));
        assert_eq!(decoder.decode(&second).unwrap(), headers("data"));
        assert!(Decoder::new().decode(&second).is_err());
        assert!(Decoder::new().decode(&first[..3]).is_err());
    }

    #[test]
    fn what_is_written_can_be_read() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::new());
        for _ in 0..3 {
            assert_eq!(decoder.decode(&encoder.empty()).unwrap(), Headers::new());
        }
    }
}
