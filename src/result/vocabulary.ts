/**
 * The closed vocabularies that a result speaks, and the facts of formats, for those who read results
 * and know nothing of devices and engines (the gate and the report). Defined where they are meant;
 * only named again here.
 */

export { PHASES, type Phase } from '../device/operation.ts';
export {
  modelDevice,
  modelName,
  operationNs,
  syncNs,
  type DeviceModel,
  type PathCosts,
} from '../device/device-model.ts';
export { DEVICE_MODELS } from '../device/device-models.ts';
export { HOST_FILE_SYSTEMS } from '../device/file-system-kinds.ts';
export {
  CAUSE_MEANINGS,
  METADATA_PURPOSES,
  PURPOSE_MEANINGS,
  PURPOSES,
  SYNC_CAUSES,
  type Purpose,
  type SyncCause,
} from '../device/purpose.ts';
export { CACHE_MODES, CACHE_MODE_RULES, type CacheMode } from '../format/cache-mode.ts';
export { CACHE_SIZE_OPTIONS, givenSizes, type CacheSizes } from '../format/cache-sizes.ts';
export { ENGINE_POLICY_NAMES, DEFAULT_ENGINE_POLICY } from '../format/engine-policy.ts';
export { COMMIT_POLICIES, DEFAULT_COMMIT_POLICY } from '../format/commit-policy.ts';
export { FORMATS, type Format } from '../format/disk-image.ts';
export {
  COMPAT_LEVELS,
  COMPRESSION_TYPES,
  DATA_FILES,
  NODE_SIZES,
  PREALLOCATIONS,
  REFCOUNT_BITS,
  type ImageShape,
} from '../format/image-shape.ts';
export { cachesFor, FORMAT_FACTS, formatsWith, shapeFor } from '../format/formats.ts';
export { DEFAULT_QEMU_PROFILE, QEMU_PROFILE_NAMES, type QemuProfileName } from '../format/qemu-profile.ts';
export { REFCOUNT_MODES, type RefcountMode } from '../format/image-options.ts';
export { REQUEST_OPS, type RequestOp } from '../workload/request.ts';
export { REMAPS, type Remap } from '../workload/remap.ts';
