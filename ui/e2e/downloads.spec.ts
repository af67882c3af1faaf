import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, test } from '@playwright/test';
import { Daemon } from './daemon';
import { expectAccessible, setUp, watch } from './helpers';

// The starter with a few bytes after its end: a model, and one that is not here yet.
const content = Buffer.concat([
  readFileSync(resolve('../models/starter/aico-starter.gguf')),
  Buffer.alloc(64),
]);
const folder = mkdtempSync(join(tmpdir(), 'aico-e2e-downloads-'));
let server: Server;
/** Bytes of a piece, and milliseconds between pieces. */
let pace = { piece: 4096, wait: 80 };
let broken = false;
let asked = 0;
let daemon: Daemon;

/** Hands the starter out as slowly as a test wants it. */
function serve(): Promise<number> {
  server = createServer((request, response) => {
    asked += 1;
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    if (broken || !range) {
      response.writeHead(404).end();
      return;
    }
    const [first, last] = [Number(range[1]), Number(range[2])];
    response.writeHead(206, {
      'Content-Range': `bytes ${first}-${last}/${content.length}`,
      'Content-Length': last - first + 1,
    });
    let at = first;
    const send = () => {
      const end = Math.min(at + pace.piece, last + 1);
      response.write(content.subarray(at, end));
      at = end;
      if (at > last) response.end();
      else setTimeout(send, pace.wait);
    };
    send();
  });
  return new Promise((ready) => {
    server.listen(0, '127.0.0.1', () => ready((server.address() as AddressInfo).port));
  });
}

test.beforeAll(async () => {
  const port = await serve();
  const model = (name: string, title: string, size: number, recommend: boolean) => ({
    name,
    title,
    summary: 'Handed out by a server of this test.',
    for: 'chat',
    architecture: 'llama',
    parameters: 1_000_000,
    quantization: 'Q8_0',
    context_length: 512,
    context_bytes_per_token: 1024,
    license: 'MIT',
    license_url: 'https://example.org/licence',
    sources: [`https://hub.invalid/${name}.gguf`],
    size,
    // Another one for the one that is too large: it is not here when the first is.
    sha256: createHash('sha256')
      .update(content.subarray(recommend ? 0 : 1))
      .digest('hex'),
    recommend,
  });
  const catalogue = join(folder, 'catalogue.json');
  writeFileSync(
    catalogue,
    JSON.stringify({
      version: 1,
      date: '2026-11-26',
      models: [model('tiny', 'Tiny', content.length, true), model('huge', 'Huge', 2 ** 40, false)],
    }),
  );
  daemon = new Daemon(process.env.AICO_BIN, [
    `models.catalogue=${catalogue}`,
    `models.mirror=http://127.0.0.1:${port}`,
  ]);
  await daemon.start();
});

test.afterAll(async () => {
  await daemon?.destroy();
  server?.closeAllConnections();
  server?.close();
  rmSync(folder, { recursive: true, force: true });
});

test('a model is downloaded from the page', async ({ browser }) => {
  test.skip(daemon.double, 'the stand-in has a catalogue of its own');
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  const bad = watch(page);
  await setUp(page, daemon.address);
  await page.getByRole('link', { name: /^Settings/ }).click();
  const all = page.getByRole('region', { name: 'Download a model' });
  const tiny = all.getByRole('listitem').filter({ hasText: 'Tiny' });
  const picture = async (name: string) => {
    const where = process.env.AICO_SCREENSHOTS_TO;
    if (where) await page.screenshot({ path: join(where, `downloads-${name}.png`) });
  };

  await test.step('what there is, and what suits this machine', async () => {
    await expect(tiny.getByText('Suits this machine best')).toBeVisible();
    await expect(all.getByText('Too large for this machine')).toBeVisible();
    await expectAccessible(page, 'catalogue');
    await all.scrollIntoViewIfNeeded();
    await picture('catalogue');
    expect(asked).toBe(0);
  });

  const dialog = page.getByRole('dialog');
  const begin = async () => {
    await tiny.getByRole('button', { name: /^(Download|Go on downloading) Tiny/ }).click();
    await dialog.getByRole('button', { name: 'Download' }).click();
  };

  await test.step('size, source and licence come before the first byte', async () => {
    await tiny.getByRole('button', { name: 'Download Tiny' }).click();
    await expect(dialog.getByText('1.1 MB')).toBeVisible();
    await expect(dialog.getByText('MIT')).toBeVisible();
    await expect(dialog.getByText('http://127.0.0.1:', { exact: false })).toBeVisible();
    await expectAccessible(page, 'before a download');
    await picture('dialog');
    expect(asked).toBe(0);
    await dialog.getByRole('button', { name: 'Cancel' }).click();
    await expect(dialog).toHaveCount(0);
  });

  await test.step('it is shown how far it is, and it can be cancelled', async () => {
    await begin();
    const bar = tiny.getByRole('progressbar', { name: 'Download of Tiny' });
    await expect(bar).toBeVisible();
    await expect.poll(() => bar.evaluate((it: HTMLProgressElement) => it.value)).toBeGreaterThan(0);
    await expect(tiny.getByText(/of 1\.1 MB/)).toBeVisible();
    await expectAccessible(page, 'during a download');
    await picture('progress');
    await tiny.getByRole('button', { name: 'Cancel the download of Tiny' }).click();
    await dialog.getByRole('button', { name: 'Cancel the download' }).click();
    await expect(bar).toHaveCount(0);
    await expect(tiny.getByRole('button', { name: 'Download Tiny' })).toBeVisible();
  });

  await test.step('what goes wrong says what to do', async () => {
    broken = true;
    await begin();
    await expect(tiny.getByRole('alert')).toContainText('aico model add');
    await expectAccessible(page, 'a failed download');
    await picture('failed');
    broken = false;
  });

  await test.step('it ends with a model that answers', async () => {
    pace = { piece: 1 << 20, wait: 0 };
    await begin();
    await expect(tiny.getByText('Here already')).toBeVisible();
    const card = page.getByRole('listitem').filter({ hasText: 'models/tiny.gguf' });
    await expect(card.getByText('In use')).toBeVisible();
    await picture('done');
  });
  expect(bad).toEqual([]);
  await page.close();
});
