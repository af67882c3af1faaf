import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { chromium, expect, type Page, test } from '@playwright/test';
import { Daemon } from './daemon';
import { answered, answers, OWNER, say, setUp, signIn, useModel } from './helpers';

test.skip(!process.env.AICO_BENCH, 'times are only taken on demand');

const RUNS = Number(process.env.AICO_BENCH_RUNS ?? 9);

// Prints how long it takes from the beginning of the navigation until a person can type, and how
// much comes over the wire until then. It asserts no number: another machine has others.
test('how soon one can type', async ({ browser }, info) => {
  test.setTimeout(600_000);
  const daemon = new Daemon();
  await daemon.start();
  const { host } = new URL(daemon.origin);
  const wire = new Wire(host);
  await wire.start();
  const options = info.project.use.launchOptions;
  const counted = await chromium.launch({
    ...options,
    // The browser asks for the daemon's own address and is led through the counter.
    args: [...(options?.args ?? []), `--host-resolver-rules=MAP ${host} 127.0.0.1:${wire.port}`],
  });
  try {
    const first = await browser.newPage();
    await setUp(first, daemon.address);
    await say(first, 'Hello!');
    await answered(first, 1);
    await first.close();

    const lines: Line[] = [];
    for (const worker of [true, false]) {
      const how = worker ? 'with the service worker' : 'without';
      const visit = new Line(`first visit, ${how}: sign-in field`);
      const again = new Line(`loaded anew, ${how}: "Your message"`);
      for (let run = 0; run < RUNS; run += 1) {
        const context = await counted.newContext({ serviceWorkers: worker ? 'allow' : 'block' });
        const page = await context.newPage();
        await page.addInitScript(watchForFocus);
        let begun = wire.bytes;
        await page.goto(daemon.origin);
        const visited = await usable(page);
        // It fetches the shell once more, to keep it.
        if (worker) await page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
        visit.add(visited, wire.bytes - begun);
        await signIn(page, OWNER);
        await expect(page.getByLabel('Your message')).toBeFocused();
        begun = wire.bytes;
        await page.reload();
        again.add(await usable(page), wire.bytes - begun);
        await context.close();
      }
      lines.push(visit, again);
    }
    console.log(`\n${RUNS} runs each: median (fastest to slowest), bytes with all headers`);
    for (const line of lines) console.log(line.toString());
  } finally {
    await counted.close();
    await wire.stop();
    await daemon.destroy();
  }
});

// From the click to the end on the page: the way to the companion and back, and its stored end.
test('how soon a stop shows', async ({ browser }) => {
  test.skip(!process.env.AICO_SLOW_MODEL, 'only a model that takes its time can be stopped');
  test.setTimeout(600_000);
  const daemon = new Daemon();
  await daemon.start();
  try {
    const page = await browser.newPage();
    await setUp(page, daemon.address);
    useModel(daemon, { starter: false });
    const line = new Line('stop, to "Stopped by you."');
    for (let run = 0; run < RUNS; run += 1) {
      await page.getByRole('link', { name: 'New conversation' }).click();
      await say(page, 'A very long story, please.');
      await expect(answers(page).locator('.markdown')).not.toBeEmpty();
      const stopped = await page.evaluate(
        () =>
          new Promise<number>((done) => {
            const begun = performance.now();
            document.querySelector<HTMLElement>('button.stop')?.click();
            const look = () => {
              if (document.querySelector('article[data-status=cancelled]')) {
                done(performance.now() - begun);
              } else requestAnimationFrame(look);
            };
            requestAnimationFrame(look);
          }),
      );
      line.add(stopped);
    }
    console.log(`\n${line}`);
    await page.close();
  } finally {
    await daemon.destroy();
  }
});

/** Notes in the page when the field that one types into first has the focus and is painted. */
function watchForFocus(): void {
  const look = () => {
    const field = document.activeElement;
    const ready = field?.matches('input[name=username]:enabled, #composer:enabled');
    if (!ready) return void requestAnimationFrame(look);
    // A task after the frame: whatever kept the page busy until then is over too.
    requestAnimationFrame(() => {
      setTimeout(() => Object.assign(globalThis, { usable: performance.now() }));
    });
  };
  requestAnimationFrame(look);
}

async function usable(page: Page): Promise<number> {
  const found = await page.waitForFunction(() => (globalThis as { usable?: number }).usable);
  return (await found.jsonValue()) ?? Number.NaN;
}

class Line {
  readonly #what: string;
  readonly #times: number[] = [];
  readonly #bytes: number[] = [];

  constructor(what: string) {
    this.#what = what;
  }

  add(time: number, bytes?: number): void {
    this.#times.push(time);
    if (bytes !== undefined) this.#bytes.push(bytes);
  }

  toString(): string {
    const [fastest, median, slowest] = spread(this.#times).map((ms) => ms.toFixed(0));
    const [, bytes] = spread(this.#bytes).map((count) => (count / 1000).toFixed(1));
    const time = `${this.#what.padEnd(58)} ${median} ms (${fastest} to ${slowest})`;
    return this.#bytes.length ? `${time}, ${bytes} kB` : time;
  }
}

function spread(numbers: readonly number[]): number[] {
  const sorted = [...numbers].sort((a, b) => a - b);
  return [0, Math.floor(sorted.length / 2), sorted.length - 1].map((at) => sorted[at] ?? 0);
}

/** Stands between browser and daemon and counts what comes from the daemon. */
class Wire {
  bytes = 0;
  readonly #server: Server;
  readonly #open = new Set<Socket>();

  constructor(host: string) {
    const [address, port] = host.split(':');
    this.#server = createServer((browser) => {
      const daemon = connect(Number(port), address);
      daemon.on('data', (chunk) => {
        this.bytes += chunk.length;
      });
      for (const [one, other] of [
        [browser, daemon],
        [daemon, browser],
      ] as const) {
        this.#open.add(one);
        one.setNoDelay();
        one.pipe(other);
        one.on('error', () => other.destroy());
        one.on('close', () => this.#open.delete(one));
      }
    });
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  start(): Promise<void> {
    return new Promise((ready) => this.#server.listen(0, '127.0.0.1', ready));
  }

  stop(): Promise<void> {
    for (const socket of this.#open) socket.destroy();
    return new Promise((closed) => this.#server.close(() => closed()));
  }
}
