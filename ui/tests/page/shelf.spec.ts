import { expect, test } from '@playwright/test';
import { Daemon } from '../../e2e/daemon';
import { expectAccessible, setUp, watch } from '../../e2e/helpers';

const daemon = new Daemon('tests/double/aico');

test.beforeAll(() => daemon.start());
test.afterAll(() => daemon.destroy());

const ID = '147d0b25-21a1-87a2-8d5b-eaa92aa08583';

test('a model for Ollama is looked up, downloaded with a bar, cancelled, and removed', async ({
  page,
}) => {
  const bad = watch(page);
  const job = {
    engine: 'ollama',
    model: 'qwen3:8b',
    id: ID,
    created: false,
    status: 'running',
    step: 'pulling',
    done_bytes: 1_000_000_000,
    total_bytes: 5_225_376_047,
    bytes_per_second: 20_000_000,
    seconds_left: 211,
    use_then: true,
    problem: null as object | null,
    retry_in_seconds: null as number | null,
  };
  let jobs: (typeof job)[] = [];
  const asked: string[] = [];
  const models = [
    {
      ...{ id: ID, name: 'qwen3:8b', file: '', size_bytes: 5_225_376_047, sha256: null },
      ...{ architecture: 'qwen3', parameters: 8_190_735_360, quantization: 'Q4_K_M' },
      ...{ context_length: 40960, license: 'Apache License', starter: false, active: false },
      ...{ present: true, pinned: false, engine: 'ollama', capabilities: ['chat'], loaded: false },
    },
  ];
  await page.route('**/api/v1/models', async (route) => {
    const response = await route.fetch();
    const all = await response.json();
    await route.fulfill({ json: { ...all, items: [...all.items, ...models] } });
  });
  await page.route('**/api/v1/engines', (route) => {
    const about = { name: 'ollama', kind: 'ollama', address: '127.0.0.1:11434', network: false };
    const nothing = { code: null, why: null, detail: null, what_to_do: null };
    const more = { version: '0.12.10', status: 'ready', seen_at: null };
    const items = [{ ...about, ...more, ...nothing, allowed: true, allowed_elsewhere: false }];
    return route.fulfill({ json: { items } });
  });
  await page.route('**/api/v1/engines/ollama/**', (route) => {
    const request = route.request();
    const path = new URL(request.url()).pathname.split('/ollama/')[1];
    asked.push(`${request.method()} ${path}`);
    if (path === 'offers') {
      const source = 'registry.ollama.ai';
      const what = { engine: 'ollama', model: 'qwen3:8b', present: false, download: 'qwen3:8b' };
      const told = { source, size_bytes: 5_225_376_047, license: null, copied_bytes: 0 };
      return route.fulfill({ json: { ...what, ...told, unknown: null } });
    }
    if (request.method() === 'POST') {
      jobs = [job];
      return route.fulfill({ status: 202, json: job });
    }
    if (request.method() === 'DELETE') {
      if (path?.startsWith('jobs/')) jobs = [];
      else models.length = 0;
      return route.fulfill({ status: 204 });
    }
    return route.fulfill({ json: { items: jobs } });
  });
  await setUp(page, daemon.address);
  await page.getByRole('link', { name: /^Settings/ }).click();
  await page.getByRole('link', { name: 'Model', exact: true }).click();

  // What it is, how large, from where, under which licence, and what leaves: before it begins.
  await page.getByLabel('Name of the model').fill('qwen3:8b');
  await page.getByRole('button', { name: 'Look it up…' }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog).toContainText('5.2 GB');
  await expect(dialog).toContainText('registry.ollama.ai');
  await expect(dialog).toContainText('Not known');
  await expect(dialog).toContainText('hears which model is asked for');
  expect(asked.filter((one) => one.startsWith('POST jobs'))).toEqual([]);
  await expectAccessible(page, 'a model for Ollama is asked about');
  await dialog.getByRole('button', { name: 'Download' }).click();

  await expect(page.getByRole('progressbar', { name: 'Download of qwen3:8b' })).toBeVisible();
  await expect(page.getByText(/1(\.0)? GB of 5\.2 GB/)).toBeVisible();
  jobs = [{ ...job, status: 'waiting', retry_in_seconds: 4 }];
  await expect(page.getByText('Tried again in 4 s.')).toBeVisible();
  await page.getByRole('button', { name: 'Cancel the download of qwen3:8b' }).click();
  await page.getByRole('button', { name: 'Cancel the download', exact: true }).click();
  await expect(page.getByRole('progressbar', { name: 'Download of qwen3:8b' })).toBeHidden();
  expect(asked).toContain(`DELETE jobs/${ID}`);

  // One that failed says why.
  const problem = { type: 'x', title: 'The disk is full', status: 507, code: 'storage-full' };
  jobs = [{ ...job, status: 'failed', problem: { ...problem, what_to_do: 'Free some space.' } }];
  await page.reload();
  await expect(page.getByRole('alert')).toContainText('The disk is full. Free some space.');

  await page.getByRole('button', { name: 'Remove qwen3:8b from Ollama' }).click();
  await expect(page.getByRole('dialog')).toContainText('for every program that uses it there');
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await expect(page.getByRole('heading', { name: 'qwen3:8b' })).toHaveCount(1);
  expect(asked).toContain(`DELETE models/${ID}`);
  expect(bad).toEqual([]);
});
