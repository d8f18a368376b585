//! Programs that are expected to end, or to go on until the test does.

use std::{
    io::Read,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// A program that has not ended by then hangs.
pub const END_MAX: Duration = Duration::from_mins(1);
/// Between two looks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Said {
    /// It ended with this code; everything it said is shown where it did not.
    #[track_caller]
    #[expect(
        clippy::return_self_not_must_use,
        reason = "often the code is all one asks"
    )]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Its standard output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// Its standard output as a JSON value a line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        };
        self.out.lines().map(parse).collect()
    }
}

/// Runs a program to its end, with nothing to read and no terminal.
pub fn run(command: &mut Command) -> Said {
    run_within(command, END_MAX)
}

/// The same for one that may take longer.
pub fn run_within(command: &mut Command, limit: Duration) -> Said {
    let mut child = Background(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs"),
    );
    let out = reading(child.0.stdout.take());
    let err = reading(child.0.stderr.take());
    let Some(status) = ended_within(&mut child.0, limit) else {
        drop(child);
        panic!(
            "{command:?} hangs; so far it said {} {}",
            text(out),
            text(err)
        );
    };
    Said {
        code: status.code(),
        out: text(out),
        err: text(err),
    }
}

/// How a program ended, if it did in time.
pub fn ended_within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let began = Instant::now();
    loop {
        let status = child.try_wait().expect("a child can be waited for");
        if status.is_some() || began.elapsed() > limit {
            return status;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A program that goes on until this is dropped.
pub struct Background(Child);

impl Background {
    /// Starts it; what it says is nobody's concern.
    pub fn start(command: &mut Command) -> Self {
        let silent = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(silent.spawn().expect("the program runs"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

type Reading = std::thread::JoinHandle<String>;

/// Reads along, so that a full pipe does not hold the program up.
fn reading(pipe: Option<impl Read + Send + 'static>) -> Reading {
    let mut pipe = pipe.expect("it is piped");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn text(reading: Reading) -> String {
    reading.join().expect("the reader does not panic")
}
