import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { HubError, toHubError } from '../errors.ts';

/** The server's certificate in PEM, checked. */
export interface ServerTls {
  readonly cert: string;
  readonly key: string;
  readonly clientCa: string | undefined;
}

/**
 * Reads the PEM files and checks that they fit, so that a bad one is noticed now and not by the first device.
 * Throws `invalid-argument` naming the file. Undefined without a certificate.
 */
export function readTls(
  { tlsCert, tlsKey, tlsCa }: { tlsCert?: string | undefined; tlsKey?: string | undefined; tlsCa?: string | undefined },
  nowMs: number,
): ServerTls | undefined {
  if (tlsCert === undefined || tlsKey === undefined) return undefined;
  const cert = readPem(tlsCert);
  const key = readPem(tlsKey);
  const certificate = parse(tlsCert, () => new X509Certificate(cert));
  const privateKey = parse(tlsKey, () => createPrivateKey(key));
  if (!certificate.checkPrivateKey(privateKey)) throw wrong(tlsKey, `is not the key of ${tlsCert}`);
  checkTime(tlsCert, certificate, nowMs);
  if (tlsCa === undefined) return { cert, key, clientCa: undefined };
  const clientCa = readPem(tlsCa);
  checkTime(
    tlsCa,
    parse(tlsCa, () => new X509Certificate(clientCa)),
    nowMs,
  );
  return { cert, key, clientCa };
}

function checkTime(path: string, certificate: X509Certificate, nowMs: number): void {
  const { validFrom, validTo } = certificate;
  if (Date.parse(validTo) <= nowMs) throw wrong(path, `expired on ${new Date(validTo).toISOString()}`);
  if (Date.parse(validFrom) > nowMs) throw wrong(path, `is not valid before ${new Date(validFrom).toISOString()}`);
}

function readPem(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw wrong(path, `cannot be read: ${toHubError(error).message}`, error);
  }
}

function parse<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw wrong(path, `is not valid PEM: ${toHubError(error).message}`, error);
  }
}

function wrong(path: string, why: string, cause?: unknown): HubError {
  return new HubError('invalid-argument', `TLS: ${path} ${why}`, { cause });
}
