/** Flags of Node that say how modules are found and loaded, with their values. */
const valued = new Set(['--import', '--require', '-r', '--loader', '--experimental-loader', '--conditions', '-C']);
const bare = new Set(['--enable-source-maps', '--preserve-symlinks', '--experimental-transform-types']);

/**
 * Of the flags that a process was started with, those that its threads and processes need to load the same modules: a
 * loader of TypeScript, a condition. Not those of its own affairs: a debugger's port, a program in `--eval`.
 */
export function loaderArgs(execArgv: readonly string[]): string[] {
  const args: string[] = [];
  for (let i = 0; i < execArgv.length; i++) {
    const arg = execArgv[i]!;
    const name = arg.split('=', 1)[0]!;
    if (bare.has(arg)) args.push(arg);
    else if (valued.has(name)) {
      args.push(arg);
      const value = execArgv[i + 1];
      if (name === arg && value !== undefined) {
        args.push(value);
        i++;
      }
    }
  }
  return args;
}
