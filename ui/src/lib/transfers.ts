// Downloads, ours and those of other programs: how far they are, and which of them ended.

import { t } from '../i18n';
import { bytes, duration } from './dates';

export interface Transfer {
  readonly status: string;
  readonly done_bytes: number;
  readonly total_bytes: number;
  readonly bytes_per_second: number;
  readonly seconds_left: number | null;
  readonly problem: {
    readonly title: string;
    readonly detail?: string | null;
    readonly what_to_do?: string | null;
  } | null;
}

export const active = (one: Transfer) => one.status !== 'done' && one.status !== 'failed';

/** How much of it is here, how fast it comes, and how long it will take. */
export function pace(one: Transfer): string {
  const of = t('downloads.of', { done: bytes(one.done_bytes), total: bytes(one.total_bytes) });
  if (!one.bytes_per_second) return of;
  const rate = t('downloads.rate', { rate: bytes(one.bytes_per_second) });
  const left =
    one.seconds_left === null ? '' : t('downloads.left', { time: duration(one.seconds_left) });
  return [of, rate, left].filter(Boolean).join(' · ');
}

/** What went wrong, and what to do. */
export function told(one: Transfer): string {
  const { title, detail, what_to_do } = one.problem ?? {};
  return [title && `${title}.`, detail, what_to_do].filter(Boolean).join(' ');
}

/**
 * Whether the file of a model is here and only not on the list. One that is made of several files
 * is never on it.
 */
export const offTheList = (entry: {
  readonly present: boolean;
  readonly model: string | null;
  readonly purpose: string;
  readonly sources: readonly string[];
}) =>
  entry.present &&
  !entry.model &&
  (entry.purpose === 'chat' || entry.sources.some((source) => /\.gguf$/i.test(source)));

/** What was under way at the last look. */
export class UnderWay {
  #known = new Set<string>();

  /** What began just now may be done before the first look: it counts as seen under way. */
  began(key: string): void {
    this.#known.add(key);
  }

  /** Notes what is under way now; whether anything that was has ended since. */
  look(now: readonly string[]): boolean {
    const ended = [...this.#known].some((key) => !now.includes(key));
    this.#known = new Set(now);
    return ended;
  }
}
