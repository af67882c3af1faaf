import { describe, expect, it } from 'vitest';
import { around, t } from '../i18n';
import { en } from '../i18n/en';
import { programOf } from './client';
import { bytes, dayGroup, duration, shortMoment } from './dates';
import { letters } from './password';
import { phraseOf } from './phrase';
import { stopLines, stopsOf } from './stops';
import { harmless } from './text';
import { expiryDays } from './token';
import { offTheList, UnderWay } from './transfers';
import { uuid7 } from './uuid7';

describe('ids', () => {
  it('are of version 7 and sort as they were made', () => {
    expect(uuid7()).toMatch(/^[\da-f]{8}-[\da-f]{4}-7[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
    expect(uuid7(1_700_000_000_000) < uuid7(1_700_000_000_001)).toBe(true);
    expect(uuid7(0x0123456789ab).startsWith('01234567-89ab-7')).toBe(true);
  });
});

describe('a recovery phrase', () => {
  it('is read however it is typed', () => {
    const words = ['legal', 'winner', 'thank'];
    for (const typed of [
      'legal winner thank',
      ' Legal  WINNER\nthank ',
      '1. legal, 2. winner, 3. thank',
    ]) {
      expect(phraseOf(typed)).toEqual(words);
    }
    expect(phraseOf(' 12. ')).toEqual([]);
  });
});

describe('texts that end an answer', () => {
  it('are the same after they were shown to be changed', () => {
    const stops = [
      ...['\n', '\nUser:', 'User: ', ' ', '"', 'a"\n', '"a"', '\\n', '\r', '\t', 'END'],
      ...['<|im_end|>', '"open', '\u00a0x', '\u2028', 'a\nb'],
    ];
    expect(stopsOf(stopLines(stops))).toEqual(stops);
    expect(stopLines(['END', 'User:'])).toBe('END\nUser:');
    expect(stopLines(['END ', '\n'])).toBe('"END "\n"\\n"');
  });

  it('are read as they are typed', () => {
    expect(stopsOf(' END \n\n"User: "\n""\n"open\n"\n')).toEqual(['END', 'User: ', '"open', '"']);
  });
});

describe('the days of a token', () => {
  it('are a whole number of them, and not too many', () => {
    expect(['1', ' 90 ', '365'].map(expiryDays)).toEqual([1, 90, 365]);
    for (const typed of ['', '0', '366', '1000', '-1', '1.5', '7 days', '1e2']) {
      expect(expiryDays(typed)).toBeNull();
    }
  });
});

describe('days', () => {
  const now = new Date(2026, 2, 30, 9, 0);
  const at = (...parts: [number, number, number, number?]) => new Date(...parts).toISOString();

  it('are told by the calendar, not by hours', () => {
    expect(dayGroup(at(2026, 2, 30, 0), now).kind).toBe('today');
    expect(dayGroup(at(2026, 2, 29, 23), now).kind).toBe('yesterday');
    expect(dayGroup(at(2026, 2, 24), now).kind).toBe('week');
    expect(dayGroup(at(2026, 2, 23), now)).toEqual({ kind: 'month', label: 'March 2026' });
  });

  it('are told only as far as they are another one', () => {
    expect(shortMoment(at(2026, 2, 30, 7), now)).toBe('07:00');
    expect(shortMoment(at(2026, 2, 29, 23), now)).toBe('Mar 29, 23:00');
    expect(shortMoment(at(2025, 2, 30, 7), now)).toBe('Mar 30, 2025');
  });

  it('of a clock that runs ahead are today', () => {
    expect(dayGroup(at(2027, 0, 1), now).kind).toBe('today');
  });
});

describe('words', () => {
  it('choose the plural', () => {
    expect(t('search.found', { count: 1 })).toBe('1 place found');
    expect(t('search.found', { count: 0 })).toBe('0 places found');
  });

  it('put in what is given as it is', () => {
    expect(t('search.none', { query: '$& {query}' })).toContain('$& {query}');
  });

  it('are cut around an element', () => {
    expect(around('away.body', 'command').join('…')).toContain('Start it with …;');
  });

  it('have the same names in one and many', () => {
    const names = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((found) => found[1]);
    for (const entry of Object.values(en)) {
      if (typeof entry !== 'string') expect(names(entry.one)).toEqual(names(entry.other));
    }
  });
});

describe('programs', () => {
  it.each([
    [
      'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36',
      'Chrome',
      'Linux',
    ],
    [
      'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36 Edg/150.0.0.0',
      'Edge',
      'Windows',
    ],
    [
      'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15',
      'Safari',
      'macOS',
    ],
    ['Mozilla/5.0 (Android 16; Mobile; rv:150.0) Gecko/150.0 Firefox/150.0', 'Firefox', 'Android'],
  ])('are known by their agent', (agent, browser, system) => {
    expect(programOf(agent)).toEqual({ browser, system });
  });

  it('that are unknown stay so', () => {
    expect(programOf('curl/8.0')).toBeNull();
  });
});

describe('small things', () => {
  it('count letters as people do', () => {
    expect(letters('e\u0301😀')).toBe(2);
  });

  it('write sizes', () => {
    expect([bytes(0), bytes(105_000_000), bytes(4_900_000_000)]).toEqual([
      '0 B',
      '105 MB',
      '4.9 GB',
    ]);
  });

  it('tell a time that is left in whole numbers', () => {
    expect(duration(0.4)).toBe(t('duration.seconds', { count: 1 }));
    expect(duration(59.2)).toBe(t('duration.minutes', { count: 1 }));
    expect(duration(61)).toBe(t('duration.minutes', { count: 2 }));
  });

  it('make line ends one kind and control characters harmless', () => {
    expect(harmless('a\r\nb\rc\td\u0007')).toBe('a\nb\nc\td\ufffd');
  });
});

describe('transfers', () => {
  it('what began and ended between two looks has ended', () => {
    const underWay = new UnderWay();
    expect(underWay.look([])).toBe(false);
    underWay.began('tiny');
    expect(underWay.look([])).toBe(true);
    expect(underWay.look([])).toBe(false);
  });

  it('a file that is here and on no list can be put there, whatever it is for', () => {
    const entry = (purpose: string, source: string, model: string | null = null) => ({
      present: true,
      model,
      purpose,
      sources: [`https://hub.invalid/${source}`],
    });
    expect(offTheList(entry('chat', 'tiny'))).toBe(true);
    expect(offTheList(entry('embedding', 'tiny.gguf'))).toBe(true);
    expect(offTheList(entry('embedding', 'onnx/model.onnx'))).toBe(false);
    expect(offTheList(entry('embedding', 'tiny.gguf', 'id'))).toBe(false);
    expect(offTheList({ ...entry('chat', 'tiny.gguf'), present: false })).toBe(false);
  });

  it('one that ends while another begins has ended', () => {
    const underWay = new UnderWay();
    expect(underWay.look(['one'])).toBe(false);
    expect(underWay.look(['two'])).toBe(true);
    expect(underWay.look(['two'])).toBe(false);
  });
});
