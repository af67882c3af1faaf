import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Browser, expect, type Page, test } from '@playwright/test';
import { Daemon } from './daemon';
import { answered, MEMBER, OWNER, say, settled, setUp, signIn } from './helpers';

test.skip(!process.env.AICO_SCREENSHOTS, 'pictures are only taken on demand');

// Every page in both themes and both widths, to be looked at; a few of them are in the README.
const all = process.env.AICO_SCREENSHOTS_TO ?? join(tmpdir(), 'aico-screenshots');
const kept = resolve('../docs/screenshots');
const shown = ['light-desktop-talk', 'dark-phone-talk', 'light-phone-setup', 'dark-desktop-model'];
const sizes = { phone: { width: 360, height: 740 }, desktop: { width: 1280, height: 800 } };
type Size = keyof typeof sizes;

test('pictures of every page', async ({ browser }) => {
  mkdirSync(all, { recursive: true });
  const daemon = new Daemon();
  await daemon.start();
  try {
    const page = await open(browser, 'desktop');
    await page.goto(daemon.origin);
    await expect(page.getByRole('heading', { name: /address from the terminal/ })).toBeVisible();
    await shots(page, 'nocode');
    await setUp(page, daemon.address, (step) => shots(page, step));
    await shots(page, 'empty');
    for (const earlier of ['Tell me a short story.', 'Help me plan my day.']) {
      await say(page, earlier);
      await answered(page, 1);
      await page.getByRole('link', { name: 'New conversation' }).click();
      await expect(page.getByRole('heading', { name: /on your mind/ })).toBeVisible();
    }
    const talk = [
      'Good morning!',
      'My name is Mira.',
      'I live in Lisbon.',
      'I am a bit nervous about tomorrow.',
      'What is my name?',
    ];
    for (const [before, words] of talk.entries()) {
      await say(page, words);
      await answered(page, before + 1);
    }
    await shots(page, 'talk');
    await page.getByLabel('Search titles and messages').fill('Lisbon');
    await expect(page.locator('mark').first()).toBeVisible();
    await shots(page, 'search', ['desktop']);
    await page.getByRole('button', { name: 'Clear the search' }).click();
    await page.getByLabel('Your message').fill('long '.repeat(40_000));
    await expect(page.getByRole('alert')).not.toBeEmpty();
    await shots(page, 'toolong');
    await page.getByLabel('Your message').fill('');
    await page
      .getByRole('button', { name: /^Actions for/ })
      .first()
      .click();
    await shots(page, 'menu', ['desktop']);
    await page.getByRole('menuitem', { name: 'Delete' }).click();
    await shots(page, 'delete');
    await page.keyboard.press('Escape');
    await page.locator('article.mine').first().hover();
    await page.getByRole('button', { name: 'Edit this message' }).first().click();
    await shots(page, 'edit');
    await page.keyboard.press('Escape');
    await page.setViewportSize(sizes.phone);
    await page.getByRole('button', { name: 'Open the list of conversations' }).click();
    await shots(page, 'drawer', ['phone']);
    await page.keyboard.press('Escape');
    await page.setViewportSize(sizes.desktop);
    if (!daemon.double) {
      const grant = ['--subscribe', 'conversation.*.#', '--publish', 'weather.#'];
      daemon.command('module', 'add', 'weather', ...grant, '--out', join(daemon.data, 'w.json'));
    }
    await page.getByRole('link', { name: /^Settings/ }).click();
    for (const part of [
      'Characters',
      'Model',
      'Account',
      'Keys',
      'Sessions',
      'Persons',
      'Modules',
      'Programs',
      'Appearance',
      'Connection',
    ]) {
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
    await daemon.stop();
    await page.reload();
    await expect(page.getByRole('heading', { name: 'AICO does not answer' })).toBeVisible();
    await shots(page, 'away');
  } finally {
    await daemon.destroy();
  }
  if (!daemon.double) keep();
});

/** Puts those that the README shows in their place, smaller where `pngquant` is at hand. */
function keep(): void {
  mkdirSync(kept, { recursive: true });
  const files = shown.map((name) => join(kept, `${name}.png`));
  for (const [at, name] of shown.entries()) {
    copyFileSync(join(all, `${name}.png`), files[at] ?? '');
  }
  const packed = spawnSync('pngquant', ['--force', '--strip', '--nofs', '--ext=.png', ...files]);
  if (packed.status !== 0) console.log('pngquant could not make the pictures smaller');
  console.log(`every picture is in ${all}`);
}

async function open(browser: Browser, size: Size): Promise<Page> {
  const context = await browser.newContext({ viewport: sizes[size], deviceScaleFactor: 2 });
  return context.newPage();
}

async function shots(page: Page, name: string, which: Size[] = ['desktop', 'phone']) {
  const before = page.viewportSize();
  // What the pointer happens to rest on shall not look chosen.
  await page.mouse.move(640, 4);
  for (const size of which) {
    await page.setViewportSize(sizes[size]);
    for (const scheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme: scheme });
      await settled(page);
      await page.screenshot({ path: join(all, `${scheme}-${size}-${name}.png`) });
    }
  }
  await page.emulateMedia({ colorScheme: null });
  if (before) await page.setViewportSize(before);
}
