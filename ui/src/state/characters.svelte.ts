import { api, call } from '../api/client';
import type { Character } from '../api/types';

/** Pictures that are kept; one is a few hundred kilobytes of text. */
const MOST_PICTURES = 24;

/** Whom one can talk to, and their pictures. */
class CharacterStore {
  list = $state.raw<readonly Character[]>([]);
  loaded = $state(false);
  /** The one for the next conversation, where it is another than the chosen one. */
  next = $state<string | null>(null);
  pictures = $state.raw<Readonly<Record<string, string>>>({});

  #asked = new Set<string>();
  /** Rises when another person may come: what was asked for before is nobody's. */
  #round = 0;

  get chosen(): Character | null {
    return this.list.find((one) => one.chosen) ?? null;
  }

  find(id: string): Character | null {
    return this.list.find((one) => one.id === id) ?? null;
  }

  async load(): Promise<void> {
    const round = this.#round;
    const { items } = await call(api.GET('/api/v1/characters'));
    if (round !== this.#round) return;
    this.list = items;
    this.loaded = true;
    if (this.next && !this.find(this.next)) this.next = null;
  }

  /** Where a version of a picture is kept: a changed character has another one. */
  #key(one: Character): string {
    return `${one.id} ${one.updated_at ?? ''}`;
  }

  /** The picture as an address that an image takes, once it is here. */
  picture(one: Character): string | null {
    return one.portrait ? (this.pictures[this.#key(one)] ?? null) : null;
  }

  async show(one: Character): Promise<void> {
    const key = this.#key(one);
    if (!one.portrait || this.#asked.has(key)) return;
    this.#asked.add(key);
    const round = this.#round;
    try {
      const path = { id: one.id };
      const { png } = await call(api.GET('/api/v1/characters/{id}/portrait', { params: { path } }));
      if (round !== this.#round) return;
      const before = Object.entries(this.pictures);
      for (const [old] of before.slice(0, 1 - MOST_PICTURES)) this.#asked.delete(old);
      const kept = before.slice(1 - MOST_PICTURES);
      this.pictures = { ...Object.fromEntries(kept), [key]: `data:image/png;base64,${png}` };
    } catch {
      // A face is drawn in its place; the next time it is asked for again.
      if (round === this.#round) this.#asked.delete(key);
    }
  }

  /** Another person may sign in next: nothing of this one stays in the page. */
  forget(): void {
    this.#round += 1;
    this.list = [];
    this.loaded = false;
    this.next = null;
    this.pictures = {};
    this.#asked.clear();
  }
}

export const characters = new CharacterStore();
