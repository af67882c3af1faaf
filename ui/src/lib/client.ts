/** What a session's program calls itself, short enough to recognise one's own browser by. */
export function programOf(agent: string): { browser: string; system: string } | null {
  const browser = first(agent, [
    [/\bEdg(?:e|A|iOS)?\//, 'Edge'],
    [/\bOPR\//, 'Opera'],
    [/\bFirefox\/|\bFxiOS\//, 'Firefox'],
    [/\bChrom(?:e|ium)\/|\bHeadlessChrome\/|\bCriOS\//, 'Chrome'],
    [/\bVersion\/[\d.]+ .*Safari\//, 'Safari'],
  ]);
  const system = first(agent, [
    [/\bAndroid\b/, 'Android'],
    [/\biPhone\b|\biPad\b/, 'iOS'],
    [/\bWindows\b/, 'Windows'],
    [/\bMac OS X\b|\bMacintosh\b/, 'macOS'],
    [/\bLinux\b|\bX11\b/, 'Linux'],
  ]);
  return browser && system ? { browser, system } : null;
}

function first(text: string, names: readonly (readonly [RegExp, string])[]): string | null {
  return names.find(([pattern]) => pattern.test(text))?.[1] ?? null;
}
