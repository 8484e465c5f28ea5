/**
 * Rewrites the JSON Schemas of `docs/` from the zod schemas that the program itself checks files
 * with; tests hold the committed files against them. Run by `npm run docs:schemas`.
 */

import { writeFile } from 'node:fs/promises';

import { format, resolveConfig } from 'prettier';

import { gateJsonSchema } from '../src/gate/limits.ts';
import { deviceModelJsonSchema } from '../src/result/device-model-file.ts';
import { hostLogJsonSchema } from '../src/result/host-log-record.ts';
import { resultJsonSchema } from '../src/result/json-schema.ts';
import { studyJsonSchema } from '../src/study/schema.ts';
import { workloadJsonSchema } from '../src/workload/schema.ts';

const docs = new URL('../docs/', import.meta.url);
const style = await resolveConfig(docs);
const deviceModel = await format(JSON.stringify(deviceModelJsonSchema()), { ...style, parser: 'json' });
const workload = await format(JSON.stringify(workloadJsonSchema()), { ...style, parser: 'json' });
const gate = await format(JSON.stringify(gateJsonSchema()), { ...style, parser: 'json' });
const hostLog = await format(JSON.stringify(hostLogJsonSchema()), { ...style, parser: 'json' });
const study = await format(JSON.stringify(studyJsonSchema()), { ...style, parser: 'json' });

await writeFile(new URL('host-log.schema.json', docs), hostLog);
await writeFile(new URL('study.schema.json', docs), study);
await writeFile(new URL('gate.schema.json', docs), gate);
await writeFile(new URL('result.schema.json', docs), resultJsonSchema());
await writeFile(new URL('workload.schema.json', docs), workload);
await writeFile(new URL('device-model.schema.json', docs), deviceModel);
