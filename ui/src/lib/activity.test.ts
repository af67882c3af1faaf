import { describe, expect, it } from 'vitest';
import type { ModelActivity, ModelsActivity } from '../api/types';
import { ceiling, grid, joined, lines, onlyReads, strokes } from './activity';

const NOW = Date.parse('2026-11-27T10:00:00Z');
const at = (seconds: number) => new Date(NOW - seconds * 1000).toISOString();
const sample = (seconds: number, running = 0) => ({
  at: at(seconds),
  available_bytes: 1000,
  models: [
    {
      model: 'a',
      running,
      waiting: 0,
      tokens_per_second: running * 10,
      memory_bytes: 5,
      processors: running,
      completed: 0,
      failed: 0,
      first_token_ms: null,
    },
  ],
});
const activity = (samples: ReturnType<typeof sample>[]): ModelsActivity => ({
  at: at(0),
  sample_every_ms: 5000,
  memory_bytes: null,
  available_bytes: null,
  most_loaded: 2,
  models: [],
  samples,
  requests: [],
});

describe('what models did', () => {
  it('goes on where it was, says nothing twice and forgets what is older than an hour', () => {
    const first = activity([sample(4000), sample(20), sample(15)]);
    const next = activity([sample(15), sample(10), sample(5)]);
    expect(joined(first, next).samples.map((one) => one.at)).toEqual([20, 15, 10, 5].map(at));
    expect(joined(first, activity([])).samples.map((one) => one.at)).toEqual([20, 15].map(at));
    expect(joined(null, next).samples).toHaveLength(3);
  });

  it('lies on even times, and a time that was slept through stays empty', () => {
    const cells = grid([sample(900), sample(23, 1), sample(9, 2), sample(3, 3)], NOW, 5000, 600);
    expect(cells).toHaveLength(120);
    const seen = cells.slice(-5).map((cell) => cell.sample?.models[0]?.running ?? null);
    expect(seen).toEqual([1, null, null, 2, 3]);
    const [line] = lines(cells, new Map([['a', 'A']]), (of) => of.tokens_per_second);
    expect(line?.values.slice(-5)).toEqual([10, null, null, 20, 30]);
    expect(lines(cells, new Map([['b', 'B']]), () => 1)).toEqual([]);
    const old = grid([sample(60, 1)], NOW, 5000, 600);
    expect(old.at(-1)).toEqual({ at: NOW, sample: null });
  });

  it('tells who only reads from who writes, as soon as they did', () => {
    const model = (prompt_tokens: number, answer_tokens: number) =>
      ({ totals: { prompt_tokens, answer_tokens } }) as ModelActivity;
    expect([model(0, 0), model(900, 0), model(9, 3)].map(onlyReads)).toEqual([false, true, false]);
  });

  it('is drawn below a round number', () => {
    const tops = [0, 0.3, 1, 1.1, 7, 20, 21, 99, Number.NaN].map(ceiling);
    expect(tops.map((top) => +top.toFixed(9))).toEqual([1, 0.3, 1, 1.2, 8, 20, 30, 100, 1]);
  });

  it('has no stroke across a gap, and a dot for a value by itself', () => {
    expect(strokes([0, 10, null, 5, null], 10, 100, 50)).toBe('M0.0 50.0L25.0 0.0M75.0 25.0h0');
    expect(strokes([null, null], 1, 100, 50)).toBe('');
    expect(strokes([0, 10], 10, 100, 50, true)).toBe('M0.0 50.0h0M100.0 0.0h0');
  });
});
