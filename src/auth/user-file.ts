import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { HubError } from '../errors.ts';
import { hashPassword } from './passwords.ts';
import { isScope, scopes as knownScopes, type Scope } from './principal.ts';

/** A user who can log in. */
export interface User {
  /** 1 to 128 of `A-Z a-z 0-9 . _ : @ -`: the subject of the user's tokens. */
  readonly name: string;
  readonly tenant: string;
  readonly scopes: readonly Scope[];
  /** Channel patterns that the user may read, beside the user's own. Undefined: all but those of other users. */
  readonly channels?: readonly string[] | undefined;
  /** As `hashPassword` makes it. */
  readonly password: string;
  /** Grows with each change: refresh tokens from before it are refused. */
  readonly version: number;
}

export const usersFileName = 'users.json';

const file = z.strictObject({
  users: z.array(
    z.strictObject({
      name: z.string(),
      tenant: z.string(),
      scopes: z.array(z.enum(knownScopes)),
      channels: z.array(z.string()).optional(),
      password: z.string(),
      version: z.int(),
    }),
  ),
});

/** The users of a data directory, kept in `users.json` (mode 0600). What another process changes is seen at once. */
export class UserFile {
  readonly #directory: string;
  #users = new Map<string, User>();
  #readAt = '';

  constructor(directory: string) {
    this.#directory = directory;
  }

  get #path(): string {
    return join(this.#directory, usersFileName);
  }

  find(name: string): User | undefined {
    this.#read();
    return this.#users.get(name);
  }

  list(): User[] {
    this.#read();
    return [...this.#users.values()].sort((a, b) => a.name.localeCompare(b.name));
  }

  /** Adds a user, or changes one. Throws `invalid-argument` naming what is wrong. */
  async put(
    user: Pick<User, 'name' | 'scopes'> & { tenant?: string; channels?: readonly string[]; password: string },
  ): Promise<User> {
    const { name, tenant = 'default', scopes, channels, password } = user;
    // The name is part of channel names.
    if (!/^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$/.test(name))
      throw new HubError('invalid-argument', `user name ${JSON.stringify(name)}: 1 to 128 of A-Z a-z 0-9 . _ : @ -`);
    const unknown = scopes.find((scope) => !isScope(scope));
    if (unknown !== undefined)
      throw new HubError('invalid-argument', `there is no scope "${unknown}", only ${knownScopes.join(', ')}`);
    const hashed = await hashPassword(password);
    this.#read();
    const version = (this.#users.get(name)?.version ?? 0) + 1;
    const put: User = { name, tenant, scopes, ...(channels && { channels }), password: hashed, version };
    this.#users.set(name, put);
    this.#write();
    return put;
  }

  /** False: there was none. */
  remove(name: string): boolean {
    this.#read();
    const wasThere = this.#users.delete(name);
    if (wasThere) this.#write();
    return wasThere;
  }

  #read(): void {
    if (!existsSync(this.#path)) {
      this.#users = new Map();
      this.#readAt = '';
      return;
    }
    const { mtimeMs, size, ino } = statSync(this.#path);
    const at = `${mtimeMs}/${size}/${ino}`;
    if (at === this.#readAt) return;
    try {
      const { users } = file.parse(JSON.parse(readFileSync(this.#path, 'utf8')));
      this.#users = new Map(users.map((user) => [user.name, user]));
      this.#readAt = at;
    } catch (error) {
      throw new HubError('unavailable', `${this.#path} cannot be read: it is damaged or not ours`, { cause: error });
    }
  }

  #write(): void {
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    const fresh = `${this.#path}.${process.pid}.new`;
    writeFileSync(fresh, `${JSON.stringify({ users: [...this.#users.values()] }, undefined, 2)}\n`, { mode: 0o600 });
    chmodSync(fresh, 0o600);
    renameSync(fresh, this.#path);
    this.#readAt = '';
  }
}
