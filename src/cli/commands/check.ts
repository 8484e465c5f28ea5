/** `check`: the metadata of an image, with the answers and exit codes of `qemu-img check`. */

import { Qcow2BenchError } from '../../core/error.ts';
import { countOf } from '../../core/number-text.ts';
import { dataFileOpener, withoutDataFile } from '../../format/backing-chain.ts';
import type { CheckReport, FindingKind } from '../../format/check-report.ts';
import { FORMATS } from '../../format/disk-image.ts';
import { formatList } from '../../format/formats.ts';
import { checkImageFile, type CheckedImage } from '../../image/check-image.ts';
import { hostFiles, hostImage } from '../../image/host-image.ts';
import { backingPolicy, DATA_FILE_OPTIONS, DATA_FILE_PATH, FORCE_SHARE } from '../options/backing-options.ts';
import { defineCommand } from '../grammar/command.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { changesImage, readsImage } from '../options/file-uses.ts';
import { Interrupted, Interruption } from '../terminal/interruption.ts';
import { flag, inGroup, optional } from '../options/option-kinds.ts';
import { choice } from '../options/option-values.ts';
import { ProgressBar } from '../terminal/progress-bar.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { UsageError } from '../terminal/usage-error.ts';

/** The exit codes of `qemu-img check`. */
const CHECK_EXIT = { clean: 0, failed: 1, corruptions: 2, leaks: 3, unsupported: 63 } as const;

const CHECK_STOPPED = 'check interrupted: the rest of the image was not checked';
const REPAIR_STOPPED = 'repair interrupted: repairs so far may be lost, but no data is; run the repair again';

export const checkCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('image', { type: 'string', demandOption: true, describe: 'A qcow2, QED or B-tree image' })
      .options(
        inGroup('Check:', {
          repair: optional(
            'leaks: free leaked clusters; all: repair everything that can be repaired',
            choice('repair', ['leaks', 'all']),
          ),
          format: optional(`${formatList()}; default: detected from the content`, choice('format', FORMATS)),
          verbose: flag('Show every finding instead of the first 20 of each kind'),
          'force-share': FORCE_SHARE,
          json: flag('Print the counts as JSON, with the field names of qemu-img check'),
        }),
      )
      .options(DATA_FILE_OPTIONS)
      .options(DATA_FILE_PATH)
      .epilogue(
        'Exit codes: 0 clean, 1 the check failed, 2 corruptions, 3 leaks only, 63 format without checks.',
      ),

  files: (args) =>
    args.repair === undefined ? readsImage('IMAGE', args.image) : changesImage('IMAGE', args.image),

  run: async (args, terminal) => {
    const { image, repair, format, verbose, json, 'force-share': forceShare } = args;
    if (forceShare && repair !== undefined) {
      throw new UsageError('--force-share is read-only: omit --repair');
    }
    using bar = new ProgressBar(terminal.errors);
    using interruption = new Interruption(terminal, () => bar.clear());
    const onDetail = (_kind: FindingKind, text: string): void => {
      bar.clear();
      // With --json the answer is one object: messages go to standard error.
      if (json) terminal.warn(text);
      else terminal.print(text);
    };
    const readOnly = repair === undefined;
    const chain = { files: hostFiles({ readOnly, forceShare }), policy: backingPolicy(args), name: image };
    const openDataFile = dataFileOpener(chain, { image, label: 'data', readOnly });
    const opened = { dataFile: false };
    let checked: CheckedImage;
    try {
      checked = await checkImageFile({
        ...hostImage(image),
        format,
        repair,
        forceShare,
        openDataFile: (stored) => {
          opened.dataFile = true;
          return openDataFile(stored);
        },
        onDetail: verbose ? onDetail : undefined,
        onProgress: (pass, share) => {
          if (!interruption.signal.aborted) bar.show(pass, share);
          return interruption.turn();
        },
      });
    } catch (error) {
      if (error instanceof Interrupted) {
        terminal.warn(`qcow2-bench: ${repair === undefined ? CHECK_STOPPED : REPAIR_STOPPED}`);
        return EXIT.interrupted;
      }
      if (!(error instanceof Qcow2BenchError) || error.code !== 'check-unsupported') throw error;
      terminal.warn(`qcow2-bench: error: ${error.message}`);
      return CHECK_EXIT.unsupported;
    }
    bar.clear();
    if (args['data-file-path'] !== undefined && !opened.dataFile) throw withoutDataFile(image);
    const { report } = checked;
    // With --verbose they were printed already.
    const findings = verbose ? [] : findingLines(report);
    terminal.print(
      json ? JSON.stringify(checkJson(image, checked), null, 4) : checkText(report, findings, terminal),
    );
    return exitCodeOf(report);
  },
});

function exitCodeOf(report: CheckReport): number {
  if (report.checkErrors > 0) return CHECK_EXIT.failed;
  if (report.corruptions > 0) return CHECK_EXIT.corruptions;
  return report.leaks > 0 ? CHECK_EXIT.leaks : CHECK_EXIT.clean;
}

/** A finding of each kind, and of several. */
const FINDING: Readonly<Record<FindingKind, readonly [one: string, several: string]>> = {
  corruption: ['error', 'errors'],
  leak: ['leaked cluster', 'leaked clusters'],
  repair: ['repair', 'repairs'],
  'check-error': ['part that could not be checked', 'parts that could not be checked'],
};

/** The first findings of each kind, and how many of each there are besides. */
function findingLines({ messages, messagesDropped }: CheckReport): string[] {
  const kinds: readonly FindingKind[] = ['corruption', 'leak', 'repair', 'check-error'];
  const dropped = kinds
    .filter((kind) => messagesDropped[kind] > 0)
    .map((kind) => countOf(messagesDropped[kind], `more ${FINDING[kind][0]}`, `more ${FINDING[kind][1]}`));
  return dropped.length === 0
    ? [...messages]
    : [...messages, `… and ${dropped.join(', ')}: use --verbose to list them`];
}

function checkText(report: CheckReport, findings: readonly string[], { paint }: Terminal): string {
  const { corruptions, leaks, checkErrors } = report;
  const { corruptionsFixed, leaksFixed, imageEndOffset } = report;
  const paragraphs: string[][] = [];
  if (findings.length > 0) paragraphs.push([...findings]);
  if (corruptionsFixed + leaksFixed > 0) {
    paragraphs.push([
      'Found and repaired:',
      ...(leaksFixed > 0 ? [`    ${countOf(leaksFixed, 'leaked cluster')}`] : []),
      ...(corruptionsFixed > 0 ? [`    ${countOf(corruptionsFixed, 'corruption')}`] : []),
    ]);
  }
  if (corruptions > 0) {
    paragraphs.push([
      paint.red(`Found on the image: ${countOf(corruptions, 'error')}.`),
      'Data may be damaged, and writing to the image may damage more.',
    ]);
  }
  if (leaks > 0) {
    paragraphs.push([
      paint.yellow(`Found on the image: ${countOf(leaks, 'leaked cluster')}.`),
      'They waste space but do not affect data.',
    ]);
  }
  if (checkErrors > 0) {
    paragraphs.push([
      paint.red(`Could not be checked or repaired: ${countOf(checkErrors, 'part')} of the image.`),
    ]);
  }
  if (corruptions + leaks + checkErrors === 0) {
    paragraphs.push([paint.green('No errors were found on the image.')]);
  }
  if (report.allocatedClusters > 0) paragraphs.at(-1)?.push(allocationText(report));
  if (imageEndOffset > 0) paragraphs.at(-1)?.push(`Image end offset: ${String(imageEndOffset)}`);
  return paragraphs.map((lines) => lines.join('\n')).join('\n\n');
}

/** `10/16384 = 0.06% allocated, 10.00% fragmented, 0.00% compressed clusters`. */
function allocationText(report: CheckReport): string {
  const { totalClusters, allocatedClusters, fragmentedClusters, compressedClusters } = report;
  const percent = (part: number, whole: number): string => `${((part / whole) * 100).toFixed(2)}%`;
  return (
    `${String(allocatedClusters)}/${String(totalClusters)} = ${percent(allocatedClusters, totalClusters)} allocated, ` +
    `${percent(fragmentedClusters, allocatedClusters)} fragmented, ` +
    `${percent(compressedClusters, allocatedClusters)} compressed clusters`
  );
}

/** The names of `qemu-img check`, which leaves out counts that are zero. */
function checkJson(filename: string, { format, report }: CheckedImage): Record<string, unknown> {
  const counts = {
    'image-end-offset': report.imageEndOffset,
    corruptions: report.corruptions,
    leaks: report.leaks,
    'corruptions-fixed': report.corruptionsFixed,
    'leaks-fixed': report.leaksFixed,
    'total-clusters': report.totalClusters,
    'allocated-clusters': report.allocatedClusters,
    'fragmented-clusters': report.fragmentedClusters,
    'compressed-clusters': report.compressedClusters,
  };
  const found = Object.fromEntries(Object.entries(counts).filter(([, value]) => value !== 0));
  return { filename, format, 'check-errors': report.checkErrors, ...found };
}
