import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Browser, expect, type Page, test } from '@playwright/test';
import { Daemon } from './daemon';
import { answered, answers, MEMBER, OWNER, say, settled, setUp, signIn } from './helpers';

test.skip(!process.env.AICO_SCREENSHOTS, 'pictures are only taken on demand');

const target = resolve(process.env.AICO_SCREENSHOTS_TO ?? '../docs/screenshots');
const sizes = { phone: { width: 360, height: 740 }, desktop: { width: 1280, height: 800 } };
type Size = keyof typeof sizes;

test('pictures of every page', async ({ browser }) => {
  mkdirSync(target, { recursive: true });
  const daemon = new Daemon();
  await daemon.start();
  try {
    const page = await open(browser, 'desktop');
    await setUp(page, daemon.address, (step) => shots(page, step));
    await shots(page, 'empty');
    await say(page, 'Write a short poem about rain on a window.');
    await answered(page, 1);
    await say(page, 'Explain why the sky is blue, in simple words.');
    await expect(answers(page).last().locator('.markdown')).not.toBeEmpty();
    await shots(page, 'streaming', ['desktop']);
    await answered(page, 2);
    await shots(page, 'talk');
    await page.getByLabel('Search titles and messages').fill('rain');
    await expect(page.locator('mark').first()).toBeVisible();
    await shots(page, 'search', ['desktop']);
    await page.getByRole('button', { name: 'Clear the search' }).click();
    await page.setViewportSize(sizes.phone);
    await page.getByRole('button', { name: 'Open the list of conversations' }).click();
    await shots(page, 'drawer', ['phone']);
    await page.keyboard.press('Escape');
    await page.setViewportSize(sizes.desktop);
    await page.getByRole('link', { name: /^Settings/ }).click();
    for (const part of ['Model', 'Account', 'Sessions', 'Persons', 'Appearance', 'Connection']) {
      await page.getByRole('link', { name: part, exact: true }).click();
      await expect(page.getByRole('heading', { level: 2, name: part })).toBeVisible();
      await shots(page, part.toLowerCase());
    }
    await page.getByRole('link', { name: 'Persons' }).click();
    await page.getByRole('button', { name: 'Add a person' }).click();
    await expect(page.getByTestId('phrase')).not.toBeEmpty();
    await shots(page, 'person');
    await page.keyboard.press('Escape');
    await page.getByRole('link', { name: 'Account' }).click();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await signIn(page, { ...MEMBER, password: 'not the password' });
    await expect(page.getByRole('alert')).toBeVisible();
    await shots(page, 'signin');
    await signIn(page, OWNER);
    await page.getByRole('link', { name: /^Settings/ }).click();
    await page.getByRole('link', { name: 'Account' }).click();
    await page.getByRole('button', { name: 'Lock now' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Lock now' }).click();
    await expect(page.getByRole('button', { name: 'Unlock' })).toBeVisible();
    await shots(page, 'unlock');
  } finally {
    await daemon.destroy();
  }
});

async function open(browser: Browser, size: Size): Promise<Page> {
  const context = await browser.newContext({ viewport: sizes[size] });
  return context.newPage();
}

async function shots(page: Page, name: string, which: Size[] = ['desktop', 'phone']) {
  const before = page.viewportSize();
  for (const size of which) {
    await page.setViewportSize(sizes[size]);
    for (const scheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme: scheme });
      await settled(page);
      await page.screenshot({ path: `${target}/${scheme}-${size}-${name}.png` });
    }
  }
  await page.emulateMedia({ colorScheme: null });
  if (before) await page.setViewportSize(before);
}
