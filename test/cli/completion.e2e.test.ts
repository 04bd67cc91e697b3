/** `fly-affinity completion`: the shells themselves complete with its scripts. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { Writable } from 'node:stream';
import { test, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import type { CommandContext } from '../../src/cli/command.ts';
import { COMMANDS } from '../../src/cli/commands.ts';
import { execute } from '../../src/cli/completion.ts';
import { USAGE as USAGE_OF_DOCTOR } from '../../src/cli/doctor.ts';
import { createPlace } from '../store/place.ts';
import { findProgram, skipUnlessFound } from '../support/needed.ts';

/** The file of the script. */
async function scriptFor(t: TestContext, shell: string): Promise<string> {
  let text = '';
  const stdout = new Writable({
    write: (chunk, _encoding, done) => {
      text += String(chunk);
      done();
    },
  });
  const context = { stdout, commands: COMMANDS } as unknown as CommandContext;
  assert.equal(await execute([shell], context), 0);
  const path = (await createPlace(t)).path('script');
  await writeFile(path, text);
  return path;
}

/** What a shell offers for the last of the words. */
type Complete = (script: string, words: readonly string[]) => Promise<readonly string[]>;

async function output(program: string, args: readonly string[]): Promise<readonly string[]> {
  const { stdout, stderr } = await promisify(execFile)(program, args, { timeout: 30_000 });
  assert.equal(stderr, '');
  return stdout.split(/\r?\n/).filter((line) => line !== '');
}

const completeInBash: Complete = (script, words) => {
  const program = `
    source "$1"; shift
    [[ $(complete -p fly-affinity) == *"-F _fly_affinity fly-affinity" ]] || exit 1
    COMP_WORDS=(fly-affinity "$@"); COMP_CWORD=$#
    _fly_affinity && printf '%s\\n' "\${COMPREPLY[@]}"`;
  return output('bash', ['--norc', '-u', '-c', program, 'bash', script, ...words]);
};

const completeInFish: Complete = async (script, words) => {
  const program = `source $argv[1]; complete -C (string join ' ' -- fly-affinity $argv[2..-1])`;
  const lines = await output('fish', ['--no-config', '-c', program, script, ...words]);
  return lines.map((line) => line.split('\t')[0] ?? '');
};

/** Completes in a terminal, since zsh does so nowhere else: Tab lists, and Ctrl-X ends. */
const completeInZsh: Complete = (script, words) => {
  const program = `
    zmodload zsh/zpty
    capture() {
      zpty child zsh -f -i
      zpty -w child "PS1= PS2= RPS1= ; stty -echo -onlcr; autoload -Uz compinit; compinit -u -D; source $1"
      zpty -w child 'compadd() {
        [[ " $* " == *" -O "* || " $* " == *" -A "* || " $* " == *" -D "* ]] && { builtin compadd "$@"; return; }
        local -a hits; builtin compadd -O hits "$@"; found+=($hits); builtin compadd "$@" }'
      zpty -w child 'show() { print -rl -- BEGIN $found END; zle kill-buffer; exit }'
      zpty -w child 'list() { found=(); zle complete-word; show }; zle -C complete-word complete-word _main_complete'
      zpty -w child 'zle -N list; bindkey "^I" list; print READY'
      local line
      while zpty -r child line && [[ $line != *READY* ]]; do :; done
      zpty -w -n child "fly-affinity $2"$'\\t'
      while zpty -r child line && [[ $line != *BEGIN* ]]; do :; done
      while zpty -r child line && [[ $line != *END* ]]; do print -r -- \${line%%[[:space:]]##}; done
      zpty -d child
    }
    capture "$1" "$2"`;
  return output('zsh', ['-f', '-c', program, 'zsh', script, words.join(' ')]);
};

const SHELLS = { bash: completeInBash, zsh: completeInZsh, fish: completeInFish };

/** Those that have a line of their own. */
function optionsIn(usage: string): readonly string[] {
  const options = [...usage.matchAll(/^ {2}(--[a-z-]+)/gm)].map(([, option = '']) => option);
  assert.ok(options.includes('--config') && options.includes('--json'), options.join());
  return options;
}

const NAMES = COMMANDS.map(({ name }) => name);

for (const [shell, complete] of Object.entries(SHELLS)) {
  skipUnlessFound(
    {
      what: `completion in ${shell}`,
      found: findProgram([shell]),
      missing: shell,
      howToGet: `apt-get install ${shell}`,
    },
    () => {
      const offers = async (
        t: TestContext,
        words: readonly string[],
        expected: readonly string[],
      ): Promise<void> => {
        const offered = await complete(await scriptFor(t, shell), words);
        assert.deepEqual([...new Set(offered)].sort(), [...expected].sort(), words.join(' '));
      };

      test(`${shell} completes the name of each command`, async (t) => {
        const script = await scriptFor(t, shell);
        const offered = await complete(script, ['']);
        const names = offered.filter((word) => !word.startsWith('-'));
        assert.deepEqual(names.sort(), [...NAMES].sort());
        await offers(t, ['si'], ['simulate']);
        await offers(t, ['--v'], ['--version']);
      });

      test(`${shell} completes the words that may follow a command`, async (t) => {
        await offers(t, ['sessions', ''], ['list', 'get', 'delete', 'export', 'import']);
        await offers(t, ['completion', ''], ['bash', 'zsh', 'fish']);
        await offers(t, ['help', 'pro'], ['products', 'protocols']);
      });

      test(`${shell} completes the options of a command`, async (t) => {
        await offers(t, ['doctor', '--'], [...optionsIn(USAGE_OF_DOCTOR), '--help']);
        await offers(t, ['sessions', 'list', '--li'], ['--limit']);
        await offers(t, ['simulate', '--machines', '2', '--sp'], ['--spread']);
      });

      test(`${shell} completes the command of the app after --`, async (t) => {
        const script = await scriptFor(t, shell);
        for (const words of [
          ['run', '--', 'mkd'],
          ['simulate', '--port', '0', '--', 'mkd'],
        ]) {
          const offered = await complete(script, words);
          assert.ok(offered.includes('mkdir'), offered.join());
        }
      });
    },
  );
}
