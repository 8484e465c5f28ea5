import { tryEveryOption } from './every-option.ts';

tryEveryOption('crash');
