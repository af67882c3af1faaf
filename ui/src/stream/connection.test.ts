import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Connection, type Handlers, type Link, type Socket } from './connection';

class FakeSocket implements Socket {
  onopen: Socket['onopen'] = null;
  onmessage: Socket['onmessage'] = null;
  onclose: Socket['onclose'] = null;
  onerror: Socket['onerror'] = null;
  sent: Record<string, unknown>[] = [];
  closedWith: number | undefined;

  send(data: string) {
    this.sent.push(JSON.parse(data));
  }
  close(code?: number) {
    this.closedWith = code;
  }
  open() {
    this.onopen?.({} as never);
  }
  tell(frame: unknown) {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }
  drop(code = 1006) {
    this.onclose?.({ code });
  }
}

const welcome = {
  type: 'authenticated',
  person: {},
  epoch: 'e1',
  seq: 3,
  resumed: false,
  heartbeat_seconds: 25,
};

function setUp(probe: Handlers['probe'] = async () => 'go') {
  const sockets: FakeSocket[] = [];
  const links: Link[] = [];
  const frames: unknown[] = [];
  const ended: string[] = [];
  const position = { epoch: null as string | null, seq: 0 };
  const connection = new Connection(
    () => {
      const socket = new FakeSocket();
      sockets.push(socket);
      return socket;
    },
    'token',
    {
      position: () => position,
      probe,
      frame: (frame) => frames.push(frame),
      link: (link) => links.push(link),
      ended: (why) => ended.push(why),
    },
  );
  connection.start();
  const last = () => sockets.at(-1) as FakeSocket;
  return { connection, sockets, links, frames, ended, position, last };
}

describe('the connection', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('gives its token first', () => {
    const { last } = setUp();
    last().open();
    expect(last().sent).toEqual([{ type: 'authenticate', token: 'token' }]);
  });

  it('comes back with its place in the stream', async () => {
    const { last, position, sockets, links } = setUp();
    last().open();
    last().tell(welcome);
    Object.assign(position, { epoch: 'e1', seq: 41 });
    last().drop(1001);
    expect(links.at(-1)).toEqual({ state: 'waiting', attempt: 1 });
    await vi.advanceTimersByTimeAsync(500);
    expect(sockets).toHaveLength(2);
    last().open();
    expect(last().sent[0]).toEqual({
      type: 'authenticate',
      token: 'token',
      resume: { epoch: 'e1', seq: 41 },
    });
  });

  it('waits longer each time, up to a limit, and hurries when told', async () => {
    const { last, sockets, connection } = setUp();
    for (let tries = 0; tries < 8; tries++) {
      last().drop();
      await vi.advanceTimersByTimeAsync(15_000);
    }
    expect(sockets).toHaveLength(9);
    last().drop();
    connection.hurry();
    await vi.advanceTimersByTimeAsync(0);
    expect(sockets).toHaveLength(10);
  });

  it('tries on while the daemon is away and stops when it is locked', async () => {
    const answers = ['wait', 'wait', 'stop'] as const;
    let at = 0;
    const { last, sockets } = setUp(async () => answers[at++] ?? 'stop');
    last().drop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(at).toBe(3);
    expect(sockets).toHaveLength(1);
  });

  it.each([
    [4001, 'signed-out'],
    [4023, 'locked'],
  ])('ends for good on %i', async (code, why) => {
    const { last, sockets, ended } = setUp();
    last().open();
    last().drop(code as number);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(ended).toEqual([why]);
    expect(sockets).toHaveLength(1);
  });

  it('sends what waits once it may, and again after a break', async () => {
    const { connection, last } = setUp();
    const sent = connection.request({ type: 'send', conversation: 'c', text: 'Hi', id: 'm' });
    last().open();
    expect(last().sent).toHaveLength(1);
    last().tell(welcome);
    expect(last().sent[1]).toMatchObject({ type: 'send', id: 'm' });
    last().drop();
    await vi.advanceTimersByTimeAsync(500);
    last().open();
    last().tell(welcome);
    const again = last().sent[1] as { ref: string };
    expect(again).toMatchObject({ type: 'send', id: 'm' });
    last().tell({ type: 'accepted', ref: again.ref, message: 'm', answer: 'a' });
    await expect(sent).resolves.toMatchObject({ answer: 'a' });
    last().drop();
    await vi.advanceTimersByTimeAsync(500);
    last().open();
    last().tell(welcome);
    expect(last().sent).toHaveLength(1);
  });

  it('hands an error to whom it concerns', async () => {
    const { connection, last } = setUp();
    last().open();
    last().tell(welcome);
    const sent = connection.request({ type: 'send', conversation: 'c', text: 'Hi' });
    last().tell({ type: 'error', ref: 'r1', code: 'too-long', status: 413, title: 'Too long' });
    await expect(sent).rejects.toMatchObject({ code: 'too-long' });
  });

  it('does not come back with a frame that was too big', async () => {
    const { connection, last } = setUp();
    last().open();
    last().tell(welcome);
    const small = connection.request({ type: 'send', conversation: 'c', text: 'Hi', id: 's' });
    const big = connection.request({
      type: 'send',
      conversation: 'c',
      text: 'x'.repeat(9),
      id: 'b',
    });
    last().drop(1009);
    await expect(big).rejects.toEqual({ code: 'too-long' });
    await vi.advanceTimersByTimeAsync(500);
    last().open();
    last().tell(welcome);
    expect(last().sent.slice(1)).toMatchObject([{ type: 'send', id: 's' }]);
    last().tell({ type: 'accepted', ref: 'r1', message: 's', answer: 'a' });
    await expect(small).resolves.toMatchObject({ answer: 'a' });
  });

  it('asks at each heartbeat, and goes on while it is answered', async () => {
    const { last, sockets } = setUp();
    last().open();
    last().tell(welcome);
    for (let beats = 1; beats <= 3; beats++) {
      await vi.advanceTimersByTimeAsync(25_000);
      const ping = last().sent[beats] as { ref: string };
      expect(ping).toMatchObject({ type: 'ping' });
      last().tell({ type: 'pong', ref: ping.ref });
    }
    expect(sockets).toHaveLength(1);
  });

  it('leaves a connection that is silent after a ping, and comes back', async () => {
    const { last, sockets, links } = setUp();
    last().open();
    last().tell(welcome);
    const silent = last();
    await vi.advanceTimersByTimeAsync(25_000 + 4999);
    expect(silent.closedWith).toBeUndefined();
    await vi.advanceTimersByTimeAsync(1);
    expect(silent.closedWith).toBe(1000);
    expect(links.at(-1)).toEqual({ state: 'waiting', attempt: 1 });
    await vi.advanceTimersByTimeAsync(500);
    expect(sockets).toHaveLength(2);
    // What the old one says at last is nobody's any more, and it asks nothing more.
    silent.drop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(silent.sent).toHaveLength(2);
    expect(sockets).toHaveLength(2);
  });

  it('asks at once when told to hurry, and any frame will do for an answer', async () => {
    const { last, sockets, connection } = setUp();
    last().open();
    last().tell(welcome);
    connection.hurry();
    connection.hurry();
    expect(last().sent.slice(1)).toMatchObject([{ type: 'ping' }]);
    last().tell({ type: 'event', seq: 4, event: { kind: 'model.state' } });
    await vi.advanceTimersByTimeAsync(6000);
    expect(sockets).toHaveLength(1);
    connection.hurry();
    await vi.advanceTimersByTimeAsync(5500);
    expect(sockets).toHaveLength(2);
  });

  it('passes over what it cannot read', () => {
    const { last, frames } = setUp();
    last().open();
    last().onmessage?.({ data: 'not JSON' });
    last().onmessage?.({ data: new ArrayBuffer(2) });
    last().tell({ type: 'of another time' });
    expect(frames).toEqual([]);
  });

  it('does nothing more once it is stopped', async () => {
    const { connection, last, sockets } = setUp();
    const sent = connection.request({ type: 'ping' });
    connection.stop();
    await expect(sent).rejects.toEqual({ code: 'closed' });
    last().drop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(sockets).toHaveLength(1);
  });
});
