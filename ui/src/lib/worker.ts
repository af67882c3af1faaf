/** Registers the service worker. Its address is a script to the browser, so a policy vouches. */
export function registerWorker(): void {
  if (!('serviceWorker' in navigator) || import.meta.env.DEV) return;
  const address = '/sw.js';
  const policy = trusted()?.createPolicy('aico-service-worker', {
    createScriptURL: (url) => {
      if (url !== address) throw new TypeError('only the service worker may be loaded');
      return url;
    },
  });
  const url = (policy?.createScriptURL(address) ?? address) as string;
  navigator.serviceWorker.register(url).catch(() => {
    // The page works without it; only the shell is then not kept for when the daemon is away.
  });
}

interface TrustedTypes {
  createPolicy(
    name: string,
    rules: { createScriptURL: (url: string) => string },
  ): { createScriptURL(url: string): unknown };
}

function trusted(): TrustedTypes | undefined {
  return (globalThis as { trustedTypes?: TrustedTypes }).trustedTypes;
}
