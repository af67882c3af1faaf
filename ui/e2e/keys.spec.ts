import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@playwright/test';
import { Daemon } from './daemon';
import { expectAccessible, MEMBER, OWNER, setUp, signIn, watch } from './helpers';

const daemon = new Daemon();
test.beforeAll(() => daemon.start());
test.afterAll(() => daemon.destroy());

test('a sealed person hears that their keys wait, and changes them', async ({ browser }) => {
  test.skip(daemon.double, 'the stand-in has no keys');
  const context = await browser.newContext();
  const page = await context.newPage();
  const bad = watch(page);
  await setUp(page, daemon.address);

  const file = (name: string, text: string) => {
    const path = join(daemon.data, `../${name}-${process.pid}`);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  const [owner, member] = [file('owner', OWNER.password), file('member', MEMBER.password)];
  const [phrase, next] = [`${member}-phrase`, `${owner}-phrase`];
  const theirs = ['--password-file', member];
  daemon.command('person', 'add', MEMBER.name, ...theirs);
  daemon.command('person', 'seal', MEMBER.name, ...theirs, '--yes', '--recovery-file', phrase);
  const mine = ['--password-file', owner, '--recovery-file', next];
  daemon.command('vault', 'rotate', '--compromised', ...mine);
  for (const path of [owner, member, phrase, next]) rmSync(path, { force: true });

  await test.step('the owner sees whose keys wait', async () => {
    // The change has ended all sessions.
    await page.goto(daemon.origin);
    await signIn(page, OWNER);
    await page.getByRole('link', { name: /^Settings/ }).click();
    await page.getByRole('link', { name: 'Keys' }).click();
    const waits = page.locator('section').filter({ hasText: MEMBER.name });
    await expect(waits).toContainText('keys wait');
    await expectAccessible(page, 'keys that wait');
    await page.getByRole('link', { name: 'Persons' }).click();
    await expect(page.getByRole('listitem').filter({ hasText: MEMBER.name })).toContainText(
      'keys wait',
    );
    await page.getByRole('link', { name: 'Account' }).click();
    await page.getByRole('button', { name: 'Sign out' }).click();
  });

  await test.step('they are told, and change them', async () => {
    await signIn(page, MEMBER);
    await expect(
      page.getByText('Your keys are still to be changed: Settings, Keys.'),
    ).toBeVisible();
    await page.getByRole('link', { name: /^Settings/ }).click();
    // It is still so after the page was loaded anew.
    await page.reload();
    await page.getByRole('link', { name: 'Keys' }).click();
    await expect(
      page.getByRole('heading', { name: 'Your keys are still to be changed' }),
    ).toBeVisible();
    await expectAccessible(page, 'own keys that wait');
    await page.getByRole('button', { name: 'Change them' }).click();
    const proof = page.getByRole('dialog', { name: 'Change your keys?' });
    await proof.getByRole('textbox', { name: 'Password' }).fill('not the one');
    await proof.getByRole('button', { name: 'Change them' }).click();
    await expect(proof.getByRole('alert')).toBeVisible();
    await proof.getByRole('textbox', { name: 'Password' }).fill(MEMBER.password);
    await proof.getByRole('button', { name: 'Change them' }).click();
    const items = page.getByTestId('recovery').getByRole('listitem');
    await expect(items).toHaveCount(12);
    await page.getByRole('button', { name: 'I have written them down' }).click();
    await expect(page.getByText('Your keys are as new as all others.')).toBeVisible();
  });

  await test.step('nothing waits any more, and they are still signed in', async () => {
    await page.reload();
    await expect(page.getByRole('link', { name: 'Account' })).toBeVisible();
    await expect(page.getByRole('link', { name: 'Keys' })).toHaveCount(0);
    const sessions = page.getByRole('link', { name: 'Sessions' });
    await sessions.click();
    await expect(page.getByRole('main').getByRole('listitem')).toHaveCount(1);
  });
  expect(bad).toEqual([]);
  await context.close();
});
