//! Standard input as batches of blocks.

use std::io::{self, BufRead, BufReader, Read};
use std::thread;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::failure::Failure;

/// Lines that become blocks together.
pub(crate) type Batch = Vec<Vec<u8>>;

/// Reads lines of standard input on a thread of its own, which nobody has to wait for.
///
/// A batch is what came while the one before was being stored, so that little input is stored at
/// once and much input at little cost. `max` is the greatest number of bytes in a line.
pub(crate) fn read_stdin(max: usize) -> Receiver<Result<Batch, Failure>> {
    let (sender, receiver) = mpsc::channel(1);
    thread::spawn(move || {
        let input = BufReader::with_capacity(READ_BYTES, io::stdin());
        if let Err(failure) = read(input, max, &sender) {
            let _nobody_waits = sender.blocking_send(Err(failure));
        }
    });
    receiver
}

fn read(
    mut input: BufReader<impl Read>,
    max: usize,
    sender: &Sender<Result<Batch, Failure>>,
) -> Result<(), Failure> {
    let (mut batch, mut bytes, mut number) = (Batch::new(), 0, 1_u64);
    let mut line = Vec::new();
    loop {
        let buffer = match input.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let message = format!("cannot read standard input: {error}");
                return Err(Failure::new("ERR_INPUT", message));
            }
        };
        if buffer.is_empty() {
            break;
        }
        let used = buffer.len();
        for piece in buffer.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece {
                [text @ .., b'\n'] => (text, true),
                text => (text, false),
            };
            if line.len() + text.len() > max {
                send(sender, batch);
                return Err(too_long(number, max));
            }
            line.extend_from_slice(text);
            if ended {
                bytes += line.len();
                batch.push(std::mem::take(&mut line));
                number += 1;
            }
        }
        input.consume(used);
        if batch.len() >= BATCH_LINES || bytes >= BATCH_BYTES {
            send(sender, std::mem::take(&mut batch));
            bytes = 0;
        } else if !batch.is_empty() {
            match sender.try_send(Ok(std::mem::take(&mut batch))) {
                Ok(()) => bytes = 0,
                // The one before is still being stored: this one grows meanwhile.
                Err(TrySendError::Full(unsent)) => batch = unsent?,
                Err(TrySendError::Closed(_)) => return Ok(()),
            }
        }
    }
    if !line.is_empty() {
        batch.push(line);
    }
    send(sender, batch);
    Ok(())
}

fn send(sender: &Sender<Result<Batch, Failure>>, batch: Batch) {
    if !batch.is_empty() {
        let _nobody_waits = sender.blocking_send(Ok(batch));
    }
}

fn too_long(number: u64, max: usize) -> Failure {
    let message = format!(
        "line {number} is too long: a line is a block, and a block has at most {max} bytes"
    );
    Failure::new("ERR_BLOCK_TOO_LARGE", message).detail("line", number).detail("max", max)
}

/// Bytes read at once.
const READ_BYTES: usize = 0x1_0000;

/// Lines in a batch at most, but for those of one read.
const BATCH_LINES: usize = 16_384;

/// Bytes in a batch at most, but for those of one read.
const BATCH_BYTES: usize = 0x40_0000;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(input: &[u8], piece: usize, max: usize) -> (Batch, Option<Failure>) {
        let (sender, mut receiver) = mpsc::channel(1);
        let input = input.to_vec();
        let reader = thread::spawn(move || {
            read(BufReader::with_capacity(piece, io::Cursor::new(input)), max, &sender).err()
        });
        let mut lines = Vec::new();
        while let Some(batch) = receiver.blocking_recv() {
            lines.extend(batch.unwrap());
        }
        (lines, reader.join().unwrap())
    }

    #[test]
    fn lines_are_read_whole_however_the_input_is_cut() {
        for piece in [1, 2, 3, 1000] {
            let (lines, failure) = lines_of(b"one\n\ntwo\r\n\xff\0\nlast", piece, 10);
            assert_eq!(lines, [&b"one"[..], b"", b"two\r", b"\xff\0", b"last"]);
            assert!(failure.is_none());
        }
    }

    #[test]
    fn a_last_line_end_makes_no_empty_block() {
        assert_eq!(lines_of(b"a\n", 10, 10).0, [b"a"]);
        assert!(lines_of(b"", 10, 10).0.is_empty());
        assert_eq!(lines_of(b"\n", 10, 10).0, [b""]);
    }

    #[test]
    fn a_line_that_is_too_long_comes_after_those_before_it() {
        for piece in [1, 4, 1000] {
            let (lines, failure) = lines_of(b"12345\n12345\n123456\n1\n", piece, 5);
            assert_eq!(lines, [b"12345", b"12345"]);
            assert_eq!(failure.unwrap().details["line"], 3);
        }
    }
}
