//! Messages of any size up to the port's: packed where that helps, and in parts where one message does not hold them.
//!
//! The first part says how many there are and where to ask for the others; whoever receives it fetches them, a few at a
//! time. So nobody is sent more than it takes, and a sender needs to keep nothing but what it sends.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, Request, Subscriber};
use bytes::{Bytes, BytesMut};
use eventflow_ports::{MESSAGE_BYTES_MAX, PeerError, Source};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lz4_flex::block;
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::{header, too_large, unavailable};

/// What is smaller is not worth packing.
const PACK_ABOVE: usize = 4 * 1024;
/// What is larger is packed beside the tasks of the runtime, which would wait for it otherwise.
const PACK_ASIDE_ABOVE: usize = 256 * 1024;
/// What a part takes beside its bytes: headers and their names.
const HEADER_BYTES_MAX: usize = 1024;
/// Parts that are asked for at a time: enough to hide the way there and back.
const ASKED_AT_ONCE: usize = 4;
/// How long a part may take; the message is given up on then.
const PART_WITHIN: Duration = Duration::from_secs(10);

/// How the bytes are packed; nothing where they are not.
const ENCODING: &str = "eventflow-encoding";
const LZ4: &str = "lz4";
/// The message's size once it is unpacked.
const LENGTH: &str = "eventflow-length";
/// The number of its parts, where it has more than one.
const PARTS: &str = "eventflow-parts";
/// Where the other parts are, each by its number, the first is 0.
const REST: &str = "eventflow-rest";

/// A message on its way out.
pub(super) struct Outbound {
    packed: Bytes,
    /// Its size before it was packed; nothing where it is not.
    length: Option<usize>,
    part_bytes: usize,
}

impl Outbound {
    pub(super) async fn pack(client: &Client, message: Bytes) -> Result<Self, PeerError> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(too_large());
        }
        let part_bytes = client.max_payload().saturating_sub(HEADER_BYTES_MAX).max(1);
        let length = message.len();
        let packed = if length <= PACK_ABOVE {
            None
        } else if length <= PACK_ASIDE_ABOVE {
            Some(block::compress(&message))
        } else {
            let message = message.clone();
            let packing = spawn_blocking(move || block::compress(&message));
            Some(packing.await.map_err(unavailable)?)
        };
        Ok(match packed.filter(|packed| packed.len() < length) {
            Some(packed) => Self {
                packed: packed.into(),
                length: Some(length),
                part_bytes,
            },
            None => Self {
                packed: message,
                length: None,
                part_bytes,
            },
        })
    }

    pub(super) fn parts(&self) -> usize {
        self.packed.len().div_ceil(self.part_bytes).max(1)
    }

    /// Where the other parts can be asked for, where there are any.
    pub(super) async fn hold(&self, client: &Client) -> Result<Option<Rest>, Source> {
        if self.parts() == 1 {
            return Ok(None);
        }
        let subject = client.new_inbox();
        Ok(Some(Rest {
            asked: client.subscribe(subject.clone()).await?,
            client: client.clone(),
            subject,
        }))
    }

    pub(super) fn headers(&self, rest: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(length) = self.length {
            headers.insert(ENCODING, LZ4);
            headers.insert(LENGTH, length.to_string());
        }
        if let Some(rest) = rest {
            headers.insert(PARTS, self.parts().to_string());
            headers.insert(REST, rest);
        }
        headers
    }

    pub(super) fn first(&self) -> Bytes {
        self.part(0).unwrap_or_default()
    }

    fn part(&self, number: usize) -> Option<Bytes> {
        let from = number.checked_mul(self.part_bytes)?;
        let to = from.saturating_add(self.part_bytes).min(self.packed.len());
        (from < to).then(|| self.packed.slice(from..to))
    }
}

/// Where the parts of a message but the first are given out.
pub(super) struct Rest {
    subject: String,
    asked: Subscriber,
    client: Client,
}

impl Rest {
    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    /// Gives parts to who asks for them; ends once each has been given, or the connection has ended.
    pub(super) async fn serve_all(mut self, outbound: &Outbound) {
        let mut left: Vec<bool> = vec![true; outbound.parts()];
        left[0] = false;
        while left.contains(&true)
            && let Some(asked) = self.asked.next().await
        {
            if let Some(number) = self.give(outbound, asked).await {
                left[number] = false;
            }
        }
    }

    /// The same, for as long as it is polled.
    pub(super) async fn serve(mut self, outbound: &Outbound) {
        while let Some(asked) = self.asked.next().await {
            self.give(outbound, asked).await;
        }
    }

    async fn give(&self, outbound: &Outbound, asked: Message) -> Option<usize> {
        let number: usize = std::str::from_utf8(&asked.payload).ok()?.parse().ok()?;
        let part = outbound.part(number)?;
        self.client.publish(asked.reply?, part).await.ok()?;
        Some(number)
    }
}

/// A message that is coming in, by its first part.
pub(super) struct Inbound<'a> {
    first: &'a Bytes,
    /// Its size once it is unpacked; nothing where it is not packed.
    length: Option<usize>,
    /// How many parts there are, and where, where this is not all.
    rest: Option<(usize, &'a str)>,
}

impl<'a> Inbound<'a> {
    pub(super) fn of(message: &'a Message) -> Result<Self, PeerError> {
        let headers = message.headers.as_ref();
        let number = |name: &str| -> Result<Option<usize>, PeerError> {
            let value = header(headers, name).map(str::parse).transpose();
            value.map_err(|error| {
                unavailable(format!(
                    "the header {name} of a message between nodes: {error}"
                ))
            })
        };
        let length = match header(headers, ENCODING) {
            None => None,
            Some(LZ4) => Some(number(LENGTH)?.ok_or_else(|| {
                unavailable("a packed message between nodes does not say its length")
            })?),
            Some(other) => {
                return Err(unavailable(format!(
                    "a message between nodes is packed with {other}, which this version cannot read"
                )));
            }
        };
        if length.is_some_and(|length| length > MESSAGE_BYTES_MAX) {
            return Err(too_large());
        }
        let rest = number(PARTS)?.zip(header(headers, REST));
        Ok(Self {
            first: &message.payload,
            length,
            rest,
        })
    }

    /// Whether this is all of it.
    pub(super) fn is_whole(&self) -> bool {
        self.rest.is_none()
    }

    /// All of it, unpacked.
    pub(super) async fn receive(
        self,
        client: &Client,
        deadline: Instant,
    ) -> Result<Bytes, PeerError> {
        let packed = match self.rest {
            None => self.first.clone(),
            Some((parts, subject)) => fetch(client, self.first, parts, subject, deadline).await?,
        };
        match self.length {
            None => Ok(packed),
            Some(length) if packed.len() > PACK_ASIDE_ABOVE || length > PACK_ASIDE_ABOVE => {
                let unpacking = spawn_blocking(move || unpack(&packed, length));
                unpacking.await.map_err(unavailable)?
            }
            Some(length) => unpack(&packed, length),
        }
    }
}

/// Puts a message together.
async fn fetch(
    client: &Client,
    first: &Bytes,
    parts: usize,
    subject: &str,
    deadline: Instant,
) -> Result<Bytes, PeerError> {
    let asked = (1..parts).map(|number| async move {
        let request = Request::new()
            .payload(number.to_string().into())
            .timeout(Some(PART_WITHIN));
        client.send_request(subject.to_owned(), request).await
    });
    let mut asked = stream::iter(asked).buffered(ASKED_AT_ONCE);
    let mut packed = BytesMut::from(&first[..]);
    let gathering = async {
        while let Some(part) = asked.try_next().await.map_err(unavailable)? {
            // What is packed is smaller than what is not.
            if packed.len() + part.payload.len() > MESSAGE_BYTES_MAX {
                return Err(too_large());
            }
            packed.extend_from_slice(&part.payload);
        }
        Ok(())
    };
    timeout_at(deadline, gathering)
        .await
        .map_err(unavailable)??;
    Ok(packed.freeze())
}

fn unpack(packed: &[u8], length: usize) -> Result<Bytes, PeerError> {
    let unpacked = block::decompress(packed, length).map_err(unavailable)?;
    if unpacked.len() == length {
        return Ok(unpacked.into());
    }
    Err(unavailable(format!(
        "a message between nodes has {} of {length} bytes",
        unpacked.len()
    )))
}
