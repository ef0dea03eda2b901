//! The last lines of a container: a ring bounded in bytes, oldest out first, and which of them a
//! reader of `kubectl logs` gets.

use std::collections::VecDeque;

use protocol::UnixMillis;
use protocol::stream::LogsRequest;

/// A line longer than this is kept in pieces, as container runtimes do.
pub const LINE_MAX: usize = 16 * 1024;

/// What a line costs besides its bytes.
const LINE_OVERHEAD: usize = 48;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counts all lines of this ring; a follower goes on after the last one it has seen.
    pub number: u64,
    pub at: UnixMillis,
    /// With its line feed, unless it was cut.
    pub bytes: Box<[u8]>,
}

#[derive(Debug)]
pub struct Ring {
    lines: VecDeque<Line>,
    /// The line that has no end yet.
    open: Vec<u8>,
    next: u64,
    bytes: usize,
    limit: usize,
}

impl Ring {
    /// Keeps about `limit` bytes, the books included.
    pub fn new(limit: usize) -> Self {
        Self { lines: VecDeque::new(), open: Vec::new(), next: 0, bytes: 0, limit }
    }

    /// Takes what the guest wrote, in any pieces.
    pub fn write(&mut self, bytes: &[u8], at: UnixMillis) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut rest = piece;
            while !rest.is_empty() {
                let (taken, more) = rest.split_at(rest.len().min(LINE_MAX - self.open.len()));
                self.open.extend_from_slice(taken);
                rest = more;
                if self.open.last() == Some(&b'\n') || self.open.len() == LINE_MAX {
                    self.close_line(at);
                }
            }
        }
    }

    /// The guest has ended: its last line may lack an end.
    pub fn finish(&mut self, at: UnixMillis) {
        if !self.open.is_empty() {
            self.close_line(at);
        }
    }

    fn close_line(&mut self, at: UnixMillis) {
        let bytes = core::mem::take(&mut self.open).into_boxed_slice();
        self.bytes += bytes.len() + LINE_OVERHEAD;
        self.lines.push_back(Line { number: self.next, at, bytes });
        self.next += 1;
        while self.bytes > self.limit {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.bytes.len() + LINE_OVERHEAD;
        }
    }

    /// The number the next line will get.
    pub fn end(&self) -> u64 {
        self.next
    }

    /// The first line a request gets: after its times, and at most `tail` from the end.
    pub fn start(&self, request: &LogsRequest, now: UnixMillis) -> u64 {
        let young = request.since_seconds.map_or(0, |seconds| now.0.saturating_sub(seconds.saturating_mul(1000)));
        let since = young.max(request.since.map_or(0, |at| at.0));
        let by_time = self.lines.iter().find(|line| line.at.0 >= since).map_or(self.next, |line| line.number);
        let by_count = request.tail.map_or(0, |tail| self.next.saturating_sub(tail));
        by_time.max(by_count)
    }

    /// Kept lines from number `from` on.
    pub fn from(&self, from: u64) -> impl Iterator<Item = &Line> {
        let first = self.lines.front().map_or(self.next, |line| line.number);
        let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        self.lines.iter().skip(skip)
    }
}

/// Writes a line as the reader asked for it: with the time before it, or as it came.
pub fn render(line: &Line, timestamps: bool, into: &mut Vec<u8>) {
    if timestamps {
        into.extend_from_slice(rfc3339(line.at).as_bytes());
        into.push(b' ');
    }
    into.extend_from_slice(&line.bytes);
}

/// `2026-01-31T12:34:56.789Z`.
fn rfc3339(at: UnixMillis) -> String {
    let (seconds, millis) = (at.0 / 1000, at.0 % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The Gregorian date of a day after 1970-01-01. Years are counted from March, so that the leap day
/// comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    // 719,468 days lie between 0000-03-01 and 1970-01-01; an era is 400 years of 146,097 days.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // March to February have 153 days every five months.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::PodUid;

    fn request() -> LogsRequest {
        LogsRequest {
            pod: PodUid([0; 16]),
            container: "c".parse().unwrap(),
            previous: false,
            follow: false,
            timestamps: false,
            tail: None,
            since_seconds: None,
            since: None,
            limit_bytes: None,
        }
    }

    /// Lines `0` to `9`, one each second from 10 s on.
    fn ten() -> Ring {
        let mut ring = Ring::new(1 << 20);
        for n in 0..10_u64 {
            ring.write(format!("{n}\n").as_bytes(), UnixMillis((10 + n) * 1000));
        }
        ring
    }

    fn check(ring: &Ring, request: &LogsRequest, want: &str) {
        let mut out = Vec::new();
        for line in ring.from(ring.start(request, UnixMillis(20_000))) {
            render(line, request.timestamps, &mut out);
        }
        assert_eq!(String::from_utf8(out).unwrap().replace('\n', " ").trim(), want, "{request:?}");
    }

    #[test]
    fn a_reader_gets_the_lines_asked_for() {
        let ring = ten();
        check(&ring, &request(), "0 1 2 3 4 5 6 7 8 9");
        check(&ring, &LogsRequest { tail: Some(2), ..request() }, "8 9");
        check(&ring, &LogsRequest { tail: Some(0), ..request() }, "");
        check(&ring, &LogsRequest { tail: Some(99), ..request() }, "0 1 2 3 4 5 6 7 8 9");
        check(&ring, &LogsRequest { since_seconds: Some(3), ..request() }, "7 8 9");
        check(&ring, &LogsRequest { since: Some(UnixMillis(18_500)), ..request() }, "9");
        check(&ring, &LogsRequest { since_seconds: Some(3), tail: Some(1), ..request() }, "9");
        check(&ring, &LogsRequest { since_seconds: Some(0), ..request() }, "");
        let stamped = LogsRequest { tail: Some(1), timestamps: true, ..request() };
        check(&ring, &stamped, "1970-01-01T00:00:19.000Z 9");
    }

    #[test]
    fn pieces_become_lines_and_the_last_may_lack_its_end() {
        let mut ring = Ring::new(1 << 20);
        for piece in ["a", "b\nc", "\n", "d"] {
            ring.write(piece.as_bytes(), UnixMillis(0));
        }
        check(&ring, &request(), "ab c");
        ring.finish(UnixMillis(0));
        check(&ring, &request(), "ab c d");
    }

    #[test]
    fn the_ring_is_bounded_whatever_is_written() {
        let mut ring = Ring::new(100 * 1024);
        let flood = vec![b'x'; 10 << 20];
        ring.write(&flood, UnixMillis(0));
        ring.write(&b"y\n".repeat(100_000), UnixMillis(0));
        assert!(ring.bytes <= 100 * 1024);
        assert_eq!(ring.from(0).count(), 100 * 1024 / (LINE_OVERHEAD + 2));
        assert_eq!(ring.from(u64::MAX).count(), 0);
    }

    #[test]
    fn dates_are_gregorian() {
        let day = |days: u64| rfc3339(UnixMillis(days * 86_400_000))[..10].to_owned();
        assert_eq!(
            [day(0), day(59), day(11_016), day(11_017), day(20_514)],
            ["1970-01-01", "1970-03-01", "2000-02-29", "2000-03-01", "2026-03-02"]
        );
    }
}
