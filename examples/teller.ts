// How start.ts and demo.ts print: lines for people, or one JSON object a line. Not an example itself.
export type Colour = 'green' | 'red' | 'yellow' | 'cyan' | 'grey' | 'bold';

const codes: Record<Colour, number> = { green: 32, red: 31, yellow: 33, cyan: 36, grey: 90, bold: 1 };

export class Teller {
  readonly isJson: boolean;
  failed = 0;

  constructor({ json }: { json: boolean }) {
    this.isJson = json;
  }

  /** A line for people. */
  line(text = ''): void {
    if (!this.isJson) process.stdout.write(`${text}\n`);
  }

  /** Something that happens at a device, as it happens. */
  happening(who: string, what: string, more = ''): void {
    const time = this.paint('grey', new Date().toISOString().slice(11, 23));
    this.line(`${time}  ${this.paint('cyan', who.padEnd(8))} ${what.padEnd(20)} ${more}`.trimEnd());
  }

  /** The end of a step of the story: whether it went as it should. */
  step(step: string, ok: boolean, text: string, facts: object = {}): void {
    if (!ok) this.failed++;
    if (this.isJson) process.stdout.write(`${JSON.stringify({ step, ok, ...facts })}\n`);
    else this.line(`${ok ? this.paint('green', 'ok    ') : this.paint('red', 'FAILED')} ${this.paint('bold', text)}`);
  }

  /** Colours only on a terminal, and not against NO_COLOR. */
  paint(colour: Colour, text: string): string {
    const wanted = process.stdout.isTTY && !process.env.NO_COLOR && process.env.TERM !== 'dumb';
    return wanted ? `\x1b[${codes[colour]}m${text}\x1b[0m` : text;
  }
}
