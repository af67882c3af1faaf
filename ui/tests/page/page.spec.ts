import { expect, type Page, test } from '@playwright/test';
import { Daemon } from '../../e2e/daemon';
import {
  answered,
  answers,
  expectAccessible,
  OWNER,
  say,
  settled,
  setUp,
  signIn,
  watch,
} from '../../e2e/helpers';

const daemon = new Daemon('tests/double/aico');
let page: Page;
let bad: string[];

test.describe.configure({ mode: 'serial' });

test.beforeAll(async ({ browser }) => {
  await daemon.start();
  page = await browser.newPage();
  bad = watch(page);
  await setUp(page, daemon.address);
});

test.afterAll(async () => {
  await page.close();
  await daemon.destroy();
});

test.beforeEach(async () => {
  await page.getByRole('link', { name: 'New conversation' }).click();
  await expect(page.getByRole('heading', { name: /on your mind/ })).toBeVisible();
});

test.afterEach(() => {
  expect(bad).toEqual([]);
});

test('an answer brings no element of its own into the page', async () => {
  const asked: string[] = [];
  page.on('request', (request) => asked.push(request.url()));
  await say(
    page,
    'echo: <img src="https://example.org/a.png" onerror="alert(1)"> <script>alert(1)</script> ![cat](https://example.org/cat.png) [bad](javascript:alert(1)) \u001b[31mred\u0007',
  );
  await answered(page, 1);
  const answer = answers(page).last().locator('.markdown');
  await expect(answer.locator('img, script, a, iframe, style')).toHaveCount(0);
  await expect(answer).toContainText('<script>alert(1)</script>');
  await expect(answer).toContainText('[bad](javascript:alert(1))');
  await expect(answer).toContainText('\ufffd[31mred\ufffd');
  await expect(answer.getByRole('button', { name: /^cat/ })).toBeVisible();
  expect(asked.filter((url) => !url.startsWith(daemon.origin))).toEqual([]);
});

test('an outside link shows its full address before it opens', async () => {
  await say(page, 'echo: See [your bank](https://example.org/%D0%B0?next=https://bank.example).');
  await answered(page, 1);
  const link = answers(page)
    .last()
    .getByRole('button', { name: /^your bank/ });
  await link.click();
  const dialog = page.getByRole('dialog', { name: /outside of AICO/ });
  await expect(dialog).toContainText('https://example.org/%D0%B0?next=https://bank.example');
  const open = dialog.getByRole('link', { name: 'Open in a new tab' });
  await expect(open).toHaveAttribute('rel', 'noopener noreferrer');
  await expect(open).toHaveAttribute('target', '_blank');
  await expectAccessible(page, 'outside link');
  await page.keyboard.press('Escape');
  await expect(dialog).toHaveCount(0);
  await expect(link).toBeFocused();
});

test('a lost connection in the middle of an answer loses and doubles nothing', async ({
  browser,
}) => {
  // Every other connection is cut after a few words, as a bad network would.
  const context = await browser.newContext();
  const tab = await context.newPage();
  let cuts = 0;
  await tab.routeWebSocket(/\/ws$/, (socket) => {
    const server = socket.connectToServer();
    let deltas = 0;
    server.onMessage((frame) => {
      socket.send(frame);
      if (String(frame).includes('answer.delta') && ++deltas === 7 && cuts < 3) {
        cuts += 1;
        void socket.close({ code: 3000 });
      }
    });
  });
  await tab.goto(daemon.origin);
  await signIn(tab, OWNER);
  const words = Array.from({ length: 60 }, (_, i) => `word${i}`).join(' ');
  await say(tab, `echo: ${words}`);
  await answered(tab, 1);
  expect(cuts).toBe(3);
  await expect(answers(tab).last().locator('.markdown')).toHaveText(words);
  await expect(tab.getByText('The connection is gone.')).toHaveCount(0);
  await context.close();
});

test('a stop is seen at once, however long the daemon takes for it', async ({ browser }) => {
  const context = await browser.newContext();
  const tab = await context.newPage();
  let release = () => {};
  const released = new Promise<void>((done) => {
    release = done;
  });
  await tab.routeWebSocket(/\/ws$/, (socket) => {
    const server = socket.connectToServer();
    let held = false;
    socket.onMessage((frame) => {
      held ||= String(frame).includes('"cancel"');
      server.send(frame);
    });
    server.onMessage(async (frame) => {
      if (held) await released;
      socket.send(frame);
    });
  });
  await tab.goto(daemon.origin);
  await signIn(tab, OWNER);
  await say(tab, `echo: ${'word '.repeat(400)}`);
  await expect(answers(tab).last().locator('.markdown')).not.toBeEmpty();
  await tab.getByRole('button', { name: 'Stop the answer' }).click();
  await expect(answers(tab).last()).toContainText('Stopping…');
  await expect(answers(tab).last()).toHaveAttribute('data-status', 'streaming');
  await expect(tab.getByLabel('Your message')).toBeFocused();
  await expectAccessible(tab, 'stopping');
  release();
  await expect(tab.getByText('Stopped by you.')).toBeVisible();
  await expect(tab.getByText('Stopping…')).toHaveCount(0);
  await context.close();
});

test('a failed answer says why and can be tried again', async () => {
  await say(page, 'Please fail.');
  await expect(answers(page).last()).toHaveAttribute('data-status', 'failed');
  await expect(page.getByText('The model process ended.')).toBeVisible();
  await expectAccessible(page, 'failed answer');
  await answers(page).last().getByRole('button', { name: 'Try again' }).click();
  await expect(page.getByText('2 / 2')).toBeVisible();
});

test('a message that is too long is kept, and can be taken back', async () => {
  await page.getByLabel('Your message').fill('x'.repeat(32_001));
  await page.getByLabel('Your message').press('Enter');
  await expect(page.getByText(/^Not sent\./)).toBeVisible();
  await expectAccessible(page, 'unsent message');
  await page.getByRole('button', { name: 'Remove' }).click();
  await expect(page.getByText(/^Not sent\./)).toHaveCount(0);
});

test('a hit on another branch shows that branch', async () => {
  await say(page, 'echo: the quagga once ran here');
  await answered(page, 1);
  const first = page.locator('article.mine').first();
  await first.getByRole('button', { name: 'Edit this message' }).click();
  await page.getByLabel('New wording').fill('echo: nothing of the kind');
  await page.getByLabel('New wording').press('Enter');
  await expect(first.getByText('2 / 2')).toBeVisible();
  await answered(page, 1);
  await page.getByLabel('Search titles and messages').fill('quagga once');
  const results = page.getByRole('navigation', { name: 'Search results' });
  // The first hit is the title; the last one is the answer.
  await results.getByRole('link').last().click();
  await expect(first.getByText('1 / 2')).toBeVisible();
  await expect(answers(page).last()).toContainText('the quagga once ran here');
  await expect(answers(page).last()).toBeInViewport();
  await expect(page.getByText('That message is not there any more.')).toHaveCount(0);
  await page.getByRole('button', { name: 'Clear the search' }).click();
});

test('what was begun inside of a dialog closes it nowhere', async () => {
  await say(page, 'Hello');
  await answered(page, 1);
  const list = page.getByRole('navigation', { name: 'All conversations' });
  await list
    .getByRole('button', { name: /^Actions for/ })
    .first()
    .click();
  await page.getByRole('menuitem', { name: 'Rename' }).click();
  const dialog = page.getByRole('dialog', { name: 'Rename the conversation' });
  const field = dialog.getByLabel('Title', { exact: true });
  await expect(field).toBeFocused();
  await settled(page);
  await field.hover();
  await page.mouse.down();
  await page.mouse.move(5, 5);
  await page.mouse.up();
  await expect(dialog).toBeVisible();

  await page.route('**/api/v1/conversations/*', (route) => route.abort());
  await dialog.getByRole('button', { name: 'Save' }).click();
  await expect(dialog.getByRole('alert')).not.toBeEmpty();
  await page.unrouteAll();

  await page.mouse.click(5, 5);
  await expect(dialog).toHaveCount(0);
});

test('a token is not lost by a key, neither on its way nor when it is shown', async () => {
  await page.goto(`${daemon.origin}#/settings/programs`);
  await page.getByRole('button', { name: 'Make a token' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name').fill('Shelf');
  let release = () => {};
  const released = new Promise<void>((done) => {
    release = done;
  });
  await page.route('**/api/v1/tokens', async (route) => {
    if (route.request().method() === 'POST') await released;
    await route.continue();
  });
  await dialog.getByRole('button', { name: 'Make it' }).click();
  await expect(dialog.getByRole('button', { name: 'Working…' })).toBeVisible();
  await expect(dialog.getByRole('button', { name: 'Cancel' })).toBeDisabled();
  await page.keyboard.press('Escape');
  await page.keyboard.press('Escape');
  await expect(dialog).toBeVisible();
  release();
  await expect(page.getByTestId('secret')).toHaveText(/^aico_/);
  await page.mouse.click(5, 5);
  await page.keyboard.press('Escape');
  await page.keyboard.press('Escape');
  await expect(page.getByTestId('secret')).toHaveText(/^aico_/);
  await dialog.getByRole('button', { name: 'Done' }).click();
  await expect(dialog).toHaveCount(0);
  await page.unrouteAll();
  await page.goto(`${daemon.origin}#/`);
});

test('a draft is there again after a look at the settings', async () => {
  await say(page, 'Hello');
  await answered(page, 1);
  const { hash } = new URL(page.url());
  await page.getByLabel('Your message').fill('Half a sentence');
  await page.getByRole('link', { name: /^Settings/ }).click();
  await page.getByLabel('Path of the file').press('Escape');
  await expect(page.getByRole('heading', { level: 1, name: 'Settings' })).toBeVisible();
  await page.getByRole('link', { name: 'Back to the conversations' }).click();
  await expect(page).toHaveURL(new RegExp(`${hash}$`));
  await expect(page.getByLabel('Your message')).toHaveValue('Half a sentence');
  await page.getByLabel('Your message').fill('');
});

test('a finished answer is read out once, not each of its words', async () => {
  await page.evaluate(() => {
    const said: string[] = [];
    Object.assign(globalThis, { said });
    const place = document.querySelector('[aria-live=polite]') as HTMLElement;
    new MutationObserver(() => said.push(place.textContent ?? '')).observe(place, {
      childList: true,
      characterData: true,
      subtree: true,
    });
  });
  await say(page, 'echo: One two **three** four.');
  await answered(page, 1);
  const said = () => page.evaluate(() => (globalThis as unknown as { said: string[] }).said);
  await expect.poll(said).toEqual(['The answer: One two three four.']);
});

test('a server gets nothing until it is allowed, and what left is told', async () => {
  await page.goto(`${daemon.origin}#/settings/servers`);
  await expect(page.getByRole('heading', { level: 3, name: 'lab' })).toBeVisible();
  await expect(page.getByText('You have not allowed it')).toBeVisible();
  await expect(page.getByText('Nothing of yours left this machine.')).toBeVisible();
  await expectAccessible(page, 'servers');
  await page.getByRole('button', { name: 'Try it: lab' }).click();
  await expect(page.getByText('qwen3-32b')).toBeVisible();
  await page.getByRole('button', { name: 'Allow: what I write may go to lab' }).click();
  const dialog = page.getByRole('dialog', { name: 'Let what you write go to lab?' });
  await expect(dialog).toContainText('gpu.lab.example:8000');
  await expectAccessible(page, 'allow a server');
  await dialog.getByRole('button', { name: 'Allow' }).click();
  await expect(page.getByText('You allowed it')).toBeVisible();
  await expect(page.getByText('conversation, 2.1 kB, 540 tokens')).toBeVisible();
  await expectAccessible(page, 'what left');
  if (process.env.AICO_SHOW) await page.screenshot({ path: process.env.AICO_SHOW, fullPage: true });
  await page.getByRole('button', { name: /^Take it back/ }).click();
  await expect(page.getByText('You have not allowed it')).toBeVisible();
  await page.goto(`${daemon.origin}#/`);
});

test('a download that is done before the page looks is there all the same', async () => {
  await page.goto(`${daemon.origin}#/settings/model`);
  const entry = page
    .getByRole('region', { name: 'Download a model' })
    .getByRole('listitem')
    .filter({ has: page.getByRole('heading', { name: 'Qwen3 1.7B' }) });
  // Each look brings a download of the stand-in a quarter further: it is done before the answer.
  await page.route('**/api/v1/models/pulls', async (route) => {
    const request = route.request();
    const response = await route.fetch();
    if (request.method() === 'POST') {
      const headers = await request.allHeaders();
      for (let look = 0; look < 4; look++) await page.request.get(request.url(), { headers });
    }
    await route.fulfill({ response });
  });
  await entry.getByRole('button', { name: 'Download Qwen3 1.7B' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Download' }).click();
  await expect(entry.getByText('Here already')).toBeVisible();
  await expect(entry.getByRole('button', { name: /^Download/ })).toHaveCount(0);
  await page.unrouteAll();
  await page.goto(`${daemon.origin}#/`);
});

test('a file that is here can be checked, and is downloaded again when it is damaged', async () => {
  const pull = {
    name: 'qwen3-4b',
    status: 'done',
    done_bytes: 0,
    total_bytes: 2_497_280_256,
    kept_bytes: 0,
    bytes_per_second: 0,
    seconds_left: null,
    source: null,
    use_then: false,
    model: null,
    problem: null as { title: string; detail: string } | null,
    retry_in_seconds: null,
  };
  let begun = 'checking';
  let looks = 0;
  let answerFirst = () => {};
  const held = new Promise<void>((resolve) => {
    answerFirst = resolve;
  });
  await page.route('**/api/v1/models/catalogue', async (route) => {
    const response = await route.fetch();
    const json = await response.json();
    const present = pull.status !== 'failed';
    for (const one of json.items) {
      if (one.name !== pull.name) continue;
      Object.assign(one, {
        present,
        model: present ? '0197b1a2-0000-7000-8000-000000000000' : null,
      });
    }
    await route.fulfill({ response, json });
  });
  await page.route('**/api/v1/models/pulls', async (route) => {
    if (route.request().method() === 'POST') {
      pull.status = begun;
      await route.fulfill({ status: 202, json: pull });
      return;
    }
    const items = [{ ...pull }];
    looks++;
    if (looks === 1) await held;
    await route.fulfill({ json: { items } });
  });
  await page.goto(`${daemon.origin}#/settings/model`);
  const entry = page
    .getByRole('region', { name: 'Download a model' })
    .getByRole('listitem')
    .filter({ has: page.getByRole('heading', { name: 'Qwen3 4B' }) });
  const check = entry.getByRole('button', { name: 'Check the file of Qwen3 4B' });
  const whole = page.getByText('The file of Qwen3 4B is whole.');
  await check.click();
  await expect(entry.getByText('Looking at what is here already')).toBeVisible();
  // What was asked before the check tells how an earlier one ended.
  const before = looks;
  answerFirst();
  await expect.poll(() => looks).toBeGreaterThan(before + 1);
  await expect(whole).toHaveCount(0);
  pull.status = 'done';
  await expect(whole).toBeVisible();
  begun = 'failed';
  pull.problem = { title: 'The model’s file has changed', detail: 'Nothing was downloaded.' };
  await check.click();
  await expect(entry.getByRole('alert')).toContainText('has changed');
  await expect(entry.getByRole('button', { name: 'Download Qwen3 4B' })).toBeVisible();
  await expect(check).toHaveCount(0);
  await page.unrouteAll();
  await page.goto(`${daemon.origin}#/`);
});

test('without the daemon the shell opens and says so, then comes back', async () => {
  await page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
  await page.reload();
  await expect(page.getByRole('heading', { name: /on your mind/ })).toBeVisible();
  await daemon.stop();
  await page.reload();
  await expect(page.getByRole('heading', { name: 'AICO does not answer' })).toBeVisible();
  await expectAccessible(page, 'away');
  await daemon.start();
  await expect(page.getByRole('button', { name: 'Unlock' })).toBeVisible();
});
