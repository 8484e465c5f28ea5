/**
 * Who may import whom, as ARCHITECTURE.md lays down. Everybody may import `core`; a folder may import
 * itself and what `MAY_IMPORT` names; no folder imports `cli`. Types count as imports.
 */

'use strict';

const MAY_IMPORT = {
  core: [],
  device: [],
  format: ['device'],
  image: ['format', 'device'],
  workload: [],
  // Only for their closed vocabularies (purposes, causes, cache modes) and the facts of formats.
  result: ['device', 'format', 'workload'],
  bench: ['workload', 'format', 'device', 'result'],
  // Runs mkfs by the door to programs, which is in peer.
  below: ['bench', 'peer', 'device', 'result'],
  peer: ['bench', 'workload', 'format', 'device', 'result'],
  crash: ['bench', 'workload', 'format', 'image', 'device', 'result'],
  nbd: ['workload', 'format', 'device'],
  compare: ['device', 'result'],
  gate: ['result', 'compare'],
  history: ['result', 'compare', 'gate'],
  report: ['result', 'compare', 'gate', 'history'],
  study: ['result', 'report'],
  cli: [
    'device',
    'format',
    'image',
    'workload',
    'result',
    'bench',
    'below',
    'crash',
    'peer',
    'nbd',
    'compare',
    'gate',
    'history',
    'report',
    'study',
  ],
};

/** The rooms of two large folders: a room may import itself and what is named here of its folder. */
const ROOMS = {
  'format/qcow2': {
    'on-disk': [],
    metadata: ['on-disk'],
    compression: [],
    io: ['on-disk', 'metadata', 'compression'],
    snapshots: ['on-disk', 'metadata'],
    bitmaps: ['on-disk', 'metadata'],
    check: ['on-disk', 'metadata', 'snapshots', 'bitmaps'],
  },
  cli: {
    terminal: [],
    options: ['terminal'],
    grammar: ['terminal', 'options'],
    files: ['terminal', 'options'],
    sessions: ['terminal', 'options', 'grammar', 'files'],
    commands: ['terminal', 'options', 'grammar', 'files', 'sessions'],
  },
};

/** Modules that stay behind one door: package or built-in → the only places that may import it. */
const ONLY_IN = [
  {
    name: 'files-only-at-the-edges',
    comment: 'The rest works on a BlockDevice or on text that the edge has read.',
    module: '^((node:)?fs(/promises)?|src/core/host-fs[.]ts)$',
    places: [
      '^src/core/host-fs[.]ts$',
      '^src/device/',
      '^src/workload/.*trace',
      '^src/workload/[^/]*-file[.]ts$',
      '^src/workload/library[.]ts$',
      '^src/result/',
      '^src/bench/(environment|harness-version)',
      '^src/bench/machine',
      '^src/nbd/socket-file',
      '^src/study/study-file[.]ts$',
      '^src/(below|peer|report|cli)/',
    ],
  },
  {
    name: 'charts-only-in-report',
    comment: 'Chart libraries are large and are inlined into a page; nothing else needs them.',
    module: '(^|node_modules/)(vega|vega-.*)(/|$)',
    places: ['^src/report/'],
  },
  {
    name: 'arguments-only-in-cli',
    comment: 'Options are parsed once, at the edge.',
    module: '(^|node_modules/)(@types/)?yargs(/|$)',
    places: ['^src/cli/'],
  },
  {
    name: 'programs-behind-one-door',
    comment:
      'Node gives arguments as UTF-8: the door refuses what is not, and child-paths gives such names a path. The bundler of a clone gets no name of a user.',
    module: '^(node:)?child_process$',
    places: ['^src/peer/run-program[.]ts$', '^src/report/page-bundle[.]ts$'],
  },
  {
    name: 'sockets-behind-one-door',
    comment: 'Node takes paths of sockets for UTF-8: socket-file gives other names a path.',
    module: '^(node:)?net$',
    places: ['^src/nbd/'],
  },
  {
    name: 'http-behind-one-door',
    comment: 'One server, on the loopback interface: the page that follows a run.',
    module: '^(node:)?https?$',
    places: ['^src/cli/sessions/live-report[.]ts$'],
  },
  {
    name: 'native-calls-behind-doors',
    comment: 'Doors to libc, libz and libzstd, each with an explicit fallback behind it.',
    module: '(^|node_modules/)koffi(/|$)',
    places: ['^src/device/', '^src/format/qcow2/compression/system-compression[.]ts$'],
  },
];

const FOLDERS = Object.keys(MAY_IMPORT);

module.exports = {
  forbidden: [
    ...FOLDERS.map((folder) => ({
      name: `${folder}-imports`,
      comment: `${folder} may import ${['core', ...MAY_IMPORT[folder]].join(', ')} and nothing else of src/.`,
      severity: 'error',
      from: { path: `^src/${folder}/` },
      to: { path: '^src/', pathNot: `^src/(${[folder, 'core', ...MAY_IMPORT[folder]].join('|')})/` },
    })),
    ...Object.entries(ROOMS).flatMap(([folder, rooms]) =>
      Object.entries(rooms).map(([room, others]) => ({
        name: `${folder}/${room}-imports`,
        comment: `Of ${folder}/, ${room} may import ${others.join(', ') || 'nothing else'}.`,
        severity: 'error',
        from: { path: `^src/${folder}/${room}/` },
        to: { path: `^src/${folder}/`, pathNot: `^src/${folder}/(${[room, ...others].join('|')})/` },
      })),
    ),
    {
      name: 'known-folders-only',
      comment: 'A new folder under src/ gets a line in MAY_IMPORT and in ARCHITECTURE.md.',
      severity: 'error',
      from: { path: '^src/', pathNot: [`^src/(${FOLDERS.join('|')})/`, '^src/index[.]ts$'] },
      to: {},
    },
    {
      name: 'formats-apart',
      comment: 'No format imports another.',
      severity: 'error',
      from: { path: '^src/format/([^/]+)/' },
      to: { path: '^src/format/[^/]+/', pathNot: '^src/format/$1/' },
    },
    {
      name: 'formats-by-their-table',
      comment:
        'Facts and engines of a format are reached through formats.ts and registry.ts. The plain format replaces what a lone file does not open; a run records the libraries that compress; a crash is inspected with the checks.',
      severity: 'error',
      from: {
        path: '^src/',
        pathNot:
          '^src/format/([^/]+/|formats[.]ts$|lone-file[.]ts$)|^src/bench/environment[.]ts$|^src/crash/inspect[.]ts$',
      },
      to: { path: '^src/format/[^/]+/' },
    },
    ...ONLY_IN.map(({ name, comment, module: path, places }) => ({
      name,
      comment,
      severity: 'error',
      from: { path: '^src/', pathNot: places },
      to: { path },
    })),
    {
      name: 'no-vague-names',
      comment: 'Name the concept: a file of utils, helpers or common has none.',
      severity: 'error',
      from: {},
      to: { path: '/(utils?|helpers?|common|misc)(/|[.]ts$)', pathNot: 'node_modules' },
    },
    {
      name: 'tests-not-imported',
      severity: 'error',
      from: { path: '^(src|scripts)/' },
      to: { path: '^test/' },
    },
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'no-unresolvable',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'no-dev-dependency-in-src',
      comment: 'The published package installs `dependencies` only.',
      severity: 'error',
      // A page's scripts are bundled with theirs.
      from: { path: '^src/', pathNot: '^src/report/page/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'], dependencyTypesNot: ['type-only'] },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'types', 'node', 'default'],
    },
  },
};
