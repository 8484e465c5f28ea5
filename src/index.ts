/**
 * The library: what the command line does, for programs. Everything here is meant to be called;
 * what is not here may change in any version.
 *
 * Formats and the files under them · whole images · workloads and traces · running cells · results,
 * gate, report
 */

export { Qcow2BenchError, type ErrorPlace } from './core/error.ts';
export { formatSize, parseSize } from './core/size.ts';

// Devices: where bytes lie. A filter takes a `BlockDevice` and is one.
export type { GuestOffset, HostOffset } from './core/offsets.ts';
export type { Pending } from './core/pending.ts';
export type { BlockDevice, WritePart } from './device/block-device.ts';
export { probeCapabilities, type Capabilities } from './device/capabilities.ts';
export { FaultDevice } from './device/fault.ts';
export { FileStorage } from './device/file-storage.ts';
export type { HostLogRecord, HostLogSink } from './device/host-log.ts';
export { HostMeter } from './device/host-meter.ts';
export { MemoryStorage, NullStorage } from './device/memory-storage.ts';
export { METADATA_PURPOSES, PURPOSES, SYNC_CAUSES, type Purpose, type SyncCause } from './device/purpose.ts';
export type { Storage } from './device/storage.ts';
export { WriteLog } from './device/write-log.ts';

// Formats: what a guest sees of those bytes.
export { BlockBackend, type WriteFlags, type WriteZeroesFlags } from './format/block-backend.ts';
export type { BackingPolicy, ImageFiles } from './format/backing-chain.ts';
export { CACHE_MODES, CACHE_MODE_RULES, type CacheMode } from './format/cache-mode.ts';
export type { CheckReport, RepairScope } from './format/check-report.ts';
export { FORMATS, type DiskImage, type Format, type Mapping } from './format/disk-image.ts';
export type { CacheSizes } from './format/cache-sizes.ts';
export { REFCOUNT_MODES, type RefcountMode } from './format/image-options.ts';
export { COMPAT_LEVELS, REFCOUNT_BITS, type ImageShape } from './format/image-shape.ts';
export { createImage, openImage, type CreateImageOptions, type OpenImageOptions } from './format/registry.ts';

// Whole images, as `create`, `info` and `check` treat them.
export { checkImageFile, type CheckedImage, type CheckImageOptions } from './image/check-image.ts';
export { createImageFile, type CreatedImage, type CreateImageFileOptions } from './image/create-image.ts';
export { hostImage, type ImagePlace } from './image/host-image.ts';
export {
  resizeImage,
  type NewSize,
  type ResizedImage,
  type ResizeImageOptions,
} from './image/resize-image.ts';
export { readChainInfo, readImageInfo, type ImageInfo } from './image/image-info.ts';

// Workloads and traces: what a guest asks.
export { generateRequests, type GenerateOptions } from './workload/generator.ts';
export { findSource, listSources, openStream, type WorkloadSource } from './workload/library.ts';
export type { Request, RequestOp } from './workload/request.ts';
export type { RequestStream } from './workload/request-stream.ts';
export type { Workload } from './workload/schema.ts';
export { openTrace, type OpenTrace, type OpenTraceOptions } from './workload/trace/trace-reader.ts';
export { parseWorkload, readWorkload } from './workload/workload-file.ts';

// Running: one open image with everything under it, or a matrix of cells.
export { BuiltinEngine, type BuiltinEngineOptions } from './bench/builtin-engine.ts';
export type { Clock } from './bench/clock.ts';
export type { CellPlan, CountOutcome, Engine, TimedPass } from './bench/engine.ts';
export { collectEnvironment, type EnvironmentOptions } from './bench/environment.ts';
export { planMatrix, type MatrixAxes, type MatrixSetting } from './bench/matrix.ts';
export { PAYLOAD_KINDS, type PayloadKind } from './bench/payload.ts';
export { runMatrix, type MatrixOutcome, type MatrixRunOptions, type RecordSink } from './bench/run.ts';
export type { RunObserver, RunStage } from './bench/run-observer.ts';
export { openStack, type Stack, type StackOptions } from './bench/stack.ts';

// Results, and what is made of them.
export { cellKey, cellName } from './result/cell.ts';
export { resultCsv } from './result/csv.ts';
export { deriveFigures, type Figures } from './result/derive.ts';
export type { Cell, CellRecord, Counts, Environment, ResultRecord, Timing } from './result/schema.ts';
export { parseResult, readResult, ResultWriter, writeResult } from './result/store.ts';
export { acceptBaseline, readBaseline, writeBaseline, type Baseline } from './gate/baseline.ts';
export { compareCounts, type GateVerdict } from './gate/compare.ts';
export { GateLimits, parseGateLimits, readGateLimits } from './gate/limits.ts';
export { gateRecord, type GateRecord } from './gate/record.ts';
export { verdictText } from './gate/render/terminal.ts';
export { reportHtml } from './report/html.ts';
export { markdownTables } from './report/markdown.ts';
export { terminalSummary } from './report/terminal.ts';
