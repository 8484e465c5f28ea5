/** A crash state in words: requests, the host operations of each, which of them were lost, what was read. */

import { SECTOR_SIZE } from '../core/alignment.ts';
import { assertInvariant, hex } from '../core/error.ts';
import { formatSize } from '../core/size.ts';
import { recordRecovery, stateAfter, type Crash } from './crashes.ts';
import { epochsOf } from './epochs.ts';
import type { BadState, Surveyor } from './explore.ts';
import { UNREADABLE, type Expectation } from './expectation.ts';
import type { Finding } from './findings.ts';
import type { Recovery } from './inspect.ts';
import { ZERO_TOKEN } from './pages.ts';
import type { GuestRequest, Operation, Recording } from './recording.ts';
import { StateView, type Fate } from './state-view.ts';

const FINDINGS_SHOWN = 4;

/** Lines of text, from the first request to what was found. */
export async function timelineOf(
  { crashes, findings }: BadState,
  { recording, inspector, expectation }: Pick<Surveyor, 'recording' | 'inspector' | 'expectation'>,
): Promise<readonly string[]> {
  const [first, ...later] = crashes;
  const lines: string[] = [];
  let view: StateView | undefined;
  for (const [index, crash] of [first, ...later].entries()) {
    const run =
      view === undefined || crash.of === 'run' ? recording : await recordRecovery(inspector, view, crash.of);
    if (crash.of !== 'run') lines.push(RECOVERY_TEXTS[crash.of]);
    const [head, ...tail] = crashes.slice(0, index + 1);
    const next = await stateAfter(recording, inspector, [head as Crash, ...tail]);
    assertInvariant(next instanceof StateView, 'a run repeats');
    view = next;
    const moment = [...epochsOf(run)].find(({ number }) => number === crash.epoch);
    for (const line of eventsOf(run, view, moment?.at ?? Infinity)) lines.push(line);
    lines.push('crash');
  }
  return [...lines, ...findingLines(findings, expectation, view?.epoch.at ?? 0)];
}

const RECOVERY_TEXTS: Readonly<Record<Recovery, string>> = {
  opening: 'the image is opened for writing, and closed',
  check: 'check --repair all',
};

function eventsOf(recording: Recording, { epoch, fates }: StateView, end: number): readonly string[] {
  const places = new Map(epoch.pending.map(({ index }, place) => [index, place]));
  const events: { readonly at: number; readonly text: string }[] = [];
  for (const [number, request] of recording.requests.entries()) {
    events.push({ at: request.beganAt, text: `request ${String(number)}: ${requestText(request)}` });
    if (request.doneAt < end) {
      events.push({ at: request.doneAt, text: `  request ${String(number)} is answered` });
    }
  }
  for (const [index, operation] of recording.operations.entries()) {
    const place = places.get(index);
    const fate = place === undefined ? undefined : fates[place];
    events.push({
      at: operation.issuedAt,
      text: `  ${fateText(operation, fate)} ${operationText(operation)}`,
    });
  }
  for (const { cause, doneAt, failed, only } of recording.syncs) {
    const what = only === undefined ? 'sync' : 'FUA';
    const why = cause === undefined ? '' : ` (${cause})`;
    events.push({ at: doneAt, text: `  ${failed ? 'FAILED ' : 'done   '} ${what}${why}` });
  }
  return events
    .filter(({ at }) => at < end)
    .toSorted((a, b) => a.at - b.at)
    .map(({ text }) => text);
}

function requestText({ op, offset, length, fua, unmap, snapshot }: GuestRequest): string {
  if (op === 'flush') return 'flush';
  if (snapshot !== undefined) return `${op} ${snapshot}`;
  if (op === 'grow') return `grow to ${formatSize(offset + length)}`;
  if (op === 'shrink') return `shrink to ${formatSize(offset)}`;
  const flags = [...(fua ? ['FUA'] : []), ...(unmap ? ['unmap'] : [])].join(', ');
  return `${op} ${formatSize(length)} at ${hex(offset)}${flags === '' ? '' : ` (${flags})`}`;
}

function operationText({ op, purpose, offset, length, file }: Operation): string {
  const size = op === 'truncate' ? `to ${hex(offset)}` : `${formatSize(length)} at ${hex(offset)}`;
  return `${op} ${size}: ${purpose}${file === 0 ? '' : ' (data file)'}`;
}

/** Seven characters. */
function fateText({ op, bytes }: Operation, fate: Fate | undefined): string {
  if (fate === undefined) return 'durable';
  if (fate.tear !== undefined && bytes !== undefined) return 'TORN   ';
  if (fate.kept === fate.sizeKept) return fate.kept ? 'kept   ' : 'LOST   ';
  if (op === 'truncate' || fate.kept) return 'NO SIZE';
  return 'NO DATA';
}

function findingLines(findings: readonly Finding[], expectation: Expectation, at: number): readonly string[] {
  const lines = findings.slice(0, FINDINGS_SHOWN).map((finding) => findingText(finding, expectation, at));
  const more = findings.length - lines.length;
  return more > 0 ? [...lines, `… and ${String(more)} more`] : lines;
}

/** What is wrong, in a sentence. */
export function findingText(finding: Finding, expectation: Expectation, at: number): string {
  const { kind, moment, sector, token, text } = finding;
  const when = moment.replaceAll('-', ' ');
  if (sector === undefined || token === undefined) return `${when}: ${kind}: ${text}`;
  if (finding.snapshot !== undefined) {
    return `${when}: guest offset ${hex(sector * SECTOR_SIZE)} of snapshot ${finding.snapshot} holds ${contentText(token, sector, expectation)}, which the disk did not hold when it was taken`;
  }
  const { durable, inFlight } = expectation.historyOf(sector, at);
  const last = durable.at(-1);
  const wanted = last === undefined ? 'what it held before the run' : `what request ${String(last)} wrote`;
  const others = inFlight.length === 0 ? '' : `, or what ${requestNames(inFlight)} in flight would leave`;
  return `${when}: guest offset ${hex(sector * SECTOR_SIZE)} holds ${contentText(token, sector, expectation)} instead of ${wanted}${others}`;
}

function requestNames(requests: readonly number[]): string {
  return requests.length === 1 ? `request ${String(requests[0])}` : `the requests ${requests.join(', ')}`;
}

function contentText(token: number, sector: number, expectation: Expectation): string {
  if (token === ZERO_TOKEN) return 'zeroes';
  if (token === UNREADABLE) return 'nothing that can be read';
  const owner = expectation.ownerOf(token);
  if (owner === undefined) return 'data of no request';
  const source =
    owner.request === undefined ? 'data from before the run' : `data of request ${String(owner.request)}`;
  return owner.sector === sector ? source : `${source} for guest offset ${hex(owner.sector * SECTOR_SIZE)}`;
}
