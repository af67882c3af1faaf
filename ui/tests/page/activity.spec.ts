import { join } from 'node:path';
import { expect, test } from '@playwright/test';
import { Daemon } from '../../e2e/daemon';
import { answered, expectAccessible, say, setUp, watch } from '../../e2e/helpers';

const daemon = new Daemon('tests/double/aico');

test.beforeAll(() => daemon.start());
test.afterAll(() => daemon.destroy());

test('what models do is drawn, read aloud and can be looked at closely', async ({ page }) => {
  const bad = watch(page);
  const asked: string[] = [];
  page.on('request', (request) => {
    if (request.url().includes('/models/activity')) asked.push(request.url());
  });
  await setUp(page, daemon.address);
  await say(page, 'Good morning!');
  await answered(page, 1);
  await page.getByRole('link', { name: /^Settings/ }).click();
  await page.getByRole('link', { name: 'Activity' }).click();

  const starter = page.getByRole('listitem').filter({ hasText: 'In use' });
  await expect(starter).toContainText('310 MB · 2 of 4 places taken · 1 question waits');
  await expect(starter).toContainText('12 answers · 1 failed · first word after 840 ms');
  const speed = page.getByRole('img', { name: /^Speed of writing: Starter 135M: .*Qwen3 4B: / });
  await expect(speed).toBeVisible();
  // What only reads is many times as fast, and has a plot of its own.
  await expect(speed).not.toHaveAccessibleName(/MiniLM/);
  const reading = page.getByRole('img', { name: /^Speed of reading: MiniLM L6: / });
  await expect(reading).toBeVisible();
  await expectAccessible(page, 'activity');

  // A look at an earlier time tells the figures of that time.
  const figure = page
    .getByRole('figure')
    .filter({ has: page.getByRole('heading', { name: 'Speed of writing' }) });
  await expect(figure).toContainText('now');
  await expect(figure).toContainText(/Starter 135M [\d.]+ tokens\/s/);
  await speed.hover({ position: { x: 100, y: 40 } });
  await expect(figure).toContainText(/\d\d:\d\d:\d\d/);
  await page.mouse.move(0, 0);
  await expect(figure).toContainText('now');

  await page.getByRole('button', { name: '1 hour' }).click();
  await expect(page.getByRole('button', { name: '1 hour' })).toHaveAttribute(
    'aria-pressed',
    'true',
  );

  const row = page.getByRole('row').filter({ hasText: 'Answered' });
  await expect(row).toHaveCount(1);
  await expect(row).toContainText('(380 kept)');

  await page.getByRole('button', { name: 'Keep in memory: Qwen3 4B' }).click();
  await expect(page.getByRole('button', { name: 'Let it go: Qwen3 4B' })).toBeVisible();
  await expect(page.getByText('It stays in memory when nobody asks it.')).toBeVisible();
  await expectAccessible(page, 'activity with a pinned model');

  // After the first time only what is new is asked for.
  await expect.poll(() => asked.length, { timeout: 15_000 }).toBeGreaterThan(1);
  expect(asked[0]).not.toContain('after=');
  expect(asked[1]).toContain('after=');
  expect(bad).toEqual([]);
  const pictures = process.env.AICO_SCREENSHOTS_TO;
  if (pictures) {
    await page.getByRole('button', { name: '10 minutes' }).click();
    for (const scheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme: scheme });
      for (const [name, width] of [
        ['desktop', 1280],
        ['phone', 360],
      ] as const) {
        await page.setViewportSize({ width, height: 900 });
        await page.screenshot({
          path: join(pictures, `${scheme}-${name}-activity.png`),
          fullPage: true,
        });
      }
    }
  }
});
