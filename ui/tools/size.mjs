// Prints what a first visit loads, compressed, and fails above the budget.
import { readFileSync } from 'node:fs';
import { brotliCompressSync, gzipSync } from 'node:zlib';

const BUDGET = 150 * 1024;
const dist = new URL('../dist/', import.meta.url);
const html = readFileSync(new URL('index.html', dist), 'utf8');
const files = ['index.html', 'sw.js'];
for (const [, path] of html.matchAll(/(?:src|href)="\/([^"]+)"/g)) files.push(path);

let gzip = 0;
let brotli = 0;
for (const file of files) {
  const bytes = readFileSync(new URL(file, dist));
  const packed = gzipSync(bytes, { level: 9 }).length;
  gzip += packed;
  brotli += brotliCompressSync(bytes).length;
  console.log(`${(packed / 1024).toFixed(1).padStart(8)} kB  ${file}`);
}
console.log(
  `first load: ${(gzip / 1024).toFixed(1)} kB gzip, ${(brotli / 1024).toFixed(1)} kB brotli; budget ${BUDGET / 1024} kB`,
);
if (gzip > BUDGET) {
  console.error('The first load is over its budget.');
  process.exit(1);
}
