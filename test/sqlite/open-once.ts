// Opens the data directory of the first argument, and says on standard output how that went.
import { toHubError } from '../../src/errors.ts';
import { openSqlite } from '../../src/sqlite/index.ts';

try {
  await (await openSqlite({ directory: process.argv[2]! })).close();
  process.stdout.write('opened\n');
} catch (error) {
  const { code, message } = toHubError(error);
  process.stdout.write(`${code}: ${message}\n`);
}
