/** Days until a token expires, as the daemon has it. */
export const USUAL_DAYS = 90;
export const MOST_DAYS = 365;

/** The days that were typed; null when they are none, or too many. */
export function expiryDays(typed: string): number | null {
  const text = typed.trim();
  if (!/^\d{1,3}$/.test(text)) return null;
  const days = Number(text);
  return days >= 1 && days <= MOST_DAYS ? days : null;
}
