/** Where a field of a JSON text is, for errors about its value. */

const TOKEN = /("(?:[^"\\]|\\.)*")|[[\]{}:,]|[^\s[\]{}:,"]+/g;

/**
 * The line, from 1, of the field at `path` in a text that is JSON; of its nearest ancestor if it is
 * not there.
 */
export function lineOfField(text: string, path: readonly PropertyKey[]): number {
  /** Keys and indices of the value that the scan is at. */
  const at: (string | number)[] = [];
  /** Of each open bracket, whether it is an object. */
  const objects: boolean[] = [];
  let isKey = false;
  let best = { depth: -1, position: 0 };
  for (const match of text.matchAll(TOKEN)) {
    const [token] = match;
    const place = match.index;
    if (token === ',' || token === ':') {
      if (token === ',' && objects.at(-1) === false) at.push(Number(at.pop()) + 1);
      if (token === ',' && objects.at(-1) === true) at.pop();
      isKey = token === ',' && objects.at(-1) === true;
      continue;
    }
    if (token === ']' || token === '}') {
      if (objects.pop() === false || at.length > objects.length) at.pop();
      isKey = false;
      continue;
    }
    if (isKey) at.push(String(JSON.parse(token)));
    const depth = commonDepth(at, path);
    if (depth === at.length && depth > best.depth) best = { depth, position: place };
    if (token === '{' || token === '[') {
      objects.push(token === '{');
      if (token === '[') at.push(0);
      isKey = token === '{';
    }
  }
  return text.slice(0, best.position).split('\n').length;
}

/** How many steps of `at` lead along `path`. */
function commonDepth(at: readonly (string | number)[], path: readonly PropertyKey[]): number {
  let depth = 0;
  while (depth < at.length && depth < path.length && at[depth] === path[depth]) depth++;
  return depth;
}
