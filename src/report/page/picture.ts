/**
 * A drawing of the page as a picture of its own: SVG, or PNG by the browser's own canvas.
 *
 * Invariant: a picture has its colours and fonts in it, as the page shows them at that moment, on the
 * page's background.
 */

const PADDING = 16;
const TITLE_HEIGHT = 30;
/** Pixels of a picture for each of the page. */
const DENSITY = 2;

const STYLES = [
  'fill',
  'stroke',
  'stroke-width',
  'stroke-dasharray',
  'opacity',
  'font',
  'text-anchor',
] as const;

interface Sized {
  readonly text: string;
  readonly width: number;
  readonly height: number;
}

export function svgTextOf(svg: SVGSVGElement, title: string): string {
  return sized(svg, title).text;
}

export async function pngOf(svg: SVGSVGElement, title: string): Promise<Blob> {
  const { text, width, height } = sized(svg, title);
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = document.createElement('canvas');
  canvas.width = width * DENSITY;
  canvas.height = height * DENSITY;
  const context = canvas.getContext('2d');
  if (context === null) throw new Error('this browser cannot draw pictures');
  context.scale(DENSITY, DENSITY);
  context.drawImage(image, 0, 0, width, height);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => {
      if (blob === null) reject(new Error('this browser cannot write PNG'));
      else resolve(blob);
    }, 'image/png');
  });
}

/** Offers a file to the reader. */
export function saved(name: string, content: Blob): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function sized(svg: SVGSVGElement, title: string): Sized {
  const { width: own, height: drawn } = svg.getBoundingClientRect();
  const [width, height] = [Math.ceil(own) + 2 * PADDING, Math.ceil(drawn) + 2 * PADDING + TITLE_HEIGHT];
  const copy = svg.cloneNode(true) as SVGSVGElement;
  const [from, to] = [svg, copy].map((each) => [...each.querySelectorAll<SVGElement>('*')]);
  for (const [index, element] of (from ?? []).entries()) {
    const styles = getComputedStyle(element);
    const twin = to?.[index];
    if (twin === undefined) continue;
    for (const name of STYLES) twin.style.setProperty(name, styles.getPropertyValue(name));
    twin.removeAttribute('class');
  }
  const page = getComputedStyle(document.body);
  const background = getComputedStyle(document.documentElement).getPropertyValue('--card');
  copy.setAttribute('x', String(PADDING));
  copy.setAttribute('y', String(PADDING + TITLE_HEIGHT));
  copy.setAttribute('width', String(own));
  copy.setAttribute('height', String(drawn));
  const whole = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  whole.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  whole.setAttribute('width', String(width));
  whole.setAttribute('height', String(height));
  const sheet = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
  sheet.setAttribute('width', '100%');
  sheet.setAttribute('height', '100%');
  sheet.setAttribute('fill', background.trim() || '#ffffff');
  const heading = document.createElementNS('http://www.w3.org/2000/svg', 'text');
  heading.setAttribute('x', String(PADDING));
  heading.setAttribute('y', String(PADDING + 14));
  heading.setAttribute('fill', page.color);
  heading.setAttribute('style', `font: 600 15px ${page.fontFamily.replaceAll('"', "'")}`);
  heading.textContent = title;
  whole.append(sheet, heading, copy);
  return { text: new XMLSerializer().serializeToString(whole), width, height };
}
