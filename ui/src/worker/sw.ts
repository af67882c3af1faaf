/**
 * Keeps the shell of the page, so that it opens and can say so when the daemon is away. It touches
 * nothing else: no API answer, and nothing a person wrote, ever reaches its cache.
 */
const worker = self as unknown as ServiceWorkerGlobalScope;

// Both are put in by the build.
declare const __SHELL_FILES__: string[];
declare const __SHELL_VERSION__: string;

const FILES = __SHELL_FILES__;
const CACHE = `aico-shell-${__SHELL_VERSION__}`;

worker.addEventListener('install', (event) => {
  event.waitUntil(
    caches
      .open(CACHE)
      .then((cache) => cache.addAll(FILES.map(asked)))
      .then(() => worker.skipWaiting()),
  );
});

worker.addEventListener('activate', (event) => {
  event.waitUntil(
    caches
      .keys()
      .then((names) =>
        Promise.all(names.filter((name) => name !== CACHE).map((name) => caches.delete(name))),
      )
      .then(() => worker.clients.claim()),
  );
});

worker.addEventListener('fetch', (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== 'GET' || url.origin !== worker.location.origin) return;
  if (!FILES.includes(url.pathname)) return;
  event.respondWith(url.pathname.startsWith('/assets/') ? kept(request) : fresh(request));
});

/** What the page has just loaded under a name that stands for its contents is not loaded twice. */
function asked(file: string): Request {
  return new Request(file, { cache: file.startsWith('/assets/') ? 'default' : 'reload' });
}

/** A file with its contents' hash in its name never changes. */
async function kept(request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  return (await cache.match(request.url)) ?? fetch(request);
}

/** The page itself comes from the daemon while there is one, so that it is never an old one. */
async function fresh(request: Request): Promise<Response> {
  try {
    return await fetch(request);
  } catch (error) {
    const cache = await caches.open(CACHE);
    const found = await cache.match(new URL(request.url).pathname);
    if (found) return found;
    throw error;
  }
}
