import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

/** The real program, started on an empty data folder. `AICO_BIN` says where it is. */
export class Daemon {
  /** Made at the first start: specs are also loaded by processes that only list them. */
  data = '';
  /** The address without the one-time code. */
  origin = '';
  /** The address as printed, with the one-time code while there is one. */
  address = '';
  readonly #program: string | undefined;
  /** `--set` for each. */
  readonly #settings: string[];
  #bind = '127.0.0.1:0';
  #process: ChildProcess | null = null;
  #ended: Promise<number | null> = Promise.resolve(null);

  /** The stand-in of `tests/double`: it has no commands besides. */
  get double(): boolean {
    return this.#program?.endsWith('tests/double/aico') ?? false;
  }

  constructor(program = process.env.AICO_BIN, settings: string[] = []) {
    this.#program = program;
    this.#settings = settings;
  }

  async start(): Promise<void> {
    const program = this.#program;
    if (!program) throw new Error('AICO_BIN must be the path of the aico program');
    this.data ||= mkdtempSync(join(tmpdir(), 'aico-e2e-data-'));
    // What goes wrong is shown beside the tests; each request would hide it.
    const doors = ['--set', 'bus.bind=127.0.0.1:0', '--set', 'bus.live_bind=127.0.0.1:0'];
    const more = this.#settings.flatMap((setting) => ['--set', setting]);
    const quiet = ['--set', 'logging.level=warn', ...doors, ...more];
    const where = ['--data', this.data, '--bind', this.#bind];
    const child = spawn(resolve(program), ['serve', ...where, ...quiet], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#process = child;
    this.#ended = new Promise((done) => child.once('exit', (status) => done(status)));
    this.address = await new Promise((ready, failed) => {
      child.once('error', failed);
      void this.#ended.then((status) => failed(new Error(`aico ended with status ${status}`)));
      createInterface({ input: child.stdout }).on('line', (line) => {
        // The code is not for a pipe: it waits in a file that only its owner can read.
        const file = /open the address in (.+)\)$/.exec(line)?.[1];
        const found = /https?:\/\/[^\s/]+\/?[^\s]*/.exec(line);
        if (file) ready(readFileSync(file, 'utf8').trim());
        else if (found) ready(found[0]);
      });
    });
    const url = new URL(this.address);
    this.origin = `${url.origin}/`;
    // After a restart the page finds it where it was.
    this.#bind = url.host;
  }

  /** Runs a command of the program beside the page, as its owner would in a terminal. */
  command(...words: string[]): string {
    return execFileSync(resolve(this.#program ?? ''), ['--data', this.data, ...words], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  async stop(): Promise<void> {
    this.#process?.kill('SIGTERM');
    await this.#ended;
    this.#process = null;
  }

  async destroy(): Promise<void> {
    await this.stop();
    if (this.data) rmSync(this.data, { recursive: true, force: true });
  }
}
