/** Text from the network as it may be shown on a terminal: control and escape codes are written out, not obeyed. */
export function printable(text: string): string {
  // Bidi and zero-width marks too: they make one name look like another.
  return text.replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (char) => `\\u{${char.codePointAt(0)!.toString(16)}}`);
}
