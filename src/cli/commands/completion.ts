/**
 * `completion`: a script for a shell, which asks this same command for candidates while the user
 * types.
 */

import { defineCommand, type Command, type CommandGroup, type ListedCommand } from '../grammar/command.ts';
import { completionsOf } from '../grammar/completions.ts';
import { examples } from '../grammar/examples.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { badOption, oneOf } from '../terminal/usage-error.ts';

const BASH = `# Completion of qcow2-bench and qb for bash: source <(qcow2-bench completion bash)
_qcow2_bench() {
  local typed=\${COMP_LINE:0:COMP_POINT} words current kept candidate
  read -r -a words <<< "$typed"
  [[ $typed == *[[:space:]] ]] && words+=('')
  current=\${words[-1]}
  # Readline takes what follows a ':' or '=' for a word of its own: the part before it is not repeated.
  kept=
  [[ $current == *[:=]* && \${COMP_WORDBREAKS} == *[:=]* ]] && kept=\${current%"\${current##*[:=]}"}
  COMPREPLY=()
  while IFS= read -r candidate; do
    COMPREPLY+=("\${candidate#"$kept"}")
  done < <("\${words[0]/#\\~/$HOME}" completion words -- "\${words[@]:1}" 2>/dev/null)
}
complete -o bashdefault -o default -F _qcow2_bench qcow2-bench qb`;

const ZSH = `#compdef qcow2-bench qb
# Completion of qcow2-bench and qb for zsh, after compinit: source <(qcow2-bench completion zsh)
_qcow2_bench() {
  local -a candidates
  candidates=("\${(@f)$("\${words[1]}" completion words -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n \${candidates[1]} ]]; then
    compadd -Q -- "\${candidates[@]}"
  else
    _files
  fi
}
compdef _qcow2_bench qcow2-bench qb`;

const SCRIPTS: ReadonlyMap<string, string> = new Map([
  ['bash', BASH],
  ['zsh', ZSH],
]);
/** What the scripts call. */
const ASK = 'words';

/** @param commands all commands of the program. */
export function completionCommand(commands: readonly (ListedCommand | CommandGroup)[]): Command {
  return defineCommand<ShellArgs>({
    options: (yargs) =>
      yargs
        .positional('shell', {
          type: 'string',
          demandOption: true,
          describe: `${[...SCRIPTS.keys()].join(' or ')}; ${ASK} prints the candidates for WORDS, one per line`,
        })
        .positional('words', {
          type: 'string',
          array: true,
          default: [],
          describe: 'Used by the scripts: the words typed so far, after --',
        })
        .epilogue(
          examples([
            [
              'completion bash > ~/.local/share/bash-completion/completions/qcow2-bench',
              'install permanently',
            ],
            ['completion zsh > ~/.zfunc/_qcow2-bench', 'if fpath includes ~/.zfunc'],
          ]),
        ),

    files: () => [],

    run: async ({ shell, words }, terminal) => {
      if (shell === ASK) {
        const candidates = await completionsOf(commands, words);
        if (candidates.length > 0) terminal.print(candidates.join('\n'));
        return EXIT.good;
      }
      const script = SCRIPTS.get(shell);
      if (script === undefined) throw badOption('SHELL', shell, oneOf([...SCRIPTS.keys()]));
      terminal.print(script);
      return EXIT.good;
    },
  });
}

interface ShellArgs {
  readonly shell: string;
  readonly words: readonly string[];
}
