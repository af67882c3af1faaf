import { en } from './en';

type Plural = { readonly one: string; readonly other: string };
type Catalogue = typeof en;
export type Key = keyof Catalogue;

/** The names in braces of a message, so that a forgotten one does not compile. */
type Names<S extends string> = S extends `${string}{${infer Name}}${infer Rest}`
  ? Name | Names<Rest>
  : never;
type TextOf<K extends Key> = Catalogue[K] extends string
  ? Catalogue[K]
  : Catalogue[K] extends Plural
    ? Catalogue[K]['other']
    : never;
type Values<K extends Key> = { [Name in Names<TextOf<K>>]: string | number };
type Arguments<K extends Key> = Names<TextOf<K>> extends never ? [] : [values: Values<K>];

const rules = new Intl.PluralRules('en');

export function t<K extends Key>(key: K, ...[values]: Arguments<K>): string {
  const entry: string | Plural = en[key];
  const given = (values ?? {}) as Record<string, string | number>;
  const text =
    typeof entry === 'string'
      ? entry
      : rules.select(Number(given.count)) === 'one'
        ? entry.one
        : entry.other;
  return text.replace(/\{(\w+)\}/g, (all, name: string) => String(given[name] ?? all));
}

/** A message cut at one of its names, to put an element in its place. */
export function around<K extends Key>(key: K, name: Names<TextOf<K>>): [string, string] {
  const text: string = typeof en[key] === 'string' ? (en[key] as string) : '';
  const at = text.indexOf(`{${name}}`);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + name.length + 2)];
}

export function isKey(key: string): key is Key {
  return Object.hasOwn(en, key);
}
