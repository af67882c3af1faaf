import { describe, expect, it } from 'vitest';
import { type Block, parse, safeAddress, words } from './parse';

function only(source: string): Block {
  const blocks = parse(source);
  expect(blocks).toHaveLength(1);
  return blocks[0] as Block;
}

function inlinesOf(source: string) {
  const block = only(source);
  return block.kind === 'paragraph' ? block.children : [];
}

describe('Markdown', () => {
  it('knows the usual forms', () => {
    const kinds = parse(
      '# Title\n\nSome *text* and `code`.\n\n- one\n- two\n\n> quoted\n\n```js\nx\n```\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n---',
    ).map((block) => block.kind);
    expect(kinds).toEqual(['heading', 'paragraph', 'list', 'quote', 'code', 'table', 'rule']);
  });

  it('shows raw HTML as its letters', () => {
    expect(words('<img src=x onerror=alert(1)>')).toBe('<img src=x onerror=alert(1)>');
    expect(words('a <b onclick="x()">bold</b> word')).toBe('a <b onclick="x()">bold</b> word');
    expect(words('<script>alert(1)</script>')).toBe('<script>alert(1)</script>');
  });

  it('makes a link of an image and never loads it', () => {
    expect(inlinesOf('![a cat](https://example.org/cat.png)')).toEqual([
      {
        kind: 'link',
        address: 'https://example.org/cat.png',
        children: [{ kind: 'text', text: 'a cat' }],
      },
    ]);
  });

  it.each([
    'javascript:alert(1)',
    'JaVaScRiPt:alert(1)',
    'java&#115;cript:alert(1)',
    'data:text/html,<b>',
    'vbscript:x',
    'file:///etc/passwd',
    '/relative',
    '//example.org',
    'blob:https://example.org/1',
  ])('makes no link of %s', (href) => {
    expect(safeAddress(href)).toBeNull();
    expect(JSON.stringify(parse(`[click](${href})`))).not.toContain('"link"');
  });

  it('shows what an address really is', () => {
    expect(safeAddress('https://аррӏе.com/')).toBe('https://xn--80ak6aa92e.com/');
    expect(safeAddress('https://bank.example@evil.example/')).toBe(
      'https://bank.example@evil.example/',
    );
    expect(safeAddress('https://example.org/\u202egnp.exe')).toBe(
      'https://example.org/%EF%BF%BDgnp.exe',
    );
  });

  it('reads the common entities and leaves the rest', () => {
    expect(words('a &amp; b &lt;i&gt; &#233; &#x1F600; &nosuch; &#0;')).toBe(
      'a & b <i> é 😀 &nosuch; \ufffd',
    );
  });

  it('shows control characters as a sign', () => {
    expect(words('a\u0000b\u001b[31mc\u202ed')).toBe('a\ufffdb\ufffd[31mc\ufffdd');
    expect(words('&#27;[0m')).toBe('\ufffd[0m');
  });

  it('stands an answer that has only begun', () => {
    for (const start of [
      '```',
      '```py\nprint(',
      '**bo',
      '[link](htt',
      '| a |\n|--',
      '1. ',
      '- [ ',
    ]) {
      expect(() => parse(start)).not.toThrow();
    }
  });

  it.each([
    ['quotes', '>'.repeat(5000)],
    ['lists', '- '.repeat(5000)],
    ['brackets', '['.repeat(20_000)],
    ['stars', '*a '.repeat(20_000)],
    ['mixed marks', '*_'.repeat(5000)],
    ['links', '[a]('.repeat(5000)],
    ['backticks', '` '.repeat(20_000)],
    ['tables', `${'|a'.repeat(3000)}|\n${'|-'.repeat(3000)}|\n`.repeat(2)],
    ['angles', '<a '.repeat(20_000)],
    ['a very long text', 'word '.repeat(100_000)],
  ])('is not brought down by many %s', (_what, source) => {
    expect(() => parse(source)).not.toThrow();
  });

  it('does not go deeper than anyone reads', () => {
    const deep = Array.from({ length: 38 }, (_, i) => `${'  '.repeat(i)}- x`).join('\n');
    expect(JSON.stringify(parse(deep)).length).toBeLessThan(40_000);
  });
});
