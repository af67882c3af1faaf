import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { expect, type Locator, type Page } from '@playwright/test';
import { harmless } from '../src/lib/text';
import type { Daemon } from './daemon';

export const OWNER = { name: 'Mira', password: 'amber kettle willow harbor fern' };
export const MEMBER = { name: 'Jonas', password: 'pebble lantern quartz meadow olive' };

const axeSource = readFileSync(
  createRequire(import.meta.url).resolve('axe-core/axe.min.js'),
  'utf8',
);

/** Gathers what must never happen: breaches of the page's policy, and errors nobody caught. */
export function watch(page: Page): string[] {
  const bad: string[] = [];
  page.on('console', (message) => {
    const text = message.text();
    if (/content security policy|trusted ?types?|TrustedHTML|TrustedScript/i.test(text)) {
      bad.push(text);
    }
  });
  page.on('pageerror', (error) => bad.push(String(error)));
  return bad;
}

/**
 * Runs axe through the debugger, which the page's policy does not concern: the policy under test
 * stays in force.
 */
async function axe(page: Page): Promise<string[]> {
  const session = await page.context().newCDPSession(page);
  try {
    await session.send('Runtime.evaluate', { expression: `${axeSource};undefined` });
    const { result, exceptionDetails } = await session.send('Runtime.evaluate', {
      expression: `axe.run(document).then((result) => JSON.stringify(result.violations.map((rule) =>
        rule.id + ': ' + rule.nodes.map((node) => node.html + ' ' + node.failureSummary).join(' | '))))`,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.text);
    return JSON.parse(result.value as string) as string[];
  } finally {
    await session.detach();
  }
}

/** Nothing found by axe, in light and in dark. */
export async function expectAccessible(page: Page, what: string): Promise<void> {
  await settled(page);
  for (const scheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme: scheme });
    await settled(page);
    expect(await axe(page), `${what}, ${scheme}`).toEqual([]);
  }
  await page.emulateMedia({ colorScheme: null });
}

/** Waits until no animation that ends is still running: half-faded text has a false contrast. */
export async function settled(page: Page): Promise<void> {
  await page.evaluate(() =>
    Promise.all(
      document
        .getAnimations()
        .filter((one) => one.effect?.getComputedTiming().iterations !== Number.POSITIVE_INFINITY)
        .map((one) => one.finished.catch(() => undefined)),
    ).then(() => undefined),
  );
}

/** Goes through the set-up as a person would, the words asked back included. */
export async function setUp(page: Page, address: string, look?: (step: string) => Promise<void>) {
  await page.goto(address);
  await expect(page.getByLabel('Name')).toBeVisible();
  expect(new URL(page.url()).hash).toBe('');
  await expect(page.getByTestId('phrase')).not.toBeEmpty();
  await look?.('setup');
  await page.getByLabel('Name').fill(OWNER.name);
  await page.getByLabel('Master password').fill('too short');
  await expect(page.getByText('3 characters more')).toBeVisible();
  await expect(page.getByRole('button', { name: 'Create my AICO' })).toBeDisabled();
  await page.getByLabel('Master password').fill(OWNER.password);
  await page.getByLabel('The same once more').fill(OWNER.password);
  await page.getByRole('button', { name: 'Create my AICO' }).click();

  const items = page.getByTestId('recovery').getByRole('listitem');
  await expect(items).toHaveCount(12);
  const words = await items.locator('.word').allTextContents();
  await look?.('recovery');
  await page.getByRole('button', { name: 'I have written them down' }).click();
  await expect(page.getByRole('heading', { name: 'Do you have them at hand?' })).toBeVisible();
  await look?.('check');
  const fields = page.getByLabel(/^Word \d+$/);
  await expect(fields).toHaveCount(2);
  await fields.first().fill('wrong');
  await fields.last().fill('wrong');
  await page.getByRole('button', { name: 'Begin' }).click();
  await expect(page.getByText(/That is not word \d+/).first()).toBeVisible();
  for (const label of await page.getByText(/^Word \d+$/).allTextContents()) {
    await page.getByLabel(label, { exact: true }).fill(words[Number(label.slice(5)) - 1] ?? '');
  }
  await page.getByRole('button', { name: 'Begin' }).click();
  await expect(page.getByRole('heading', { name: /on your mind/ })).toBeVisible();
}

export async function say(page: Page, text: string): Promise<void> {
  const input = page.getByLabel('Your message');
  await input.fill(text);
  await input.press('Enter');
  await expect(page.locator('article.mine').last()).toContainText(harmless(text));
}

export function answers(page: Page): Locator {
  return page.locator('article:not(.mine)');
}

/** The last answer has ended well. */
export async function answered(page: Page, count: number): Promise<void> {
  await expect(answers(page)).toHaveCount(count);
  await expect(answers(page).last()).toHaveAttribute('data-status', 'complete', {
    timeout: 120_000,
  });
}

/** Lets the starter answer, or the slow model that `AICO_SLOW_MODEL` names. */
export function useModel(daemon: Daemon, { starter }: { starter: boolean }): void {
  const slow = process.env.AICO_SLOW_MODEL;
  if (!slow) {
    throw new Error(
      'AICO_SLOW_MODEL must be the path of a model that takes its time, as ./test makes it: ' +
        'cargo build --workspace --example random_gguf, then random_gguf FILE.gguf endless',
    );
  }
  const models = () =>
    JSON.parse(daemon.command('model', 'list', '--json')).items as {
      id: string;
      starter: boolean;
    }[];
  if (models().length === 1) daemon.command('model', 'add', slow);
  const wanted = models().find((model) => model.starter === starter);
  if (!wanted) throw new Error('the model is not in the list');
  daemon.command('model', 'use', wanted.id);
}

export async function unlock(page: Page, password: string): Promise<void> {
  await page.getByLabel('Master password').fill(password);
  await page.getByRole('button', { name: 'Unlock' }).click();
}

export async function signIn(page: Page, who: { name: string; password: string }): Promise<void> {
  await page.getByLabel('Name', { exact: true }).fill(who.name);
  await page.getByLabel('Password', { exact: true }).fill(who.password);
  await page.getByRole('button', { name: 'Sign in' }).click();
}
