import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { Socket } from '../stream/connection';

/** A daemon that answers when the test says so. */
class Asked {
  readonly method: string;
  readonly path: string;
  readonly token: string | null;
  #answer: (response: Response) => void = () => {};
  readonly response = new Promise<Response>((resolve) => {
    this.#answer = resolve;
  });

  constructor(request: Request) {
    this.method = request.method;
    this.path = new URL(request.url).pathname.replace('/api/v1', '');
    this.token = request.headers.get('Authorization');
  }

  answer(body: unknown, status = 200): void {
    this.#answer(
      new Response(status === 204 ? null : JSON.stringify(body), {
        status,
        headers: { 'Content-Type': 'application/json' },
      }),
    );
  }
}

let requests: Asked[] = [];
const sockets: Socket[] = [];

class FakeSocket implements Socket {
  onopen: Socket['onopen'] = null;
  onmessage: Socket['onmessage'] = null;
  onclose: Socket['onclose'] = null;
  onerror: Socket['onerror'] = null;
  constructor() {
    sockets.push(this);
  }
  send() {}
  close() {}
}

vi.stubGlobal('location', {
  hash: '',
  protocol: 'http:',
  host: 'aico.test',
  origin: 'http://aico.test',
});
vi.stubGlobal('history', { pushState() {}, replaceState() {} });
vi.stubGlobal('addEventListener', () => {});
vi.stubGlobal('document', { hidden: false });
vi.stubGlobal('requestAnimationFrame', (draw: () => void) => queueMicrotask(draw));
vi.stubGlobal('WebSocket', FakeSocket);
vi.stubGlobal('fetch', (request: Request) => {
  const asked = new Asked(request);
  requests.push(asked);
  return asked.response;
});

const { chat } = await import('./chat.svelte');
const { characters } = await import('./characters.svelte');
const { notices } = await import('./notices.svelte');
const { router } = await import('./route.svelte');
const { session } = await import('./session.svelte');

const ID = '01970000-0000-7000-8000-00000000000a';
const OTHER = '01970000-0000-7000-8000-00000000000b';
const mira = { id: 'p1', name: 'Mira', role: 'owner', created_at: '' };
const jonas = { ...mira, id: 'p2', name: 'Jonas' };
const conversation = (id: string) => ({
  id,
  title: 'Rain',
  character: 'aico',
  created_at: '',
  updated_at: '',
  active_leaf: null,
});
const model = (status: string) => ({
  items: [{ id: status, name: status }],
  state: { status, model: null, name: null, loading_percent: null, why: null, what_to_do: null },
});

/** The last request of a kind, once it was made. */
function asked(method: string, path: string): Promise<Asked> {
  return vi.waitFor(() => {
    const found = requests.findLast((one) => one.method === method && one.path === path);
    if (!found) throw new Error(`${method} ${path} was not asked`);
    return found;
  });
}

/** Lets everything that has come be taken note of. */
const settle = () => new Promise<void>((done) => void setTimeout(done));

function tell(frame: unknown): void {
  sockets.at(-1)?.onmessage?.({ data: JSON.stringify(frame) });
}

function welcome(resumed: boolean): void {
  tell({ type: 'authenticated', person: mira, epoch: 'e1', seq: 0, resumed, heartbeat_seconds: 0 });
}

function enter(person = mira, token = 'first'): void {
  session.enter({ token, expires_at: '', person } as never);
  chat.start(token);
}

describe('what the page keeps of the daemon', () => {
  beforeEach(() => {
    chat.stop();
    session.leave('login');
    router.go('#/');
    requests = [];
    enter();
  });

  it('reads the models again where the stream could not be resumed', async () => {
    welcome(false);
    (await asked('GET', '/models')).answer(model('starting'));
    await vi.waitFor(() => expect(chat.state.model?.status).toBe('starting'));
    requests = [];
    welcome(true);
    await settle();
    expect(requests.map((one) => one.path)).not.toContain('/models');
    welcome(false);
    (await asked('GET', '/models')).answer(model('ready'));
    await vi.waitFor(() => expect(chat.state.model?.status).toBe('ready'));
  });

  it('says why the models could not be read, until they are', async () => {
    void chat.loadModels();
    (await asked('GET', '/models')).answer({ code: 'internal', title: 'It broke' }, 500);
    await vi.waitFor(() => expect(chat.modelsProblem).toContain('It broke'));
    welcome(true);
    await vi.waitFor(() =>
      expect(requests.filter((one) => one.path === '/models')).toHaveLength(2),
    );
    requests.at(-1)?.answer(model('ready'));
    await vi.waitFor(() => expect(chat.modelsProblem).toBe(''));
  });

  it('tells how far the update of the person’s data is, and reads it when that is done', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const problem = {
        code: 'busy',
        title: 'Your data is being updated for this version of AICO',
        detail: '40 % is done.',
        what_to_do: 'Try again in a moment.',
      };
      void chat.loadList();
      (await asked('GET', '/conversations')).answer(problem, 503);
      await vi.waitFor(() => expect(chat.heldUp).toBe(`${problem.title}. ${problem.detail}`));
      requests = [];
      // Older ones are being read in the moment in which it would be read again.
      chat.older = ID;
      void chat.loadOlder();
      const older = await asked('GET', '/conversations');
      vi.advanceTimersByTime(2000);
      older.answer(problem, 503);
      await vi.waitFor(() => expect(chat.listing).toBe(false));
      requests = [];
      vi.advanceTimersByTime(2000);
      (await asked('GET', '/conversations')).answer({ items: [conversation(ID)], next: null });
      await vi.waitFor(() => expect(chat.heldUp).toBe(''));
      expect(chat.list.map((one) => one.id)).toEqual([ID]);
      // Whom one talks with was out of reach as well.
      await asked('GET', '/characters');
    } finally {
      vi.useRealTimers();
    }
  });

  it('believes the newest reading of the models, and the stream above it', async () => {
    void chat.loadModels();
    const older = await asked('GET', '/models');
    void chat.loadModels();
    await settle();
    const newer = await asked('GET', '/models');
    expect(newer).not.toBe(older);
    newer.answer(model('ready'));
    await vi.waitFor(() => expect(chat.state.model?.status).toBe('ready'));
    older.answer(model('starting'));
    await settle();
    expect(chat.state.model?.status).toBe('ready');
    expect(chat.models.map((one) => one.id)).toEqual(['ready']);

    welcome(true);
    void chat.loadModels();
    await settle();
    const crossed = await asked('GET', '/models');
    tell({ type: 'event', seq: 1, event: { kind: 'model.state', state: model('failed').state } });
    await vi.waitFor(() => expect(chat.state.model?.status).toBe('failed'));
    crossed.answer(model('ready'));
    await settle();
    expect(chat.state.model?.status).toBe('failed');
  });

  it('shows the conversation that the page was opened at, before it is connected', async () => {
    chat.stop();
    requests = [];
    chat.show(ID);
    chat.start('first');
    const read = await asked('GET', `/conversations/${ID}`);
    read.answer({ conversation: conversation(ID), messages: [] });
    await vi.waitFor(() => expect(chat.thread?.loaded).toBe(true));
  });

  it('shows nobody what another person asked for', async () => {
    chat.show(ID);
    const late = await asked('GET', `/conversations/${ID}`);
    const face = { ...conversation(ID), portrait: true, updated_at: '' } as never;
    void characters.show(face);
    const portrait = await asked('GET', `/characters/${ID}/portrait`);
    chat.stop();
    session.leave('login');
    enter(jonas, 'second');
    chat.show(ID);
    // It is asked for anew, though the first question is still open.
    await vi.waitFor(() =>
      expect(requests.filter((one) => one.path === late.path)).toHaveLength(2),
    );
    late.answer({ conversation: { ...conversation(ID), title: 'Of Mira' }, messages: [] });
    portrait.answer({ png: 'AAAA' });
    await settle();
    expect(chat.state.conversations[ID]).toBeUndefined();
    expect(characters.pictures).toEqual({});
  });

  it('does not end a session for an answer to another one', async () => {
    void chat.loadList();
    const late = await asked('GET', '/conversations');
    expect(late.token).toBe('Bearer first');
    session.leave('login');
    session.enter({ token: 'second', expires_at: '', person: mira } as never);
    late.answer({ code: 'unauthorized', title: 'Sign in' }, 401);
    await settle();
    expect(session.place).toBe('in');
    void chat.loadModels();
    (await asked('GET', '/models')).answer({ code: 'unauthorized', title: 'Sign in' }, 401);
    await vi.waitFor(() => expect(session.place).toBe('login'));
  });

  it('leads to the conversation of before only who was there', () => {
    router.go(`#/c/${ID}`);
    session.leave('locked');
    session.enter({ token: 'second', expires_at: '', person: mira } as never);
    expect(router.now).toMatchObject({ conversation: ID });
    session.leave('login');
    session.enter({ token: 'third', expires_at: '', person: jonas } as never);
    expect(router.now).toMatchObject({ conversation: null });
  });

  it('shows a new phrase only to who asked for it', () => {
    session.showPhrase(['one'], 'first');
    expect(session.phrase).toEqual(['one']);
    session.leave('locked');
    expect(session.phrase).toEqual([]);
    session.enter({ token: 'second', expires_at: '', person: jonas } as never);
    session.showPhrase(['one'], 'first');
    expect(session.phrase).toEqual([]);
  });

  it('keeps a draft for each conversation, and none for the next person', () => {
    chat.draft = 'for a new one';
    chat.show(ID);
    expect(chat.draft).toBe('');
    chat.draft = 'for this one';
    chat.show(null);
    expect(chat.draft).toBe('for a new one');
    chat.show(ID);
    expect(chat.draft).toBe('for this one');
    chat.stop();
    enter(jonas, 'second');
    expect(chat.draft).toBe('');
    chat.show(ID);
    expect(chat.draft).toBe('');
  });

  it('gives back what could not begin a conversation, before what was typed meanwhile', async () => {
    const sent = chat.send('Hello');
    const refused = await asked('POST', '/conversations');
    chat.draft = 'And more';
    refused.answer({ code: 'disk-full', title: 'The disk is full' }, 507);
    await sent;
    expect(chat.draft).toBe('Hello\nAnd more');
    chat.draft = '';
    void chat.send('Hello again');
    await vi.waitFor(() =>
      expect(requests.filter((one) => one.path === '/conversations')).toHaveLength(2),
    );
    chat.draft = 'And yet more';
    requests.at(-1)?.answer(conversation(ID), 201);
    await vi.waitFor(() => expect(chat.current).toBe(ID));
    expect(chat.draft).toBe('And yet more');
  });

  it('takes nobody out of the settings because a conversation is gone', async () => {
    welcome(true);
    router.go(`#/c/${ID}`);
    chat.show(ID);
    router.go('#/settings/account');
    notices.forget();
    tell({ type: 'event', seq: 1, event: { kind: 'conversation.deleted', conversation: ID } });
    await vi.waitFor(() => expect(chat.current).toBeNull());
    expect(router.now.page).toBe('settings');
    expect(notices.toast).toBeNull();

    router.go(`#/c/${OTHER}`);
    chat.show(OTHER);
    chat.draft = 'Half a sentence';
    tell({ type: 'event', seq: 2, event: { kind: 'conversation.deleted', conversation: OTHER } });
    await vi.waitFor(() => expect(router.now).toMatchObject({ conversation: null }));
    expect(notices.toast?.text).toContain('not here any more');
    expect(chat.draft).toBe('Half a sentence');
  });

  it('does not tell a person of what they are deleting', async () => {
    welcome(true);
    router.go(`#/c/${ID}`);
    chat.show(ID);
    const removed = chat.remove(ID);
    const request = await asked('DELETE', `/conversations/${ID}`);
    tell({ type: 'event', seq: 1, event: { kind: 'conversation.deleted', conversation: ID } });
    await settle();
    request.answer(undefined, 204);
    await removed;
    expect(notices.toast).toBeNull();
    expect(router.now).toMatchObject({ page: 'chat', conversation: null });
    expect(chat.current).toBeNull();
  });
});
