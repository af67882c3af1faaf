import type { ActivitySample, ModelActivity, ModelsActivity } from '../api/types';

/** A line of a plot: values by time, `null` where there is nothing to show. */
export interface Line {
  id: string;
  name: string;
  values: readonly (number | null)[];
}

/** How far back plots reach. */
export const SPANS = [600, 3600] as const;
export type Span = (typeof SPANS)[number];
const REACH_MS = 1000 * Math.max(...SPANS);

/** Newer figures behind those that are here, without what is older than the plots reach. */
export function joined(old: ModelsActivity | null, next: ModelsActivity): ModelsActivity {
  const newest = next.samples[0]?.at;
  const kept = (old?.samples ?? []).filter((sample) => !newest || sample.at < newest);
  const from = Date.parse(next.at) - REACH_MS;
  return {
    ...next,
    samples: [...kept, ...next.samples].filter((sample) => Date.parse(sample.at) >= from),
  };
}

/**
 * The samples of a span on an even grid of times that ends with the last of them, unless that is
 * long ago: then it ends now. A time without a sample (the computer slept, AICO was restarted) is
 * `null`, so that no line is drawn across it.
 */
export function grid(
  samples: readonly ActivitySample[],
  now: number,
  every: number,
  span: Span,
): { at: number; sample: ActivitySample | null }[] {
  const last = Date.parse(samples.at(-1)?.at ?? '');
  const end = now - last < 2 * every ? last : now;
  const count = Math.max(2, Math.round((span * 1000) / every));
  const cells: { at: number; sample: ActivitySample | null }[] = [];
  for (let index = 0; index < count; index += 1) {
    cells.push({ at: end - (count - 1 - index) * every, sample: null });
  }
  for (const sample of samples) {
    const index = count - 1 - Math.round((end - Date.parse(sample.at)) / every);
    const cell = cells[index];
    if (cell) cell.sample = sample;
  }
  return cells;
}

/** Whether it only reads (vectors, names, moods), which goes many times as fast as writing. */
export function onlyReads({ totals }: ModelActivity): boolean {
  return totals.prompt_tokens > 0 && totals.answer_tokens === 0;
}

type Figure = (of: ActivitySample['models'][number]) => number | null;

/** One line for each model that did something; where a sample does not name it, it did nothing. */
export function lines(
  cells: readonly { sample: ActivitySample | null }[],
  names: ReadonlyMap<string, string>,
  figure: Figure,
  nothing: number | null = 0,
): Line[] {
  const ids = new Set<string>();
  for (const { sample } of cells) for (const model of sample?.models ?? []) ids.add(model.model);
  return [...names]
    .filter(([id]) => ids.has(id))
    .map(([id, name]) => ({
      id,
      name,
      values: cells.map(({ sample }) => {
        if (!sample) return null;
        const model = sample.models.find((one) => one.model === id);
        return model ? figure(model) : nothing;
      }),
    }));
}

/** The least round number at or above `value`: few digits, and its half is one too. */
export function ceiling(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10]) {
    // A little slack: 0.30000000000000004 is not above 0.3.
    if (value <= step * power * (1 + 1e-9)) return step * power;
  }
  return 10 * power;
}

/**
 * The strokes of a line, broken where a value is missing; a lone value becomes a dot. Of `points`
 * each value is one.
 */
export function strokes(
  values: readonly (number | null)[],
  top: number,
  width: number,
  height: number,
  points = false,
): string {
  const x = (index: number) => ((index / Math.max(1, values.length - 1)) * width).toFixed(1);
  const y = (value: number) => (height - (Math.min(value, top) / top) * height).toFixed(1);
  let path = '';
  let open = false;
  values.forEach((value, index) => {
    if (value === null) {
      open = false;
      return;
    }
    path += `${open ? 'L' : 'M'}${x(index)} ${y(value)}`;
    // A stroke of no length with round ends.
    if (points || (!open && (values[index + 1] ?? null) === null)) path += 'h0';
    open = !points;
  });
  return path;
}
