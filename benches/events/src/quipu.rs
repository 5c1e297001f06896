//! Quipu: a stream over HTTP, from its beginning to its newest event, one JSON object a line.

use std::io::BufRead as _;

use crate::Result;
use crate::measure::{Connection, line};

/// Reads from the beginning; gives how many events there were.
pub(crate) fn read(address: &str, events: usize) -> Result<usize> {
    let mut connection = Connection::open(address)?;
    let path = "/v1/streams/bench/events?follow=false";
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.say(request.as_bytes())?;
    let first = line(&mut connection.reader)?;
    if !first.contains(" 200 ") {
        return Err(first.into());
    }
    // An event ends with a brace and a line's end, whatever the chunks; sizes of chunks do not.
    let (mut count, mut before) = (0, 0);
    loop {
        let bytes = connection.reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(count);
        }
        for byte in bytes {
            count += usize::from(before == b'}' && *byte == b'\n');
            before = *byte;
        }
        let size = bytes.len();
        connection.reader.consume(size);
        if count >= events {
            return Ok(count);
        }
    }
}
