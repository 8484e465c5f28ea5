/** The recogniser and the parser of a format share one grammar. */

import fc from 'fast-check';
import { expect, test } from 'vitest';

import { TRACE_FORMATS, traceFormat, type TraceFormat } from '../../../src/workload/trace/trace-formats.ts';
import { recogniseTrace } from '../../../src/workload/trace/trace-formats.ts';
import { headOf } from '../../../src/workload/trace/trace-head.ts';
import { amount } from '../../amount.ts';
import { faultOf, readWhole, temporaryFile } from './trace-files.ts';
import { SAMPLES } from './trace-samples.ts';

const LINES = [
  '#qcow2-bench trace v1',
  'fio version 2 iolog',
  'fio version 3 iolog',
  '  8,0    3        1     0.000000000   697  Q WFS 223490 + 8 [kjournald]',
  '  7,0    1   796.229243922 23159  D  FN [dd]',
  '  8,0    0        3     0.000002000   100  C  WS 8 + 8 (    5000) [0]',
  '128166372003061629,hm,0,Read,383496192,32768,113736',
  'Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime',
  '419,W,8792731648,16384,1577808144360767',
  'device_id,opcode,offset,length,timestamp',
  '1538323200,12910952,128,0,1063',
  '1456095145.133076000,0.000806000,R,0,899056122368,131072',
  '1456095145.133077000,,,0,899056122368,131072',
  '89966899405 1234 kjournald 904265560 8 W 6 0 531e779b3d5bca7b9c0a6a3a4e2c1a3b',
  '2026-03-01 12:00:00.000090 connection=1 Connect export="" tls=0 size=0x40000000 write=1',
  '2026-11-30 12:23:54.602585 Ready thread_model=3',
  '              dd-812     [001] ..... 42156.495214: block_bio_queue: 7,0 WFS 8 + 16 [dd]',
  '              dd 16914 [001] 42156.495225:  block:block_rq_issue: 7,0 WS 8192 () 0 + 16 0x2,0,4 [dd]',
  '0,20941264,8192,W,0.551706',
  '1023,3.500000,W,4096,8192',
  'blk_co_preadv blk 0x55d0 bs 0x5581f2 offset 0 bytes 512 flags 0x0',
  '12345@1700000000.000100:blk_co_pwritev blk 0x55d0 bs 0x5581f2 offset 65536 bytes 4096 flags 0x10',
  '2026-03-01T12:00:00.000123Z [g] qemu-system-x86_64: (12:main): blk_co_preadv blk 0x1 bs 0x2 offset 0 bytes 512 flags 0x0',
];

/** A line of a format with some of its words changed, doubled or left out, and other separators. */
const changedLine = fc
  .tuple(
    fc.constantFrom(...LINES),
    fc.array(
      fc.record({
        at: fc.nat(),
        edit: fc.constantFrom('drop', 'double', 'number', 'letter', 'empty', 'swap'),
        number: fc.oneof(fc.nat(20), fc.nat(), fc.constant(2 ** 53 + 2)),
        letter: fc.constantFrom('R', 'W', 'Q', 'x', 'Read', '0x1f', '-1', '1.5', '+', 'offset', '[dd]'),
      }),
      { maxLength: 3 },
    ),
    fc.constantFrom('', ' ', '\t'),
  )
  .map(([line, edits, padding]) => {
    // Words and what is between them, alternating.
    const parts = line.split(/([ ,]+)/);
    for (const { at, edit, number, letter } of edits) {
      const index = 2 * (at % Math.ceil(parts.length / 2));
      if (edit === 'drop') parts.splice(index, 2);
      else if (edit === 'double') parts.splice(index, 0, parts[index] ?? '', parts[1] ?? ' ');
      else if (edit === 'number') parts[index] = String(number);
      else if (edit === 'letter') parts[index] = letter;
      else if (edit === 'empty') parts[index] = '';
      else parts.reverse();
    }
    return padding + parts.join('');
  });

/** A request may break a rule of all formats, or a header be without the rest of its file. */
const OTHER_RULES =
  /is not a multiple of 512|of length 0|not a (?:whole )?number .*2\^53|has no requests|ends before the line|has no Connect|is not supported; only v1|more than 2\^53/;

test('whatever is recognised is read by the parser of its format', async () => {
  let recognised = 0;
  await fc.assert(
    fc.asyncProperty(changedLine, async (line) => {
      const { formats, isCertain } = recogniseTrace(headOf(Buffer.from(`${line}\n`)));
      if (isCertain) expect(formats).toHaveLength(1);
      for (const format of formats) {
        recognised++;
        try {
          await readWhole(temporaryFile(`${line}\n`), { format });
        } catch (error) {
          expect((error as Error).message).toMatch(OTHER_RULES);
        }
      }
    }),
    { numRuns: amount({ everyday: 750, full: 1500 }) },
  );
  expect(recognised).toBeGreaterThan(100);
});

/** What a parser says of a file that is of another format. */
const DENIALS =
  /first line is not|is not a native trace|magic number is missing|does not begin as|is neither 1 nor 2|comes before BeginHeader|record 1: has neither/;

/** The beginning of a sample with some bytes changed. */
const changedBeginning = fc.record({
  format: fc.constantFrom(...TRACE_FORMATS.filter((format) => traceFormat(format).recognises !== undefined)),
  edits: fc.array(
    fc.record({ at: fc.nat(400), byte: fc.oneof(fc.nat(255), fc.constantFrom(0x20, 0x30, 0x0a)) }),
    {
      maxLength: 2,
    },
  ),
});

test('a format that is recognised by its beginning is not denied by its parser', async () => {
  const recognised = new Set<TraceFormat>();
  await fc.assert(
    fc.asyncProperty(changedBeginning, async ({ format: of, edits }) => {
      const content = Buffer.from(SAMPLES[of].content);
      for (const { at, byte } of edits) if (at < content.length) content[at] = byte;
      const { formats, isCertain } = recogniseTrace(headOf(content));
      if (!isCertain) return;
      expect(formats).toHaveLength(1);
      const [format] = formats;
      if (format === undefined) return;
      recognised.add(format);
      try {
        await readWhole(temporaryFile(content), { format });
      } catch (error) {
        expect((error as Error).message).not.toMatch(DENIALS);
      }
    }),
    { numRuns: amount({ everyday: 750, full: 1500 }) },
  );
  const byBeginning = TRACE_FORMATS.filter((format) => traceFormat(format).recognises !== undefined);
  expect([...recognised]).toEqual(
    expect.arrayContaining(byBeginning.filter((format) => format !== 'columns')),
  );
});

const SIMULATORS: readonly TraceFormat[] = ['disksim', 'mqsim'];

test('five numbers with blanks are the traces of two simulators, which the user has to tell apart', async () => {
  const error = await faultOf(temporaryFile('48513000 1 8 16 0\n'));
  expect(error).toMatchObject({ code: 'ambiguous-trace' });
  for (const format of SIMULATORS) expect(error.message).toContain(format);
});

test('each line is recognised as one format', () => {
  for (const line of LINES) {
    const { formats, isCertain } = recogniseTrace(headOf(Buffer.from(`${line}\n`)));
    expect({ line, formats, isCertain }).toMatchObject({ formats: [expect.any(String)], isCertain: true });
  }
  const recognisedLines = new Set(
    LINES.map((line) => recogniseTrace(headOf(Buffer.from(`${line}\n`))).formats[0]),
  );
  const text = TRACE_FORMATS.filter(
    (format) => traceFormat(format).recognises === undefined && !SIMULATORS.includes(format),
  );
  for (const format of text) expect(recognisedLines).toContain(format);
});

test('a line that no format has is refused by name of none', async () => {
  const error = await faultOf(temporaryFile('hello,world\n'));
  expect(error.message).toMatch(/is not a trace of a known format/);
});
