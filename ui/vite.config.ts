import { createHash } from 'node:crypto';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, type Plugin } from 'vite';

/**
 * Tells the service worker which files are the shell, and gives the list a version made of their
 * contents: a new build has a new cache and the old one goes away.
 */
function shellList(): Plugin {
  return {
    name: 'aico-shell-list',
    generateBundle(_options, bundle) {
      const worker = bundle['sw.js'];
      if (worker?.type !== 'chunk') throw new Error('the service worker is missing');
      const hash = createHash('sha256');
      const files = ['/', '/theme.js', '/manifest.webmanifest', '/icon.svg'];
      for (const [name, file] of Object.entries(bundle).sort(([a], [b]) => (a < b ? -1 : 1))) {
        if (name === 'sw.js') continue;
        hash.update(name);
        hash.update(file.type === 'chunk' ? file.code : file.source);
        if (name.startsWith('assets/')) files.push(`/${name}`);
      }
      worker.code = worker.code
        .replace('__SHELL_FILES__', JSON.stringify(files))
        .replace('__SHELL_VERSION__', JSON.stringify(hash.digest('hex').slice(0, 12)));
    },
  };
}

export default defineConfig(({ mode }) => ({
  plugins: [svelte(), shellList()],
  // Vitest would otherwise take Svelte's server build, which has no stores that change.
  resolve: mode === 'test' ? { conditions: ['browser'] } : {},
  build: {
    target: 'es2022',
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    rollupOptions: {
      input: { index: 'index.html', sw: 'src/worker/sw.ts' },
      output: {
        entryFileNames: (chunk) => (chunk.name === 'sw' ? 'sw.js' : 'assets/[name]-[hash].js'),
      },
    },
  },
  server: {
    proxy: {
      '/api': 'http://127.0.0.1:8377',
      '/ws': { target: 'ws://127.0.0.1:8377', ws: true },
    },
  },
  test: { include: ['src/**/*.test.ts', 'tests/**/*.test.ts'] },
}));
