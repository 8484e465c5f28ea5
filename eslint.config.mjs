/**
 * Typed lint: typescript-eslint's strict and stylistic sets, and the house rules that a rule can
 * state. Inline switches are off (`noInlineConfig`): a finding is fixed, or the rule is changed
 * here for all.
 */

import js from '@eslint/js';
import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';

const noDefaultExport = {
  selector: 'ExportDefaultDeclaration',
  message: 'Export by name: a default export has another name at every import.',
};
/** Of `node:fs` and `node:os`: what takes no path and gives none. */
const PATHLESS = {
  'node:fs': [
    ...['Stats', 'close', 'closeSync', 'constants', 'fdatasync', 'fdatasyncSync', 'fstatSync', 'fsyncSync'],
    ...['ftruncateSync', 'read', 'readSync', 'write', 'writeSync', 'writevSync'],
  ],
  'node:os': [
    'arch',
    'constants',
    'cpus',
    'endianness',
    'hostname',
    'loadavg',
    'platform',
    'release',
    'totalmem',
  ],
};
const noClockInDate = {
  selector: 'NewExpression[callee.name="Date"][arguments.length=0]',
  message: 'Time is passed in: only cli/ reads the clock.',
};

export default defineConfig(
  globalIgnores(['dist/', 'coverage/', 'docs/api/', 'results/', 'reports/', 'node_modules/']),
  { linterOptions: { noInlineConfig: true } },
  js.configs.recommended,
  {
    files: ['**/*.ts', '**/*.tsx'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      curly: ['error', 'multi-line'],
      eqeqeq: 'error',
      'max-lines': ['error', { max: 500 }],
      'no-console': 'error',
      'no-restricted-syntax': ['error', noDefaultExport],
      'object-shorthand': 'error',

      '@typescript-eslint/consistent-type-exports': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/prefer-readonly': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true, requireDefaultForNonUnion: true },
      ],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      // `while (true)` reads better than a flag in a scanner.
      '@typescript-eslint/no-unnecessary-condition': [
        'error',
        { allowConstantLoopConditions: 'only-allowed-literals' },
      ],
      // It asks for `!`, which is banned.
      '@typescript-eslint/non-nullable-type-assertion-style': 'off',
      // `async` without `await` turns a throw into a rejection, which contracts that answer a
      // promise need.
      '@typescript-eslint/require-await': 'off',
      // Numbers go into text through String() or hex(), so that the base is a decision.
      '@typescript-eslint/restrict-template-expressions': ['error', {}],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
    },
  },
  {
    files: ['src/**/*.{ts,tsx}'],
    ignores: ['src/core/host-fs.ts'],
    rules: {
      '@typescript-eslint/no-restricted-imports': [
        'error',
        {
          paths: [
            ...Object.entries(PATHLESS).map(([name, allowImportNames]) => ({
              name,
              allowImportNames,
              message: 'File names are bytes: paths go through core/host-fs.ts.',
            })),
            { name: 'node:fs/promises', message: 'File names are bytes: paths go through core/host-fs.ts.' },
          ],
        },
      ],
    },
  },
  {
    files: ['src/**/*.{ts,tsx}'],
    ignores: ['src/cli/**'],
    rules: {
      'no-restricted-properties': [
        'error',
        ...[
          ['Date', 'now'],
          ['performance', 'now'],
          ['process', 'hrtime'],
        ].map(([object, property]) => ({
          object,
          property,
          message: 'Time is passed in: only cli/ reads the clock.',
        })),
        {
          object: 'Math',
          property: 'random',
          message: 'Randomness is passed in: use core/random.ts and a seed.',
        },
      ],
      'no-restricted-syntax': ['error', noDefaultExport, noClockInDate],
    },
  },
  {
    // The places that speak to a person.
    files: ['src/cli/**/*.ts', 'scripts/**', 'examples/**'],
    rules: { 'no-console': 'off' },
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      // Expectations take methods as values: expect(device.write).toHaveBeenCalled().
      '@typescript-eslint/unbound-method': 'off',
      '@typescript-eslint/no-empty-function': 'off',
    },
  },
  {
    // Configuration files are read by tools that ask for a default export.
    files: ['*.config.ts'],
    rules: { 'no-restricted-syntax': 'off' },
  },
  {
    files: ['**/*.{mjs,cjs}'],
    languageOptions: {
      globals: {
        AbortController: 'readonly',
        Buffer: 'readonly',
        URL: 'readonly',
        clearInterval: 'readonly',
        clearTimeout: 'readonly',
        console: 'readonly',
        module: 'writable',
        performance: 'readonly',
        process: 'readonly',
        require: 'readonly',
        setInterval: 'readonly',
        setTimeout: 'readonly',
      },
    },
    rules: { eqeqeq: 'error', 'max-lines': ['error', { max: 500 }] },
  },
);
