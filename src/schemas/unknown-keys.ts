import type { DescField, DescMessage } from '@bufbuild/protobuf';
import { HubError } from '../errors.ts';
import { didYouMean } from './nearest.ts';

const maxDepth = 64;

/**
 * Throws `invalid-argument` for the first JSON key that its message does not have, with the path to it. What the
 * values have to be is the JSON parser's to say; it does not know where in the document it is, so keys are checked here.
 */
export function checkKeys(message: DescMessage, json: unknown, path = '', depth = 0): void {
  // Well-known types have a JSON form of their own (a timestamp is a string).
  if (message.typeName.startsWith('google.protobuf.') || !isObject(json)) return;
  if (depth > maxDepth) throw new HubError('invalid-argument', `JSON is nested deeper than ${maxDepth} levels`);
  for (const [key, value] of Object.entries(json)) {
    const field = message.fields.find((each) => each.jsonName === key || each.name === key);
    const here = path === '' ? key : `${path}.${key}`;
    if (field === undefined)
      throw new HubError(
        'invalid-argument',
        `unknown key "${here}": ${message.typeName} has no such field${didYouMean(
          key,
          message.fields.map((each) => each.jsonName),
        )}`,
      );
    for (const [step, inner] of messagesIn(field, value)) checkKeys(messageOf(field)!, inner, here + step, depth + 1);
  }
}

function messagesIn(field: DescField, value: unknown): (readonly [step: string, inner: unknown])[] {
  if (messageOf(field) === undefined) return [];
  if (field.fieldKind === 'list' && Array.isArray(value)) return value.map((item, index) => [`[${index}]`, item]);
  if (field.fieldKind === 'map' && isObject(value))
    return Object.entries(value).map(([key, item]) => [`[${JSON.stringify(key)}]`, item]);
  return field.fieldKind === 'message' ? [['', value]] : [];
}

function messageOf(field: DescField): DescMessage | undefined {
  return 'message' in field ? field.message : undefined;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
