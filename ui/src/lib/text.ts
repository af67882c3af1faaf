/**
 * Control characters do nothing in a page, but copied into a terminal they may. They are shown as
 * the sign for an unknown character; tab and line feed stay.
 */
export function harmless(text: string): string {
  return text
    .replace(/\r\n?/g, '\n')
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, '\ufffd');
}
