import type { Authenticated, ClientFrame, EventFrame, ServerFrame } from './protocol';
import { Close } from './protocol';

/** The part of a WebSocket that is used here; a test gives its own. */
export interface Socket {
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
  onerror: ((event: never) => void) | null;
  send(data: string): void;
  close(code?: number): void;
}

export type Link =
  | { state: 'connecting' }
  | { state: 'open' }
  | { state: 'waiting'; attempt: number }
  | { state: 'ended' };

export interface Handlers {
  /** Where the stream was last seen, for resuming. */
  position(): { epoch: string | null; seq: number };
  /** Whether the daemon is there and open; asked before each new try. */
  probe(): Promise<'go' | 'wait' | 'stop'>;
  frame(frame: Authenticated | EventFrame): void;
  link(link: Link): void;
  ended(why: 'signed-out' | 'locked'): void;
}

export interface SendProblem {
  code: string;
  title?: string;
  detail?: string;
  what_to_do?: string;
}

interface Waiting {
  frame: ClientFrame & { ref: string };
  resolve: (frame: ServerFrame) => void;
  reject: (problem: SendProblem) => void;
}

const FIRST_WAIT = 500;
const LONGEST_WAIT = 15_000;
/** How long a daemon that is there may take to answer a ping. */
const SILENCE = 5000;

/**
 * One WebSocket that comes back by itself. Frames that were sent and not yet answered are sent
 * again after a reconnect: each of them may be repeated without harm.
 */
export class Connection {
  #socket: Socket | null = null;
  #authenticated = false;
  #attempt = 0;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #beat: ReturnType<typeof setInterval> | undefined;
  /** Runs from a ping to whatever comes next. */
  #silence: ReturnType<typeof setTimeout> | undefined;
  #stopped = false;
  #refs = 0;
  readonly #waiting = new Map<string, Waiting>();
  readonly #open: () => Socket;
  readonly #token: string;
  readonly #handlers: Handlers;

  constructor(open: () => Socket, token: string, handlers: Handlers) {
    this.#open = open;
    this.#token = token;
    this.#handlers = handlers;
  }

  start(): void {
    this.#connect();
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    this.#rest();
    this.#socket?.close(Close.done);
    this.#socket = null;
    this.#rejectAll({ code: 'closed' });
  }

  /** Tries at once instead of waiting: the network or the person is back. */
  hurry(): void {
    if (this.#stopped) return;
    // What looks open may have died while the machine slept.
    if (this.#authenticated) this.#ping();
    if (!this.#timer) return;
    clearTimeout(this.#timer);
    this.#timer = null;
    void this.#retry();
  }

  request(frame: DistributiveOmit<ClientFrame & { ref: string }, 'ref'>): Promise<ServerFrame> {
    const ref = `r${++this.#refs}`;
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        frame: { ...frame, ref } as Waiting['frame'],
        resolve,
        reject,
      };
      this.#waiting.set(ref, waiting);
      if (this.#authenticated) this.#socket?.send(JSON.stringify(waiting.frame));
    });
  }

  #connect(): void {
    if (this.#stopped) return;
    this.#handlers.link({ state: 'connecting' });
    let socket: Socket;
    try {
      socket = this.#open();
    } catch {
      this.#later();
      return;
    }
    this.#socket = socket;
    this.#authenticated = false;
    socket.onopen = () => {
      const { epoch, seq } = this.#handlers.position();
      const frame: ClientFrame = { type: 'authenticate', token: this.#token };
      if (epoch) frame.resume = { epoch, seq };
      socket.send(JSON.stringify(frame));
    };
    socket.onmessage = (event) => {
      if (socket !== this.#socket) return;
      clearTimeout(this.#silence);
      this.#silence = undefined;
      this.#message(event.data);
    };
    socket.onclose = (event) => {
      if (socket === this.#socket) this.#closed(event.code);
    };
    socket.onerror = null;
  }

  #message(data: unknown): void {
    if (typeof data !== 'string') return;
    let frame: ServerFrame;
    try {
      frame = JSON.parse(data) as ServerFrame;
    } catch {
      return;
    }
    switch (frame.type) {
      case 'authenticated':
        this.#authenticated = true;
        this.#attempt = 0;
        if (frame.heartbeat_seconds > 0) {
          this.#beat = setInterval(() => this.#ping(), frame.heartbeat_seconds * 1000);
        }
        this.#handlers.frame(frame);
        this.#handlers.link({ state: 'open' });
        for (const waiting of this.#waiting.values()) {
          this.#socket?.send(JSON.stringify(waiting.frame));
        }
        return;
      case 'event':
        this.#handlers.frame(frame);
        return;
      case 'accepted':
      case 'cancelled':
      case 'pong':
        this.#answered(frame.ref)?.resolve(frame);
        return;
      case 'error':
        if (frame.ref) {
          this.#answered(frame.ref)?.reject({
            ...frame,
            code: frame.code ?? 'failed',
          } as SendProblem);
        }
    }
  }

  #answered(ref: string): Waiting | undefined {
    const waiting = this.#waiting.get(ref);
    this.#waiting.delete(ref);
    return waiting;
  }

  /** A connection can be gone without a word; a page can't see the pings of the daemon. */
  #ping(): void {
    if (this.#silence !== undefined) return;
    this.#socket?.send(JSON.stringify({ type: 'ping', ref: `p${++this.#refs}` }));
    this.#silence = setTimeout(() => {
      const silent = this.#socket;
      // Its own end may take minutes to be told: the network that would tell it is not there.
      this.#closed(Close.lost);
      silent?.close(Close.done);
    }, SILENCE);
  }

  #rest(): void {
    clearInterval(this.#beat);
    clearTimeout(this.#silence);
    this.#silence = undefined;
  }

  #closed(code: number): void {
    this.#rest();
    this.#socket = null;
    this.#authenticated = false;
    if (this.#stopped) return;
    if (code === Close.signedOut || code === Close.locked) {
      this.#end(code === Close.locked ? 'locked' : 'signed-out');
      return;
    }
    if (code === Close.tooBig) this.#rejectLongest();
    this.#later();
  }

  #end(why: 'signed-out' | 'locked'): void {
    this.#stopped = true;
    this.#rejectAll({ code: why });
    this.#handlers.link({ state: 'ended' });
    this.#handlers.ended(why);
  }

  /** A frame that was refused for its length would be refused again after each reconnect. */
  #rejectLongest(): void {
    const length = (waiting: Waiting) => JSON.stringify(waiting.frame).length;
    const [longest] = [...this.#waiting.values()].sort((a, b) => length(b) - length(a));
    if (longest) this.#answered(longest.frame.ref)?.reject({ code: 'too-long' });
  }

  #rejectAll(problem: SendProblem): void {
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const waiting of all) waiting.reject(problem);
  }

  #later(): void {
    if (this.#stopped) return;
    this.#attempt += 1;
    this.#handlers.link({ state: 'waiting', attempt: this.#attempt });
    const longest = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** (this.#attempt - 1));
    // Half of it is chance: many tabs shall not come back in one beat.
    const wait = longest / 2 + (Math.random() * longest) / 2;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.#retry();
    }, wait);
  }

  async #retry(): Promise<void> {
    const answer = await this.#handlers.probe();
    if (this.#stopped) return;
    if (answer === 'go') this.#connect();
    else if (answer === 'wait') this.#later();
  }
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
