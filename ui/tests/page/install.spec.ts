import { expect, test } from '@playwright/test';
import { Daemon } from '../../e2e/daemon';
import { expectAccessible, setUp, watch } from '../../e2e/helpers';

const daemon = new Daemon('tests/double/aico');

test.beforeAll(() => daemon.start());
test.afterAll(() => daemon.destroy());

test('Ollama is shown, agreed to, followed with a bar, cancelled, gone on with, and asked', async ({
  page,
}) => {
  const bad = watch(page);
  const about = { name: 'ollama', kind: 'ollama', address: '127.0.0.1:11434', network: false };
  const rights = { allowed: true, allowed_elsewhere: false };
  const well = { code: null, why: null, detail: null, what_to_do: null };
  const absent = {
    ...{ code: 'engine-absent', why: 'Ollama does not run', detail: 'None is installed.' },
    what_to_do: 'Install it.',
  };
  const seen = { version: null, status: 'failed', seen_at: '2026-01-31T12:00:00Z' };
  const failing = { ...about, ...seen, ...absent, ...rights };
  const ready = { ...about, ...seen, ...well, ...rights, version: '0.35.0', status: 'ready' };

  const release = {
    ...{
      version: '0.35.0',
      date: '2026-11-27',
      size_bytes: 1_427_765_407,
      sha256: '1c'.repeat(32),
    },
    ...{ source: 'https://hub.example/ollama-linux-amd64.tar.zst', license: 'MIT' },
    ...{ license_url: 'https://hub.example/LICENSE', notice: 'Holds libraries of others too.' },
    ...{ kept_bytes: 0, folder: '/home/mia/.local/share/aico/engines/ollama' },
  };
  const running = {
    ...{ version: '0.35.0', status: 'running', done_bytes: 400_000_000 },
    ...{ total_bytes: 1_427_765_407, bytes_per_second: 20_000_000, seconds_left: 51 },
    problem: null as object | null,
  };
  const nothing = { engine: 'ollama', installed: null, program: null, starts: true, problem: null };
  let now: object = { ...nothing, release, run: null };
  let begins: object = { ...nothing, release, run: running };
  let refusal: object | null = null;
  const asked: string[] = [];
  const agreed: object[] = [];
  await page.route('**/api/v1/engines', (route) => route.fulfill({ json: { items: [failing] } }));
  await page.route('**/api/v1/engines/ollama/**', (route) => {
    const request = route.request();
    const path = new URL(request.url()).pathname.split('/ollama/')[1];
    asked.push(`${request.method()} ${path}`);
    if (path === 'check') return route.fulfill({ json: { engine: ready, models: ['qwen3:8b'] } });
    if (path === 'jobs') return route.fulfill({ json: { items: [] } });
    if (request.method() === 'POST') {
      agreed.push(request.postDataJSON());
      now = begins;
      if (refusal) return route.fulfill({ status: 409, json: refusal });
      return route.fulfill({ status: 202, json: now });
    }
    if (request.method() === 'DELETE') {
      now = { ...nothing, release: { ...release, kept_bytes: 400_000_000 }, run: null };
      return route.fulfill({ status: 204 });
    }
    return route.fulfill({ json: now });
  });
  await setUp(page, daemon.address);
  await page.getByRole('link', { name: /^Settings/ }).click();
  await page.getByRole('link', { name: 'Servers', exact: true }).click();

  // What it is, how large, from where, under which licence, and where it goes: before it begins.
  await page.getByRole('button', { name: 'Install Ollama 0.35.0…' }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog).toContainText('1.4 GB, about three times that on the disk');
  await expect(dialog).toContainText(release.source);
  await expect(dialog).toContainText('MIT');
  await expect(dialog).toContainText('By its SHA-256, known since 2026-11-27');
  await expect(dialog).toContainText(release.folder);
  await expect(dialog).toContainText(release.notice);
  await expectAccessible(page, 'Ollama is asked about');
  expect(agreed).toEqual([]);
  await dialog.getByRole('button', { name: 'Install', exact: true }).click();
  await expect(dialog).toBeHidden();
  expect(agreed).toEqual([{ version: release.version, sha256: release.sha256 }]);
  // The button that was pressed is gone: the keyboard stays where it was.
  const place = page.getByRole('group', { name: 'Installation of Ollama' });
  await expect(place).toBeFocused();

  await expect(page.getByRole('progressbar', { name: 'Download of Ollama 0.35.0' })).toBeVisible();
  await expect(page.getByText(/400(\.0)? MB of 1\.4 GB/)).toBeVisible();
  const unpacking = { ...running, status: 'unpacking', done_bytes: 2_000_000_000, total_bytes: 0 };
  now = { ...nothing, release, run: unpacking };
  await expect(page.getByText(/Unpacking, 2(\.0)? GB/)).toBeVisible();
  await page.getByRole('button', { name: 'Cancel the installation of Ollama 0.35.0' }).click();
  await dialog.getByRole('button', { name: 'Cancel the installation', exact: true }).click();
  await expect(page.getByRole('progressbar')).toBeHidden();
  expect(asked).toContain('DELETE installation');
  await expect(place).toBeFocused();

  // One that failed says why, and what came before is gone on with.
  const problem = { type: 'x', title: 'The disk is full', status: 507, code: 'storage-full' };
  const full = { ...running, status: 'failed', problem: { ...problem, what_to_do: 'Free some.' } };
  now = { ...nothing, release: { ...release, kept_bytes: 400_000_000 }, run: full };
  await page.reload();
  await expect(page.getByRole('alert')).toContainText('The disk is full. Free some.');
  await page.getByRole('button', { name: 'Go on installing Ollama 0.35.0…' }).click();
  await expect(dialog).toContainText('1.0 GB of it still to come');
  begins = {
    ...{ ...nothing, installed: '0.35.0', program: '/ollama', release: null },
    run: { ...running, status: 'done', done_bytes: running.total_bytes },
  };
  await dialog.getByRole('button', { name: 'Install', exact: true }).click();
  await expect(page.getByText('Ollama 0.35.0 is installed.')).toBeVisible();
  await expect(page.getByText('AICO has Ollama 0.35.0 installed.')).toBeVisible();
  await expect(page.getByText('qwen3:8b')).toBeVisible();
  expect(asked).toContain('POST check');

  // It was done when this page was not open, and is told as it was before.
  asked.length = 0;
  await page.reload();
  await expect(page.getByText('qwen3:8b')).toBeVisible();
  expect(asked).toContain('POST check');

  // The command line was faster than the owner's word.
  now = { ...nothing, release, run: null };
  await page.reload();
  await page.getByRole('button', { name: 'Install Ollama 0.35.0…' }).click();
  begins = { ...begins, run: null };
  refusal = { ...problem, status: 409, code: 'conflict', title: 'It is installed already' };
  asked.length = 0;
  await dialog.getByRole('button', { name: 'Install', exact: true }).click();
  await expect(dialog.getByRole('alert')).toContainText('It is installed already');
  await expect.poll(() => asked).toContain('POST check');
  await dialog.getByRole('button', { name: 'Cancel', exact: true }).click();
  await expect(page.getByText('AICO has Ollama 0.35.0 installed.')).toBeVisible();
  await expect(page.getByText('qwen3:8b')).toBeVisible();
  expect(bad).toEqual([]);
});
