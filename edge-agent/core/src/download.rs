//! One blob, pulled in chunks: what to ask for, what an arriving chunk is worth.
//!
//! Chunks are taken in order (a gap asks again from where it began): what is on disk is always a
//! prefix, so a download resumes from the file's length. The window follows the measured rate, so that
//! about a second's worth of bytes is on its way.

use core::time::Duration;

use protocol::Digest;
use protocol::blob::BlobRequest;
use protocol::limits::CHUNK;

use crate::time::Moment;

/// Chunks on their way at most: 2 MiB fill a 100 ms link of 160 Mbit/s.
const WINDOW_MAX: u32 = 32;

/// Without a chunk for this long, ask again: several times a chunk on a 50 KB/s link.
const PATIENCE: Duration = Duration::from_secs(6);

/// Silences in a row after which the blob is given up for now (the caller backs off).
const SILENCES_MAX: u32 = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    Ask(BlobRequest),
    Wait {
        until: Moment,
    },
    Complete,
    /// Nothing came for too long.
    GiveUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadChunk {
    #[error("the blob's length changed from {was} to {now} bytes")]
    LengthChanged { was: u64, now: u64 },
    #[error("the blob of {total} bytes is larger than the {limit} allowed")]
    TooLarge { total: u64, limit: u64 },
    #[error("chunk {number} has {got} bytes instead of {want}")]
    WrongSize { number: u32, got: usize, want: u64 },
}

/// What to do with a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Append,
    /// Here already, or after a gap.
    Drop,
}

#[derive(Debug, Clone)]
pub struct Download {
    blob: Digest,
    limit: u64,
    total: Option<u64>,
    /// Chunks on disk.
    have: u32,
    /// The chunk after the last one asked for.
    asked: u32,
    window: u32,
    silences: u32,
    /// Of the last ask or arrival.
    active: Option<Moment>,
    /// Bytes a second, smoothed.
    rate: Option<u64>,
}

impl Download {
    /// Goes on from `have_bytes` on disk; a part of a chunk there counts for nothing.
    pub fn new(blob: Digest, limit: u64, have_bytes: u64) -> Self {
        let have = u32::try_from(have_bytes / CHUNK as u64).unwrap_or(0);
        Self { blob, limit, total: None, have, asked: have, window: 2, silences: 0, active: None, rate: None }
    }

    /// How much of the file on disk counts.
    pub fn kept_bytes(&self) -> u64 {
        u64::from(self.have) * CHUNK as u64
    }

    pub fn poll(&mut self, now: Moment) -> Turn {
        if let Some(total) = self.total
            && self.have >= chunks(total)
        {
            return Turn::Complete;
        }
        let silent_until = self.active.map(|at| at.plus(PATIENCE));
        if self.asked > self.have && silent_until.is_some_and(|until| until <= now) {
            self.silences += 1;
            if self.silences > SILENCES_MAX {
                return Turn::GiveUp;
            }
            self.window = (self.window / 2).max(1);
            self.asked = self.have;
        }
        let end = self.total.map_or(u32::MAX, chunks);
        let on_the_way = self.asked - self.have;
        // Asked in halves of the window, so that requests stay few and the link stays busy.
        if on_the_way > self.window / 2 || self.asked >= end {
            return Turn::Wait { until: silent_until.unwrap_or(now.plus(PATIENCE)) };
        }
        let count = (self.window - on_the_way).min(end - self.asked);
        let first = self.asked;
        self.asked += count;
        self.active = Some(now);
        Turn::Ask(BlobRequest::Chunks { blob: self.blob, first, count: u16::try_from(count).unwrap_or(u16::MAX) })
    }

    /// # Errors
    /// The other side tells nonsense: the download is over.
    pub fn chunk(&mut self, number: u32, total: u64, bytes: &[u8], now: Moment) -> Result<Place, BadChunk> {
        let was = *self.total.get_or_insert(total);
        if was != total {
            return Err(BadChunk::LengthChanged { was, now: total });
        }
        if total > self.limit {
            return Err(BadChunk::TooLarge { total, limit: self.limit });
        }
        if number > self.have && number < self.asked {
            // One was lost on the way; the rest of this window is of no use.
            self.asked = self.have;
            self.window = (self.window / 2).max(1);
        }
        if number != self.have || number >= chunks(total) {
            return Ok(Place::Drop);
        }
        let want = (total - u64::from(number) * CHUNK as u64).min(CHUNK as u64);
        if bytes.len() as u64 != want {
            return Err(BadChunk::WrongSize { number, got: bytes.len(), want });
        }
        self.measure(want, now);
        self.have += 1;
        self.asked = self.asked.max(self.have);
        self.silences = 0;
        self.active = Some(now);
        Ok(Place::Append)
    }

    fn measure(&mut self, bytes: u64, now: Moment) {
        let Some(before) = self.active else { return };
        let took = u64::try_from(now.since(before).as_millis()).unwrap_or(u64::MAX).max(1);
        let sample = bytes.saturating_mul(1000) / took;
        let rate = self.rate.map_or(sample, |rate| (rate.saturating_mul(3).saturating_add(sample)) / 4);
        self.rate = Some(rate);
        let window = rate / CHUNK as u64;
        self.window = u32::try_from(window).unwrap_or(WINDOW_MAX).clamp(2, WINDOW_MAX);
    }
}

/// An empty blob has one empty chunk: it, too, is asked for and answered.
fn chunks(total: u64) -> u32 {
    u32::try_from(total.div_ceil(CHUNK as u64)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOB: Digest = Digest([3; 32]);
    const TOTAL: u64 = 5 * CHUNK as u64 + 10;

    fn ask(first: u32, count: u16) -> Turn {
        Turn::Ask(BlobRequest::Chunks { blob: BLOB, first, count })
    }

    fn content(number: u32, total: u64) -> Vec<u8> {
        let size = (total - u64::from(number) * CHUNK as u64).min(CHUNK as u64);
        vec![0; usize::try_from(size).unwrap()]
    }

    #[test]
    fn a_resumed_download_asks_from_where_it_was() {
        let mut download = Download::new(BLOB, u64::MAX, CHUNK as u64 + 5);
        assert_eq!(download.kept_bytes(), CHUNK as u64);
        assert_eq!(download.poll(Moment(0)), ask(1, 2));
        assert_eq!(download.poll(Moment(0)), Turn::Wait { until: Moment(6_000) });
    }

    #[test]
    fn a_gap_asks_again_and_silence_gives_up() {
        let mut download = Download::new(BLOB, u64::MAX, 0);
        assert_eq!(download.poll(Moment(0)), ask(0, 2));
        assert_eq!(download.chunk(1, TOTAL, &content(1, TOTAL), Moment(10)), Ok(Place::Drop));
        assert_eq!(download.poll(Moment(10)), ask(0, 1));
        let mut now = Moment(10);
        let mut asks = 0;
        loop {
            match download.poll(now) {
                Turn::Wait { until } => now = until,
                Turn::Ask(_) => asks += 1,
                Turn::GiveUp => break,
                Turn::Complete => panic!("nothing came"),
            }
        }
        assert_eq!(asks, SILENCES_MAX);
    }

    #[test]
    fn nonsense_ends_it() {
        let fresh = || Download::new(BLOB, 1000, 0);
        assert_eq!(fresh().chunk(0, 1001, &[], Moment(0)), Err(BadChunk::TooLarge { total: 1001, limit: 1000 }));
        assert_eq!(fresh().chunk(0, 10, &[0; 9], Moment(0)), Err(BadChunk::WrongSize { number: 0, got: 9, want: 10 }));
        let mut download = Download::new(BLOB, u64::MAX, 0);
        assert_eq!(download.chunk(0, TOTAL, &content(0, TOTAL), Moment(0)), Ok(Place::Append));
        assert_eq!(
            download.chunk(1, TOTAL + 1, &[], Moment(0)),
            Err(BadChunk::LengthChanged { was: TOTAL, now: TOTAL + 1 })
        );
    }

    #[test]
    fn an_empty_blob_is_one_empty_chunk() {
        let mut download = Download::new(BLOB, 1000, 0);
        assert!(matches!(download.poll(Moment(0)), Turn::Ask(_)));
        assert_eq!(download.chunk(0, 0, &[], Moment(1)), Ok(Place::Append));
        assert_eq!(download.poll(Moment(1)), Turn::Complete);
    }

    proptest! {
        /// Whatever is lost or doubled on the way, each chunk is appended once and in order.
        #[test]
        fn every_blob_arrives(total in 0..40 * CHUNK as u64, fates in prop::collection::vec(0..4_u8, 1..64)) {
            let mut download = Download::new(BLOB, u64::MAX, 0);
            let (mut now, mut written, mut fates) = (Moment(0), 0_u64, fates.iter().cycle());
            let mut losses = 0;
            for _ in 0..2_000 {
                match download.poll(now) {
                    Turn::Complete => break,
                    Turn::Wait { until } => now = until,
                    Turn::GiveUp => prop_assert!(false, "gave up"),
                    Turn::Ask(BlobRequest::Chunks { first, count, .. }) => {
                        for number in (first..first + u32::from(count)).take_while(|n| *n < chunks(total)) {
                            now = now.plus(Duration::from_millis(40));
                            let copies = match fates.next() {
                                Some(0) if losses < 3 => { losses += 1; 0 }
                                Some(1) => 2,
                                Some(_) | None => { losses = 0; 1 }
                            };
                            for _ in 0..copies {
                                let bytes = content(number, total);
                                if download.chunk(number, total, &bytes, now) == Ok(Place::Append) {
                                    written += bytes.len() as u64;
                                }
                            }
                        }
                    }
                    Turn::Ask(_) => prop_assert!(false, "asked for something else"),
                }
            }
            prop_assert_eq!(written, total);
        }
    }
}
