import { randomBytes, randomInt, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { WebSocketServer } from 'ws';

const CSP = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data: blob:",
  "font-src 'self'",
  "connect-src 'self'",
  "worker-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
].join('; ');

const WORDS =
  'amber birch candle delta ember fern garden harbor island jasmine kettle lantern meadow nectar olive pebble quartz river saddle timber umber velvet willow yonder'.split(
    ' ',
  );
const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.webmanifest': 'application/manifest+json',
};

const option = (name, fallback) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? fallback : process.argv[at + 1];
};
const data = option('data', '/tmp/aico-double');
const [host, port] = option('bind', '127.0.0.1:0').split(':');
const dist = join(dirname(fileURLToPath(import.meta.url)), '../../dist');

mkdirSync(data, { recursive: true });
const file = join(data, 'double.json');
const db = existsSync(file)
  ? JSON.parse(readFileSync(file, 'utf8'))
  : { persons: [], conversations: [], messages: [], model: null };
const save = () => writeFileSync(file, JSON.stringify(db));
for (const message of db.messages) {
  if (message.status === 'streaming') message.status = 'interrupted';
}

let clock = 0;
const uuid7 = () => {
  clock = Math.max(clock + 1, Date.now());
  const hex = clock.toString(16).padStart(12, '0') + randomBytes(10).toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-7${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
};
const now = () => new Date().toISOString();
const phrase = (count) => Array.from({ length: count }, () => WORDS[randomInt(WORDS.length)]);
const code = randomBytes(9).toString('base64url');
let locked = db.persons.length > 0;
const sessions = new Map();
const tokens = [];
const LAB = 'gpu.lab.example:8000';
/** Persons whose words may go to the server. */
const consents = new Set();

function engineFor(person, status) {
  return {
    name: 'lab',
    kind: 'openai',
    address: LAB,
    network: true,
    version: status === 'ready' ? 'vllm' : null,
    status,
    seen_at: status === 'ready' ? now() : null,
    code: null,
    why: null,
    detail: null,
    what_to_do: null,
    allowed: consents.has(person),
    allowed_elsewhere: false,
  };
}

const epoch = uuid7();
const STARTER = '01970000-0000-7000-8000-000000000001';
const SECOND = '01970000-0000-7000-8000-000000000002';
const READER = '01970000-0000-7000-8000-000000000003';
const pinned = new Set();
const modelState = {
  status: 'stopped',
  model: STARTER,
  name: 'Starter 135M',
  loading_percent: null,
  why: null,
  what_to_do: null,
};
const models = [
  {
    id: STARTER,
    name: 'Starter 135M',
    file: 'starter.gguf',
    size_bytes: 105_000_000,
    architecture: 'llama',
    parameters: 135_000_000,
    quantization: 'Q4_K_M',
    context_length: 2048,
    license: 'Apache-2.0',
    starter: true,
    active: true,
    present: true,
  },
];

/** What the models did in the last ten minutes: one asked again and again, one that only reads. */
function activity(person, after) {
  const now = Date.now();
  const every = 5000;
  const every_sample = [];
  for (let back = 119; back >= 0; back -= 1) {
    const at = Math.floor(now / every) * every - back * every;
    const beat = Math.floor(at / every) % 24;
    const busy = beat < 9;
    if (at <= after || (back > 60 && back < 68)) continue;
    const model = (id, running, speed, memory_bytes) => ({
      model: id,
      running,
      waiting: running > 3 ? 1 : 0,
      tokens_per_second: running * speed,
      memory_bytes,
      processors: running ? 1.9 : 0,
      completed: beat === 9 ? 1 : 0,
      failed: 0,
      first_token_ms: running && beat % 3 === 0 ? 180 + beat * 40 : null,
    });
    every_sample.push({
      at: new Date(at).toISOString(),
      available_bytes: 9e9 - (busy ? 1e8 : 0),
      models: [
        model(STARTER, busy ? 1 + (beat % 4) : 0, 21 - beat, 310e6),
        model(READER, beat % 6 === 0 ? 1 : 0, 1800, 140e6),
        ...(back < 50 ? [model(SECOND, beat > 15 ? 1 : 0, 8.5, 2.6e9)] : []),
      ],
    });
  }
  const figures = (name, model, extra) => ({
    model,
    name,
    engine: null,
    status: 'ready',
    loading_percent: null,
    active: false,
    pinned: pinned.has(model),
    memory_bytes: 2.6e9,
    idle_until: new Date(now + 24 * 60_000).toISOString(),
    running: 0,
    places: 4,
    waiting: 0,
    tokens_per_second: 0,
    totals: {
      completed: 12,
      cancelled: 1,
      refused: 0,
      failed: 1,
      prompt_tokens: 4200,
      cached_tokens: 3300,
      answer_tokens: 900,
      first_token_ms: 840,
      tokens_per_second: 8.4,
    },
    resting_until: null,
    restarts: 0,
    process_id: 4712,
    device: null,
    fallback: null,
    ...extra,
  });
  const answers = db.messages.filter((one) => {
    const conversation = db.conversations.find((two) => two.id === one.conversation);
    return one.role === 'assistant' && conversation?.person === person.id;
  });
  return {
    at: new Date(now).toISOString(),
    sample_every_ms: every,
    memory_bytes: 16e9,
    available_bytes: 9e9,
    most_loaded: 2,
    models: [
      figures('Starter 135M', STARTER, {
        active: true,
        running: 2,
        waiting: 1,
        tokens_per_second: 38.2,
        memory_bytes: 310e6,
      }),
      figures('Qwen3 4B', SECOND, {}),
      figures('MiniLM L6', READER, {
        memory_bytes: 140e6,
        totals: {
          completed: 40,
          cancelled: 0,
          refused: 0,
          failed: 0,
          prompt_tokens: 61_000,
          cached_tokens: 0,
          answer_tokens: 0,
          first_token_ms: null,
          tokens_per_second: 1800,
        },
      }),
    ],
    samples: every_sample,
    requests: answers.reverse().map((one, index) => ({
      request: one.id,
      model: STARTER,
      name: 'Starter 135M',
      engine: null,
      at: one.created_at,
      asker: 'companion',
      outcome: { cancelled: 'cancelled', streaming: 'running' }[one.status] ?? 'completed',
      problem: null,
      prompt_tokens: 420 + index,
      cached_tokens: 380,
      answer_tokens: 64,
      waited_ms: 0,
      first_token_ms: 212,
      total_ms: 3400,
      tokens_per_second: 20.1,
    })),
  };
}

const pulls = [];
const catalogue = {
  date: '2026-11-26',
  file: null,
  mirror: null,
  memory_bytes: 16_000_000_000,
  available_bytes: 9_000_000_000,
  cores: 4,
  items: [
    ['qwen3-1.7b', 'Qwen3 1.7B', 1_834_426_016, 'fits', false],
    ['qwen3-4b', 'Qwen3 4B', 2_497_280_256, 'fits', true],
    ['qwen3-14b', 'Qwen3 14B', 9_001_752_960, 'too-large', false],
  ].map(([name, title, size_bytes, fit, recommended]) => ({
    name,
    title,
    summary: 'For work on the pages.',
    purpose: 'chat',
    architecture: 'qwen3',
    parameters: size_bytes,
    quantization: 'Q8_0',
    context_length: 40_960,
    license: 'Apache-2.0',
    license_url: 'https://www.apache.org/licenses/LICENSE-2.0',
    sources: [`https://hub.invalid/${name}.gguf`],
    size_bytes,
    sha256: '00'.repeat(32),
    memory_bytes: size_bytes + 1_000_000_000,
    fit,
    recommended,
    model: null,
    present: false,
    partial_bytes: 0,
  })),
};

/** A quarter further each time somebody looks. */
function advanced(pull) {
  pull.done_bytes = Math.min(pull.total_bytes, pull.done_bytes + pull.total_bytes / 4);
  if (pull.done_bytes === pull.total_bytes) {
    pull.status = 'done';
    const entry = catalogue.items.find((one) => one.name === pull.name);
    entry.present = true;
  }
  return pull;
}

class Refused extends Error {
  constructor(status, code, title, extra = {}) {
    super(title);
    Object.assign(this, { status, code, extra });
  }
}

const stage = () => (!db.persons.length ? 'new' : locked ? 'locked' : 'ready');
const publicPerson = ({ id, name, role, created_at }) => ({ id, name, role, created_at });

function openSession(person, client) {
  const token = randomBytes(24).toString('base64url');
  const made = {
    id: uuid7(),
    person,
    token,
    client: client ?? 'unknown',
    created_at: now(),
    last_seen_at: now(),
    expires_at: new Date(Date.now() + 864e5).toISOString(),
  };
  sessions.set(token, made);
  return { token, expires_at: made.expires_at, person: publicPerson(person) };
}

// --- the stream ---------------------------------------------------------------------------------

const streams = new Map();
const sockets = new Set();
const streamOf = (person) => {
  if (!streams.has(person)) streams.set(person, { seq: 0, events: [] });
  return streams.get(person);
};
function tell(person, event) {
  const stream = streamOf(person);
  stream.seq += 1;
  const frame = JSON.stringify({ type: 'event', seq: stream.seq, event });
  stream.events.push({ seq: stream.seq, frame });
  for (const socket of sockets) if (socket.person === person) socket.send(frame);
}

const conversationOf = (person, id) => {
  const found = db.conversations.find((one) => one.id === id && one.person === person);
  if (!found) throw new Refused(404, 'not-found', 'Not found');
  return found;
};
const messageOf = (conversation, id) => {
  const found = db.messages.find((one) => one.id === id && one.conversation === conversation.id);
  if (!found) throw new Refused(404, 'not-found', 'Not found');
  return found;
};
const publicConversation = ({ person, ...rest }) => rest;
const publicMessage = (message) => ({
  ...message,
  siblings: db.messages
    .filter((one) => one.conversation === message.conversation && one.parent === message.parent)
    .map((one) => one.id),
});
const updated = (conversation) => {
  conversation.updated_at = now();
  save();
  tell(conversation.person, {
    kind: 'conversation.updated',
    conversation: publicConversation(conversation),
  });
};

function newMessage(conversation, parent, role, text, status, id = uuid7()) {
  const message = {
    id,
    conversation: conversation.id,
    parent,
    role,
    parts: text ? [{ type: 'text', text }] : [],
    status,
    created_at: now(),
    model: role === 'assistant' ? modelState.name : null,
  };
  db.messages.push(message);
  conversation.active_leaf = id;
  tell(conversation.person, {
    kind: 'message.created',
    conversation: conversation.id,
    message: publicMessage(message),
  });
  return message;
}

const ANSWERS = [
  'That sounds **good**. A few thoughts:\n\n1. Begin with something small.\n2. Leave *room* for rest.\n3. Write `one line` about it tonight.\n\nWhat would you like to start with?',
  'Of course. Here is a short one:\n\n> Rain taps the pane, a patient hand,\n> and slows the evening down.\n> The lamp is warm, the kettle hums,\n> there is no need for town.\n\nShall I make it longer?',
  'In short: blue light is scattered *more* than red light by the air.\n\n| colour | wavelength | scattered |\n|---|---:|---|\n| blue | 450 nm | strongly |\n| red | 650 nm | weakly |\n\n```python\ndef scattering(wavelength):\n    return 1 / wavelength ** 4\n```\n\nMore in [this article](https://example.org/sky?from=aico).',
];
const running = new Map();

function answer(conversation, parent) {
  const message = newMessage(conversation, parent.id, 'assistant', '', 'streaming');
  message.next_index = 0;
  updated(conversation);
  const asked = parent.parts[0]?.text ?? '';
  let text = ANSWERS[db.messages.length % ANSWERS.length];
  if (/sky/.test(asked)) text = ANSWERS[2];
  if (/poem/.test(asked)) text = ANSWERS[1];
  if (/long/i.test(asked)) text = Array(40).fill(ANSWERS[0]).join('\n\n');
  if (/echo:/.test(asked)) text = asked.split('echo:')[1].trim();
  const pieces = text.match(/\s*\S+/g) ?? [];
  const finish = (status, error) => {
    clearTimeout(running.get(message.id)?.timer);
    running.delete(message.id);
    message.status = status;
    if (error) message.error = error;
    delete message.next_index;
    tell(conversation.person, {
      kind: 'answer.done',
      conversation: conversation.id,
      message: publicMessage(message),
      stats: {},
    });
    updated(conversation);
  };
  const step = () => {
    if (/fail/.test(asked)) {
      finish('failed', {
        code: 'model-crashed',
        title: 'The model process ended.',
        detail: 'What it had written is kept.',
      });
      return;
    }
    const piece = pieces.shift();
    if (piece === undefined) {
      finish('complete');
      return;
    }
    if (!message.parts.length) message.parts = [{ type: 'text', text: '' }];
    message.parts[0].text += piece;
    tell(conversation.person, {
      kind: 'answer.delta',
      conversation: conversation.id,
      message: message.id,
      part: 0,
      index: message.next_index++,
      text: piece,
      thinking: false,
    });
    running.get(message.id).timer = setTimeout(step, 25);
  };
  running.set(message.id, { timer: null, finish });
  const begin = () => {
    if (modelState.status === 'stopped') {
      modelState.status = 'starting';
      const load = (percent) => {
        const loaded = percent > 100;
        modelState.status = loaded ? 'ready' : 'starting';
        modelState.loading_percent = loaded ? null : percent;
        tell(conversation.person, { kind: 'model.state', state: { ...modelState } });
        const next = loaded ? step : () => load(percent + 25);
        running.get(message.id).timer = setTimeout(next, loaded ? 0 : 220);
      };
      load(0);
    } else {
      running.get(message.id).timer = setTimeout(step, 400);
    }
  };
  begin();
  return message;
}

function send(person, id, { text, id: messageId, parent }) {
  const conversation = conversationOf(person, id);
  if (typeof text !== 'string' || !text.trim()) throw new Refused(422, 'empty', 'Empty');
  if (text.length > 32_000) throw new Refused(413, 'too-long', 'Too long');
  const known = db.messages.find((one) => one.id === messageId);
  if (known) {
    return { message: known.id, answer: db.messages.find((one) => one.parent === known.id)?.id };
  }
  const message = newMessage(
    conversation,
    parent ?? conversation.active_leaf,
    'user',
    text,
    'complete',
    messageId,
  );
  if (!conversation.title) conversation.title = text.split('\n')[0].slice(0, 48);
  return { message: message.id, answer: answer(conversation, message).id };
}

const leafBelow = (conversation, id) => {
  const child = db.messages
    .filter((one) => one.conversation === conversation.id && one.parent === id)
    .at(-1);
  return child ? leafBelow(conversation, child.id) : id;
};
const pathTo = (conversation) => {
  const path = [];
  let at = conversation.active_leaf;
  while (at) {
    const message = messageOf(conversation, at);
    path.unshift(publicMessage(message));
    at = message.parent;
  }
  return path;
};

// --- REST ---------------------------------------------------------------------------------------

const strong = (password) => {
  if ([...String(password ?? '')].length < 12) {
    throw new Refused(422, 'password-too-weak', 'Too weak', {
      detail: 'It needs at least 12 characters.',
    });
  }
};
const owner = ({ person }) => {
  if (person.role !== 'owner') throw new Refused(403, 'forbidden', 'For the owner only');
};
const closeSockets = (test, closeCode) => {
  for (const socket of sockets) if (test(socket)) socket.close(closeCode);
};

const routes = [
  ['GET', '/state', () => [200, { stage: stage(), version: '0.1.0' }], 'open'],
  ['GET', '/passphrase', () => [200, { passphrase: phrase(5).join(' ') }], 'open'],
  [
    'POST',
    '/setup',
    ({ body, request }) => {
      if (db.persons.length) throw new Refused(409, 'already-set-up', 'Already set up');
      if (body.code !== code) throw new Refused(403, 'setup-code-wrong', 'Wrong code');
      strong(body.password);
      const person = {
        id: uuid7(),
        name: body.name,
        role: 'owner',
        password: body.password,
        created_at: now(),
      };
      db.persons.push(person);
      locked = false;
      save();
      return [
        201,
        {
          recovery_phrase: phrase(12),
          session: openSession(person, request.headers['user-agent']),
        },
      ];
    },
    'open',
  ],
  [
    'POST',
    '/unlock',
    ({ body, request }) => {
      const person = db.persons.find((one) => one.role === 'owner');
      if (!person) throw new Refused(409, 'not-set-up', 'Not set up');
      if (person.password !== body.password) {
        throw new Refused(401, 'wrong-password', 'Wrong password');
      }
      locked = false;
      return [200, { session: openSession(person, request.headers['user-agent']) }];
    },
    'open',
  ],
  [
    'POST',
    '/sessions',
    ({ body, request }) => {
      if (locked) throw new Refused(503, 'locked', 'Locked');
      const person = db.persons.find(
        (one) => one.name === body.name && one.password === body.password,
      );
      if (!person) throw new Refused(401, 'sign-in-failed', 'No');
      return [201, openSession(person, request.headers['user-agent'])];
    },
    'open',
  ],
  [
    'GET',
    '/sessions',
    ({ person, session }) => [
      200,
      {
        items: [...sessions.values()]
          .filter((one) => one.person === person)
          .map(({ id, created_at, expires_at, last_seen_at, client, token }) => ({
            id,
            created_at,
            expires_at,
            last_seen_at,
            client,
            current: token === session.token,
          })),
      },
    ],
  ],
  [
    'DELETE',
    '/sessions',
    ({ person }) => {
      for (const one of sessions.values()) if (one.person === person) sessions.delete(one.token);
      closeSockets((socket) => socket.person === person.id, 4001);
      return [204];
    },
  ],
  [
    'DELETE',
    '/sessions/current',
    ({ session }) => {
      sessions.delete(session.token);
      closeSockets((socket) => socket.token === session.token, 4001);
      return [204];
    },
  ],
  [
    'DELETE',
    '/sessions/:id',
    ({ params, person }) => {
      for (const one of sessions.values()) {
        if (one.id === params.id && one.person === person) {
          sessions.delete(one.token);
          closeSockets((socket) => socket.token === one.token, 4001);
        }
      }
      return [204];
    },
  ],
  ['GET', '/engines', ({ person }) => [200, { items: [engineFor(person, 'unknown')] }]],
  [
    'POST',
    '/engines/:name/check',
    ({ params, person }) => {
      if (params.name !== 'lab') throw new Refused(404, 'not-found', 'No such engine');
      return [200, { engine: engineFor(person, 'ready'), models: ['qwen3-32b'] }];
    },
  ],
  [
    'PUT',
    '/engines/:name/consent',
    ({ body, person }) => {
      if (body.address !== LAB) throw new Refused(409, 'conflict', 'Another address');
      consents.add(person);
      return [204];
    },
  ],
  [
    'DELETE',
    '/engines/:name/consent',
    ({ person }) => {
      if (!consents.delete(person)) throw new Refused(404, 'not-found', 'No consent');
      return [204];
    },
  ],
  [
    'GET',
    '/egress',
    ({ person }) => [
      200,
      {
        items: !consents.has(person)
          ? []
          : [
              {
                id: 1,
                at: now(),
                engine: 'lab',
                address: LAB,
                model: 'qwen3-32b',
                what: 'chat',
                bytes: 2130,
                tokens: 540,
              },
            ],
      },
    ],
  ],
  [
    'GET',
    '/tokens',
    ({ person }) => [
      200,
      { items: tokens.filter((one) => one.person === person).map((one) => one.token) },
    ],
  ],
  [
    'POST',
    '/tokens',
    ({ body, person }) => {
      const same = (one) => one.person === person && one.token.name === body.name;
      if (tokens.some(same)) throw new Refused(409, 'conflict', 'You have one of that name');
      const days = body.expires_days ?? 90;
      const token = {
        id: uuid7(),
        name: body.name,
        created_at: now(),
        expires_at: new Date(Date.now() + days * 864e5).toISOString(),
        last_used_at: null,
      };
      tokens.unshift({ person, token });
      return [201, { secret: `aico_${randomBytes(32).toString('base64url')}`, token }];
    },
  ],
  [
    'DELETE',
    '/tokens/:id',
    ({ params, person }) => {
      const mine = (one) => one.person === person && one.token.id === params.id;
      const at = tokens.findIndex(mine);
      if (at < 0) throw new Refused(404, 'not-found', 'No such token');
      tokens.splice(at, 1);
      return [204];
    },
  ],
  [
    'POST',
    '/lock',
    (context) => {
      owner(context);
      locked = true;
      sessions.clear();
      closeSockets(() => true, 4023);
      return [204];
    },
  ],
  ['GET', '/me', ({ person }) => [200, publicPerson(person)]],
  [
    'PUT',
    '/me/password',
    ({ person, body }) => {
      if (person.password !== body.current) {
        throw new Refused(401, 'wrong-password', 'Wrong password');
      }
      strong(body.new);
      person.password = body.new;
      save();
      return [204];
    },
  ],
  [
    'GET',
    '/persons',
    (context) => {
      owner(context);
      return [200, { items: db.persons.map(publicPerson) }];
    },
  ],
  [
    'POST',
    '/persons',
    (context) => {
      owner(context);
      const { name, password } = context.body;
      strong(password);
      if (db.persons.some((one) => one.name === name)) {
        throw new Refused(409, 'name-taken', 'Taken');
      }
      const person = { id: uuid7(), name, role: 'member', password, created_at: now() };
      db.persons.push(person);
      save();
      return [201, publicPerson(person)];
    },
  ],
  [
    'POST',
    '/persons/:id/erase',
    (context) => {
      owner(context);
      if (context.person.password !== context.body.password) {
        throw new Refused(401, 'wrong-password', 'Wrong password');
      }
      db.persons = db.persons.filter((one) => one.id !== context.params.id);
      db.conversations = db.conversations.filter((one) => one.person !== context.params.id);
      save();
      return [200, { dropped: [], out_of_reach: [] }];
    },
  ],
  [
    'GET',
    '/characters',
    () => [
      200,
      {
        items: [
          {
            id: 'aico',
            name: 'Aico',
            description: '',
            built_in: true,
            chosen: true,
            models: [],
            portrait: false,
            tags: [],
            creator: 'AICO',
            updated_at: null,
          },
        ],
      },
    ],
  ],
  [
    'GET',
    '/conversations',
    ({ person, url }) => {
      const limit = Number(url.searchParams.get('limit') ?? 50);
      const from = Number(url.searchParams.get('before') ?? 0);
      const mine = db.conversations
        .filter((one) => one.person === person.id)
        .sort((a, b) => (a.updated_at < b.updated_at ? 1 : -1));
      const items = mine.slice(from, from + limit).map(publicConversation);
      return [200, { items, next: from + limit < mine.length ? String(from + limit) : null }];
    },
  ],
  [
    'POST',
    '/conversations',
    ({ person, body }) => {
      const conversation = {
        id: uuid7(),
        person: person.id,
        title: body.title ?? '',
        character: 'aico',
        created_at: now(),
        updated_at: now(),
        active_leaf: null,
      };
      db.conversations.push(conversation);
      save();
      tell(person.id, {
        kind: 'conversation.created',
        conversation: publicConversation(conversation),
      });
      return [201, publicConversation(conversation)];
    },
  ],
  [
    'GET',
    '/conversations/:id',
    ({ person, params }) => {
      const conversation = conversationOf(person.id, params.id);
      return [
        200,
        { conversation: publicConversation(conversation), messages: pathTo(conversation) },
      ];
    },
  ],
  [
    'PATCH',
    '/conversations/:id',
    ({ person, params, body }) => {
      const conversation = conversationOf(person.id, params.id);
      if (body.title != null) conversation.title = body.title;
      if (body.active_leaf != null) {
        messageOf(conversation, body.active_leaf);
        conversation.active_leaf = leafBelow(conversation, body.active_leaf);
      }
      updated(conversation);
      return [200, publicConversation(conversation)];
    },
  ],
  [
    'DELETE',
    '/conversations/:id',
    ({ person, params }) => {
      const conversation = conversationOf(person.id, params.id);
      db.conversations = db.conversations.filter((one) => one !== conversation);
      db.messages = db.messages.filter((one) => one.conversation !== conversation.id);
      save();
      tell(person.id, { kind: 'conversation.deleted', conversation: conversation.id });
      return [204];
    },
  ],
  [
    'POST',
    '/conversations/:id/messages',
    ({ person, params, body }) => [202, send(person.id, params.id, body)],
  ],
  [
    'POST',
    '/conversations/:id/messages/:message/regenerate',
    ({ person, params }) => {
      const conversation = conversationOf(person.id, params.id);
      const before = messageOf(conversation, params.message);
      const parent = messageOf(conversation, before.parent);
      return [202, { message: parent.id, answer: answer(conversation, parent).id }];
    },
  ],
  [
    'POST',
    '/conversations/:id/messages/:message/edit',
    ({ person, params, body }) => {
      const conversation = conversationOf(person.id, params.id);
      const before = messageOf(conversation, params.message);
      const message = newMessage(
        conversation,
        before.parent,
        'user',
        body.text,
        'complete',
        body.id,
      );
      return [202, { message: message.id, answer: answer(conversation, message).id }];
    },
  ],
  [
    'POST',
    '/conversations/:id/messages/:message/cancel',
    ({ params }) => {
      running.get(params.message)?.finish('cancelled');
      return [204];
    },
  ],
  [
    'GET',
    '/search',
    ({ person, url }) => {
      const q = (url.searchParams.get('q') ?? '').toLowerCase();
      const items = [];
      const cut = (text) => {
        const at = text.toLowerCase().indexOf(q);
        return [
          { text: `${at > 30 ? '…' : ''}${text.slice(Math.max(0, at - 30), at)}`, hit: false },
          { text: text.slice(at, at + q.length), hit: true },
          { text: text.slice(at + q.length, at + q.length + 60), hit: false },
        ];
      };
      for (const conversation of db.conversations.filter((one) => one.person === person.id)) {
        const hit = (message, text, at) => {
          if (!text.toLowerCase().includes(q)) return;
          items.push({
            conversation: conversation.id,
            title: conversation.title,
            message,
            snippet: cut(text),
            at,
          });
        };
        hit(null, conversation.title, conversation.updated_at);
        for (const message of db.messages.filter((one) => one.conversation === conversation.id)) {
          hit(message.id, message.parts.map((part) => part.text).join(' '), message.created_at);
        }
      }
      return [200, { items }];
    },
  ],
  [
    'GET',
    '/models/activity',
    ({ person, url }) => [
      200,
      activity(person, Date.parse(url.searchParams.get('after') ?? '') || 0),
    ],
  ],
  ...['PUT', 'DELETE'].map((method) => [
    method,
    '/models/:id/pin',
    (context) => {
      owner(context);
      if (method === 'PUT') pinned.add(context.params.id);
      else pinned.delete(context.params.id);
      return [204];
    },
  ]),
  ['GET', '/models', () => [200, { items: models, state: modelState }]],
  [
    'GET',
    '/models/catalogue',
    (context) => {
      owner(context);
      return [200, catalogue];
    },
  ],
  [
    'GET',
    '/models/pulls',
    (context) => {
      owner(context);
      return [200, { items: pulls.map(advanced) }];
    },
  ],
  [
    'POST',
    '/models/pulls',
    (context) => {
      owner(context);
      const entry = catalogue.items.find((one) => one.name === context.body.name);
      if (!entry) throw new Refused(404, 'not-found', 'The catalogue has no such model');
      const pull = {
        name: entry.name,
        status: 'running',
        done_bytes: 0,
        total_bytes: entry.size_bytes,
        kept_bytes: 0,
        bytes_per_second: 0,
        seconds_left: null,
        source: 'huggingface.co',
        use_then: context.body.use_then ?? false,
        model: null,
        problem: null,
        retry_in_seconds: null,
      };
      pulls.push(pull);
      return [202, pull];
    },
  ],
  [
    'DELETE',
    '/models/pulls/:name',
    (context) => {
      owner(context);
      const at = pulls.findIndex((pull) => pull.name === context.params.name);
      if (at < 0) throw new Refused(404, 'not-found', 'There is no such download');
      pulls.splice(at, 1);
      return [204];
    },
  ],
  [
    'POST',
    '/models',
    (context) => {
      owner(context);
      const { path } = context.body;
      if (!path.endsWith('.gguf')) {
        throw new Refused(422, 'not-a-model', 'Not a model', {
          detail: 'The file does not begin like a GGUF file.',
        });
      }
      const model = {
        ...models[0],
        id: uuid7(),
        name: path.split('/').at(-1),
        file: path,
        size_bytes: 4_900_000_000,
        parameters: 8_000_000_000,
        starter: false,
        active: false,
      };
      models.push(model);
      return [201, model];
    },
  ],
  [
    'PUT',
    '/models/active',
    (context) => {
      owner(context);
      for (const model of models) model.active = model.id === context.body.id;
      const active = models.find((model) => model.active);
      Object.assign(modelState, { model: active.id, name: active.name, status: 'stopped' });
      tell(context.person.id, { kind: 'model.state', state: { ...modelState } });
      return [200, modelState];
    },
  ],
  [
    'DELETE',
    '/models/:id',
    (context) => {
      owner(context);
      models.splice(
        models.findIndex((model) => model.id === context.params.id),
        1,
      );
      return [204];
    },
  ],
  [
    'GET',
    '/status',
    (context) => {
      owner(context);
      return [
        200,
        {
          version: '0.1.0',
          pid: process.pid,
          started_at: now(),
          resident_bytes: 96_400_000,
          persons_open: 1,
          connections: sockets.size,
          warnings: [],
          model: modelState,
        },
      ];
    },
  ],
];

async function handle(request, response) {
  const { origin } = request.headers;
  if (origin !== undefined && origin !== `http://${request.headers.host}`) {
    throw new Refused(403, 'origin-not-allowed', 'Requests from other web sites are refused');
  }
  const url = new URL(request.url, 'http://local');
  if (url.pathname === '/livez') return json(response, 200, { status: 'live' });
  if (!url.pathname.startsWith('/api/v1/')) return shell(url, response);
  const path = url.pathname.slice('/api/v1'.length).split('/');
  for (const [method, pattern, handler, open] of routes) {
    const parts = pattern.split('/');
    if (method !== request.method || parts.length !== path.length) continue;
    if (!parts.every((part, i) => part.startsWith(':') || part === path[i])) continue;
    const context = {
      request,
      url,
      params: Object.fromEntries(
        parts.flatMap((part, i) => (part.startsWith(':') ? [[part.slice(1), path[i]]] : [])),
      ),
      body: await bodyOf(request),
    };
    if (!open) {
      if (locked) throw new Refused(503, 'locked', 'Locked');
      const token = (request.headers.authorization ?? '').replace(/^Bearer /, '');
      context.session = sessions.get(token);
      if (!context.session) throw new Refused(401, 'unauthenticated', 'Sign in');
      context.person = context.session.person;
    }
    const [status, body] = handler(context);
    return json(response, status, body);
  }
  throw new Refused(404, 'not-found', 'Not found');
}

async function bodyOf(request) {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text ? JSON.parse(text) : {};
}

function json(response, status, body) {
  response.writeHead(status, {
    'Content-Type': status >= 400 ? 'application/problem+json' : 'application/json',
    'Cache-Control': 'no-store',
    'Content-Security-Policy': CSP,
  });
  response.end(body === undefined ? undefined : JSON.stringify(body));
}

function shell(url, response) {
  const path = normalize(url.pathname === '/' ? '/index.html' : url.pathname);
  const full = join(dist, path);
  if (!full.startsWith(dist) || !existsSync(full)) throw new Refused(404, 'not-found', 'Not found');
  response.writeHead(200, {
    'Content-Type': TYPES[extname(full)] ?? 'application/octet-stream',
    'Content-Security-Policy': CSP,
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
  });
  response.end(readFileSync(full));
}

const server = createServer((request, response) => {
  handle(request, response).catch((error) => {
    if (!(error instanceof Refused)) process.stderr.write(`${error.stack}\n`);
    const status = error.status ?? 500;
    json(response, status, {
      type: 'about:blank',
      title: error.message,
      status,
      code: error.code ?? 'internal',
      ...error.extra,
    });
  });
});

const upgrades = new WebSocketServer({ server, path: '/ws' });
upgrades.on('connection', (socket) => {
  if (locked) {
    socket.close(4023);
    return;
  }
  socket.on('close', () => sockets.delete(socket));
  socket.on('message', (raw) => {
    const frame = JSON.parse(raw);
    if (frame.type === 'authenticate') {
      const found = sessions.get(frame.token);
      if (!found) return socket.close(4001);
      socket.person = found.person.id;
      socket.token = frame.token;
      const stream = streamOf(socket.person);
      const resumed = frame.resume?.epoch === epoch;
      socket.send(
        JSON.stringify({
          type: 'authenticated',
          person: publicPerson(found.person),
          epoch,
          seq: resumed ? frame.resume.seq : stream.seq,
          resumed,
          heartbeat_seconds: 25,
        }),
      );
      sockets.add(socket);
      if (resumed) {
        for (const event of stream.events) {
          if (event.seq > frame.resume.seq) socket.send(event.frame);
        }
      }
      return;
    }
    if (!socket.person) return socket.close(4001);
    try {
      if (frame.type === 'send') {
        const sent = send(socket.person, frame.conversation, frame);
        socket.send(JSON.stringify({ type: 'accepted', ref: frame.ref, ...sent }));
      } else if (frame.type === 'cancel') {
        running.get(frame.message)?.finish('cancelled');
        socket.send(JSON.stringify({ type: 'cancelled', ref: frame.ref }));
      } else if (frame.type === 'ping') {
        socket.send(JSON.stringify({ type: 'pong', ref: frame.ref }));
      }
    } catch (error) {
      socket.send(
        JSON.stringify({
          type: 'error',
          ref: frame.ref,
          code: error.code ?? 'internal',
          status: error.status ?? 500,
          title: error.message,
        }),
      );
    }
  });
});

process.on('SIGTERM', () => {
  save();
  closeSockets(() => true, 1001);
  server.close();
  server.closeAllConnections();
  setTimeout(() => process.exit(0), 50);
});

server.listen(Number(port), host, () => {
  const address = `http://${host}:${server.address().port}/`;
  process.stdout.write(
    `AICO is ready: ${address}${stage() === 'new' ? `#setup=${code}` : ''} (${randomUUID().slice(0, 4)})\n`,
  );
});
