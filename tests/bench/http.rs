//! HTTP/1.1 over TLS with blocking sockets. It shares the machine with what it measures: one
//! write and about one read a request, no headers kept, no body copied unless asked for.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use crate::kubeconfig::Endpoint;

/// What is read from the socket at once: lists are large, and rustls by itself reads 4 KiB.
const SOCKET: usize = 256 << 10;
/// What is decrypted at once.
const PLAIN: usize = 64 << 10;

/// A connection that is kept open.
pub struct Connection {
    stream: BufReader<StreamOwned<ClientConnection, Buffered>>,
    /// The lines that every request has.
    common: String,
    request: Vec<u8>,
    line: Vec<u8>,
}

/// A socket that is read in large pieces.
struct Buffered(BufReader<TcpStream>);

impl Read for Buffered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A request without what all have in common.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub accept: &'a str,
    pub content_type: &'a str,
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// A request without a body that wants JSON.
    pub const fn new(method: &'a str, path: &'a str) -> Self {
        let json = "application/json";
        Self { method, path, accept: json, content_type: json, body: &[] }
    }

    /// The same with a body.
    pub const fn with(self, body: &'a [u8]) -> Self {
        Self { body, ..self }
    }
}

/// What is left to read of a body.
enum Body {
    Length(u64),
    Chunks,
}

impl Connection {
    /// Talks TLS over `socket`.
    pub fn new(socket: TcpStream, endpoint: &Endpoint) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let host = endpoint.authority.rsplit_once(':').map_or(&*endpoint.authority, |(h, _)| h);
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let tls = ClientConnection::new(endpoint.tls.clone(), name).map_err(io::Error::other)?;
        let socket = Buffered(BufReader::with_capacity(SOCKET, socket));
        Ok(Self {
            stream: BufReader::with_capacity(PLAIN, StreamOwned::new(tls, socket)),
            common: format!("Host: {}\r\n{}", endpoint.authority, endpoint.authorization),
            request: Vec::new(),
            line: Vec::new(),
        })
    }

    /// Sends a request and gives each piece of the answer's body to `take`. Returns the status.
    pub fn exchange(
        &mut self,
        request: Request<'_>,
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<u16> {
        self.send(request)?;
        let (status, body) = self.head()?;
        match body {
            Body::Length(length) => self.pass(length, &mut take)?,
            Body::Chunks => {
                while let Some(length) = self.chunk()? {
                    self.pass(length, &mut take)?;
                    self.read_line()?;
                }
            }
        }
        Ok(status)
    }

    /// Sends a request whose answer never ends (a watch) and gives each of its lines to `take`
    /// until that says false.
    pub fn lines(
        &mut self,
        request: Request<'_>,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<()> {
        self.send(request)?;
        let (status, _) = self.head()?;
        if status != 200 {
            return Err(io::Error::other(format!("{} answered {status}", request.path)));
        }
        let mut line = Vec::new();
        while let Some(length) = self.chunk()? {
            let mut more = true;
            self.pass(length, &mut |mut piece| {
                while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
                    line.extend_from_slice(&piece[..end]);
                    more = more && take(&line);
                    line.clear();
                    piece = &piece[end + 1..];
                }
                line.extend_from_slice(piece);
            })?;
            self.read_line()?;
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn send(&mut self, request: Request<'_>) -> io::Result<()> {
        self.request.clear();
        let Request { method, path, accept, content_type, body } = request;
        write!(self.request, "{method} {path} HTTP/1.1\r\n{}Accept: {accept}\r\n", self.common)?;
        if !body.is_empty() {
            let length = body.len();
            write!(self.request, "Content-Type: {content_type}\r\nContent-Length: {length}\r\n")?;
        }
        self.request.extend_from_slice(b"\r\n");
        self.request.extend_from_slice(body);
        let stream = self.stream.get_mut();
        stream.write_all(&self.request)?;
        stream.flush()
    }

    fn head(&mut self) -> io::Result<(u16, Body)> {
        self.read_line()?;
        let status = std::str::from_utf8(&self.line).ok().and_then(|line| line.get(9..12));
        let status = status.and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("no status line"))?;
        let mut body = Body::Length(0);
        loop {
            self.read_line()?;
            if self.line.is_empty() {
                return Ok((status, body));
            }
            let line = std::str::from_utf8(&self.line).unwrap_or_default();
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("content-length") {
                body = Body::Length(value.trim().parse().map_err(io::Error::other)?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                body = Body::Chunks;
            }
        }
    }

    /// The length of the next chunk, or nothing after the last.
    fn chunk(&mut self) -> io::Result<Option<u64>> {
        self.read_line()?;
        let line = std::str::from_utf8(&self.line).unwrap_or_default();
        let length = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        if length > 0 {
            return Ok(Some(length));
        }
        self.read_line()?;
        Ok(None)
    }

    /// Reads a line and drops its end.
    fn read_line(&mut self) -> io::Result<()> {
        self.line.clear();
        if self.stream.read_until(b'\n', &mut self.line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while self.line.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
            self.line.pop();
        }
        Ok(())
    }

    fn pass(&mut self, mut length: u64, take: &mut impl FnMut(&[u8])) -> io::Result<()> {
        while length > 0 {
            let buffer = self.stream.fill_buf()?;
            if buffer.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let piece = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            take(&buffer[..piece]);
            self.stream.consume(piece);
            length -= piece as u64;
        }
        Ok(())
    }
}
