/** Data of an event that is one line of JSON already: kept and shown as it is, and never made a second time. */
export class JsonText {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}
