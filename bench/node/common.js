// What the programs of this folder share. Each is a process of its own that says what it has to say as one line of JSON on its
// standard output. One that stays goes when its standard input ends, so that none outlives a bench that was ended.
export const connection = {
  host: process.env.PGHOST, database: process.env.PGDATABASE, user: process.env.PGUSER,
};

// What a library logs is not for who listens to us; and nobody reads on after the first line.
console.log = console.info = console.debug = console.warn = console.error;

export function say(object) {
  process.stdout.write(`${JSON.stringify(object)}\n`);
}

export function endWithInput() {
  process.stdin.resume();
  process.stdin.on('end', () => process.exit(0));
}

export function complain(error) {
  process.stderr.write(`${error.stack || error}\n`);
}

// The middle of a run: it goes on until the process dies.
export function forEver() {
  return new Promise(() => {});
}
