/** A small trace of each format, as it is published or as the tool prints it, and what it means. */

import { parseColumns } from '../../../src/workload/trace/column-layout.ts';
import type { TraceFormat } from '../../../src/workload/trace/trace-formats.ts';
import type { OpenTraceOptions } from '../../../src/workload/trace/trace-reader.ts';
import { blktraceEvent, dmLog, nbdServerLog, simpletrace, vscsiRecord } from './binary-traces.ts';

const MIB = 1024 * 1024;

export interface Sample {
  readonly content: string | Uint8Array;
  readonly requests: readonly string[];
  readonly virtualSize?: number;
  /** Of a format that its content does not show. */
  readonly options?: OpenTraceOptions;
}

export const SAMPLES: Readonly<Record<TraceFormat, Sample>> = {
  native: {
    content:
      '#qcow2-bench trace v1\n#virtual-size 1048576\ntime_ns,op,offset,length,flags\n5,write,4096,512,fua\n7,flush,,,\n',
    requests: ['write 4096+512 @5 fua', 'flush @7'],
  },
  'fio-v2': {
    content:
      'fio version 2 iolog\n/dev/vdb add\n/dev/vdb open\n/dev/vdb write 65536 4096\n/dev/vdb wait 20 0\n/dev/vdb read 0 512\n' +
      '/dev/vdb wait 35 0\n/dev/vdb sync 65536 4096\n/dev/vdb trim 0 65536\n/dev/vdb datasync 65536 0\n/dev/vdb close\n',
    requests: [
      'write 65536+4096 @0',
      'read 0+512 @20000000',
      'flush @35000000',
      'discard 0+65536 @35000000',
      'flush @35000000',
    ],
  },
  'fio-v3': {
    content:
      'fio version 3 iolog\n19 f add\n184 f open\n200 f write 4096 4096\n225 f datasync 4096 0\n230 f wait 9 0\n240 f trim 0 4096\n250 f close\n',
    requests: ['write 4096+4096 @200000', 'flush @225000', 'discard 0+4096 @240000'],
  },
  blktrace: {
    content: Buffer.concat([
      blktraceEvent({ timeNs: 1000, category: ['notify'], action: 0, pdu: Buffer.from('dd\0\0') }),
      blktraceEvent({
        timeNs: 2_000_000_000_000_000_000n,
        category: ['write', 'sync'],
        sector: 8,
        bytes: 4096,
      }),
      blktraceEvent({
        timeNs: 2_000_000_000_000_000_100n,
        category: ['read'],
        sector: 8,
        bytes: 4096,
        action: 8,
      }),
      blktraceEvent({
        timeNs: 2_000_000_000_000_000_200n,
        category: ['write', 'flush', 'fua'],
        sector: 0,
        bytes: 512,
      }),
      blktraceEvent({ timeNs: 2_000_000_000_000_000_300n, category: ['write', 'flush'], bytes: 0 }),
      blktraceEvent({
        timeNs: 2_000_000_000_000_000_400n,
        category: ['write', 'discard'],
        sector: 16,
        bytes: 8192,
      }),
      blktraceEvent({
        timeNs: 2_000_000_000_000_000_500n,
        category: ['read', 'cgroup'],
        bytes: 512,
        pdu: Buffer.alloc(8),
      }),
      blktraceEvent({ timeNs: 2_000_000_000_000_000_600n, category: ['read', 'pass-through'], bytes: 36 }),
    ]),
    requests: [
      'write 4096+4096 @0',
      'flush @200',
      'write 0+512 @200 fua',
      'flush @300',
      'discard 8192+8192 @400',
      'read 0+512 @500',
    ],
  },
  blkparse: {
    content:
      '  8,0    3        1     0.000000000   697  G   W 223490 + 8 [kjournald]\n' +
      '  8,0    3        2     0.000001829   697  P   R [kjournald]\n' +
      '  8,0    3        3     0.000002197   697  Q   W 223490 + 8 [kjournald]\n' +
      '  8,0    1        1     0.001000000   697  C   W 223490 + 8 [0]\n' +
      '  8,0    3        4     0.002002197   697  Q  WF 8 + 1 [kjournald]\n' +
      '  8,0    3        5     0.003002197   697  Q  FW 16 + 1 [a name of words]\n' +
      '  8,0    3        6     0.004002197   697  Q FWS [kjournald]\n' +
      '  8,0    3        7     0.005002197   697  Q   D 64 + 16 [fstrim]\n' +
      '  8,0    3        8     0.006002197   697  Q  RA 100 + 8 [dd]\n' +
      '  8,0    3        9     0.007002197   697  Q   R 36 (12 00 00 00 24 00) [smartd]\n' +
      '  8,0    3        0     0.008002197   697  m   N cfq697 dispatch\n' +
      'CPU0 (trace):\n Reads Queued:           2,        8KiB\n\nTotal (trace):\nThroughput (R/W): 1000KiB/s / 0KiB/s\n',
    requests: [
      'write 114426880+4096 @0',
      'write 4096+512 @2000000 fua',
      'flush @3000000',
      'write 8192+512 @3000000',
      'flush @4000000',
      'discard 32768+8192 @5000000',
      'read 51200+4096 @6000000',
    ],
  },
  msr: {
    content:
      '128166372003061629,hm,0,Read,383496192,32768,113736\n' +
      '128166372016382155,hm,0,Write,310983680,16384,5600\n' +
      '128166372016382154,hm,0,Read,0,512,1\n',
    requests: ['read 383496192+32768 @0', 'read 0+512 @1332052500', 'write 310983680+16384 @1332052600'],
    virtualSize: 366 * MIB,
  },
  alibaba: {
    content: '419,W,8792731648,16384,1577808144360767\n419,R,0,4096,1577808144360768\n',
    requests: ['write 8792731648+16384 @0', 'read 0+4096 @1000'],
  },
  tencent: {
    content: '1538323200,12910952,128,0,1063\n1538323200,8,8,1,1063\n1538323201,16,8,1,1063\n',
    requests: ['read 6610407424+65536 @0', 'write 4096+4096 @0', 'write 8192+4096 @1000000000'],
  },
  systor17: {
    content:
      'Timestamp,Response,IOType,LUN,Offset,Size\n' +
      '1456095145.133076000,0.000806000,R,0,899056122368,131072\n' +
      '1456095145.133077000,,,0,899056122368,131072\n' +
      '1456095146.0,0.000806000,W,0,0,512\n',
    requests: ['read 899056122368+131072 @0', 'write 0+512 @866924000'],
  },
  fiu: {
    content:
      '89966899405 1234 kjournald 904265560 8 W 6 0 531e779b3d5bca7b9c0a6a3a4e2c1a3b\n' +
      '89968195792 20782 gzip 283193184 8 R 6 0 56f11b711d91a065a2b6458eca924523\n',
    requests: ['write 462983966720+4096 @0', 'read 144994910208+4096 @1296387'],
  },
  vscsi: {
    content: Buffer.concat([
      vscsiRecord(2, { command: 0x2a, length: 4096, block: 8, timeUs: 1_300_000_000_000_000 }),
      vscsiRecord(2, { command: 0x88, length: 512, block: 1, timeUs: 1_300_000_000_000_007 }),
      vscsiRecord(2, { command: 0x00, length: 0, block: 0, timeUs: 1_300_000_000_000_008 }),
      vscsiRecord(2, { command: 0x0a, length: 1024, block: 2, timeUs: 1_300_000_000_000_009 }),
    ]),
    requests: ['write 4096+4096 @0', 'read 512+512 @7000', 'write 1024+1024 @9000'],
  },
  'dm-log-writes': {
    content: dmLog({ sectorSize: 4096 }, [
      { sector: 1, sectors: 2, flags: 0 },
      { sector: 3, sectors: 1, flags: 1 | 2 },
      { mark: 'fsync-done' },
      { sector: 0, sectors: 0, flags: 1 },
      { sector: 8, sectors: 16, flags: 4 },
      { sector: 9, sectors: 1, flags: 16 },
    ]),
    requests: [
      'write 4096+8192 @0',
      'flush @0',
      'write 12288+4096 @0 fua',
      'flush @0',
      'discard 32768+65536 @0',
      'write 36864+4096 @0',
    ],
  },
  ftrace: {
    // Of a 6.18 kernel: dd with O_DIRECT and O_SYNC on a loop device, then blkdiscard.
    content:
      '# tracer: nop\n#\n#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION\n' +
      '              dd-812     [001] ..... 42156.495214: block_bio_queue: 7,0 WFS 8 + 16 [dd]\n' +
      '              dd-812     [001] ..... 42156.495225: block_rq_issue: 7,0 WS 8192 () 8 + 16 be,0,4 [dd]\n' +
      ' kworker/1:1H-kb-280     [001] ..s.. 42156.495300: block_rq_complete: 7,0 WS () 8 + 16 be,0,4 [0]\n' +
      ' kworker/1:1H-kb-280     [001] ..... 42156.495435: block_rq_issue: 7,0 FF 0 () 0 + 0 none,0,0 [kworker/1:1H]\n' +
      '    kworker/u8:2-248     [001] ..... 42156.495770: block_bio_queue: 7,0 FWS 18446744073709551615 + 0 [kworker/u8:2]\n' +
      '      blkdiscard-813     [000] ..... 42156.500000: block_bio_queue: 7,0 DS 2048 + 2048 [blkdiscard]\n' +
      '      a b-c      d-9     [000] d..1. 42157.000000: block_bio_queue: 7,0 RA 0 + 8 [a b-c      d]\n',
    requests: [
      'write 4096+8192 @0 fua',
      'flush @556000',
      'discard 1048576+1048576 @4786000',
      'read 0+4096 @504786000',
    ],
  },
  biosnoop: {
    content:
      'TIME(s)     COMM           PID    DISK    T SECTOR     BYTES  LAT(ms)\n' +
      '0.000004    jbd2/vda1-8    250    vda     W 2056       4096      0.74\n' +
      '0.000178    Web Content    1950   vda     R 0          512       0.61\n' +
      '1.5         kworker/0:1H   22     vda     FF 0         0         0.10\n',
    requests: ['write 1052672+4096 @0', 'read 0+512 @174000', 'flush @1499996000'],
    virtualSize: 2 * MIB,
  },
  iosnoop: {
    content:
      'Tracing block I/O. Ctrl-C to end.\n' +
      'STARTs          ENDs            COMM         PID    TYPE DEV      BLOCK        BYTES     LATms\n' +
      '5982800.302061  5982800.302679  supervise    1809   W    202,1    16           4096       0.62\n' +
      '5982800.302423  5982800.302842  Web Content  1809   RA   202,1    0            512        0.42\n',
    requests: ['write 8192+4096 @0', 'read 0+512 @362000'],
  },
  etw: {
    content:
      'BeginHeader\n' +
      '     P-Start,  TimeStamp,     Process Name ( PID),  ParentPID\n' +
      '    DiskRead,  TimeStamp,     Process Name ( PID),   ThreadID,             IrpPtr,   ByteOffset,     IOSize, ElapsedTime,  DiskNum, IrpFlags\n' +
      '   DiskWrite,  TimeStamp,     Process Name ( PID),   ThreadID,             IrpPtr,   ByteOffset,     IOSize, ElapsedTime,  DiskNum, IrpFlags\n' +
      '   DiskFlush,  TimeStamp,     Process Name ( PID),   ThreadID,             IrpPtr, ElapsedTime,  DiskNum, IrpFlags\n' +
      'EndHeader\n' +
      'OS Version: 6.0.6001, Trace Size: 100KB, Events Lost: 0\n' +
      '    DiskRead,      10000,     sqlservr.exe (1234),       2468, 0xfffffa80133bb3b0, 0x0000001000, 0x00002000,         310,        0, 0x060043\n' +
      '   DiskWrite,      10500,           System (   4),         56, 0xfffffa80133bb3b0, 0x0000000000, 0x00000200,         200,        0, 0x060043\n' +
      '   DiskFlush,      11000,           System (   4),         56, 0xfffffa80133bb3b0,         900,        0, 0x060043\n',
    requests: ['read 4096+8192 @0', 'write 0+512 @500000', 'flush @1000000'],
  },
  spc: {
    content: '0,20941264,8192,W,0.551706\n0,0,512,r,0.554041\n',
    requests: ['write 10721927168+8192 @0', 'read 0+512 @2335000'],
  },
  k5cloud: {
    content: '1023,3.500000,W,4096,8192\n1023,4,R,0,512\n',
    requests: ['write 4096+8192 @0', 'read 0+512 @500000000'],
  },
  disksim: {
    content: '13.191135 0 8 16 0\n17.829285 0 0 1 1\n',
    requests: ['write 4096+8192 @0', 'read 0+512 @4638150'],
    options: { format: 'disksim' },
  },
  mqsim: {
    content: '48513000 1 8 16 0\n48513500 1 0 1 1\n',
    requests: ['write 4096+8192 @0', 'read 0+512 @500'],
    options: { format: 'mqsim' },
  },
  columns: {
    content: 'when;what;where;how much\n1.5;put;16;4096\n1.75;sync;0;0\n2;get;0;512\n',
    requests: ['write 8192+4096 @0', 'flush @250000', 'read 0+512 @500000'],
    options: {
      columns: parseColumns(
        'time=1:ms,op=what:put=write/get=read/sync=flush,offset=3:sectors,length=4,separator=semicolon',
      ),
    },
  },
  'nbd-server-log': {
    // Of nbd-server 3.24 with datalog: qemu-io wrote 512 bytes at 4096, read them, and wrote with FUA.
    content: nbdServerLog([
      { magic: 0x25609514, type: 1, cookie: 0n, offset: 0x4a93ba39a54f31b6n, length: 1 },
      { magic: 0x25609513, type: 0x1, cookie: 7n, offset: 4096n, length: 512, data: 512 },
      { magic: 0x67446698, type: 0, cookie: 7n },
      { magic: 0x25609513, type: 0x0, cookie: 8n, offset: 4096n, length: 512 },
      { magic: 0x25609513, type: 0x10001, cookie: 9n, offset: 0n, length: 512, data: 512 },
      { magic: 0x67446698, type: 0, cookie: 9n },
      { magic: 0x67446698, type: 0, cookie: 8n },
      { magic: 0x25609513, type: 0x6, cookie: 7n, offset: 65536n, length: 4096 },
      { magic: 0x67446698, type: 0, cookie: 7n },
      { magic: 0x25609513, type: 0x2, cookie: 0n, offset: 0n, length: 0 },
    ]),
    requests: [
      'write 4096+512 @0',
      'read 4096+512 @0',
      'write 0+512 @0 fua',
      'write-zeroes 65536+4096 @0 unmap',
    ],
  },
  'nbdkit-log': {
    content:
      '2026-03-01 12:00:00.000090 connection=1 Connect export="" tls=0 size=0x40000000 write=1 flush=1\n' +
      '2026-03-01 12:00:00.000100 connection=1 Write id=2 offset=0x10000 count=0x1000 fua=1 ...\n' +
      '2026-03-01 12:00:00.000130 connection=1 ...Write id=2 return=0\n',
    requests: ['write 65536+4096 @0 fua'],
    virtualSize: 2 ** 30,
  },
  'qemu-trace-log': {
    content:
      'blk_co_preadv blk 0x55d0 bs 0x5581f2 offset 0 bytes 512 flags 0x0\n' +
      '12345@1700000000.000100:blk_co_pwritev blk 0x55d0 bs 0x5581f2 offset 65536 bytes 4096 flags 0x10\n' +
      '12345@1700000000.000123:blk_co_pwritev blk 0x55d0 bs 0x5581f2 offset 65536 bytes 65536 flags 16\n' +
      '12345@1700000000.000130:bdrv_open_common bs 0x5581f2 filename "x" flags 0x2\n',
    requests: ['read 0+512 @0', 'write 65536+4096 @0 fua', 'write-zeroes 65536+65536 @23000 fua unmap'],
  },
  'qemu-simpletrace': {
    content: simpletrace([
      { id: 7n, name: 'blk_co_preadv' },
      { id: 8n, name: 'blk_co_pwritev' },
      { id: 9n, name: 'bdrv_open_common' },
      { id: 9n, timeNs: 5n, arguments: [1n, 2n, 3n] },
      { id: 7n, timeNs: 81_000_000_000_000_010n, arguments: [0x55d0n, 1n, 0n, 512n, 0n] },
      { id: 8n, timeNs: 81_000_000_000_000_020n, arguments: [0x55d0n, 1n, 65_536n, 4096n, 0x10n] },
      { id: 8n, timeNs: 81_000_000_000_000_031n, arguments: [0x55d0n, 1n, 65_536n, 65_536n, 0x6n] },
    ]),
    requests: ['read 0+512 @0', 'write 65536+4096 @10 fua', 'write-zeroes 65536+65536 @21 unmap'],
  },
};
