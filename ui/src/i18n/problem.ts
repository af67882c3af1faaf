import { ApiError } from '../api/client';
import { isKey, t } from './index';

/** What a person is told of a failure: our own words for what is known, the daemon's otherwise. */
export function problemText(error: unknown): string {
  if (!(error instanceof ApiError)) return t('problem.other');
  if (error.code === 'slow-down') {
    return t('problem.slow-down', {
      count: error.retryAfter ?? error.problem.retry_after_seconds ?? 5,
    });
  }
  // The daemon speaks of a person to others; this is that person.
  if (error.code === 'person-locked') return t('problem.person-locked');
  const { detail, title, what_to_do } = error.problem;
  return sentences([codeText(error.code, title), detail, what_to_do]);
}

/** One after the other, each once: a title ends without a full stop. */
export function sentences(parts: readonly (string | null | undefined)[]): string {
  const said = [...new Set(parts.filter((part): part is string => Boolean(part)))];
  return said
    .map((part, at) => (at === said.length - 1 || /[.!?…:]$/.test(part) ? part : `${part}.`))
    .join(' ');
}

export function codeText(code: string, title?: string | null): string {
  const key = `problem.${code}`;
  if (code !== 'slow-down' && isKey(key)) return t(key as 'problem.other');
  return title || t('problem.other');
}
