//! Runs programs and keeps what they say.

use std::{
    ffi::OsStr,
    fmt,
    io::Write,
    process::{Command, Output, Stdio},
};

/// A program that has ended.
pub struct Finished {
    line: String,
    output: Output,
}

impl Finished {
    /// What it wrote to stdout; panics if it failed.
    pub fn stdout(self) -> String {
        assert!(self.output.status.success(), "{self}");
        self.out()
    }

    /// What it wrote to stdout, whether it failed or not.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// What it wrote to stderr, whether it failed or not.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Its exit code.
    pub fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    /// What it wrote to stderr; panics if it succeeded.
    pub fn refused(self) -> String {
        assert!(!self.output.status.success(), "succeeded unexpectedly: {self}");
        self.err()
    }

    /// Stdout if it succeeded, else what it said.
    pub fn result(self) -> Result<String, String> {
        if self.output.status.success() { Ok(self.out()) } else { Err(self.to_string()) }
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}\n{}{}", self.line, self.output.status, self.out(), self.err())
    }
}

/// Runs a program to its end, with `input` on stdin.
pub fn run_with<S: AsRef<OsStr>>(program: &str, arguments: &[S], input: &str) -> Finished {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {program}: {error}; try `make deps`"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // Beside the reading: a program may write before it has read all.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let arguments: Vec<_> = arguments.iter().map(|a| a.as_ref().to_string_lossy()).collect();
    Finished { line: format!("{program} {}", arguments.join(" ")), output }
}

/// Runs a program to its end.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Finished {
    run_with(program, arguments, "")
}
