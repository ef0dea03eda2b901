//! What a person reads under Events: collected while facts come in, drained by the shell.

use std::collections::VecDeque;

use protocol::event::Severity;
use protocol::limits::MESSAGE_MAX;
use protocol::{PodUid, UnixMillis};

/// Notes kept while nobody takes them: about what one busy node says in ten minutes. The oldest go first.
const KEPT: usize = 512;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub pod: Option<PodUid>,
    pub container: Option<String>,
    pub severity: Severity,
    pub reason: &'static str,
    pub message: String,
    pub at: UnixMillis,
}

#[derive(Debug, Clone, Default)]
pub struct Notes(VecDeque<Note>);

impl Notes {
    pub fn push(&mut self, mut note: Note) {
        note.message = clip(note.message);
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(note);
    }

    pub fn take(&mut self) -> Vec<Note> {
        self.0.drain(..).collect()
    }
}

/// Cuts a text for people to [`MESSAGE_MAX`] bytes, at a letter, with an ellipsis.
pub fn clip(mut text: String) -> String {
    if text.len() > MESSAGE_MAX {
        let mut end = MESSAGE_MAX - '…'.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_between_letters() {
        assert_eq!(clip("short".into()), "short");
        let cut = clip("ä".repeat(MESSAGE_MAX));
        assert!(cut.len() <= MESSAGE_MAX && cut.ends_with("ä…"), "{}", cut.len());
    }

    #[test]
    fn the_oldest_note_makes_room() {
        let mut notes = Notes::default();
        for at in 0..=KEPT as u64 {
            notes.push(Note {
                pod: None,
                container: None,
                severity: Severity::Normal,
                reason: "Test",
                message: String::new(),
                at: UnixMillis(at),
            });
        }
        let taken = notes.take();
        assert_eq!((taken.len(), taken[0].at), (KEPT, UnixMillis(1)));
    }
}
