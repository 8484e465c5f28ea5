/**
 * `info`: information about an image, with the lines and field names of `qemu-img info`. Files are
 * opened read-only; no other than the one named is, unless the chain behind it is asked for.
 */

import { isAbsolute } from 'node:path';

import { statSync } from '../../core/host-fs.ts';
import { humanSize } from '../../core/size.ts';
import { visibleText } from '../../core/visible-text.ts';
import { FORMATS } from '../../format/disk-image.ts';
import { formatList, titleList } from '../../format/formats.ts';
import { hostImage } from '../../image/host-image.ts';
import { readChainInfo, readImageInfo, type ImageInfo } from '../../image/image-info.ts';
import {
  BACKING_OPTIONS,
  backingPolicy,
  FORCE_SHARE,
  givenBackingOption,
} from '../options/backing-options.ts';
import { defineCommand } from '../grammar/command.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { readsImage } from '../options/file-uses.ts';
import { flag, inGroup, optional } from '../options/option-kinds.ts';
import { choice } from '../options/option-values.ts';
import { snapshotJson, snapshotTable } from '../terminal/snapshot-list.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { UsageError } from '../terminal/usage-error.ts';

/** What `stat` counts blocks in. */
const BLOCK_BYTES = 512;

export const infoCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('image', { type: 'string', demandOption: true, describe: titleList() })
      .options(
        inGroup('Info:', {
          'backing-chain': flag('Also show every backing file, from the top down'),
          format: optional(`${formatList()}; default: detected from the content`, choice('format', FORMATS)),
          'force-share': FORCE_SHARE,
          json: flag('Print JSON with the field names of qemu-img info; an array for a chain'),
        }),
      )
      .options(BACKING_OPTIONS),

  files: (args) => readsImage('IMAGE', args.image),

  run: async (args, terminal) => {
    const { image: path, format, json, 'force-share': forceShare } = args;
    if (!args['backing-chain']) {
      const given = givenBackingOption(args);
      if (given !== undefined) {
        throw new UsageError(`--${given} has no effect without --backing-chain: no backing file is opened`);
      }
      const info = { ...(await readImageInfo(hostImage(path), { format, forceShare })), path };
      terminal.print(json ? JSON.stringify(infoJson(info), null, 4) : infoText(info, terminal));
      return EXIT.good;
    }
    const chain = await readChainInfo({ path, format, forceShare, backing: backingPolicy(args) });
    terminal.print(
      json
        ? JSON.stringify(chain.map(infoJson), null, 4)
        : chain.map((info) => infoText(info, terminal)).join('\n\n'),
    );
    return EXIT.good;
  },
});

function infoText(info: ImageInfo, { paint }: Terminal): string {
  return [
    `image: ${paint.bold(visibleText(info.path))}`,
    `file format: ${info.format}`,
    `virtual size: ${exactSize(info.virtualSize)}`,
    `disk size: ${humanSize(allocatedSize(info.path))}`,
    `file length: ${exactSize(info.fileSize)}`,
    ...(isPlain(info) ? [] : formatLines(info)),
  ].join('\n');
}

/** A format without metadata: there is no more to print. */
function isPlain({ clusterSize, specific }: ImageInfo): boolean {
  return clusterSize === undefined && specific === undefined;
}

function formatLines(info: ImageInfo): string[] {
  const { clusterSize, isDirty = false, isEncrypted = false, snapshots = [], specific = {} } = info;
  const lines = [
    ...(isEncrypted ? ['encrypted: yes'] : []),
    ...(clusterSize === undefined ? [] : [`cluster_size: ${String(clusterSize)}`]),
    ...(isDirty ? ['cleanly shut down: no'] : []),
  ];
  if (info.backing !== undefined) {
    const { name, otherFormat, format = otherFormat } = info.backing;
    const full = fullBackingName(info.path, name);
    lines.push(
      `backing file: ${visibleText(full === name ? name : `${name} (actual path: ${full})`)}`,
      ...(format === undefined ? [] : [`backing file format: ${format}`]),
    );
  }
  if (snapshots.length > 0) lines.push(snapshotTable(snapshots));
  return [...lines, 'Format specific information:', ...specificLines(specific, 1)];
}

/**
 * Names with their values as `qemu-img info` prints them, four columns further in at each level.
 */
function specificLines(value: object, level: number): string[] {
  const indent = ' '.repeat(4 * level);
  return Object.entries(value).flatMap(([key, member]: [string, unknown]) => {
    const name = Array.isArray(value) ? `[${key}]` : key.replaceAll('-', ' ');
    if (typeof member !== 'object' || member === null) {
      return [`${indent}${name}: ${visibleText(String(member))}`];
    }
    return [`${indent}${name}:`, ...specificLines(member, level + 1)];
  });
}

function exactSize(bytes: number): string {
  return `${humanSize(bytes)} (${String(bytes)} bytes)`;
}

function allocatedSize(path: string): number {
  return statSync(path).blocks * BLOCK_BYTES;
}

/**
 * Where the name leads from the image that holds it, in the form that QEMU gives it; the file is
 * not looked at.
 */
function fullBackingName(overlay: string, name: string): string {
  const isProtocol = /^[^/]*:/.test(name);
  if (isProtocol || isAbsolute(name) || !overlay.includes('/')) return name;
  return overlay.slice(0, overlay.lastIndexOf('/') + 1) + name;
}

function infoJson(info: ImageInfo): Record<string, unknown> {
  const common = {
    filename: info.path,
    format: info.format,
    'virtual-size': info.virtualSize,
    'file-size': info.fileSize,
    'actual-size': allocatedSize(info.path),
    'dirty-flag': info.isDirty ?? false,
    ...(info.isEncrypted === true ? { encrypted: true } : {}),
  };
  const { backing, snapshots = [], specific = {} } = info;
  if (isPlain(info)) return common;
  return {
    ...common,
    ...(info.clusterSize === undefined ? {} : { 'cluster-size': info.clusterSize }),
    ...(backing === undefined
      ? {}
      : {
          'backing-filename': backing.name,
          'full-backing-filename': fullBackingName(info.path, backing.name),
        }),
    ...(backing?.format === undefined ? {} : { 'backing-filename-format': backing.format }),
    ...(snapshots.length > 0 ? { snapshots: snapshots.map(snapshotJson) } : {}),
    'format-specific': { type: info.format, data: specific },
  };
}
