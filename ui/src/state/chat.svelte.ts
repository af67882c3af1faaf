import { ApiError, api, call } from '../api/client';
import type { Character, Conversation, Message, MessagePart, Model } from '../api/types';
import { t } from '../i18n';
import { codeText, problemText, sentences } from '../i18n/problem';
import { LONGEST_FRAME, size } from '../lib/message';
import { uuid7 } from '../lib/uuid7';
import { words } from '../markdown/parse';
import { Connection, type Link, type SendProblem, type Socket } from '../stream/connection';
import type { Authenticated, EventFrame } from '../stream/protocol';
import {
  type Action,
  emptyChat,
  partsOf,
  reduce,
  revisionOf,
  type Thread,
} from '../stream/reducer';
import { characters } from './characters.svelte';
import { notices } from './notices.svelte';
import { router } from './route.svelte';
import { session } from './session.svelte';

/** How long a stale thread waits for the events that may mend it before it is read again. */
const SETTLE_MS = 150;
const READ_AGAIN_MS = 2000;
const PAGE = 50;
const SPOKEN_LETTERS = 1500;
/** Where the draft of a conversation is kept that is yet to begin. */
const NEW = '';

/** The reducer's state, kept current: this is the only place that talks to the daemon about it. */
class ChatStore {
  state = $state.raw(emptyChat);
  link = $state.raw<Link>({ state: 'connecting' });
  /** A connection was there and got lost; the first connecting is not worth a word. */
  interrupted = $state(false);
  models = $state.raw<readonly Model[]>([]);
  /** Why they could not be read the last time. */
  modelsProblem = $state('');
  listFailed = $state(false);
  /** Why what is the person's own can't be read yet; it is asked for again until it can. */
  heldUp = $state('');
  older = $state<string | null>(null);
  listing = $state(false);
  current = $state<string | null>(null);
  /** The answer that the person has stopped, until the daemon says that it has ended. */
  stopping = $state<string | null>(null);

  /** What is typed and not sent, by conversation. */
  #drafts = $state<Record<string, string>>({});
  #connection: Connection | null = null;
  #frames: (Authenticated | EventFrame)[] = [];
  #flushing = false;
  #reading = new Set<string>();
  /** One for each person: a page that opens at a conversation reads it before it is connected. */
  #round = 0;
  /** Conversations that the person of this page is deleting: nobody has to tell them. */
  #removing = new Set<string>();
  /** Counts the readings of the models: only the newest says how things are. */
  #looks = 0;
  #timers = new Map<string, ReturnType<typeof setTimeout>>();

  start(token: string): void {
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    const open = () => new WebSocket(`${scheme}://${location.host}/ws`) as unknown as Socket;
    this.#connection = new Connection(open, token, {
      position: () => {
        // Frames that still wait here have been seen too.
        this.#flush();
        return { epoch: this.state.epoch, seq: this.state.seq };
      },
      probe: () => this.#probe(),
      frame: (frame) => this.#take(frame),
      link: (link) => {
        if (link.state === 'waiting') this.interrupted = true;
        if (link.state === 'open') {
          this.interrupted = false;
          this.listFailed = false;
        }
        this.link = link;
      },
      ended: (why) => {
        if (why === 'locked') session.leave('locked');
        else session.leave('login', t('login.ended'));
      },
    });
    this.#connection.start();
    // Whom one talks with is shown when it is known; without it one can talk all the same.
    void characters.load().catch(() => {});
  }

  stop(): void {
    this.#connection?.stop();
    this.#connection = null;
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    this.#reading.clear();
    this.#round += 1;
    this.#removing.clear();
    this.#frames = [];
    // Another person may sign in next: nothing of this one stays in the page.
    this.state = emptyChat;
    this.models = [];
    this.modelsProblem = '';
    this.#drafts = {};
    characters.forget();
    notices.forget();
    this.listing = false;
    this.listFailed = false;
    this.heldUp = '';
    this.older = null;
    this.current = null;
    this.stopping = null;
    this.interrupted = false;
  }

  hurry(): void {
    this.#connection?.hurry();
  }

  get list(): Conversation[] {
    return Object.values(this.state.conversations).sort((a, b) =>
      a.updated_at < b.updated_at ? 1 : a.updated_at > b.updated_at ? -1 : a.id < b.id ? 1 : -1,
    );
  }

  get thread(): Thread | null {
    return this.current ? (this.state.threads[this.current] ?? null) : null;
  }

  /** The answer that is being written in the shown conversation. */
  get answering(): Message | null {
    return this.thread?.messages.findLast((message) => message.status === 'streaming') ?? null;
  }

  get activeModel(): Model | null {
    return this.models.find((model) => model.active) ?? null;
  }

  /** Who answers in the shown conversation, or will in the next one. */
  get character(): Character | null {
    const shown = this.current
      ? this.state.conversations[this.current]?.character
      : characters.next;
    return (shown ? characters.find(shown) : null) ?? characters.chosen;
  }

  /** What is typed for the shown conversation. */
  get draft(): string {
    return this.#drafts[this.current ?? NEW] ?? '';
  }

  set draft(text: string) {
    this.#drafts[this.current ?? NEW] = text;
  }

  parts(message: Message): readonly MessagePart[] {
    return partsOf(this.state, message);
  }

  show(conversation: string | null): void {
    if (conversation === this.current) return;
    const before = this.current;
    this.current = conversation;
    // Only what is shown is kept; a thread that is opened again is read again.
    if (before) this.#dispatch({ type: 'left', conversation: before });
    if (conversation) void this.#read(conversation);
  }

  async send(text: string): Promise<void> {
    let conversation = this.current;
    if (!conversation) {
      const character = characters.next ?? undefined;
      const mine = this.#connection;
      let made: Conversation;
      try {
        made = await call(api.POST('/api/v1/conversations', { body: { character } }));
      } catch (error) {
        if (this.#connection !== mine) return;
        // Neither this nor what was typed meanwhile is lost.
        this.#drafts[NEW] = [text, this.#drafts[NEW]].filter(Boolean).join('\n');
        if (session.place === 'in') notices.say(problemText(error));
        return;
      }
      if (this.#connection !== mine) return;
      characters.next = null;
      if (this.current) {
        // The person has gone on to another one; this one goes on without being shown.
        this.#dispatch({ type: 'changed', conversation: made });
        this.sendAs(made.id, uuid7(), text);
        return;
      }
      this.#drafts[made.id] = this.#drafts[NEW] ?? '';
      delete this.#drafts[NEW];
      this.#dispatch({ type: 'reading', conversation: made.id });
      this.#dispatch({ type: 'changed', conversation: made });
      this.#dispatch({
        type: 'read',
        conversation: made,
        messages: [],
        revision: revisionOf(this.state, made.id),
      });
      conversation = made.id;
      this.current = made.id;
      if (router.now.page === 'chat') router.go(`#/c/${made.id}`);
      // It has opened the conversation itself: that stands before what the person says.
      if (made.active_leaf) await this.#read(made.id);
    }
    this.sendAs(conversation, uuid7(), text);
  }

  sendAs(conversation: string, id: string, text: string): void {
    this.#dispatch({ type: 'sending', conversation, id, text });
    this.#hand(conversation, id, text).catch((problem: SendProblem | ApiError) => {
      this.#dispatch({ type: 'unsendable', conversation, id, problem: whyNot(problem) });
    });
  }

  async #hand(conversation: string, id: string, text: string): Promise<void> {
    const frame = { type: 'send', conversation, text, id } as const;
    // Signs that JSON writes as six letters make a long frame of a message that is not.
    if (size(JSON.stringify(frame)) < LONGEST_FRAME - 1024) {
      await this.#connection?.request(frame);
      return;
    }
    await call(
      api.POST('/api/v1/conversations/{id}/messages', {
        params: { path: { id: conversation } },
        body: { text, id },
      }),
    );
  }

  withdraw(conversation: string, id: string): void {
    this.#dispatch({ type: 'withdrawn', conversation, id });
  }

  cancel(message: Message): void {
    this.stopping = message.id;
    this.#connection?.request({ type: 'cancel', message: message.id }).catch(() => {
      // It ended by itself in the meantime, which is as good; if not, it can be stopped again.
      if (this.stopping === message.id) this.stopping = null;
    });
  }

  async regenerate(message: Message): Promise<void> {
    await this.#told(
      call(
        api.POST('/api/v1/conversations/{id}/messages/{message}/regenerate', {
          params: { path: { id: message.conversation, message: message.id } },
        }),
      ),
    );
  }

  async edit(message: Message, text: string): Promise<boolean> {
    return this.#told(
      call(
        api.POST('/api/v1/conversations/{id}/messages/{message}/edit', {
          params: { path: { id: message.conversation, message: message.id } },
          body: { text, id: uuid7() },
        }),
      ),
    );
  }

  async branch(message: Message, to: string): Promise<void> {
    await this.#change(message.conversation, { active_leaf: to });
  }

  /** Shows the branch that a message is on. Fails with why it can't. */
  async reach(conversation: string, message: string): Promise<void> {
    await this.#patch(conversation, { active_leaf: message });
  }

  /** Fails with why it can't. */
  async rename(conversation: string, title: string): Promise<void> {
    await this.#patch(conversation, { title });
  }

  async talkWith(conversation: string, character: string): Promise<boolean> {
    return this.#change(conversation, { character });
  }

  async remove(conversation: string): Promise<void> {
    const mine = this.#connection;
    this.#removing.add(conversation);
    const done = await this.#told(
      call(api.DELETE('/api/v1/conversations/{id}', { params: { path: { id: conversation } } })),
    );
    if (this.#connection !== mine) return;
    this.#removing.delete(conversation);
    // The answer may be lost where the deed was done: the stream has told of it then.
    if (!done && conversation in this.state.conversations) return;
    this.#dispatch({ type: 'gone', conversation });
    this.#leave(conversation);
  }

  async loadList(): Promise<void> {
    if (this.listing) return;
    this.listing = true;
    this.listFailed = false;
    const mine = this.#connection;
    const page = await call(
      api.GET('/api/v1/conversations', { params: { query: { limit: PAGE } } }),
    ).catch((error: unknown) => {
      if (this.#connection === mine && this.#isHeldUp(error)) this.#listSoon();
      return null;
    });
    // What was asked for by who has signed out meanwhile is nobody's.
    if (this.#connection !== mine) return;
    this.listing = false;
    if (!page) {
      this.listFailed = true;
      return;
    }
    this.heldUp = '';
    // Where the list was out of reach, whom one talks with was as well.
    if (!characters.loaded) void characters.load().catch(() => {});
    this.older = page.next ?? null;
    this.#dispatch({ type: 'listed', conversations: page.items, whole: true });
  }

  async loadOlder(): Promise<void> {
    const before = this.older;
    if (!before || this.listing) return;
    this.listing = true;
    const mine = this.#connection;
    await this.#told(
      call(api.GET('/api/v1/conversations', { params: { query: { limit: PAGE, before } } })).then(
        (page) => {
          if (this.#connection !== mine) return;
          this.older = page.next ?? null;
          this.#dispatch({ type: 'listed', conversations: page.items, whole: false });
        },
      ),
    );
    if (this.#connection === mine) this.listing = false;
  }

  async loadModels(): Promise<void> {
    const mine = this.#connection;
    const look = ++this.#looks;
    const before = this.state.model;
    try {
      const { items, state } = await call(api.GET('/api/v1/models'));
      if (this.#connection !== mine || look !== this.#looks) return;
      this.models = items;
      this.modelsProblem = '';
      // What the stream has told meanwhile is newer.
      if (this.state.model === before) this.#dispatch({ type: 'model', state });
    } catch (error) {
      if (this.#connection !== mine || look !== this.#looks) return;
      this.modelsProblem = problemText(error);
    }
  }

  async #patch(conversation: string, body: Change): Promise<void> {
    const mine = this.#connection;
    const changed = await call(
      api.PATCH('/api/v1/conversations/{id}', { params: { path: { id: conversation } }, body }),
    );
    if (this.#connection === mine) this.#dispatch({ type: 'changed', conversation: changed });
  }

  async #change(conversation: string, body: Change): Promise<boolean> {
    return this.#told(this.#patch(conversation, body));
  }

  async #told(request: Promise<unknown>): Promise<boolean> {
    const mine = this.#connection;
    try {
      await request;
      return true;
    } catch (error) {
      if (this.#connection === mine && session.place === 'in') notices.say(problemText(error));
      return false;
    }
  }

  async #probe(): Promise<'go' | 'wait' | 'stop'> {
    const stage = await session.stage();
    if (stage === 'ready') return 'go';
    if (stage === null || stage === 'stopping') return 'wait';
    if (stage === 'locked') session.leave('locked');
    else void session.begin();
    return 'stop';
  }

  #take(frame: Authenticated | EventFrame): void {
    this.#frames.push(frame);
    if (this.#flushing) return;
    this.#flushing = true;
    // Many deltas of one moment are drawn once. A hidden tab gets no animation frames.
    if (document.hidden) setTimeout(() => this.#flush(), 100);
    else requestAnimationFrame(() => this.#flush());
  }

  #flush(): void {
    this.#flushing = false;
    const frames = this.#frames;
    if (!frames.length) return;
    this.#frames = [];
    let next = this.state;
    for (const frame of frames) next = reduce(next, frame);
    this.#set(next);
    for (const frame of frames) {
      if (frame.type === 'event') this.#notice(frame);
      // What the model did meanwhile is told by no event.
      else if (!frame.resumed || this.modelsProblem) void this.loadModels();
    }
  }

  #notice({ event }: EventFrame): void {
    if (event.kind === 'answer.done' && event.conversation === this.current) {
      notices.speak(finishedText(event.message));
    }
    if (event.kind === 'conversation.deleted') this.#leaveGone(event.conversation);
    if (event.kind === 'model.state') void this.#modelsChanged(event.state.model ?? null);
  }

  async #modelsChanged(active: string | null): Promise<void> {
    if (active && active !== this.activeModel?.id) await this.loadModels();
  }

  #dispatch(action: Action): void {
    this.#set(reduce(this.state, action));
  }

  #set(next: typeof this.state): void {
    this.state = next;
    if (next.listStale && next.epoch && !this.listing && !this.listFailed) void this.loadList();
    const shown = this.current;
    if (shown && next.threads[shown]?.stale) this.#readSoon(shown, SETTLE_MS);
  }

  /** Notes why, where it passes by itself: their data is being updated, say. */
  #isHeldUp(error: unknown): boolean {
    const passes = error instanceof ApiError && error.code === 'busy';
    // Without what to do: the page does it.
    this.heldUp = passes
      ? sentences([codeText(error.code, error.problem.title), error.problem.detail])
      : '';
    return passes;
  }

  #listSoon(): void {
    if (this.#timers.has(NEW)) return;
    const again = () => {
      this.#timers.delete(NEW);
      // Older ones are being read just now: the list itself is still due.
      if (this.listing) this.#listSoon();
      else void this.loadList();
    };
    this.#timers.set(NEW, setTimeout(again, READ_AGAIN_MS));
  }

  #readSoon(conversation: string, wait: number): void {
    if (this.#timers.has(conversation)) return;
    this.#timers.set(
      conversation,
      setTimeout(() => {
        this.#timers.delete(conversation);
        const thread = this.state.threads[conversation];
        if (this.current === conversation && (!thread?.loaded || thread.stale)) {
          void this.#read(conversation);
        }
      }, wait),
    );
  }

  async #read(conversation: string): Promise<void> {
    if (this.#reading.has(conversation)) return;
    this.#reading.add(conversation);
    const round = this.#round;
    this.#dispatch({ type: 'reading', conversation });
    const revision = revisionOf(this.state, conversation);
    try {
      const answer = await call(
        api.GET('/api/v1/conversations/{id}', { params: { path: { id: conversation } } }),
      );
      if (this.#round !== round) return;
      this.#reading.delete(conversation);
      if (this.current === conversation) this.#dispatch({ type: 'read', ...answer, revision });
    } catch (error) {
      if (this.#round !== round) return;
      this.#reading.delete(conversation);
      if (this.current !== conversation) return;
      if (error instanceof ApiError && error.status === 404) {
        this.#dispatch({ type: 'gone', conversation });
        this.#leaveGone(conversation);
      } else if (session.place === 'in') {
        this.#readSoon(conversation, READ_AGAIN_MS);
      }
    }
  }

  /** Somebody else has deleted a conversation, or another page of this person. */
  #leaveGone(conversation: string): void {
    if (this.#removing.has(conversation)) return;
    // What was being typed to it is still the person's.
    const draft = this.#drafts[conversation];
    if (draft && this.current === conversation) this.#drafts[NEW] ||= draft;
    if (this.#leave(conversation)) notices.say(t('chat.gone'));
  }

  /** Whether it was before one's eyes; then a new one is. */
  #leave(conversation: string): boolean {
    delete this.#drafts[conversation];
    if (this.current === conversation) this.current = null;
    const { now } = router;
    if (now.page !== 'chat' || now.conversation !== conversation) return false;
    router.go('#/', true);
    return true;
  }
}

interface Change {
  title?: string;
  active_leaf?: string;
  character?: string;
}

function whyNot(problem: SendProblem | ApiError): string {
  if (problem.code === 'too-long') return t('chat.toolong');
  if (problem instanceof ApiError) return problemText(problem);
  return sentences([codeText(problem.code, problem.title), problem.detail, problem.what_to_do]);
}

function finishedText(message: Message): string {
  if (message.status === 'cancelled') return t('chat.finished.stopped');
  if (message.status !== 'complete') return t('chat.finished.failed');
  const text = message.parts
    .filter((part) => part.type === 'text')
    .map((part) => words(part.text))
    .join('\n');
  return t('chat.finished', { text: text.slice(0, SPOKEN_LETTERS) });
}

export const chat = new ChatStore();
