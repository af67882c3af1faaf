import { t } from '../i18n';

export type DayGroup = { kind: 'today' | 'yesterday' | 'week' } | { kind: 'month'; label: string };

const DAY = 86_400_000;

function midnight(date: Date): number {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}

/** Which heading of the conversation list a moment belongs under, by the calendar of this place. */
export function dayGroup(moment: string, now: Date = new Date()): DayGroup {
  const date = new Date(moment);
  // Rounded, since a day of the clock change has 23 or 25 hours.
  const days = Math.round((midnight(now) - midnight(date)) / DAY);
  if (days <= 0) return { kind: 'today' };
  if (days === 1) return { kind: 'yesterday' };
  if (days < 7) return { kind: 'week' };
  return {
    kind: 'month',
    label: date.toLocaleDateString('en', { month: 'long', year: 'numeric' }),
  };
}

/** The time of a moment of today, and as much of the date as others need. */
export function shortMoment(moment: string, now: Date = new Date()): string {
  const date = new Date(moment);
  const time = { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' } as const;
  if (midnight(date) === midnight(now)) return date.toLocaleTimeString('en', time);
  const day = { day: 'numeric', month: 'short' } as const;
  if (date.getFullYear() === now.getFullYear()) {
    return date.toLocaleString('en', { ...day, ...time });
  }
  return date.toLocaleDateString('en', { ...day, year: 'numeric' });
}

export function fullDay(moment: string): string {
  return new Date(moment).toLocaleDateString('en', {
    day: 'numeric',
    month: 'long',
    year: 'numeric',
  });
}

export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'] as const;
  let at = 0;
  let value = count;
  while (value >= 1000 && at < units.length - 1) {
    value /= 1000;
    at += 1;
  }
  return `${value.toFixed(value >= 100 || at === 0 ? 0 : 1)} ${units[at]}`;
}

/** A time that is left, as roughly as people say it. */
export function duration(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < 60) return t('duration.seconds', { count: whole });
  const minutes = Math.ceil(whole / 60);
  if (minutes < 90) return t('duration.minutes', { count: minutes });
  return t('duration.hours', { hours: Math.floor(minutes / 60), minutes: minutes % 60 });
}

export function amount(count: number): string {
  return new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 }).format(
    count,
  );
}
