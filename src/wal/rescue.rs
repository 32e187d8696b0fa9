//! Staged frames that continue a chunk on a slot that was given up: coded anew, so that another slot can take them.
//!
//! A commit may end in the middle of a chunk; what is staged after it needs the part on flash to be decoded. If the slot
//! then fails, that part stays where it is (it is synced) but nothing can be added behind it. Here it is read once more, the
//! staged frames are decoded behind it, and coded again from full values, with the numbers they have.
//!
//! # Limits and cost
//!
//! Needs a decoder, borrowed from a reader, which then finds its place again; and a frame's memory, borrowed from the caller of
//! the commit. Full values take room: where staging has none, the oldest of these frames are given up, counted. If the part on
//! flash cannot be read, or nobody lends a frame, they all are.

use super::Ring;
use super::ahead::{Common, is_in};
use super::commit::Head;
use super::counters::{Loss, Reason};
use super::frame_coding::Decoder;
use super::record::{self, Start, kind};
use super::segment::Item;
use super::storage::Storage;
use crate::catalogue::Catalogue;
use crate::frame::{Frame, FrameNo};

/// What was coded anew, and what was given up.
struct Anew {
    /// Serial of the first block of the new chunk, and its first frame.
    begun: Option<(u64, FrameNo)>,
    /// Frames in it.
    frames: u64,
    kept: Parts,
    lost: Parts,
    /// Numbers of what was given up.
    gone: Option<(FrameNo, FrameNo)>,
    /// Every remote has these frames.
    delivered: Common,
    /// Or has these, at least in hand.
    in_hand: Common,
}

/// Sums of frames that a sender has in hand, and of those after them.
#[derive(Clone, Copy, Default)]
struct Parts {
    held: Loss,
    rest: Loss,
}

impl Anew {
    fn part(&self, number: FrameNo, samples: u32, unix_ms: Option<i64>) -> Parts {
        let mut parts = Parts::default();
        if is_in(&self.delivered, number) {
            return parts;
        }
        let part = if is_in(&self.in_hand, number) {
            &mut parts.held
        } else {
            &mut parts.rest
        };
        part.add_frame(samples.into(), unix_ms);
        parts
    }

    fn lose(&mut self, from: FrameNo, to: FrameNo, parts: &Parts) {
        self.lost.add(parts);
        let (first, _) = *self.gone.get_or_insert((from, to));
        self.gone = Some((first, to));
    }
}

impl Parts {
    fn add(&mut self, other: &Self) {
        self.held.add(&other.held);
        self.rest.add(&other.rest);
    }
}

impl<S: Storage> Ring<S> {
    /// Makes the staged blocks begin with a chunk: codes the rest of the one that was cut off in segment `head` anew, in memory
    /// lent by the caller, or gives it up.
    pub(crate) fn begin_with_chunk(&mut self, head: Option<Head>, catalogue: &Catalogue, spare: Option<&mut Frame>) {
        let first = self.staging.first();
        if self.staging.get(first).is_none_or(|front| front.sync) {
            return;
        }
        let end = self.staging.chunk_end(first);
        let whole = self.round.until > first;
        let others = self.staging.end() > end;
        let spans = self.delivered_and_held();
        let reader = self.readers.first_mut().and_then(Option::take);
        let lent = spare.zip(head).zip(self.staging.first_frame_of(first..end));
        match (lent, reader) {
            (Some(((frame, head), from)), Some(mut reader)) => {
                let anew = if self.decode_up_to(from, head, reader.lend(), frame) {
                    Some(self.code_anew(from, spans, reader.lend(), frame, catalogue))
                } else {
                    None
                };
                reader.lend().forget();
                // It tells what its sender has in hand of what is given up.
                self.readers[0] = Some(reader);
                match anew {
                    Some(anew) => {
                        self.chunk.open &= !others;
                        if let Some((from, to)) = anew.gone {
                            self.give_up(Reason::WriteError, from, to, &anew.lost.held, &anew.lost.rest);
                        }
                    }
                    None => self.lose_front(Reason::WriteError),
                }
            }
            (_, reader) => {
                if let Some(place) = self.readers.first_mut() {
                    *place = reader;
                }
                self.lose_front(Reason::WriteError);
            }
        }
        // The commit takes what it was to take; what is added later stands in a block of its own.
        self.staging.close();
        self.round.until = if whole {
            self.staging.end()
        } else {
            self.staging.first()
        };
    }

    /// Decodes the chunk of the front block from the segment `head`, up to frame `from`.
    fn decode_up_to(&mut self, from: FrameNo, head: Head, decoder: &mut Decoder, frame: &mut Frame) -> bool {
        let Some(front) = self.staging.get(self.staging.first()).copied() else {
            return false;
        };
        let spare = &mut self.spare;
        spare.index.scan(&mut self.flash, head.slot, &mut spare.stream.block);
        spare.stream.rewind();
        if spare.index.seq != head.seq as u32 {
            return false;
        }
        decoder.use_codec(self.config.codec);
        decoder.forget();
        while !decoder.stands_at(front.chunk, from) {
            let item = spare
                .stream
                .next(&mut self.flash, &spare.index, &mut self.scratch.record);
            match item {
                Item::Record { kind: kind::START, len } => match record::parse::<Start>(&self.scratch.record[..len]) {
                    Ok(start) if start.frame_no == front.chunk.0 => decoder.start(&start),
                    _ => decoder.forget(),
                },
                Item::Record { kind: kind::FRAME, len } if decoder.next().is_some() => {
                    // An error forgets the state.
                    let _ = decoder.decode(&self.scratch.record[..len], frame);
                }
                Item::Record { .. } => {}
                Item::Restart { .. } | Item::TooLarge { .. } => decoder.forget(),
                Item::End => return false,
            }
        }
        true
    }

    /// Moves the frames of the front blocks, of which `from` is the first, into a chunk of their own. Senders have those of the two
    /// spans, see [`Ring::delivered_and_held`].
    fn code_anew(
        &mut self,
        from: FrameNo,
        (delivered, in_hand): (Common, Common),
        decoder: &mut Decoder,
        frame: &mut Frame,
        catalogue: &Catalogue,
    ) -> Anew {
        let first = self.staging.first();
        let end = self.staging.chunk_end(first);
        let until = self.staging.get(end).map_or(self.next, |next| next.chunk);
        let others = (self.staging.end() - end) as usize;
        let next = self.next;
        let mut anew = Anew {
            begun: None,
            frames: 0,
            kept: Parts::default(),
            lost: Parts::default(),
            gone: None,
            delivered,
            in_hand,
        };
        self.chunk.open = false;
        let mut number = from;
        let mut at = (
            first,
            self.staging
                .get(first)
                .map_or(0, |block| usize::from(block.first_record)),
        );
        while at.0 < end && number < until {
            let Some(found) = self.staging.record(at, &mut self.scratch.record) else {
                break;
            };
            at = found.next;
            if found.kind != kind::FRAME {
                continue;
            }
            let decoded = decoder.decode(&self.scratch.record[..found.len], frame);
            // Blocks that were read make room for what they held.
            let done = at.0.min(end) - self.staging.first();
            self.staging.release_front(done as usize);
            if decoded.is_err() {
                break;
            }
            self.next = number;
            self.put_anew(frame, &mut anew, catalogue);
            number = FrameNo(number.0 + 1);
        }
        self.next = next;
        self.staging.release_front((end - self.staging.first()) as usize);
        // What could not be decoded: nothing that was staged by this process should be.
        let rest = until.0.saturating_sub(number.0);
        if rest > 0 {
            self.drop_new(&mut anew, number);
            let mut lost = Parts::default();
            lost.rest.frames = rest;
            lost.rest.samples = self.samples_of(rest);
            anew.lose(number, until, &lost);
            self.write_off(number, until);
        }
        self.staging.rotate_front(others);
        self.staging.forget_marks();
        self.take_back_losses();
        self.tell_prior();
        self.counters.frames_coded_again += anew.frames;
        anew
    }

    /// Puts a frame behind the new chunk; where there is no room, gives up what stands before it.
    fn put_anew(&mut self, frame: &Frame, anew: &mut Anew, catalogue: &Catalogue) {
        let samples = if frame.up { frame.samples.len() as u32 } else { 0 };
        let unix_ms = self.unix_ms(frame.time_ms);
        let mut end = self.staging.end();
        let number = frame.number;
        let part = anew.part(number, samples, unix_ms);
        let mut placed = self.place(frame, samples, catalogue);
        if placed.is_err() && anew.frames > 0 {
            self.drop_new(anew, number);
            end = self.staging.end();
            placed = self.place(frame, samples, catalogue);
        }
        if placed.is_ok() {
            anew.begun.get_or_insert((end.min(self.staging.end() - 1), number));
            anew.frames += 1;
            anew.kept.add(&part);
        } else {
            let after = FrameNo(number.0 + 1);
            anew.lose(number, after, &part);
            self.write_off(number, after);
        }
    }

    /// Gives up the frames of the new chunk, which are those before `end`.
    fn drop_new(&mut self, anew: &mut Anew, end: FrameNo) {
        if let Some((serial, from)) = anew.begun.take() {
            self.staging.cut_back(serial);
            self.chunk.open = false;
            anew.frames = 0;
            let kept = core::mem::take(&mut anew.kept);
            anew.lose(from, end, &kept);
            self.write_off(from, end);
        }
    }
}
