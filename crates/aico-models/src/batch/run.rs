//! The loop itself. One step: take commands, fill free slots, compute one batch over all that
//! run, sample, hand pieces out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use aico_contracts::ids::PersonId;
use aico_contracts::v1::Priority;
use tokio::sync::mpsc as channel;
use uuid::Uuid;

use super::answer::{Answer, choose};
use super::kept::Ask;
use super::pace::Pace;
use super::queue::{Queue, rank};
use super::slots::{Owner, Slots, Wanted};
use super::{Command, End, Event, Freed, QUEUE_LIMIT, Request, count};
use crate::engine::{Engine, Entry, Vocabulary};
use crate::text::AnswerText;

pub(super) struct Loop<'m, E: Engine, V: Vocabulary> {
    engine: E,
    vocabulary: &'m V,
    inbox: mpsc::Receiver<Command>,
    queue: Queue<Answer<E::Sampler>>,
    running: Vec<Answer<E::Sampler>>,
    /// Paused ones, with or without a slot.
    paused: Vec<Answer<E::Sampler>>,
    slots: Slots,
    pace: Pace,
    /// Steps that were begun.
    steps: Arc<AtomicU64>,
    arrivals: u64,
    batch: Vec<Entry>,
    bytes: Vec<u8>,
}

impl<'m, E: Engine, V: Vocabulary> Loop<'m, E, V> {
    pub(super) fn new(
        engine: E,
        vocabulary: &'m V,
        inbox: mpsc::Receiver<Command>,
        steps: Arc<AtomicU64>,
    ) -> Self {
        Self {
            slots: Slots::new(engine.sequences()),
            pace: Pace::new(engine.batch_limit()),
            engine,
            vocabulary,
            inbox,
            steps,
            queue: Queue::new(),
            running: Vec::new(),
            paused: Vec::new(),
            arrivals: 0,
            batch: Vec::new(),
            bytes: Vec::new(),
        }
    }

    pub(super) fn run(mut self) {
        while self.take_commands() {
            self.sweep();
            self.fill_slots();
            if !self.running.is_empty() {
                self.step();
            }
        }
        let waiting = self.queue.drain();
        for answer in waiting
            .chain(self.running.drain(..))
            .chain(self.paused.drain(..))
        {
            let _gone = answer.events.send(Event::Stopped);
        }
    }

    /// Takes what has come; waits when there is nothing to compute. False: the end.
    fn take_commands(&mut self) -> bool {
        if self.running.is_empty() && self.queue.len() == 0 {
            match self.inbox.recv() {
                Ok(command) => {
                    if !self.obey(command) {
                        return false;
                    }
                }
                Err(mpsc::RecvError) => return false,
            }
        }
        loop {
            match self.inbox.try_recv() {
                Ok(command) => {
                    if !self.obey(command) {
                        return false;
                    }
                }
                Err(mpsc::TryRecvError::Empty) => return true,
                Err(mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn obey(&mut self, command: Command) -> bool {
        match command {
            Command::Submit(request, events) => self.accept(*request, events),
            Command::Cancel(id, told) => {
                let freed = self.cancel(id);
                if let Some(told) = told {
                    let _gone = told.send(freed);
                }
            }
            Command::Pause(id, true) => {
                if let Some(at) = self.running.iter().position(|answer| answer.id == id) {
                    self.paused.push(self.running.swap_remove(at));
                } else if let Some(answer) = self.queue.take(|answer| answer.id == id) {
                    self.paused.push(answer);
                }
            }
            Command::Pause(id, false) => {
                if let Some(at) = self.paused.iter().position(|answer| answer.id == id) {
                    let answer = self.paused.swap_remove(at);
                    if answer.slot.is_some() {
                        self.running.push(answer);
                    } else {
                        self.queue.push(answer);
                    }
                }
            }
            Command::Forget(person) => {
                self.forget(|owner| person.is_none() || owner.person == person);
                // Nothing of a person's should be in them. Should something be, it goes as well.
                self.slots.forget_openings();
            }
            Command::Discard(person, key) => {
                self.forget(|owner| owner.person == Some(person) && owner.key == key);
            }
            Command::Ask(ask) => self.tell(ask),
            Command::Stop => return false,
        }
        true
    }

    /// Empties what is held of these, and keeps nothing of their answers later: one that waits, or
    /// gives its slot up, would take another one under its key.
    fn forget(&mut self, which: impl Fn(&Owner) -> bool) {
        self.slots.forget(&mut self.engine, &which);
        let answers = self.running.iter_mut().chain(&mut self.paused);
        for answer in answers.chain(self.queue.iter_mut()) {
            if which(&answer.owner) {
                answer.owner.key.clear();
            }
        }
    }

    /// What the cache holds; whoever asked may be gone.
    fn tell(&mut self, ask: Ask) {
        match ask {
            Ask::Held(answer) => {
                let mut held = self.slots.held(&self.engine);
                for prompt in &mut held {
                    prompt.prefill = self.pace.foretold(prompt.tokens);
                }
                let _gone = answer.send(held);
            }
            Ask::Save(owner, most, larger, answer) => {
                let saved = self.slots.save(&mut self.engine, &owner, most, larger);
                let _gone = answer.send(saved);
            }
            Ask::Restore(owner, saved, answer) => {
                let fits = saved.tokens.len() <= self.engine.context_length();
                let taken = fits.then(|| self.slots.restore(&mut self.engine, owner, saved));
                let _gone = answer.send(taken.flatten());
            }
        }
    }

    fn accept(&mut self, request: Request, events: channel::UnboundedSender<Event>) {
        let fits = request.prompt.len() < self.engine.context_length();
        if request.prompt.is_empty() || !fits {
            let _gone = events.send(Event::Failed);
            return;
        }
        self.arrivals += 1;
        let answer = Answer {
            id: request.id,
            owner: Owner {
                person: request.person,
                key: request.cache_key,
            },
            priority: request.priority,
            arrival: self.arrivals,
            events,
            sampler: self.engine.sampler(&request.sampling),
            text: AnswerText::new(request.thinking, request.stops).with_calls(request.calls),
            structure: request.structure,
            prompt: request.prompt.len(),
            // One token is always left to compute.
            own: request.own.min(request.prompt.len() - 1),
            shares: request.shares,
            tokens: request.prompt,
            answer_limit: request.answer_limit.max(1),
            held: 0,
            cached: 0,
            slot: None,
            told: None,
            asked: Instant::now(),
            first_token: None,
        };
        // Those whose readers are gone take nobody's place.
        self.queue.remove(|answer| answer.events.is_closed());
        let running = self.running_by_person();
        if let Some(last) = self.queue.admit(answer, QUEUE_LIMIT, &running) {
            let _gone = last.events.send(Event::Busy);
        }
    }

    /// Takes an answer out, wherever it is, and frees its sequence.
    fn cancel(&mut self, id: Uuid) -> Freed {
        let mut found = self.queue.take(|answer| answer.id == id);
        for list in [&mut self.running, &mut self.paused] {
            if let Some(at) = list.iter().position(|answer| answer.id == id) {
                found = Some(list.swap_remove(at));
            }
        }
        let mut freed = Freed {
            step: self.steps.load(Ordering::SeqCst),
            ..Freed::default()
        };
        if let Some(answer) = found {
            if let Some(slot) = answer.slot {
                self.slots
                    .give(&mut self.engine, slot, &answer.tokens[..answer.held]);
            }
            freed.prompt_tokens = count(answer.prompt);
            freed.cached_tokens = count(answer.cached);
            freed.answer_tokens = count(answer.answered());
        }
        freed
    }

    /// Cancels all whose reader is gone.
    fn sweep(&mut self) {
        let gone: Vec<Uuid> = self
            .running
            .iter()
            .chain(&self.paused)
            .filter(|answer| answer.events.is_closed())
            .map(|answer| answer.id)
            .collect();
        for id in gone {
            self.cancel(id);
        }
        self.queue.remove(|answer| answer.events.is_closed());
    }

    fn running_by_person(&self) -> HashMap<Option<PersonId>, usize> {
        let mut running = HashMap::new();
        for answer in &self.running {
            *running.entry(answer.owner.person).or_default() += 1;
        }
        running
    }

    fn fill_slots(&mut self) {
        // Those that run wait for a copy as they do for a step: the next one comes after theirs.
        let mut copied = false;
        while !copied && let Some(urgency) = self.queue.urgency() {
            if !self.slots.any_free() && !self.make_room(urgency) {
                break;
            }
            let Some(mut answer) = self.queue.pop(&self.running_by_person()) else {
                break;
            };
            let wanted = Wanted {
                owner: &answer.owner,
                prompt: &answer.tokens,
                own: answer.own,
                shares: answer.shares,
                others: !self.running.is_empty(),
            };
            let Some(taken) = self.slots.take(&mut self.engine, &wanted) else {
                self.queue.push(answer);
                break;
            };
            copied = taken.copied;
            answer.slot = Some(taken.slot);
            answer.held = taken.held;
            if answer.answered() == 0 {
                answer.cached = taken.held;
            }
            self.running.push(answer);
        }
        if !copied && self.queue.len() > 0 {
            let running = self.running_by_person();
            self.queue.tell(&running);
        }
    }

    /// Frees a slot for something of this urgency: one that is paused, or background work when
    /// a person waits. What it has generated is kept; only its cache is lost, unless it gets
    /// its slot back before somebody else.
    fn make_room(&mut self, urgency: Priority) -> bool {
        if let Some(answer) = self.paused.iter_mut().find(|answer| answer.slot.is_some()) {
            if let Some(slot) = answer.slot.take() {
                self.slots
                    .give(&mut self.engine, slot, &answer.tokens[..answer.held]);
                answer.held = 0;
            }
            return true;
        }
        if rank(urgency) < rank(Priority::Interactive) {
            return false;
        }
        let background = (0..self.running.len())
            .filter(|&index| self.running[index].priority == Priority::Background);
        // Who came last has least to lose.
        let Some(at) = background.max_by_key(|&index| self.running[index].arrival) else {
            return false;
        };
        let mut answer = self.running.swap_remove(at);
        if let Some(slot) = answer.slot.take() {
            self.slots
                .give(&mut self.engine, slot, &answer.tokens[..answer.held]);
            answer.held = 0;
        }
        self.queue.push(answer);
        true
    }

    fn step(&mut self) {
        self.batch.clear();
        // See `Engine::decode`: out of order they are computed one after another.
        self.running.sort_unstable_by_key(|answer| answer.slot);
        // (index in `running`, index in the batch of its output if it gets one)
        let mut parts: Vec<(usize, Option<usize>)> = Vec::with_capacity(self.running.len());
        let prompts = self
            .running
            .iter()
            .filter(|answer| answer.tokens.len() - answer.held > 1)
            .count();
        // Whoever is answering has a place, however long a prompt is.
        let room = self.engine.batch_limit() - (self.running.len() - prompts);
        let share = (self.pace.chunk().min(room) / prompts.max(1)).max(1);
        let mut prompt_tokens = 0;
        for (index, answer) in self.running.iter_mut().enumerate() {
            let Some(slot) = answer.slot else { continue };
            let open = answer.tokens.len() - answer.held;
            let free = self.engine.batch_limit() - self.batch.len();
            let mut count = if open == 1 { 1 } else { open.min(share) }.min(free);
            // A state is of a whole sequence: what is to be noted of it has to end with a step.
            if answer.held < answer.own && self.slots.lacks(answer.opening()) {
                count = count.min(answer.own - answer.held);
            }
            if open > 1 {
                prompt_tokens += count;
            }
            for position in answer.held..answer.held + count {
                let output = position + 1 == answer.tokens.len();
                let token = answer.tokens[position];
                self.batch.push(Entry {
                    token,
                    position,
                    sequence: slot,
                    output,
                });
            }
            answer.held += count;
            let output = (answer.held == answer.tokens.len()).then(|| self.batch.len() - 1);
            parts.push((index, output));
        }

        self.steps.fetch_add(1, Ordering::SeqCst);
        let began = Instant::now();
        if let Err(error) = self.engine.decode(&self.batch) {
            tracing::error!(%error, "The engine failed on a batch; its answers end.");
            for answer in self.running.drain(..) {
                let _gone = answer.events.send(Event::Failed);
                if let Some(slot) = answer.slot {
                    self.slots.give_empty(&mut self.engine, slot);
                }
            }
            return;
        }
        self.pace.measured(prompt_tokens, began.elapsed());
        let others = self.running.len() > 1;
        for answer in &self.running {
            if let Some(slot) = answer.slot
                && answer.held == answer.own
                && self
                    .slots
                    .note(&self.engine, slot, answer.opening(), others)
            {
                // One copy between two steps; another character's is noted when it is read again.
                break;
            }
        }

        // From the back: finished ones are taken out of `running`.
        for (index, output) in parts.into_iter().rev() {
            if let Some(output) = output
                && self.extend(index, output)
            {
                let answer = self.running.swap_remove(index);
                if let Some(slot) = answer.slot {
                    self.slots
                        .give(&mut self.engine, slot, &answer.tokens[..answer.held]);
                }
            }
        }
    }

    /// One more token for an answer. True when it is finished.
    fn extend(&mut self, index: usize, output: usize) -> bool {
        let answer = &mut self.running[index];
        let (token, fulfilled) = match choose(&mut self.engine, self.vocabulary, answer, output) {
            Ok(chosen) => chosen,
            Err(_) => {
                let _gone = answer.events.send(Event::TooComplex);
                return true;
            }
        };
        let first_token = *answer
            .first_token
            .get_or_insert_with(|| answer.asked.elapsed());
        let mut pieces = Vec::new();
        let mut ended = self.vocabulary.ends(token);
        let mut cut = false;
        if ended {
            answer.text.finish(&mut pieces);
        } else {
            answer.tokens.push(token);
            self.bytes.clear();
            match self.vocabulary.call_mark(token) {
                Some(mark) if answer.text.reads_calls() => self.bytes.extend(mark.as_bytes()),
                _ => self.vocabulary.piece(token, &mut self.bytes),
            }
            ended = answer.text.push(&self.bytes, &mut pieces);
            if fulfilled && !ended {
                answer.text.finish(&mut pieces);
                ended = true;
            }
            if !ended {
                cut = answer.answered() >= answer.answer_limit
                    || answer.tokens.len() >= self.engine.context_length();
                if cut {
                    answer.text.finish(&mut pieces);
                }
            }
        }
        answer.send(pieces);
        if !ended && !cut {
            return false;
        }
        let _gone = answer.events.send(Event::End(End {
            cut,
            prompt_tokens: count(answer.prompt),
            cached_tokens: count(answer.cached),
            answer_tokens: count(answer.answered()),
            first_token,
            total: answer.asked.elapsed(),
        }));
        true
    }
}
