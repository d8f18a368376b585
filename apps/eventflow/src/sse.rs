//! Server-sent events, as `GET …/events` sends them.

use bytes::{Buf, Bytes, BytesMut};
use eventflow_agent::{Call, HeaderName, HeaderValue, Streaming};

use crate::{error::Refused, service::Service};

/// The longest line that is read: an event with the largest value that stands in one, and room.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A stream of events that is read as it comes.
#[derive(Debug)]
pub(crate) struct Events {
    body: Streaming,
    unread: BytesMut,
}

impl Events {
    /// The events of an execution, from its first one on.
    pub(crate) async fn open(service: &Service, path: String) -> anyhow::Result<Self> {
        let accept = HeaderName::from_static("accept");
        let call = Call::get(&path).header(accept, HeaderValue::from_static("text/event-stream"));
        let body = service.server.open(call).await?;
        if body.status != 200 {
            // Asked again as a plain request, whose answer has the problem.
            let answer = service.server.send(Call::get(path)).await?;
            return Err(Refused(answer.problem()).into());
        }
        Ok(Self {
            body,
            unread: BytesMut::new(),
        })
    }

    /// The data of the next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            while let Some(line) = take_line(&mut self.unread) {
                // Ids, types and comments are not needed: the data has them.
                if let Some(data) = line.strip_prefix(b"data:") {
                    return Ok(Some(Bytes::copy_from_slice(data.trim_ascii())));
                }
            }
            anyhow::ensure!(
                self.unread.len() <= LINE_BYTES_MAX,
                "an event is longer than {LINE_BYTES_MAX} bytes"
            );
            match self.body.next().await? {
                Some(bytes) => self.unread.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }
}

fn take_line(unread: &mut BytesMut) -> Option<BytesMut> {
    let end = unread.iter().position(|byte| *byte == b'\n')?;
    let line = unread.split_to(end);
    unread.advance(1);
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_whole_however_they_come() {
        let mut unread = BytesMut::from(&b"id: 1\ndata: {}\n\nda"[..]);
        let mut lines = Vec::new();
        while let Some(line) = take_line(&mut unread) {
            lines.push(line);
        }
        assert_eq!(lines, [&b"id: 1"[..], b"data: {}", b""]);
        unread.extend_from_slice(b"ta: 2\n");
        assert_eq!(take_line(&mut unread).unwrap(), b"data: 2"[..]);
    }
}
