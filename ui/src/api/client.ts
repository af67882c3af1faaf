import createClient, { type Middleware } from 'openapi-fetch';
import type { paths } from './schema';
import type { Problem } from './types';

/** What the daemon answered instead of the thing asked for, or that it did not answer at all. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly problem: Partial<Problem>;
  readonly retryAfter: number | null;

  constructor(status: number, code: string, problem: Partial<Problem>, retryAfter: number | null) {
    super(code);
    this.name = 'ApiError';
    this.status = status;
    this.code = code;
    this.problem = problem;
    this.retryAfter = retryAfter;
  }
}

const holder: { token: string | null; onError: (error: ApiError) => void } = {
  token: null,
  onError: () => {},
};

export function useToken(token: string | null): void {
  holder.token = token;
}

/** What a request had to show, by its answer. */
const shown = new WeakMap<Response, string | null>();

/**
 * Every error passes here once, so that "signed out" and "locked" are noticed in one place; but
 * those that came for another token say nothing of this session.
 */
export function whenApiFails(listener: (error: ApiError) => void): void {
  holder.onError = listener;
}

const bearer: Middleware = {
  onRequest({ request }) {
    // A call that acts for another session brings its own.
    if (holder.token && !request.headers.has('Authorization'))
      request.headers.set('Authorization', `Bearer ${holder.token}`);
    return request;
  },
  onResponse({ request, response }) {
    shown.set(response, request.headers.get('Authorization'));
  },
};

export const api = createClient<paths>({
  // The page asks the host it came from; the empty base keeps it so.
  baseUrl: typeof location === 'undefined' ? '' : location.origin,
  cache: 'no-store',
  credentials: 'omit',
  // Looked up at each call: a test may put its own in place.
  fetch: (request) => globalThis.fetch(request),
});
api.use(bearer);

interface Outcome<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** Waits for a request and gives its body, or throws an `ApiError`. */
export async function call<T>(request: Promise<Outcome<T>>): Promise<T> {
  let outcome: Outcome<T>;
  try {
    outcome = await request;
  } catch {
    throw report(new ApiError(0, 'unreachable', {}, null));
  }
  const { data, error, response } = outcome;
  if (response.ok) return data as T;
  const problem: Partial<Problem> = isObject(error) ? (error as Partial<Problem>) : {};
  const seconds = Number(response.headers.get('Retry-After'));
  const failed = new ApiError(
    response.status,
    typeof problem.code === 'string' ? problem.code : `http-${response.status}`,
    problem,
    Number.isFinite(seconds) && seconds > 0 ? seconds : null,
  );
  const mine = holder.token ? `Bearer ${holder.token}` : null;
  throw shown.get(response) === mine ? report(failed) : failed;
}

function report(error: ApiError): ApiError {
  holder.onError(error);
  return error;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
