/** A real QEMU that serves the cells of `crash --engine qemu`, in a directory of its own. */

import type { ForeignEngine } from '../../crash/record-logged.ts';
import { cacheOptions, DISCARD_NO_UNREF } from '../../peer/qemu-io.ts';
import { runLoggedQemuIo } from '../../peer/logged-qemu.ts';
import { findLoneQemuIo } from '../../peer/qemu-tools.ts';
import { ImageDirectory } from '../files/image-directory.ts';

/** Disposing removes its files. */
export type LoggedQemu = Disposable & { readonly engine: ForeignEngine };

/**
 * @param binDirectory a directory with a build of QEMU; default: that of `PATH`
 * @throws Qcow2BenchError `peer-missing`
 */
export async function loggedQemu(
  binDirectory: string | undefined,
  signal: AbortSignal | undefined,
): Promise<LoggedQemu> {
  const { qemuIo } = await findLoneQemuIo({ binDirectory });
  const directory = new ImageDirectory();
  const { storage } = directory;
  return {
    engine: {
      storage,
      serve: ({ plan, imageName, backing, logName, requests, dataNames }) => {
        const { format, cache, discard, caches, discardNoUnref } = plan.cell;
        return runLoggedQemuIo({
          image: {
            path: storage.pathOf(imageName),
            format,
            cache,
            discard,
            imageOptions: { ...cacheOptions(caches), ...(discardNoUnref === true ? DISCARD_NO_UNREF : {}) },
          },
          backing: backing.map((file) => ({ path: storage.pathOf(file.name), format: file.format })),
          logPath: storage.pathOf(logName),
          requests,
          dataPaths: new Map([...dataNames].map(([index, name]) => [index, storage.pathOf(name)])),
          qemuIo,
          signal,
        });
      },
    },
    [Symbol.dispose]: () => {
      directory[Symbol.dispose]();
    },
  };
}
