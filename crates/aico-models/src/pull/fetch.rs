//! Fetching the missing parts of a file from one server, several at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::{Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::error::PullError;
use super::meter::Meter;
use super::net::{self, Connection, Net, Opened};
use super::partial::Partial;
use super::url::Url;

/// Failures in a row of one worker, without anything coming in between.
const WORKER_TRIES: u32 = 3;
/// Times that a part with the wrong hash is fetched again.
const PART_TRIES: u32 = 2;

/// One server, and what is to be had from it.
pub(super) struct Source {
    net: Net,
    url: Url,
    /// Where its redirects led; signed addresses there end after a while.
    landing: Mutex<Option<Url>>,
    partial: Arc<Partial>,
    meter: Arc<Meter>,
    queue: Mutex<VecDeque<u64>>,
}

/// A part on its way. What of it is lost is taken off the meter.
struct Hand<'a> {
    meter: &'a Meter,
    bytes: Vec<u8>,
}

impl Hand<'_> {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn drop_bytes(&mut self) {
        self.meter.lost(self.len());
        self.bytes.clear();
    }
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        self.drop_bytes();
    }
}

impl Source {
    pub(super) fn new(net: Net, url: Url, partial: Arc<Partial>, meter: Arc<Meter>) -> Arc<Self> {
        let queue = Mutex::new(partial.missing().into());
        Arc::new(Self {
            net,
            url,
            landing: Mutex::default(),
            partial,
            meter,
            queue,
        })
    }

    fn host(&self) -> String {
        self.url.host().to_owned()
    }

    fn next(&self) -> Option<u64> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    }

    fn give_back(&self, index: u64) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_front(index);
    }

    fn set_landing(&self, url: Option<Url>) {
        *self.landing.lock().unwrap_or_else(PoisonError::into_inner) = url;
    }

    fn landing(&self) -> Option<Url> {
        let landing = self.landing.lock().unwrap_or_else(PoisonError::into_inner);
        landing.clone()
    }

    /// Fetches what is missing with up to `workers` connections. Returns when everything is
    /// there, or with the failure that kept something from coming.
    pub(super) async fn fetch(self: &Arc<Self>, workers: usize) -> Result<(), PullError> {
        let Some(index) = self.next() else {
            return Ok(());
        };
        let (first, length) = self.partial.plan.place(index);
        let opened = self.open(first, first + length - 1, None).await?;
        if opened.response.status() == StatusCode::OK {
            // It gives the whole or nothing.
            return self.whole(opened).await;
        }
        let mut running = JoinSet::new();
        let this = Arc::clone(self);
        running.spawn(async move { this.work(Some((index, opened))).await });
        for _ in 1..workers {
            let this = Arc::clone(self);
            running.spawn(async move { this.work(None).await });
        }
        let mut failure = None;
        while let Some(ended) = running.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                // The others go on: what one connection meets need not be the network's end.
                Ok(Err(error)) if error.passes() => failure = failure.or(Some(error)),
                Ok(Err(error)) => return Err(error),
                Err(_panicked) => return Err(PullError::Broken),
            }
        }
        match failure {
            Some(error) if !self.partial.missing().is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    /// Asks for bytes, from where the redirects led before when that still works.
    async fn open(
        &self,
        first: u64,
        last: u64,
        mut reuse: Option<Connection>,
    ) -> Result<Opened, PullError> {
        let range = Some((first, last));
        if let Some(landing) = self.landing() {
            let opened = self.net.open(&landing, range, reuse.take()).await?;
            match self.judge(&opened, first, last) {
                // A signed address that has ended: asked for again.
                Err(PullError::Refused { .. } | PullError::Gone(_)) => self.set_landing(None),
                Err(error) => return Err(error),
                Ok(()) => return Ok(opened),
            }
        }
        let opened = self.net.open(&self.url, range, reuse).await?;
        self.judge(&opened, first, last)?;
        if opened.landing != self.url {
            self.set_landing(Some(opened.landing.clone()));
        }
        Ok(opened)
    }

    /// Whether an answer is what was asked for.
    fn judge(&self, opened: &Opened, first: u64, last: u64) -> Result<(), PullError> {
        let response = &opened.response;
        let host = opened.landing.host().to_owned();
        let size = self.partial.plan.size;
        let wrong_size = |found: u64| PullError::WrongSize {
            host: host.clone(),
            expected: size,
            found,
        };
        let answer = |why: &'static str| PullError::Answer {
            host: host.clone(),
            why,
        };
        let status = response.status().as_u16();
        let length = net::text(response, header::CONTENT_LENGTH)
            .map(|text| text.trim().parse::<u64>())
            .transpose()
            .map_err(|_| answer("its length is no number"))?;
        match status {
            200 | 206 => {}
            401 | 402 | 403 | 407 | 451 => return Err(PullError::Refused { host, status }),
            404 | 410 => return Err(PullError::Gone(host)),
            416 => return Err(wrong_size(total_of(response).unwrap_or(0))),
            408 | 425 | 429 | 500..600 => {
                let wait = net::text(response, header::RETRY_AFTER)
                    .and_then(|text| text.trim().parse().ok())
                    .map(std::time::Duration::from_secs);
                return Err(PullError::Server { host, status, wait });
            }
            _ => return Err(answer("its status is none that a file comes with")),
        }
        if net::text(response, header::CONTENT_ENCODING).is_some_and(|how| how != "identity") {
            return Err(answer("the file is packed, which was not asked for"));
        }
        if status == 200 {
            return match length {
                Some(length) if length != size => Err(wrong_size(length)),
                _ => Ok(()),
            };
        }
        let total = total_of(response).ok_or_else(|| answer("it does not say which bytes come"))?;
        if total != size {
            return Err(wrong_size(total));
        }
        let range = net::text(response, header::CONTENT_RANGE).unwrap_or_default();
        if range != format!("bytes {first}-{last}/{size}") {
            return Err(answer("other bytes come than were asked for"));
        }
        match length {
            Some(length) if length != last - first + 1 => {
                Err(answer("its length is not that of its bytes"))
            }
            _ => Ok(()),
        }
    }

    /// What tells one version of the file on this server from another.
    fn tag(&self, response: &Response<Incoming>) -> u64 {
        let mut sum = Sha256::new();
        sum.update(self.url.authority());
        for name in [header::ETAG, header::LAST_MODIFIED] {
            sum.update([0]);
            sum.update(net::text(response, name).unwrap_or_default());
            if response.headers().contains_key(header::ETAG) {
                break;
            }
        }
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(sum.finalize());
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// One worker: part after part, until there is none left.
    async fn work(&self, mut begun: Option<(u64, Opened)>) -> Result<(), PullError> {
        let mut connection = None;
        loop {
            let (index, opened) = match begun.take() {
                Some((index, opened)) => (index, Some(opened)),
                None => match self.next() {
                    Some(index) => (index, None),
                    None => return Ok(()),
                },
            };
            match self.part(index, opened, connection.take()).await {
                Ok(used) => connection = used,
                Err(error) => {
                    // What ends the whole is tried by nobody else.
                    if error.passes() {
                        self.give_back(index);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Fetches one part, going on where a connection broke.
    async fn part(
        &self,
        index: u64,
        mut opened: Option<Opened>,
        mut reuse: Option<Connection>,
    ) -> Result<Option<Connection>, PullError> {
        let (first, length) = self.partial.plan.place(index);
        let mut hand = Hand {
            meter: &self.meter,
            bytes: Vec::with_capacity(usize::try_from(length).unwrap_or(0)),
        };
        let (mut dry, mut wrong, mut tag) = (0, 0, None);
        loop {
            let before = hand.len();
            let tried = self
                .piece(
                    &mut hand,
                    first,
                    length,
                    opened.take(),
                    reuse.take(),
                    &mut tag,
                )
                .await;
            match tried {
                // All of it came before the connection broke.
                Err(error) if error.passes() && hand.len() == length => reuse = None,
                Err(error) if error.passes() => {
                    // What drips below the least rate is no progress.
                    let slow = matches!(error, PullError::TooSlow(_));
                    dry = if hand.len() > before && !slow {
                        0
                    } else {
                        dry + 1
                    };
                    if dry >= WORKER_TRIES {
                        return Err(error);
                    }
                    tokio::time::sleep(self.net.limits.wait / 4 * dry).await;
                    continue;
                }
                Err(error) => return Err(error),
                Ok(used) => reuse = used,
            }
            if let Some(known) = self.partial.known_hash(index)
                && <[u8; 32]>::from(Sha256::digest(&hand.bytes)) != known
            {
                wrong += 1;
                if wrong > PART_TRIES {
                    return Err(PullError::WrongHash(self.host()));
                }
                hand.drop_bytes();
                continue;
            }
            let (partial, bytes) = (Arc::clone(&self.partial), std::mem::take(&mut hand.bytes));
            let tag = tag.unwrap_or_default();
            let put = tokio::task::spawn_blocking(move || {
                let put = partial.put(index, &bytes, tag);
                (put, bytes)
            });
            let (put, bytes) = put.await.map_err(|_| PullError::Broken)?;
            if put.is_err() {
                // They count as lost.
                hand.bytes = bytes;
            }
            put?;
            return Ok(reuse);
        }
    }

    /// The rest of a part over one connection.
    async fn piece(
        &self,
        hand: &mut Hand<'_>,
        first: u64,
        length: u64,
        opened: Option<Opened>,
        reuse: Option<Connection>,
        tag: &mut Option<u64>,
    ) -> Result<Option<Connection>, PullError> {
        let last = first + length - 1;
        let opened = match opened {
            Some(opened) => opened,
            None => self.open(first + hand.len(), last, reuse).await?,
        };
        if opened.response.status() != StatusCode::PARTIAL_CONTENT {
            return Err(PullError::Answer {
                host: opened.landing.host().to_owned(),
                why: "it gave parts of the file, and now no longer does",
            });
        }
        let now = self.tag(&opened.response);
        if tag.is_some_and(|before| before != now) {
            // Two versions in one part help nobody: it begins anew with the next try.
            hand.drop_bytes();
            *tag = None;
            return Err(PullError::Cut(self.host()));
        }
        *tag = Some(now);
        let Opened {
            connection,
            response,
            landing,
        } = opened;
        let mut body = Body::new(&self.net, landing.host(), response);
        while let Some(piece) = body.next().await? {
            if hand.len() + piece.len() as u64 > length {
                return Err(PullError::Answer {
                    host: landing.host().to_owned(),
                    why: "more bytes come than were asked for",
                });
            }
            hand.bytes.extend_from_slice(&piece);
            self.meter.came(piece.len() as u64, piece.len() as u64);
        }
        if hand.len() < length {
            return Err(PullError::Cut(landing.host().to_owned()));
        }
        Ok(Some(connection))
    }

    /// The whole file in one stream, from a server that knows no parts. What is there already
    /// is passed over.
    async fn whole(&self, opened: Opened) -> Result<(), PullError> {
        let tag = self.tag(&opened.response);
        let Opened {
            connection: _held,
            response,
            landing,
        } = opened;
        let host = landing.host().to_owned();
        let plan = self.partial.plan;
        let mut body = Body::new(&self.net, landing.host(), response);
        let mut rest = Bytes::new();
        let mut came = 0;
        for index in 0..plan.count() {
            let (_, length) = plan.place(index);
            let wanted = !self.partial.has(index);
            let mut hand = Hand {
                meter: &self.meter,
                bytes: Vec::new(),
            };
            let mut left = length;
            while left > 0 {
                if rest.is_empty() {
                    rest = match body.next().await? {
                        Some(piece) => piece,
                        None => return Err(PullError::Cut(host)),
                    };
                    continue;
                }
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                let piece = rest.split_to(take);
                left -= take as u64;
                came += take as u64;
                if wanted {
                    hand.bytes.extend_from_slice(&piece);
                    self.meter.came(take as u64, take as u64);
                } else {
                    self.meter.came(take as u64, 0);
                }
            }
            if !wanted {
                continue;
            }
            let right = |known: [u8; 32]| <[u8; 32]>::from(Sha256::digest(&hand.bytes)) == known;
            if !self.partial.known_hash(index).is_none_or(right) {
                return Err(PullError::WrongHash(host));
            }
            let (partial, bytes) = (Arc::clone(&self.partial), std::mem::take(&mut hand.bytes));
            let lost = bytes.len() as u64;
            let put = tokio::task::spawn_blocking(move || partial.put(index, &bytes, tag));
            let put = put.await.map_err(|_| PullError::Broken)?;
            if put.is_err() {
                self.meter.lost(lost);
            }
            put?;
        }
        match rest.is_empty() {
            true if body.next().await?.is_none() => Ok(()),
            _ => Err(PullError::WrongSize {
                host,
                expected: plan.size,
                found: came + 1,
            }),
        }
    }
}

/// The total of `Content-Range: bytes 0-9/100`.
fn total_of(response: &Response<Incoming>) -> Option<u64> {
    let range = net::text(response, header::CONTENT_RANGE)?;
    range
        .strip_prefix("bytes ")?
        .split_once('/')?
        .1
        .parse()
        .ok()
}

/// A body, read within the limits of time.
struct Body<'a> {
    net: &'a Net,
    host: &'a str,
    body: Incoming,
    since: Instant,
    came: u64,
}

impl<'a> Body<'a> {
    fn new(net: &'a Net, host: &'a str, response: Response<Incoming>) -> Self {
        Self {
            net,
            host,
            body: response.into_body(),
            since: Instant::now(),
            came: 0,
        }
    }

    /// The next piece; `None` at its end.
    async fn next(&mut self) -> Result<Option<Bytes>, PullError> {
        let limits = &self.net.limits;
        loop {
            let frame = timeout(limits.silence, self.body.frame())
                .await
                .map_err(|_| PullError::TooSlow(self.host.to_owned()))?;
            let frame = match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(PullError::Cut(self.host.to_owned())),
                Some(Ok(frame)) => frame,
            };
            // Trailers say nothing to us.
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            self.came += piece.len() as u64;
            if self.since.elapsed() >= limits.window {
                if self.came < limits.least {
                    return Err(PullError::TooSlow(self.host.to_owned()));
                }
                self.since = Instant::now();
                self.came = 0;
            }
            if piece.is_empty() {
                continue;
            }
            return Ok(Some(piece));
        }
    }
}
