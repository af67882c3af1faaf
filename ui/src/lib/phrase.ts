/** How many words a recovery phrase has. */
export const WORDS = 12;

/** The words of a phrase as people type it: with numbers and commas, over several lines. */
export function phraseOf(typed: string): string[] {
  return typed
    .toLowerCase()
    .split(/[^a-z]+/)
    .filter((word) => word);
}
