import { tryEveryOption } from './every-option.ts';

tryEveryOption('cells');
