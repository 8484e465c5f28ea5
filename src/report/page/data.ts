/** The data of the page, unpacked: at once what the first screen needs, the rest when it is used. */

import { NOT_APPLICABLE, type PageData, type PageDetails } from '../page-format.ts';

/** @throws if the element is missing or its data damaged. */
export async function unpacked<T>(id: string): Promise<T> {
  const text = document.getElementById(id)?.textContent;
  if (text === undefined) throw new Error(`the page has no data ${id}`);
  const bytes = Uint8Array.from(atob(text.trim()), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return (await new Response(stream).json()) as T;
}

/** Of the page's present data. */
export function pageDetails(): Promise<PageDetails> {
  return unpacked<PageDetails>('report-details');
}

/** The value of a cell on an axis; `undefined` if its format does not have the axis. */
export function valueOn(data: PageData, axis: number, cell: number): string | undefined {
  const position = data.places[axis]?.[cell] ?? NOT_APPLICABLE;
  return position === NOT_APPLICABLE ? undefined : data.axes[axis]?.values[position];
}

/** The position of an axis. */
export function axisIndex({ axes }: PageData, name: string): number {
  return axes.findIndex((axis) => axis.name === name);
}
