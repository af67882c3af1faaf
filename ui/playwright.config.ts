import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defineConfig } from '@playwright/test';

const root = process.getuid?.() === 0;
// One for a run: its workers read this file too, and inherit what is set here.
process.env.AICO_E2E_RESULTS ??= mkdtempSync(join(tmpdir(), 'aico-e2e-'));

export default defineConfig({
  projects: [
    { name: 'daemon', testDir: 'e2e' },
    // What no real model can be made to say, played by the stand-in.
    { name: 'page', testDir: 'tests/page' },
  ],
  // Each spec starts its own daemon; two at once would only slow each other down.
  workers: 1,
  fullyParallel: false,
  forbidOnly: Boolean(process.env.CI),
  timeout: 240_000,
  expect: { timeout: 20_000 },
  reporter: [['list']],
  outputDir: join(process.env.AICO_E2E_RESULTS, 'results'),
  use: {
    browserName: 'chromium',
    headless: true,
    trace: 'off',
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      args: [
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
        // Chromium has no sandbox for root.
        ...(root ? ['--no-sandbox'] : []),
      ],
    },
  },
});
