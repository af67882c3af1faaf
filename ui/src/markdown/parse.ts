/**
 * Markdown to a small tree of our own. Nothing in it is HTML: the components make each element
 * themselves, so a model's answer cannot bring any of its own into the page.
 */
import { Lexer, type Token, type Tokens } from 'marked';
import { harmless } from '../lib/text';

export type Inline =
  | { kind: 'text'; text: string }
  | { kind: 'code'; text: string }
  | { kind: 'break' }
  | { kind: 'strong' | 'em' | 'del'; children: Inline[] }
  | { kind: 'link'; address: string; children: Inline[] };

export type Block =
  | { kind: 'paragraph'; children: Inline[] }
  | { kind: 'heading'; level: number; children: Inline[] }
  | { kind: 'code'; language: string; text: string }
  | { kind: 'quote'; children: Block[] }
  | { kind: 'list'; ordered: boolean; start: number; items: ListItem[] }
  | { kind: 'table'; align: Align[]; head: Inline[][]; rows: Inline[][][] }
  | { kind: 'rule' };

export interface ListItem {
  task: 'none' | 'open' | 'done';
  children: Block[];
}

export type Align = 'left' | 'center' | 'right' | null;

/** Beyond these an answer is shown as it is written: no one reads it, it only costs time. */
const LONGEST = 200_000;
const DEEPEST = 16;

export function parse(source: string): Block[] {
  const text = harmless(source);
  if (text.length > LONGEST || tooDeep(text)) return plain(text);
  try {
    return blocks(new Lexer({ gfm: true, breaks: true }).lex(text), 0);
  } catch {
    return plain(text);
  }
}

/** The words alone, for the screen reader's announcement. */
export function words(source: string): string {
  return parse(source).map(blockWords).join('\n');
}

function plain(text: string): Block[] {
  return [{ kind: 'paragraph', children: [{ kind: 'text', text }] }];
}

/** The lexer goes down one call for each nested quote or list, so depth is looked at before. */
function tooDeep(text: string): boolean {
  return /^(?:[ \t]*(?:>|[-*+]|\d{1,9}[.)])[ \t]*){40}/m.test(text) || /[[*_~]{500}/.test(text);
}

function blocks(tokens: readonly Token[], depth: number): Block[] {
  const out: Block[] = [];
  for (const token of tokens) {
    const made = block(token, depth);
    if (made) out.push(made);
  }
  return out;
}

function block(token: Token, depth: number): Block | null {
  if (depth > DEEPEST) return { kind: 'paragraph', children: [{ kind: 'text', text: token.raw }] };
  switch (token.type) {
    case 'space':
    case 'def':
      return null;
    case 'hr':
      return { kind: 'rule' };
    case 'heading': {
      const heading = token as Tokens.Heading;
      return { kind: 'heading', level: heading.depth, children: inlines(heading.tokens, depth) };
    }
    case 'code': {
      const code = token as Tokens.Code;
      return { kind: 'code', language: (code.lang ?? '').split(/\s/)[0] ?? '', text: code.text };
    }
    case 'blockquote':
      return { kind: 'quote', children: blocks((token as Tokens.Blockquote).tokens, depth + 1) };
    case 'list': {
      const list = token as Tokens.List;
      return {
        kind: 'list',
        ordered: list.ordered,
        start: typeof list.start === 'number' ? list.start : 1,
        items: list.items.map((item) => ({
          task: item.task ? (item.checked ? 'done' : 'open') : 'none',
          children: blocks(
            item.tokens.filter((inner) => inner.type !== 'checkbox'),
            depth + 1,
          ),
        })),
      };
    }
    case 'table': {
      const table = token as Tokens.Table;
      return {
        kind: 'table',
        align: table.align,
        head: table.header.map((cell) => inlines(cell.tokens, depth)),
        rows: table.rows.map((row) => row.map((cell) => inlines(cell.tokens, depth))),
      };
    }
    case 'paragraph':
      return { kind: 'paragraph', children: inlines((token as Tokens.Paragraph).tokens, depth) };
    case 'text': {
      const text = token as Tokens.Text;
      return {
        kind: 'paragraph',
        children: text.tokens
          ? inlines(text.tokens, depth)
          : [{ kind: 'text', text: decoded(text.text) }],
      };
    }
    default:
      // Raw HTML, and whatever a later lexer may bring: the letters as they stand.
      return { kind: 'paragraph', children: [{ kind: 'text', text: token.raw.trimEnd() }] };
  }
}

function inlines(tokens: readonly Token[] | undefined, depth: number): Inline[] {
  const out: Inline[] = [];
  for (const token of tokens ?? []) {
    const made = inline(token, depth + 1);
    const last = out.at(-1);
    if (made.kind === 'text' && last?.kind === 'text') last.text += made.text;
    else out.push(made);
  }
  return out;
}

function inline(token: Token, depth: number): Inline {
  if (depth > DEEPEST * 2) return { kind: 'text', text: token.raw };
  switch (token.type) {
    case 'text':
      return { kind: 'text', text: decoded((token as Tokens.Text).text) };
    case 'escape':
      return { kind: 'text', text: (token as Tokens.Escape).text };
    case 'codespan':
      return { kind: 'code', text: (token as Tokens.Codespan).text };
    case 'br':
      return { kind: 'break' };
    case 'strong':
    case 'em':
    case 'del':
      return { kind: token.type, children: inlines((token as Tokens.Strong).tokens, depth) };
    case 'link': {
      const link = token as Tokens.Link;
      return linkTo(link.href, inlines(link.tokens, depth), link.raw);
    }
    case 'image': {
      // Loading a picture would tell its server that this was read; it is a link like any other.
      const image = token as Tokens.Image;
      return linkTo(image.href, [{ kind: 'text', text: image.text || image.href }], image.raw);
    }
    default:
      return { kind: 'text', text: token.raw };
  }
}

function linkTo(href: string, children: Inline[], raw: string): Inline {
  const address = safeAddress(href);
  if (!address) return { kind: 'text', text: raw };
  return {
    kind: 'link',
    address,
    children: children.length ? children : [{ kind: 'text', text: address }],
  };
}

/**
 * The full address in plain ASCII, or null for anything that is not a web or mail address.
 * `URL` writes look-alike letters of a host as punycode, so what is shown is what is opened.
 */
export function safeAddress(href: string): string | null {
  try {
    const url = new URL(decoded(href));
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

const NAMED: Record<string, string> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  apos: "'",
  nbsp: '\u00a0',
};

function decoded(text: string): string {
  // The lexer has read some of the entities already, those of control characters among them.
  const safe = harmless(text);
  if (!safe.includes('&')) return safe;
  return safe.replace(/&(?:#(\d{1,7})|#x([\da-f]{1,6})|([a-z]{2,5}));/gi, (all, dec, hex, name) => {
    if (name) return NAMED[name.toLowerCase()] ?? all;
    const point = dec ? Number(dec) : Number.parseInt(hex, 16);
    if (point === 0 || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) return '\ufffd';
    return harmless(String.fromCodePoint(point));
  });
}

function blockWords(block: Block): string {
  switch (block.kind) {
    case 'paragraph':
    case 'heading':
      return inlineWords(block.children);
    case 'code':
      return block.text;
    case 'quote':
      return block.children.map(blockWords).join('\n');
    case 'list':
      return block.items.map((item) => item.children.map(blockWords).join(' ')).join('\n');
    case 'table':
      return [block.head, ...block.rows].map((row) => row.map(inlineWords).join(', ')).join('\n');
    case 'rule':
      return '';
  }
}

function inlineWords(inlines: readonly Inline[]): string {
  return inlines
    .map((inline) => {
      if (inline.kind === 'text' || inline.kind === 'code') return inline.text;
      return inline.kind === 'break' ? ' ' : inlineWords(inline.children);
    })
    .join('');
}
