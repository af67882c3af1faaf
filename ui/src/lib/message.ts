/** The daemon's rule, told before it has to say no: what one message may hold, as UTF-8. */
export const LONGEST_MESSAGE = 128 * 1024;

/** What a field takes in at once, in letters: with more, a browser needs seconds for each key. */
export const LONGEST_DRAFT = 1024 * 1024;

/** What one frame of the WebSocket may hold; a message that needs more goes by REST. */
export const LONGEST_FRAME = 256 * 1024;

const encoder = new TextEncoder();

export function size(text: string): number {
  return encoder.encode(text).length;
}

/** Whether more would make the field so slow that the page seems to hang. */
export function isFlood(field: HTMLTextAreaElement, event: InputEvent): boolean {
  return field.value.length + (event.data?.length ?? 0) > LONGEST_DRAFT && Boolean(event.data);
}
