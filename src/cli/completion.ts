/** `fly-affinity completion`: a script by which a shell completes the commands, from their table and usages. */
import { print, reportMistake, type Command, type CommandModule } from './command.ts';

export const USAGE = `Usage: fly-affinity completion bash|zsh|fish

Prints a script that completes commands, options and topics:

  bash   source <(fly-affinity completion bash)                  in ~/.bashrc
  zsh    source <(fly-affinity completion zsh)                   in ~/.zshrc, after compinit
  fish   fly-affinity completion fish | source                   in ~/.config/fish/config.fish
`;

const SCRIPTS: Readonly<Record<string, (grammars: readonly Grammar[]) => string>> = {
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
};

export function operands(): readonly string[] {
  return Object.keys(SCRIPTS);
}

export const execute: CommandModule['execute'] = async ([shell = '', ...others], context) => {
  const script = Object.hasOwn(SCRIPTS, shell) ? SCRIPTS[shell] : undefined;
  if (!script || others.length > 0) {
    return reportMistake(context, 'needs a shell: bash, zsh or fish', 'completion');
  }
  const grammars = await Promise.all(
    context.commands.map((command) => grammarOf(command, context.commands)),
  );
  await print(context.stdout, script(grammars));
  return 0;
};

/** What may follow the name of a command. */
interface Grammar {
  readonly name: string;
  readonly summary: string;
  readonly operands: readonly string[];
  /** With their dashes. */
  readonly options: readonly string[];
  /** Whether the command of an app follows after `--`. */
  readonly runsApp: boolean;
}

const OPTION = /(?<![\w-])--[a-z][a-z-]*/g;

async function grammarOf(command: Command, commands: readonly Command[]): Promise<Grammar> {
  const { name, summary } = command;
  const { USAGE: usage, operands = () => [] } = await command.load();
  const options = new Set(usage.match(OPTION)).add('--help');
  return {
    ...{ name, summary, operands: operands(commands), options: [...options] },
    runsApp: usage.includes('-- CMD'),
  };
}

/** As one word of a shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

const GENERAL_OPTIONS = ['--help', '--version'] as const;

function bashScript(grammars: readonly Grammar[]): string {
  const first = [...grammars.map(({ name }) => name), ...GENERAL_OPTIONS].join(' ');
  const cases = grammars.map(
    ({ name, operands, options, runsApp }) =>
      `    ${name}) operands=${quoted(operands.join(' '))} options=${quoted(options.join(' '))}` +
      `${runsApp ? ' app=1' : ''} ;;\n`,
  );
  return `# bash completion of fly-affinity
_fly_affinity() {
  local word=\${COMP_WORDS[COMP_CWORD]} operands= options= app= i
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W ${quoted(first)} -- "$word"))
    return
  fi
  case \${COMP_WORDS[1]} in
${cases.join('')}  esac
  for ((i = 2; i < COMP_CWORD; i++)); do
    if [[ \${COMP_WORDS[i]} == -- ]]; then
      if [[ $app ]] && ((i == COMP_CWORD - 1)); then COMPREPLY=($(compgen -c -- "$word")); fi
      return
    fi
  done
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$word"))
  elif ((COMP_CWORD == 2)); then
    COMPREPLY=($(compgen -W "$operands" -- "$word"))
  fi
}
complete -o default -F _fly_affinity fly-affinity
`;
}

/** No variable is named as one of zsh's own, such as `commands` and `options`: others complete with these. */
function zshScript(grammars: readonly Grammar[]): string {
  const commands = grammars.map(({ name, summary }) =>
    quoted(`${name}:${summary.replaceAll(':', String.raw`\:`)}`),
  );
  const cases = grammars.map(
    ({ name, operands, options, runsApp }) =>
      `    ${name}) next=(${operands.join(' ')}) flags=(${options.join(' ')})` +
      `${runsApp ? ' app=1' : ''} ;;\n`,
  );
  return `#compdef fly-affinity
# zsh completion of fly-affinity
_fly-affinity() {
  local -a names next flags
  local app= dashes
  names=(
    ${commands.join('\n    ')}
  )
  if ((CURRENT == 2)); then
    _describe command names
    compadd -- ${GENERAL_OPTIONS.join(' ')}
    return
  fi
  case $words[2] in
${cases.join('')}  esac
  dashes=\${words[(ie)--]}
  if ((dashes < CURRENT)); then
    if [[ -z $app ]]; then _files; return; fi
    shift $dashes words
    ((CURRENT -= dashes))
    _normal
    return
  fi
  if [[ $words[CURRENT] == -* ]]; then
    compadd -- $flags
  elif ((CURRENT == 3 && $#next > 0)); then
    compadd -- $next
  else
    _files
  fi
}
if [[ $funcstack[1] == _fly-affinity ]]; then
  _fly-affinity "$@"
else
  compdef _fly-affinity fly-affinity
fi
`;
}

/** Every rule of fish begins like this; the functions are defined in the script. */
const FISH_RULE = 'complete -c fly-affinity -n';

function fishScript(grammars: readonly Grammar[]): string {
  const commands = grammars.map(
    ({ name, summary }) =>
      `${FISH_RULE} '__fly_affinity_at 1' -f -a ${name} -d ${quoted(summary)}\n`,
  );
  const general = GENERAL_OPTIONS.map(
    (option) => `${FISH_RULE} '__fly_affinity_at 1' -l ${option.slice(2)}\n`,
  );
  return `# fish completion of fly-affinity
function __fly_affinity_at
    test (count (commandline -opc)) -eq $argv[1]
end
function __fly_affinity_in
    set -l words (commandline -opc)
    test "$words[2]" = $argv[1]; and not contains -- -- $words
end
function __fly_affinity_before_app
    set -l words (commandline -opc)
    test "$words[2]" = $argv[1]; and contains -- -- $words
end
function __fly_affinity_app
    set -l words (commandline -opc) (commandline -ct)
    set -l dashes (contains -i -- -- $words)
    complete -C (string join ' ' -- $words[(math $dashes + 1)..-1])
end
${[...commands, ...general, ...grammars.map(fishRules)].join('')}`;
}

function fishRules({ name, operands, options, runsApp }: Grammar): string {
  const rules = options.map((option) => `'__fly_affinity_in ${name}' -l ${option.slice(2)}`);
  if (operands.length > 0) {
    const words = quoted(operands.join(' '));
    rules.push(`'__fly_affinity_in ${name}; and __fly_affinity_at 2' -f -a ${words}`);
  }
  if (runsApp) rules.push(`'__fly_affinity_before_app ${name}' -f -a '(__fly_affinity_app)'`);
  return rules.map((rule) => `${FISH_RULE} ${rule}\n`).join('');
}
