import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { expect, it } from 'vitest';

import { blockDeviceOf, governorOf, isVirtualMachine } from '../../src/bench/machine.ts';
import { testDirectory } from '../test-directory.ts';

const system = testDirectory();

function put(path: string, text: string): void {
  mkdirSync(dirname(join(system, path)), { recursive: true });
  writeFileSync(join(system, path), text);
}

const DISK = 'devices/pci0/block/sda';
put(`${DISK}/queue/rotational`, '0\n');
put(`${DISK}/queue/write_cache`, 'write back\n');
put(`${DISK}/queue/scheduler`, 'none [mq-deadline] kyber\n');
put(`${DISK}/device/model`, 'FAST DISK 2000  \n');
put(`${DISK}/sda1/partition`, '1\n');
mkdirSync(join(system, 'dev/block'), { recursive: true });
symlinkSync(join(system, DISK), join(system, 'dev/block/8:0'));
symlinkSync(join(system, DISK, 'sda1'), join(system, 'dev/block/8:1'));

it('returns the disk under a file system, of a partition its whole disk', () => {
  const disk = {
    name: 'sda',
    model: 'FAST DISK 2000',
    isRotational: false,
    writeCache: 'write back',
    scheduler: 'mq-deadline',
  };
  expect(blockDeviceOf('8:0', system)).toEqual(disk);
  expect(blockDeviceOf('8:1', system)).toEqual(disk);
  expect(blockDeviceOf('0:45', system)).toBeUndefined();
});

it('leaves out what the kernel does not report it', () => {
  put('devices/virtual/block/loop0/queue/rotational', '1\n');
  symlinkSync(join(system, 'devices/virtual/block/loop0'), join(system, 'dev/block/7:0'));
  expect(blockDeviceOf('7:0', system)).toEqual({ name: 'loop0', isRotational: true });
  expect(governorOf(system)).toBeUndefined();
  put('devices/system/cpu/cpu0/cpufreq/scaling_governor', 'powersave\n');
  expect(governorOf(system)).toBe('powersave');
});

it('knows a virtual machine by the flag that its processor shows', () => {
  put('virtual', 'processor : 0\nflags\t\t: fpu sse hypervisor avx\n');
  put('physical', 'processor : 0\nflags\t\t: fpu sse avx\n');
  expect(isVirtualMachine(join(system, 'virtual'))).toBe(true);
  expect(isVirtualMachine(join(system, 'physical'))).toBe(false);
  expect(isVirtualMachine(join(system, 'none'))).toBeUndefined();
});
