/**
 * Texts that end an answer, one a line. White space around one says nothing; in quotes, as in JSON,
 * every character of it counts, and `"\n"` is a line break.
 */
export function stopsOf(typed: string): string[] {
  return typed
    .split('\n')
    .map((line) => quoted(line.trim()))
    .filter(Boolean);
}

/** The same for somebody to change: what is read of it is what it was made of. */
export function stopLines(stops: readonly string[]): string {
  const line = (stop: string) => {
    const plain = !stop.startsWith('"') && stop === stop.trim() && !/[\r\n]/.test(stop);
    return plain ? stop : JSON.stringify(stop);
  };
  return stops.map(line).join('\n');
}

function quoted(line: string): string {
  if (!line.startsWith('"')) return line;
  try {
    const read: unknown = JSON.parse(line);
    return typeof read === 'string' ? read : line;
  } catch {
    // Quotes that nobody closed are letters like any other.
    return line;
  }
}
