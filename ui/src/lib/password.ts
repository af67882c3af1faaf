/** The daemon's rule, told before it has to say no. Letters are counted as a person sees them. */
export const SHORTEST = 12;
export const LONGEST = 512;

export function letters(password: string): number {
  return [...password.normalize('NFC')].length;
}
