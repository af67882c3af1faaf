import { expect, test } from '@playwright/test';
import { Daemon } from '../../e2e/daemon';
import { answered, expectAccessible, say, setUp, watch } from '../../e2e/helpers';

const daemon = new Daemon('tests/double/aico');

test.beforeAll(() => daemon.start());
test.afterAll(() => daemon.destroy());

test('how far a model is loaded is drawn, has a name, and goes when it answers', async ({
  page,
}) => {
  const bad = watch(page);
  await setUp(page, daemon.address);
  await say(page, 'Good morning!');
  const bar = page.getByRole('progressbar', { name: 'Loading Starter 135M' });
  await expect(bar).toBeVisible();
  await expect(bar).toHaveAttribute('max', '100');
  await expect(bar).toHaveAttribute('value', /^(25|50|75|100)$/);
  // The figure is not read out at each change: it stands outside of the status.
  const status = page.getByRole('status').filter({ hasText: 'The model is starting' });
  await expect(status).not.toContainText('%');
  await answered(page, 1);
  await expect(bar).toHaveCount(0);

  // In the settings, too, nothing is drawn once it is there.
  await page.getByRole('link', { name: /^Settings/ }).click();
  await page.getByRole('link', { name: 'Model', exact: true }).click();
  await expect(page.getByText('Ready')).toBeVisible();
  await expect(page.getByRole('progressbar', { name: /^Loading/ })).toHaveCount(0);
  await expectAccessible(page, 'model');
  expect(bad).toEqual([]);
});
