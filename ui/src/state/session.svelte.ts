import { type ApiError, api, call, useToken, whenApiFails } from '../api/client';
import type { Keychain, Person, Session } from '../api/types';
import { t } from '../i18n';
import { router } from './route.svelte';

export type Place = 'loading' | 'away' | 'stopping' | 'new' | 'locked' | 'login' | 'in';

/** The token lives here and in sessionStorage, which ends with the tab; nowhere else. */
const KEY = 'aico.session';
const RETRY_MS = 2000;

class SessionStore {
  place = $state<Place>('loading');
  version = $state('');
  person = $state.raw<Person | null>(null);
  token = $state<string | null>(null);
  notice = $state('');
  /** The keychain that did not open AICO at its start. */
  keychain = $state.raw<Keychain | null>(null);
  /** How far the stores are that are brought up to a newer program, while they are. */
  updating = $state.raw<{ percent: number; seconds_left?: number | null } | null>(null);
  /** A recovery phrase that was made just now, until it is written down. */
  phrase = $state.raw<readonly string[]>([]);
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Whose address it is that the page shows. */
  #before: string | null = null;

  constructor() {
    whenApiFails((error) => this.#failed(error));
  }

  async begin(): Promise<void> {
    clearTimeout(this.#timer);
    const stage = await this.stage();
    if (stage === null || stage === 'stopping') {
      this.place = stage ?? 'away';
      this.#timer = setTimeout(() => void this.begin(), RETRY_MS);
      return;
    }
    if (stage === 'new' || stage === 'locked') {
      this.#forget();
      this.place = stage;
      return;
    }
    const token = stored();
    if (!token) {
      this.place = 'login';
      return;
    }
    this.#take(token);
    try {
      this.#welcome(await call(api.GET('/api/v1/me')));
      this.place = 'in';
    } catch (error) {
      if ((error as ApiError).code === 'unreachable') {
        this.place = 'away';
        this.#timer = setTimeout(() => void this.begin(), RETRY_MS);
      } else if (this.place !== 'locked') {
        this.#forget();
        this.place = 'login';
      }
    }
  }

  async stage(): Promise<'new' | 'locked' | 'ready' | 'stopping' | null> {
    try {
      const state = await call(api.GET('/api/v1/state'));
      this.version = state.version;
      this.keychain = state.keychain ?? null;
      this.updating = state.updating ?? null;
      return state.stage;
    } catch {
      return null;
    }
  }

  /** Keeps a new session without going in yet: the set-up still has words to show. */
  hold(session: Session): void {
    this.#take(session.token);
    this.#welcome(session.person);
    try {
      sessionStorage.setItem(KEY, session.token);
    } catch {
      // Without storage the session lasts until the page is loaded anew.
    }
  }

  enter(session?: Session): void {
    if (session) this.hold(session);
    this.notice = '';
    this.place = 'in';
  }

  async signOut(): Promise<void> {
    try {
      await call(api.DELETE('/api/v1/sessions/current'));
    } catch {
      // The token is forgotten here in any case.
    }
    // The next one to sign in may be another person: the address names a conversation of this one.
    router.go('#/', true);
    this.leave('login');
  }

  leave(place: 'login' | 'locked', notice = ''): void {
    this.#forget();
    this.notice = notice;
    this.place = place;
  }

  /** Shows a new phrase to who asked for it with this token, and to nobody else. */
  showPhrase(words: readonly string[], token: string | null): void {
    if (token && token === this.token) this.phrase = words;
  }

  #failed(error: ApiError): void {
    if (this.place !== 'in' && this.place !== 'loading') return;
    if (error.status === 503 && error.code === 'locked') this.leave('locked');
    if (
      error.status === 401 &&
      error.code !== 'wrong-password' &&
      error.code !== 'sign-in-failed'
    ) {
      this.leave('login', this.place === 'in' ? t('login.ended') : '');
    }
  }

  #take(token: string): void {
    this.token = token;
    useToken(token);
  }

  #welcome(person: Person): void {
    // The address names a conversation of who was here before.
    if (this.#before && this.#before !== person.id) router.go('#/', true);
    this.#before = person.id;
    this.person = person;
  }

  #forget(): void {
    this.token = null;
    this.person = null;
    this.phrase = [];
    useToken(null);
    try {
      sessionStorage.removeItem(KEY);
    } catch {
      // Nothing was kept then.
    }
  }
}

function stored(): string | null {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

export const session = new SessionStore();
