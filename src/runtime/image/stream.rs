//! Byte streams of layers: digests, decompression and limits on the way through.

use std::io::{self, BufReader, Read};

use ring::digest::{Context, SHA256};

/// A compressed layer may grow by this factor once it is past [`FREE_GROWTH`]; beyond, it is taken
/// for a bomb. Ordinary layers grow by 2 to 5.
const MAX_GROWTH: u64 = 250;
const FREE_GROWTH: u64 = 1 << 30;
/// Most that any layer may have, uncompressed.
const MAX_LAYER: u64 = 64 << 30;

/// `sha256:` and the digest in hexadecimal.
pub(crate) fn name_of(context: Context) -> String {
    let mut text = String::from("sha256:");
    for byte in context.finish().as_ref() {
        use std::fmt::Write;
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The digest of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    name_of(context)
}

/// Counts and digests what is read through it.
pub(crate) struct Digesting<R> {
    inner: R,
    context: Context,
    count: u64,
}

impl<R: Read> Digesting<R> {
    pub(crate) fn new(inner: R) -> Digesting<R> {
        Digesting { inner, context: Context::new(&SHA256), count: 0 }
    }

    /// What was read from, and the digest of what was read so far.
    pub(crate) fn split(self) -> (R, String) {
        (self.inner, name_of(self.context))
    }

    /// Bytes read so far.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Reads what is left, and answers the digest of everything.
    pub(crate) fn finish(mut self) -> io::Result<(String, u64)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((name_of(self.context), self.count))
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.context.update(&buf[..n]);
        self.count += n as u64;
        Ok(n)
    }
}

/// How a stream is compressed, as its first bytes say; media types are not to be trusted.
enum Decoder<R: Read> {
    Plain(BufReader<R>),
    Gzip(flate2::bufread::MultiGzDecoder<BufReader<R>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<R>>>),
}

/// Decompresses a stream of any known kind, within limits.
pub(crate) struct Decompressed<R: Read> {
    decoder: Decoder<Digesting<R>>,
    produced: u64,
}

impl<R: Read> Decompressed<R> {
    pub(crate) fn new(reader: R) -> io::Result<Decompressed<R>> {
        use std::io::BufRead;
        let mut reader = BufReader::with_capacity(64 << 10, Digesting::new(reader));
        let mut magic = Vec::new();
        // A short first read must not hide the magic number.
        while magic.len() < 4 {
            let available = reader.fill_buf()?;
            if available.len() <= magic.len() {
                break;
            }
            magic = available[..available.len().min(4)].to_vec();
        }
        let decoder = match magic.as_slice() {
            [0x1f, 0x8b, ..] => Decoder::Gzip(flate2::bufread::MultiGzDecoder::new(reader)),
            [0x28, 0xb5, 0x2f, 0xfd] => {
                Decoder::Zstd(Box::new(zstd::Decoder::with_buffer(reader)?))
            }
            _ => Decoder::Plain(reader),
        };
        Ok(Decompressed { decoder, produced: 0 })
    }

    fn source(&self) -> &Digesting<R> {
        match &self.decoder {
            Decoder::Plain(r) => r.get_ref(),
            Decoder::Gzip(r) => r.get_ref().get_ref(),
            Decoder::Zstd(r) => r.get_ref().get_ref(),
        }
    }

    /// Reads what is left, and answers digest and size of the stream as it came.
    pub(crate) fn finish(mut self) -> io::Result<(String, u64)> {
        io::copy(&mut self, &mut io::sink())?;
        // What the decoder has not read, e.g. after the last frame, belongs to it as well.
        let mut rest = match self.decoder {
            Decoder::Plain(r) => r,
            Decoder::Gzip(r) => r.into_inner(),
            Decoder::Zstd(r) => r.finish(),
        };
        io::copy(&mut rest, &mut io::sink())?;
        rest.into_inner().finish()
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = match &mut self.decoder {
            Decoder::Plain(r) => r.read(buf)?,
            Decoder::Gzip(r) => r.read(buf)?,
            Decoder::Zstd(r) => r.read(buf)?,
        };
        self.produced += n as u64;
        let allowed = FREE_GROWTH.max(self.source().count().saturating_mul(MAX_GROWTH));
        if self.produced > allowed.min(MAX_LAYER) {
            return Err(io::Error::other("layer is too large when decompressed"));
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn every_kind_is_found_by_its_content() {
        let text = b"some layer".repeat(1000);
        let two_members = [gzip(&text[..5000]), gzip(&text[5000..])].concat();
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        for stored in [text.clone(), gzip(&text), two_members, zstd] {
            let mut reader = Decompressed::new(&stored[..]).unwrap();
            let mut out = Vec::new();
            reader.read_to_end(&mut out).unwrap();
            assert_eq!(out, text);
            assert_eq!(reader.finish().unwrap(), (digest(&stored), stored.len() as u64));
        }
        let mut empty = Decompressed::new(&b""[..]).unwrap();
        assert_eq!(empty.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn bombs_are_refused() {
        // Two gigabytes of zeros in two megabytes: a thousandfold.
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0; 1 << 20];
        (0..2048).for_each(|_| out.write_all(&zeros).unwrap());
        let bomb = out.finish().unwrap();
        let mut reader = Decompressed::new(&bomb[..]).unwrap();
        let error = io::copy(&mut reader, &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("too large"), "{error}");
    }

    #[test]
    fn digests() {
        let known = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(b"abc"), known);
        let mut reader = Digesting::new(&b"abc"[..]);
        reader.read_exact(&mut [0]).unwrap();
        assert_eq!(reader.finish().unwrap(), (known.to_owned(), 3));
    }
}
