//! Programs that run beside the test.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Duration,
};

/// A running program whose output is read line by line; killed when dropped.
pub struct Background {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Background {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdin = child.stdin.take();
        // Stderr too: which of both a client writes to is its own affair.
        let outputs: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Self { child, stdin, lines }
    }

    /// Writes to its stdin.
    pub fn write(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Ends its stdin.
    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Reads until a line contains `part`, and returns that line.
    pub fn line_with(&mut self, part: &str) -> String {
        self.lines_until(part).pop().unwrap()
    }

    /// Reads until a line contains `part`, and returns all lines up to that one.
    pub fn lines_until(&mut self, part: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) => {
                    let last = line.contains(part);
                    seen.push(line);
                    if last {
                        return seen;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no line with {part:?} after {seen:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("ended without {part:?}: {seen:?}"),
            }
        }
    }

    /// Waits for its end; whether it succeeded, and the lines that were not read yet.
    pub fn end(mut self) -> (bool, Vec<String>) {
        self.stdin = None;
        let success = self.child.wait().unwrap().success();
        (success, self.lines.iter().collect())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
