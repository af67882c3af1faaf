/**
 * What the page knows of conversations, and how each thing that happens changes it. Everything
 * here is pure: the same events give the same state, in whatever tab.
 *
 * Two sources are brought together: the stream (ordered, but it may begin in the middle) and REST
 * answers (whole, but taken at some moment between two events). The rules are: deltas are placed
 * by their index, a REST answer never takes back what the stream has already told, and a REST
 * answer that crossed with a change of the path is asked for again.
 */
import type { Conversation, Message, MessagePart, ModelState } from '../api/types';
import type { Authenticated, Delta, EventFrame, StreamEvent } from './protocol';

export interface Thread {
  /** The path from the root to the active leaf. */
  messages: readonly Message[];
  loaded: boolean;
  /** What is shown may not be what the daemon holds: it must be read again. */
  stale: boolean;
  /** Counts the changes of the path, so that a REST answer that crossed with one is noticed. */
  revision: number;
}

/** The gathered text of an answer that is still being written. */
export interface Gathering {
  /** The index of the next delta to append; null while the beginning is not known. */
  next: number | null;
  parts: readonly MessagePart[];
  /** Deltas that came before their turn. */
  ahead: Readonly<Record<number, Delta>>;
}

export interface Unsent {
  id: string;
  text: string;
  state: 'sending' | 'failed';
  problem?: string;
}

export interface ChatState {
  epoch: string | null;
  seq: number;
  conversations: Readonly<Record<string, Conversation>>;
  /** The list must be read again. */
  listStale: boolean;
  threads: Readonly<Record<string, Thread>>;
  gathering: Readonly<Record<string, Gathering>>;
  /** The last answers that ended, so that an older REST answer cannot set them going again. */
  finished: readonly Message[];
  queue: Readonly<Record<string, number>>;
  unsent: Readonly<Record<string, readonly Unsent[]>>;
  model: ModelState | null;
}

export const emptyChat: ChatState = {
  epoch: null,
  seq: 0,
  conversations: {},
  listStale: true,
  threads: {},
  gathering: {},
  finished: [],
  queue: {},
  unsent: {},
  model: null,
};

export type Action =
  | Authenticated
  | EventFrame
  | { type: 'listed'; conversations: readonly Conversation[]; whole: boolean }
  | { type: 'changed'; conversation: Conversation }
  | { type: 'gone'; conversation: string }
  | { type: 'reading'; conversation: string }
  | {
      type: 'read';
      conversation: Conversation;
      messages: readonly Message[];
      /** The thread's revision when the request was sent. */
      revision: number;
    }
  | { type: 'left'; conversation: string }
  | { type: 'model'; state: ModelState }
  | { type: 'sending'; conversation: string; id: string; text: string }
  | { type: 'unsendable'; conversation: string; id: string; problem: string }
  | { type: 'withdrawn'; conversation: string; id: string };

const FINISHED_KEPT = 32;

export function reduce(state: ChatState, action: Action): ChatState {
  switch (action.type) {
    case 'authenticated':
      return authenticated(state, action);
    case 'event':
      return numbered(state, action);
    case 'listed':
      return listed(state, action.conversations, action.whole);
    case 'changed':
      return conversationChanged(state, action.conversation);
    case 'gone':
      return conversationGone(state, action.conversation);
    case 'reading':
      // A place to note what happens while the first answer is on its way.
      return state.threads[action.conversation]
        ? state
        : setThread(state, action.conversation, {
            messages: [],
            loaded: false,
            stale: false,
            revision: 0,
          });
    case 'read':
      return read(state, action.conversation, action.messages, action.revision);
    case 'left':
      return { ...state, threads: without(state.threads, action.conversation) };
    case 'model':
      return { ...state, model: action.state };
    case 'sending':
      return sending(state, action.conversation, action.id, action.text);
    case 'unsendable':
      return unsendable(state, action.conversation, action.id, action.problem);
    case 'withdrawn':
      return withdrawn(state, action.conversation, action.id);
  }
}

function authenticated(state: ChatState, frame: Authenticated): ChatState {
  // After a true resume the missed events follow, numbered from our own place.
  if (frame.resumed && frame.epoch === state.epoch) return state;
  return {
    ...state,
    epoch: frame.epoch,
    seq: frame.seq,
    listStale: true,
    threads: mapValues(state.threads, overtaken),
    gathering: {},
    queue: {},
  };
}

/** What is read already, or on its way, may be from before what was missed. */
function overtaken(thread: Thread): Thread {
  return { ...thread, stale: true, revision: thread.revision + 1 };
}

function numbered(state: ChatState, frame: EventFrame): ChatState {
  if (frame.seq <= state.seq) return state;
  const gap = frame.seq > state.seq + 1;
  const next = happened({ ...state, seq: frame.seq }, frame.event);
  if (!gap) return next;
  // The server promises no gaps. Should one come, what is shown is read again.
  return {
    ...next,
    listStale: true,
    threads: mapValues(next.threads, overtaken),
  };
}

function happened(state: ChatState, event: StreamEvent): ChatState {
  switch (event.kind) {
    case 'message.created':
      return messageCreated(state, event.conversation, event.message);
    case 'answer.delta':
      return delta(state, event);
    case 'answer.done':
      return answerDone(state, event.conversation, event.message);
    case 'conversation.created':
    case 'conversation.updated':
      return conversationChanged(state, event.conversation);
    case 'conversation.deleted':
      return conversationGone(state, event.conversation);
    case 'model.state':
      return { ...state, model: event.state };
    case 'queue':
      return { ...state, queue: { ...state.queue, [event.message]: event.position } };
    default:
      // A newer daemon may tell more than this page knows.
      return state;
  }
}

function messageCreated(state: ChatState, conversation: string, message: Message): ChatState {
  let next = withdrawn(state, conversation, message.id);
  const over = next.finished.find((done) => done.id === message.id);
  const shown = over ?? message;
  if (shown.status === 'streaming' && next.gathering[shown.id]?.next == null) {
    next = begin(next, shown);
  }
  const thread = next.threads[conversation];
  if (!thread?.loaded) return bump(next, conversation);
  const known = thread.messages.findIndex((other) => other.id === shown.id);
  if (known >= 0) return next;
  const parentAt = shown.parent
    ? thread.messages.findIndex((other) => other.id === shown.parent)
    : -1;
  const fits = parentAt >= 0 || !shown.parent;
  if (!fits) return mark(next, conversation);
  return setThread(next, conversation, {
    ...thread,
    // A new sibling of something on the path: the path now leads through the new one.
    messages: [...thread.messages.slice(0, parentAt + 1), shown],
    revision: thread.revision + 1,
    stale: thread.stale && next.conversations[conversation]?.active_leaf !== shown.id,
  });
}

function begin(state: ChatState, message: Message): ChatState {
  const before = state.gathering[message.id];
  const first: Gathering = {
    next: message.next_index ?? 0,
    parts: message.parts,
    ahead: before?.ahead ?? {},
  };
  return setGathering(state, message.id, drained(first));
}

function delta(state: ChatState, event: Delta): ChatState {
  if (state.finished.some((done) => done.id === event.message)) return state;
  const gathering = state.gathering[event.message] ?? { next: null, parts: [], ahead: {} };
  if (gathering.next !== null && event.index < gathering.next) return state;
  const queued = event.message in state.queue ? without(state.queue, event.message) : state.queue;
  const next = { ...state, queue: queued };
  if (gathering.next === event.index && isEmpty(gathering.ahead)) {
    return setGathering(next, event.message, {
      ...gathering,
      next: event.index + 1,
      parts: append(gathering.parts, event),
    });
  }
  const waiting = drained({ ...gathering, ahead: { ...gathering.ahead, [event.index]: event } });
  const set = setGathering(next, event.message, waiting);
  // Something before this delta is missing: only the daemon has it.
  return isEmpty(waiting.ahead) ? set : mark(set, event.conversation);
}

function drained(gathering: Gathering): Gathering {
  if (gathering.next === null || isEmpty(gathering.ahead)) return gathering;
  let { next, parts } = gathering;
  const ahead: Record<number, Delta> = {};
  for (const key of Object.keys(gathering.ahead)
    .map(Number)
    .sort((a, b) => a - b)) {
    const event = gathering.ahead[key];
    if (!event || key < next) continue;
    if (key === next) {
      parts = append(parts, event);
      next = key + 1;
    } else {
      ahead[key] = event;
    }
  }
  return { next, parts, ahead };
}

function append(parts: readonly MessagePart[], event: Delta): MessagePart[] {
  const grown = [...parts];
  // The part itself begins with this delta; none before it can be missing.
  const type = event.thinking ? 'thinking' : 'text';
  while (grown.length <= event.part) grown.push({ type, text: '' });
  const part = grown[event.part];
  if (part) grown[event.part] = { ...part, text: part.text + event.text };
  return grown;
}

function answerDone(state: ChatState, conversation: string, message: Message): ChatState {
  const next: ChatState = {
    ...state,
    finished: [...state.finished.filter((done) => done.id !== message.id), message].slice(
      -FINISHED_KEPT,
    ),
    gathering: without(state.gathering, message.id),
    queue: without(state.queue, message.id),
  };
  const thread = next.threads[conversation];
  if (!thread) return next;
  return setThread(next, conversation, {
    ...thread,
    messages: thread.messages.map((other) => (other.id === message.id ? message : other)),
  });
}

function conversationChanged(state: ChatState, conversation: Conversation): ChatState {
  const next: ChatState = {
    ...state,
    conversations: { ...state.conversations, [conversation.id]: conversation },
  };
  const thread = next.threads[conversation.id];
  if (!thread?.loaded || !conversation.active_leaf) return next;
  const leaf = thread.messages.at(-1)?.id;
  return leaf === conversation.active_leaf ? next : mark(next, conversation.id);
}

function conversationGone(state: ChatState, id: string): ChatState {
  return {
    ...state,
    conversations: without(state.conversations, id),
    threads: without(state.threads, id),
    unsent: without(state.unsent, id),
  };
}

function listed(state: ChatState, items: readonly Conversation[], whole: boolean): ChatState {
  // The one that is shown may be older than the newest that the list begins with.
  const kept = whole
    ? Object.entries(state.conversations).filter(([id]) => id in state.threads)
    : Object.entries(state.conversations);
  const conversations: Record<string, Conversation> = Object.fromEntries(kept);
  for (const item of items) conversations[item.id] = item;
  return { ...state, conversations, listStale: whole ? false : state.listStale };
}

function read(
  state: ChatState,
  conversation: Conversation,
  messages: readonly Message[],
  revision: number,
): ChatState {
  let next: ChatState = {
    ...state,
    conversations: { ...state.conversations, [conversation.id]: conversation },
  };
  const path: Message[] = [];
  for (const message of messages) {
    const over = next.finished.find((done) => done.id === message.id);
    if (message.status !== 'streaming' || over) {
      path.push(message.status === 'streaming' && over ? over : message);
      if (next.gathering[message.id]) {
        next = { ...next, gathering: without(next.gathering, message.id) };
      }
      continue;
    }
    path.push(message);
    const known = next.gathering[message.id]?.next ?? null;
    if (known === null || known < (message.next_index ?? 0)) next = begin(next, message);
  }
  const sent = new Set(path.map((message) => message.id));
  for (const unsent of next.unsent[conversation.id] ?? []) {
    if (sent.has(unsent.id)) next = withdrawn(next, conversation.id, unsent.id);
  }
  const before = next.threads[conversation.id];
  return setThread(next, conversation.id, {
    messages: path,
    loaded: true,
    revision: before?.revision ?? 0,
    stale: (before?.revision ?? 0) !== revision,
  });
}

function sending(state: ChatState, conversation: string, id: string, text: string): ChatState {
  const others = (state.unsent[conversation] ?? []).filter((unsent) => unsent.id !== id);
  const unsent: Unsent = { id, text, state: 'sending' };
  return { ...state, unsent: { ...state.unsent, [conversation]: [...others, unsent] } };
}

function unsendable(
  state: ChatState,
  conversation: string,
  id: string,
  problem: string,
): ChatState {
  const all = state.unsent[conversation] ?? [];
  const failed = all.map(
    (unsent): Unsent => (unsent.id === id ? { ...unsent, state: 'failed', problem } : unsent),
  );
  return { ...state, unsent: { ...state.unsent, [conversation]: failed } };
}

function withdrawn(state: ChatState, conversation: string, id: string): ChatState {
  const all = state.unsent[conversation];
  if (!all?.some((unsent) => unsent.id === id)) return state;
  const left = all.filter((unsent) => unsent.id !== id);
  return {
    ...state,
    unsent: left.length
      ? { ...state.unsent, [conversation]: left }
      : without(state.unsent, conversation),
  };
}

/** Says that a thread must be read again, if it is shown at all. */
function mark(state: ChatState, conversation: string): ChatState {
  const thread = state.threads[conversation];
  if (!thread) return bump(state, conversation);
  return setThread(state, conversation, {
    ...thread,
    stale: true,
    revision: thread.revision + 1,
  });
}

/** Notes a change of a thread whose first answer is still on its way. */
function bump(state: ChatState, conversation: string): ChatState {
  const thread = state.threads[conversation];
  if (!thread) return state;
  return setThread(state, conversation, { ...thread, revision: thread.revision + 1 });
}

export function revisionOf(state: ChatState, conversation: string): number {
  return state.threads[conversation]?.revision ?? 0;
}

/** The text of a message as it stands now. */
export function partsOf(state: ChatState, message: Message): readonly MessagePart[] {
  if (message.status !== 'streaming') return message.parts;
  const gathering = state.gathering[message.id];
  return gathering && gathering.next !== null ? gathering.parts : message.parts;
}

function setThread(state: ChatState, id: string, thread: Thread): ChatState {
  return { ...state, threads: { ...state.threads, [id]: thread } };
}

function setGathering(state: ChatState, id: string, gathering: Gathering): ChatState {
  return { ...state, gathering: { ...state.gathering, [id]: gathering } };
}

function without<T>(record: Readonly<Record<string, T>>, key: string): Record<string, T> {
  const { [key]: _gone, ...rest } = record;
  return rest;
}

function mapValues<T>(
  record: Readonly<Record<string, T>>,
  change: (value: T) => T,
): Record<string, T> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value)]));
}

function isEmpty(record: object): boolean {
  for (const _key in record) return false;
  return true;
}
