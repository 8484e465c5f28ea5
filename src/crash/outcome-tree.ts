/**
 * Outcomes of states that were inspected, found again for every state that must have the same one.
 *
 * An inspection is deterministic: which page it reads next follows from the pages it has read so
 * far. So the pages of an inspection, in their order, are a path in a tree: each node asks for one
 * page (or the size of a file), each branch is one content of it. A state whose contents lead along
 * a path to its end has that end's outcome.
 */

import { assertInvariant } from '../core/error.ts';
import type { Outcome } from './inspect.ts';
import { sizeNumber, type PageSource } from './pages.ts';

interface Node {
  /** The page, or `sizeNumber` of a file, that is read here. */
  readonly number: number;
  /** A content of it, and what follows; most nodes have no other. */
  content: number;
  next: Node | Leaf | undefined;
  /** Its other contents. */
  others: Map<number, Node | Leaf> | undefined;
}

export interface Leaf {
  readonly outcome: Outcome;
  /** Every page and size on the way. */
  readonly reads: ReadonlySet<number>;
}

export class OutcomeTree {
  #root: Node | Leaf | undefined;
  #leaves = 0;

  /** How many outcomes there are. */
  get size(): number {
    return this.#leaves;
  }

  find(state: PageSource): Leaf | undefined {
    let at = this.#root;
    while (at !== undefined && 'number' in at) at = branch(at, contentOf(state, at.number));
    return at;
  }

  /** @param reads in the order of the inspection */
  add(state: PageSource, reads: ReadonlySet<number>, outcome: Outcome): Leaf {
    const leaf: Leaf = { outcome, reads };
    this.#leaves++;
    const path = [...reads];
    let parent: Node | undefined;
    for (const number of path) {
      const next = parent === undefined ? this.#root : branch(parent, contentOf(state, parent.number));
      assertInvariant(
        next === undefined || ('number' in next && next.number === number),
        'an inspection repeats',
      );
      const node: Node = next ?? { number, content: 0, next: undefined, others: undefined };
      if (next === undefined) this.#hang(parent, state, node);
      parent = node;
    }
    this.#hang(parent, state, leaf);
    return leaf;
  }

  #hang(parent: Node | undefined, state: PageSource, child: Node | Leaf): void {
    if (parent === undefined) {
      this.#root = child;
      return;
    }
    const content = contentOf(state, parent.number);
    if (parent.next === undefined) {
      parent.content = content;
      parent.next = child;
      return;
    }
    parent.others ??= new Map<number, Node | Leaf>();
    parent.others.set(content, child);
  }
}

function branch({ content, next, others }: Node, wanted: number): Node | Leaf | undefined {
  return content === wanted ? next : others?.get(wanted);
}

function contentOf(state: PageSource, number: number): number {
  return number < 0 ? state.size(sizeNumber(number)) : state.page(number).key;
}
