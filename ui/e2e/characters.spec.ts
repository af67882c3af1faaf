import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@playwright/test';
import { Daemon } from './daemon';
import { answered, answers, expectAccessible, OWNER, say, setUp, watch } from './helpers';

const daemon = new Daemon();
test.beforeAll(() => daemon.start());
test.afterAll(() => daemon.destroy());

/** Made here: nobody else's text. */
const card = {
  spec: 'chara_card_v3',
  spec_version: '3.0',
  data: {
    name: 'Mara <b>of the sea</b>',
    description: '{{char}} keeps a lighthouse.',
    creator_notes: 'For rainy days.',
    first_mes: 'Come in, {{user}}, it is storming!',
    alternate_greetings: ['You are late, {{user}}.'],
    system_prompt: 'You are {{char}}.',
    extensions: { aico: { models: ['Nowhere-7B'] } },
    character_book: { entries: [{}, {}], extensions: {} },
    assets: [{ type: 'icon', uri: 'https://example.org/x.png', name: 'main', ext: 'png' }],
    group_only_greetings: [],
  },
};

test('a character is brought in, talked with, changed, saved and removed', async ({ browser }) => {
  test.skip(daemon.double, 'the stand-in keeps no characters');
  const context = await browser.newContext({ acceptDownloads: true });
  const page = await context.newPage();
  const bad = watch(page);
  const asked: string[] = [];
  page.on('request', (request) => asked.push(request.url()));
  await setUp(page, daemon.address);
  await page.getByRole('link', { name: /^Settings/ }).click();
  await page.getByRole('link', { name: 'Characters' }).click();
  await expect(page.getByRole('heading', { level: 3, name: 'Aico' })).toBeVisible();
  await expect(page.getByRole('heading', { level: 3, name: 'Eve' })).toBeVisible();
  await expectAccessible(page, 'characters');

  await test.step('what is no character says why', async () => {
    await page.locator('input[type=file]').setInputFiles({
      name: 'x.txt',
      mimeType: 'text/plain',
      buffer: Buffer.from('Dear diary'),
    });
    await expect(page.getByRole('alert')).toContainText('A card is a PNG or a JSON file');
  });

  const name = card.data.name;
  const mara = page.getByRole('listitem').filter({ hasText: name }).last();
  await test.step('a card is brought in, and says what is not used and what is not here', async () => {
    await page.locator('input[type=file]').setInputFiles({
      name: 'mara.json',
      mimeType: 'application/json',
      buffer: Buffer.from(JSON.stringify(card)),
    });
    const told = page.getByRole('status').filter({ hasText: 'is here.' });
    await expect(told).toContainText('lorebook (2 entries)');
    await expect(told).toContainText('Nowhere-7B: not here');
    await expect(mara.getByRole('heading', { name })).toBeVisible();
    await expectAccessible(page, 'a card brought in');
  });

  await test.step('it gets another text and a picture', async () => {
    await mara.getByRole('button', { name: /^Actions for/ }).click();
    await page.getByRole('menuitem', { name: 'Edit' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('System prompt').fill('You are {{char}}, and you are brief.');
    await dialog
      .locator('input[type=file]')
      .setInputFiles(join('..', 'docs', 'screenshots', 'light-phone-setup.png'));
    await expect(dialog.locator('img')).toBeVisible();
    await expectAccessible(page, 'the editor');
    await dialog.getByRole('button', { name: 'Save' }).click();
    await expect(dialog).toHaveCount(0);
    await expect(mara.locator('img')).toBeVisible();
    await mara.getByRole('button', { name: /^Look closer/ }).click();
    await mara.getByText('System prompt').click();
    await expect(mara.getByText('and you are brief')).toBeVisible();
    await expectAccessible(page, 'looked at closer');
  });

  await test.step('it is talked with, and opens the conversation itself', async () => {
    await mara.getByRole('button', { name: /^Use for new conversations/ }).click();
    await expect(mara.getByText('For new conversations')).toBeVisible();
    await page.getByRole('link', { name: 'Back to the conversations' }).click();
    await expect(page.getByLabel('Talking with')).toHaveValue(/-/);
    await say(page, 'Hello');
    await answered(page, 2);
    await expect(answers(page).first()).toContainText(`Come in, ${OWNER.name}, it is storming!`);
    await expect(answers(page).first().getByText('1 / 2')).toBeVisible();
    await expect(answers(page).last()).toContainText('Nowhere-7B');
    await expect(answers(page).last().locator('img')).toBeVisible();
    await expectAccessible(page, 'a conversation with a character');
    await page.getByLabel('Talking with').selectOption({ label: 'Aico' });
    await say(page, 'Hello');
    await answered(page, 3);
    await expect(answers(page).last()).not.toContainText('Nowhere-7B');
  });

  await test.step('it is saved as a card, and removed', async () => {
    await page.getByRole('link', { name: /^Settings/ }).click();
    await page.getByRole('link', { name: 'Characters' }).click();
    await mara.getByRole('button', { name: /^Actions for/ }).click();
    const downloading = page.waitForEvent('download');
    await page.getByRole('menuitem', { name: 'Save as a card (JSON, V3)' }).click();
    const saved = JSON.parse(readFileSync(await (await downloading).path(), 'utf8'));
    expect(saved.data.assets).toEqual(card.data.assets);
    expect(saved.data.character_book).toEqual(card.data.character_book);
    expect(saved.data.system_prompt).toBe('You are {{char}}, and you are brief.');
    await mara.getByRole('button', { name: /^Actions for/ }).click();
    await page.getByRole('menuitem', { name: 'Remove' }).click();
    await expectAccessible(page, 'removing a character');
    await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
    await expect(page.getByRole('heading', { level: 3, name })).toHaveCount(0);
  });

  expect(
    asked.filter(
      (url) =>
        !url.startsWith(daemon.origin) && !url.startsWith('blob:') && !url.startsWith('data:'),
    ),
  ).toEqual([]);
  expect(bad).toEqual([]);
  await context.close();
});
