import { expect, type Page, test } from '@playwright/test';
import { Daemon } from './daemon';
import { answered, answers, expectAccessible, say, setUp, watch } from './helpers';

// What a person, or something on their clipboard, may put into the field.
test.describe.configure({ mode: 'serial' });

const daemon = new Daemon();
let page: Page;
let bad: string[];

test.beforeAll(async ({ browser }) => {
  await daemon.start();
  const context = await browser.newContext({
    permissions: ['clipboard-read', 'clipboard-write'],
  });
  page = await context.newPage();
  bad = watch(page);
  await setUp(page, daemon.address);
});

test.afterAll(async () => {
  await page.context().close();
  await daemon.destroy();
});

test.beforeEach(async () => {
  await page.getByRole('link', { name: 'New conversation' }).click();
  await expect(page.getByRole('heading', { name: /on your mind/ })).toBeVisible();
});

test.afterEach(() => {
  expect(bad).toEqual([]);
});

const field = () => page.getByLabel('Your message');
const send = () => page.getByRole('button', { name: 'Send' });

/** What the daemon holds of the shown conversation, by its own account. */
async function stored(): Promise<string[]> {
  const id = /#\/c\/([^/]+)/.exec(page.url())?.[1];
  const token = await page.evaluate(() => sessionStorage.getItem('aico.session'));
  const answer = await page.request.get(`${daemon.origin}api/v1/conversations/${id}`, {
    headers: { Authorization: `Bearer ${token}` },
  });
  const { messages } = (await answer.json()) as {
    messages: { role: string; parts: { text: string }[] }[];
  };
  return messages
    .filter((message) => message.role === 'user')
    .map((message) => message.parts.map((part) => part.text).join(''));
}

test('10 MB pasted are left out with a word, and the draft stays', async () => {
  await field().fill('A draft.');
  await page.evaluate(() => navigator.clipboard.writeText('0123456789'.repeat(1_000_000)));
  await field().press('End');
  await page.keyboard.press('ControlOrMeta+v');
  await expect(page.getByRole('alert')).toContainText('10.0 MB and was left out');
  await expect(field()).toHaveValue('A draft.');
  await expect(field()).toBeFocused();
  await expectAccessible(page, 'a paste that was left out');
  await page.keyboard.type(' Hello!');
  await expect(page.getByRole('alert')).toBeEmpty();
  await page.keyboard.press('Enter');
  await answered(page, 1);
  expect(await stored()).toEqual(['A draft. Hello!']);
});

test('a text that is too long stays in the field until it is shorter', async () => {
  const text = 'long '.repeat(40_000);
  await field().fill(text);
  await expect(page.getByRole('alert')).toContainText('too long to be one message');
  await expect(page.getByText('200 kB of 131 kB')).toBeVisible();
  await expect(send()).toBeDisabled();
  await expectAccessible(page, 'a draft that is too long');
  await field().press('Enter');
  await expect(field()).toHaveValue(text);
  await expect(page.getByRole('heading', { name: /on your mind/ })).toBeVisible();
  await field().fill('Hello!');
  await expect(page.getByRole('alert')).toBeEmpty();
  await field().press('Enter');
  await answered(page, 1);
  expect(await stored()).toEqual(['Hello!']);
});

test('the longest message is taken, and the daemon agrees on the limit', async () => {
  const longest = 'é'.repeat(64 * 1024);
  await field().fill(longest);
  await expect(send()).toBeEnabled();
  await field().press('Enter');
  // The model may be too small for it: then it says so. The message is kept either way.
  await expect(answers(page)).toHaveAttribute('data-status', /complete|failed/);
  await expect(page.locator('article.mine')).toHaveCount(1);
  expect(await stored()).toEqual([longest]);
  await say(page, 'Hello again!');
  await answered(page, 2);
  await field().fill(`${longest}é`);
  await expect(send()).toBeDisabled();
  await field().fill('');
});

test('control characters do nothing, are shown, and are kept', async () => {
  const text =
    'up \u001b[2J\u001b[31mred\u0007 \u202eback\u202c \u2066in\u2069 \u0085 \u009b1m end';
  await say(page, text);
  await answered(page, 1);
  const bubble = page.locator('article.mine .bubble');
  await expect(bubble).toHaveText(
    'up \ufffd[2J\ufffd[31mred\ufffd \ufffdback\ufffd \ufffdin\ufffd \ufffd \ufffd1m end',
  );
  await expect(page.getByRole('heading', { level: 1 })).not.toHaveText(/[\u001b\u202e]/);
  expect(await stored()).toEqual([text]);
  await page.reload();
  await expect(bubble).toContainText('\ufffd[31mred');
  await expectAccessible(page, 'control characters');
});

test('a NUL ends no message, and a message of nothing else is not sent', async () => {
  await field().fill('one\u0000two');
  await field().press('Enter');
  await answered(page, 1);
  expect(await stored()).toEqual(['onetwo']);
  await field().fill('\u0000\u0000');
  await field().press('Enter');
  const unsent = page.locator('[data-unsent=failed]');
  await expect(unsent.getByRole('alert')).toContainText('Not sent. ');
  await expect(unsent.getByRole('alert')).toContainText('at least one character');
  await unsent.getByRole('button', { name: 'Remove' }).click();
  await say(page, 'And this works.');
  await answered(page, 2);
});

test('what is short as text and long as a frame goes by another way', async () => {
  // Each of these is six letters in JSON: more than a frame of the WebSocket may hold.
  const text = `begin ${'\u0001'.repeat(60_000)} end`;
  await field().fill(text);
  await field().press('Enter');
  await expect(answers(page)).toHaveAttribute('data-status', /complete|failed/);
  await expect(page.getByText('The connection is gone.')).toHaveCount(0);
  expect(await stored()).toEqual([text]);
  await say(page, 'Hello again!');
  await answered(page, 2);
});
