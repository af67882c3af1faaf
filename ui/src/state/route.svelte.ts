/** Where the page is, kept in the fragment: the daemon serves one page and never sees it. */
export type Section =
  | 'characters'
  | 'model'
  | 'activity'
  | 'account'
  | 'keys'
  | 'sessions'
  | 'persons'
  | 'modules'
  | 'programs'
  | 'servers'
  | 'appearance'
  | 'connection';
export type Route =
  | { page: 'chat'; conversation: string | null; message: string | null }
  | { page: 'settings'; section: Section };

const SECTIONS: readonly Section[] = [
  'characters',
  'model',
  'activity',
  'account',
  'keys',
  'sessions',
  'persons',
  'modules',
  'programs',
  'servers',
  'appearance',
  'connection',
];

export function readRoute(hash: string): Route {
  const [page, id, message] = hash.replace(/^#\/?/, '').split('/');
  if (page === 'settings') {
    return { page: 'settings', section: SECTIONS.find((section) => section === id) ?? 'model' };
  }
  if (page === 'c' && id && /^[\w-]{1,64}$/.test(id)) {
    return { page: 'chat', conversation: id, message: message || null };
  }
  return { page: 'chat', conversation: null, message: null };
}

/** The one-time code of the set-up address; it is taken out of the address bar at once. */
function takeSetupCode(): string | null {
  const found = /^#setup=([\w-]+)$/.exec(location.hash);
  if (!found) return null;
  history.replaceState(null, '', '/');
  return found[1] ?? null;
}

class Router {
  /** The one-time code of the set-up address, until the set-up has taken it. */
  setupCode = $state(takeSetupCode());
  now = $state.raw<Route>(readRoute(location.hash));

  constructor() {
    addEventListener('hashchange', () => {
      // The printed address may be opened in a tab where the page already is.
      this.setupCode = takeSetupCode() ?? this.setupCode;
      this.now = readRoute(location.hash);
    });
  }

  go(hash: string, replace = false): void {
    if (replace) history.replaceState(null, '', hash);
    else history.pushState(null, '', hash);
    this.now = readRoute(hash);
  }
}

export const router = new Router();
