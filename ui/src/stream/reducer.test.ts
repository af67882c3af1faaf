import { describe, expect, it } from 'vitest';
import type { Conversation, Message } from '../api/types';
import type { StreamEvent } from './protocol';
import { type Action, type ChatState, emptyChat, partsOf, reduce, revisionOf } from './reducer';

const C = 'c1';

function conversation(change: Partial<Conversation> = {}): Conversation {
  return {
    id: C,
    character: 'aico',
    title: 'Talk',
    created_at: '2026-01-01T00:00:00Z',
    updated_at: '2026-01-01T00:00:00Z',
    active_leaf: null,
    ...change,
  };
}

function message(id: string, change: Partial<Message> = {}): Message {
  return {
    id,
    model: null,
    conversation: C,
    parent: null,
    role: 'user',
    parts: [{ type: 'text', text: id }],
    status: 'complete',
    created_at: '2026-01-01T00:00:00Z',
    siblings: [id],
    ...change,
  };
}

function streaming(id: string, change: Partial<Message> = {}): Message {
  return message(id, {
    role: 'assistant',
    parent: 'q',
    parts: [],
    status: 'streaming',
    next_index: 0,
    ...change,
  });
}

function delta(index: number, text: string, part = 0, thinking = false): StreamEvent {
  return { kind: 'answer.delta', conversation: C, message: 'a', part, index, text, thinking };
}

function created(message: Message): StreamEvent {
  return { kind: 'message.created', conversation: C, message };
}

function done(message: Message): StreamEvent {
  return { kind: 'answer.done', conversation: C, message };
}

const welcome: Action = {
  type: 'authenticated',
  person: { id: 'p', name: 'Mira', role: 'owner', created_at: '2026-01-01T00:00:00Z' },
  epoch: 'e1',
  seq: 0,
  resumed: false,
  heartbeat_seconds: 25,
};

function run(state: ChatState, ...actions: Action[]): ChatState {
  return actions.reduce(reduce, state);
}

/** Events with the numbers that follow. */
function happen(state: ChatState, ...events: StreamEvent[]): ChatState {
  return events.reduce(
    (now, event) => reduce(now, { type: 'event', seq: now.seq + 1, event }),
    state,
  );
}

function opened(messages: Message[] = [], change: Partial<Conversation> = {}): ChatState {
  return run(
    emptyChat,
    welcome,
    { type: 'listed', conversations: [conversation(change)], whole: true },
    { type: 'reading', conversation: C },
    { type: 'read', conversation: conversation(change), messages, revision: 0 },
  );
}

function textOf(state: ChatState, id: string): string {
  const found = state.threads[C]?.messages.find((one) => one.id === id);
  return found
    ? partsOf(state, found)
        .map((part) => part.text)
        .join('|')
    : '';
}

function path(state: ChatState): string[] {
  return state.threads[C]?.messages.map((one) => one.id) ?? [];
}

describe('deltas', () => {
  const asked = () => happen(opened(), created(message('q')), created(streaming('a')));

  it('are appended in their order', () => {
    const state = happen(asked(), delta(0, 'Good '), delta(1, 'day'));
    expect(textOf(state, 'a')).toBe('Good day');
    expect(state.threads[C]?.stale).toBe(false);
  });

  it('are placed once, however often they come', () => {
    const state = happen(asked(), delta(0, 'x'), delta(0, 'x'), delta(1, 'y'), delta(0, 'x'));
    expect(textOf(state, 'a')).toBe('xy');
  });

  it('wait for those before them', () => {
    const early = happen(asked(), delta(1, 'day'));
    expect(textOf(early, 'a')).toBe('');
    expect(early.threads[C]?.stale).toBe(true);
    const state = happen(early, delta(2, '!'), delta(0, 'Good '));
    expect(textOf(state, 'a')).toBe('Good day!');
  });

  it('go to the part they name', () => {
    const state = happen(asked(), delta(0, 'hm', 0), delta(1, 'Yes', 1), delta(2, ' no', 1));
    expect(textOf(state, 'a')).toBe('hm|Yes no');
  });

  it('begin a part of the kind they say', () => {
    const state = happen(asked(), delta(0, 'hm', 0, true), delta(1, 'Yes', 1));
    const answer = state.threads[C]?.messages.at(-1);
    expect(answer && partsOf(state, answer).map((part) => part.type)).toEqual(['thinking', 'text']);
  });

  it('are put after what REST already held, in the middle of an answer', () => {
    const joined = opened([
      message('q'),
      streaming('a', { parts: [{ type: 'text', text: 'One two ' }], next_index: 2 }),
    ]);
    const state = happen(joined, delta(0, 'One '), delta(1, 'two '), delta(2, 'three'));
    expect(textOf(state, 'a')).toBe('One two three');
  });

  it('that come before the REST answer are not lost', () => {
    const before = happen(
      run(emptyChat, welcome, { type: 'reading', conversation: C }),
      delta(2, 'three '),
      delta(3, 'four'),
    );
    const state = run(before, {
      type: 'read',
      conversation: conversation(),
      messages: [
        message('q'),
        streaming('a', { parts: [{ type: 'text', text: 'one two ' }], next_index: 2 }),
      ],
      revision: revisionOf(before, C),
    });
    expect(textOf(state, 'a')).toBe('one two three four');
  });

  it('are not taken back by an older REST answer', () => {
    const state = run(happen(asked(), delta(0, 'a'), delta(1, 'b'), delta(2, 'c')), {
      type: 'read',
      conversation: conversation(),
      messages: [
        message('q'),
        streaming('a', { parts: [{ type: 'text', text: 'a' }], next_index: 1 }),
      ],
      revision: 0,
    });
    expect(textOf(state, 'a')).toBe('abc');
  });

  it('give way to the stored text at the end', () => {
    const state = happen(
      asked(),
      delta(0, 'Goo'),
      done(streaming('a', { status: 'complete', parts: [{ type: 'text', text: 'Good.' }] })),
      delta(1, 'late'),
    );
    expect(textOf(state, 'a')).toBe('Good.');
    expect(state.gathering).toEqual({});
  });
});

describe('the end of an answer', () => {
  it('is not undone by a REST answer from before', () => {
    const ended = happen(
      opened(),
      created(message('q')),
      created(streaming('a')),
      done(streaming('a', { status: 'cancelled', parts: [{ type: 'text', text: 'part' }] })),
    );
    const state = run(ended, {
      type: 'read',
      conversation: conversation(),
      messages: [message('q'), streaming('a', { next_index: 0 })],
      revision: revisionOf(ended, C),
    });
    expect(state.threads[C]?.messages.at(-1)?.status).toBe('cancelled');
    expect(textOf(state, 'a')).toBe('part');
  });

  it('empties the place in the queue', () => {
    const waiting = happen(opened(), created(message('q')), created(streaming('a')), {
      kind: 'queue',
      conversation: C,
      message: 'a',
      position: 2,
    });
    expect(waiting.queue).toEqual({ a: 2 });
    expect(happen(waiting, delta(0, 'x')).queue).toEqual({});
    expect(happen(waiting, done(streaming('a', { status: 'failed' }))).queue).toEqual({});
  });
});

describe('the path', () => {
  const talk = () =>
    opened([
      message('q'),
      message('a', { parent: 'q', role: 'assistant' }),
      message('q2', { parent: 'a' }),
    ]);

  it('grows at its end', () => {
    expect(path(happen(talk(), created(streaming('a2', { parent: 'q2' }))))).toEqual([
      'q',
      'a',
      'q2',
      'a2',
    ]);
  });

  it('turns off where a sibling is made', () => {
    const state = happen(talk(), created(streaming('b', { siblings: ['a', 'b'] })));
    expect(path(state)).toEqual(['q', 'b']);
  });

  it('begins anew where the first message is edited', () => {
    expect(path(happen(talk(), created(message('p', { siblings: ['q', 'p'] }))))).toEqual(['p']);
  });

  it('is read again when the active leaf is another', () => {
    const state = happen(talk(), {
      kind: 'conversation.updated',
      conversation: conversation({ active_leaf: 'elsewhere' }),
    });
    expect(state.threads[C]?.stale).toBe(true);
  });

  it('is whole again when the message of the new leaf follows', () => {
    const state = happen(
      talk(),
      { kind: 'conversation.updated', conversation: conversation({ active_leaf: 'a2' }) },
      created(streaming('a2', { parent: 'q2' })),
    );
    expect(state.threads[C]?.stale).toBe(false);
  });

  it('is read again when a message hangs on something unknown', () => {
    expect(happen(talk(), created(message('z', { parent: 'unknown' }))).threads[C]?.stale).toBe(
      true,
    );
  });

  it('is read again when it changed while it was being read', () => {
    const reading = run(emptyChat, welcome, { type: 'reading', conversation: C });
    const revision = revisionOf(reading, C);
    const crossed = happen(reading, created(message('q')));
    const read = { type: 'read', conversation: conversation(), messages: [], revision } as const;
    expect(run(crossed, read).threads[C]?.stale).toBe(true);
    expect(run(crossed, { ...read, revision: revisionOf(crossed, C) }).threads[C]?.stale).toBe(
      false,
    );
  });

  it('holds a message once, even if it is told again', () => {
    expect(path(happen(talk(), created(message('q2', { parent: 'a' }))))).toEqual(['q', 'a', 'q2']);
  });
});

describe('numbers and resuming', () => {
  it('an event seen before changes nothing', () => {
    const state = happen(opened(), created(message('q')));
    const again = reduce(state, {
      type: 'event',
      seq: state.seq,
      event: { kind: 'conversation.deleted', conversation: C },
    });
    expect(again).toBe(state);
  });

  it('a true resume goes on from where it was', () => {
    const state = happen(opened(), created(message('q')), created(streaming('a')), delta(0, 'x'));
    const resumed = reduce(state, { ...welcome, seq: 99, resumed: true } as Action);
    expect(resumed).toBe(state);
    expect(textOf(happen(resumed, delta(1, 'y')), 'a')).toBe('xy');
  });

  it('a resume that failed has everything read again', () => {
    const state = happen(opened(), created(message('q')), created(streaming('a')), delta(0, 'x'));
    const anew = reduce(state, { ...welcome, epoch: 'e2', seq: 7 } as Action);
    expect([anew.epoch, anew.seq, anew.listStale]).toEqual(['e2', 7, true]);
    expect(anew.threads[C]?.stale).toBe(true);
    expect(anew.gathering).toEqual({});
    expect(path(anew)).toEqual(['q', 'a']);
  });

  it('a gap in the numbers has everything read again', () => {
    const state = opened();
    const next = reduce(state, {
      type: 'event',
      seq: state.seq + 2,
      event: { kind: 'queue', conversation: C, message: 'a', position: 0 },
    });
    expect([next.seq, next.listStale, next.threads[C]?.stale]).toEqual([state.seq + 2, true, true]);
  });

  it('an event of an unknown kind is passed over', () => {
    const state = opened();
    const next = happen(state, { kind: 'something.new' } as unknown as StreamEvent);
    expect(next).toEqual({ ...state, seq: state.seq + 1 });
  });
});

describe('conversations and the model', () => {
  it('come, change and go', () => {
    const other = conversation({ id: 'c2', title: 'Second' });
    let state = happen(opened(), { kind: 'conversation.created', conversation: other });
    state = happen(state, {
      kind: 'conversation.updated',
      conversation: { ...other, title: 'Renamed' },
    });
    expect(state.conversations.c2?.title).toBe('Renamed');
    state = happen(state, { kind: 'conversation.deleted', conversation: C });
    expect(Object.keys(state.conversations)).toEqual(['c2']);
    expect(state.threads).toEqual({});
  });

  it('a list read whole forgets what is not in it, a page of older ones does not', () => {
    const other = conversation({ id: 'c2' });
    const more = run(opened(), { type: 'listed', conversations: [other], whole: false });
    expect(Object.keys(more.conversations).sort()).toEqual([C, 'c2']);
    const left = run(more, { type: 'left', conversation: C });
    const whole = run(left, { type: 'listed', conversations: [other], whole: true });
    expect(Object.keys(whole.conversations)).toEqual(['c2']);
  });

  it('the state of the model is kept', () => {
    const state = happen(opened(), {
      kind: 'model.state',
      state: {
        status: 'starting',
        model: null,
        name: null,
        loading_percent: 40,
        why: null,
        what_to_do: null,
      },
    });
    expect(state.model?.status).toBe('starting');
  });
});

describe('what is being sent', () => {
  const sending: Action = { type: 'sending', conversation: C, id: 'q', text: 'Hello' };

  it('is shown until the message comes', () => {
    const state = run(opened(), sending);
    expect(state.unsent[C]).toEqual([{ id: 'q', text: 'Hello', state: 'sending' }]);
    expect(happen(state, created(message('q'))).unsent).toEqual({});
  });

  it('is gone when a REST answer holds it', () => {
    const state = run(opened(), sending, {
      type: 'read',
      conversation: conversation(),
      messages: [message('q')],
      revision: 0,
    });
    expect(state.unsent).toEqual({});
  });

  it('says why it could not be sent, and can be sent again or taken back', () => {
    const failed = run(opened(), sending, {
      type: 'unsendable',
      conversation: C,
      id: 'q',
      problem: 'too long',
    });
    expect(failed.unsent[C]?.[0]).toMatchObject({ state: 'failed', problem: 'too long' });
    expect(run(failed, sending).unsent[C]?.[0]?.state).toBe('sending');
    expect(run(failed, { type: 'withdrawn', conversation: C, id: 'q' }).unsent).toEqual({});
  });
});

describe('what crosses', () => {
  it('is read again when the stream began anew meanwhile', () => {
    const reading = run(emptyChat, { type: 'reading', conversation: C });
    const revision = revisionOf(reading, C);
    const answer = { messages: [message('q'), streaming('a')], conversation: conversation() };
    const state = run(reading, welcome, { type: 'read', ...answer, revision });
    expect(state.threads[C]?.stale).toBe(true);
    const again = run(state, { type: 'read', ...answer, revision: revisionOf(state, C) });
    expect(again.threads[C]?.stale).toBe(false);
  });

  it('leaves the shown conversation where it is older than the list', () => {
    const other = { ...conversation(), id: 'newer' };
    const state = run(opened(), { type: 'listed', conversations: [other], whole: true });
    expect(Object.keys(state.conversations).sort()).toEqual([C, 'newer'].sort());
    const left = run(state, { type: 'left', conversation: C });
    const gone = run(left, { type: 'listed', conversations: [other], whole: true });
    expect(Object.keys(gone.conversations)).toEqual(['newer']);
  });
});
