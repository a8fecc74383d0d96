// What is kept for long and hardly ever read is kept as bytes: to the garbage collector a page full of records is one
// object, where each record would be a dozen that are traced and moved. The writer and the reader have one cursor each,
// as records are written and read in one go.

/** The longest that a count gets. */
const countBytes = 5;

let page: Uint8Array = new Uint8Array();
let at = 0;
let fits = true;

/** Begins to write at `from`. */
export function beginPacking(into: Uint8Array, from: number): void {
  page = into;
  at = from;
  fits = true;
}

/** Where the writing ended; 0 if something did not fit, in which case nothing that was written counts. */
export function endPacking(): number {
  return fits ? at : 0;
}

/** Something cannot be packed: nothing that was written counts. */
export function giveUpPacking(): void {
  fits = false;
}

/** A whole number from 0 to 2^31 - 2, or nothing; any other does not fit. */
export function packCount(value: number | undefined): void {
  const isOdd = value !== undefined && !(value >= 0 && value < 2 ** 31 - 1 && Number.isInteger(value));
  // Never a byte beyond the page: that would be harmless, but slow from then on.
  if (isOdd || at + countBytes > page.length) {
    fits = false;
    return;
  }
  let rest = value === undefined ? 0 : value + 1;
  while (rest >= 0x80) {
    page[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  page[at++] = rest;
}

/** Any number, in eight bytes. */
export function packNumber(value: number): void {
  if (at + 8 > page.length) {
    fits = false;
    return;
  }
  number[0] = value;
  for (let i = 0; i < 8; i++) page[at++] = numberBytes[i]!;
}

/** Characters up to U+00FF; anything else does not fit. */
export function packText(text: string): void {
  const { length } = text;
  packCount(length);
  if (at + length > page.length) {
    fits = false;
    return;
  }
  // What a loop changes stays in the function: a variable of the module would be written to memory for each character.
  const into = page;
  const from = at;
  let all = 0;
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i);
    all |= code;
    into[from + i] = code;
  }
  if (all > 0xff) fits = false;
  at += length;
}

export function packBytes(bytes: Uint8Array): void {
  const { length } = bytes;
  packCount(length);
  if (at + length > page.length) {
    fits = false;
    return;
  }
  page.set(bytes, at);
  at += length;
}

/** Begins to read what was written at `where`. */
export function beginUnpacking(from: Uint8Array, where: number): void {
  page = from;
  at = where;
}

export function unpackCount(): number | undefined {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = page[at++]!;
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return value === 0 ? undefined : value - 1;
  }
}

export function unpackNumber(): number {
  for (let i = 0; i < 8; i++) numberBytes[i] = page[at++]!;
  return number[0]!;
}

export function unpackText(): string {
  return unpackTextOrNothing() ?? '';
}

/** As `packText`, or nothing. */
export function packTextOrNothing(text: string | undefined): void {
  if (text === undefined) packCount(undefined);
  else packText(text);
}

export function unpackTextOrNothing(): string | undefined {
  const length = unpackCount();
  if (length === undefined) return undefined;
  let text = '';
  for (const end = at + length; at < end; at++) text += String.fromCharCode(page[at]!);
  return text;
}

/** A copy: the page may be written anew. */
export function unpackBytes(): Uint8Array {
  const length = unpackCount()!;
  at += length;
  return page.slice(at - length, at);
}

/** Whether the text that was written at `where` is this one. */
export function isPackedText(from: Uint8Array, where: number, text: string): boolean {
  beginUnpacking(from, where);
  if (unpackCount() !== text.length) return false;
  const begin = at;
  for (let i = 0; i < text.length; i++) if (from[begin + i] !== text.charCodeAt(i)) return false;
  return true;
}

const number = new Float64Array(1);
const numberBytes = new Uint8Array(number.buffer);
