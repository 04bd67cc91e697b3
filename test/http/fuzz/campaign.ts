/**
 * Runs a check over many generated inputs. `FUZZ_SEED` determines everything, so a failure is
 * reproducible. `FUZZ_CASES` is the total number of cases of all files in this folder.
 */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Chance } from './chance.ts';
import { shrink } from './shrink.ts';

/** CI always uses the same seed. */
const DEFAULT_SEED = '1';
export const FUZZ_SEED = Number(process.env.FUZZ_SEED ?? DEFAULT_SEED);
const ALL_CASES = Number(process.env.FUZZ_CASES ?? 100_000);

/** Number of cases between two turns of the event loop, in which their resources are freed. */
const BATCH = 50;

interface Campaign {
  /** The share of all cases, from 0 to 1. */
  readonly share: number;
  /** Returns an input, one character for each byte. */
  readonly generate: (chance: Chance) => string;
  /**
   * Returns undefined, or what is wrong with the handling of this input. All other choices come from
   * `chance`, which is the same each time the case is checked.
   */
  readonly check: (input: string, chance: Chance) => Finding | Promise<Finding>;
}

export type Finding = string | undefined;

/** The number of cases of a share. */
export function casesOf(share: number): number {
  return Math.max(1, Math.round(ALL_CASES * share));
}

export async function runCampaign(t: TestContext, campaign: Campaign): Promise<void> {
  const count = casesOf(campaign.share);
  t.diagnostic(`FUZZ_SEED=${FUZZ_SEED}, ${count} cases`);
  for (let caseNumber = 0; caseNumber < count; caseNumber += 1) {
    const input = campaign.generate(new Chance(FUZZ_SEED, caseNumber));
    const finding = await findingOf(campaign, input, caseNumber);
    if (finding !== undefined) await fail(campaign, { input, caseNumber, finding });
    if (caseNumber % BATCH === 0) await nextTurn();
  }
}

function findingOf(
  { check }: Campaign,
  input: string,
  caseNumber: number,
): Finding | Promise<Finding> {
  return check(input, new Chance(FUZZ_SEED, -2 - caseNumber));
}

interface Failure {
  readonly input: string;
  readonly caseNumber: number;
  readonly finding: string;
}

async function fail(campaign: Campaign, { input, caseNumber, finding }: Failure): Promise<never> {
  let last = finding;
  const shortest = await shrink(input, async (text) => {
    await nextTurn();
    const found = await findingOf(campaign, text, caseNumber);
    const isSame = found !== undefined && kindOf(found) === kindOf(finding);
    if (isSame) last = found;
    return isSame;
  });
  assert.fail(
    [
      `FUZZ_SEED=${FUZZ_SEED}, case ${caseNumber}: ${last}`,
      `input, shortened: ${JSON.stringify(shortest)}`,
      `input: ${JSON.stringify(input)}`,
    ].join('\n'),
  );
}

/** The part of a finding before its details. */
function kindOf(finding: string): string {
  return finding.replace(/[,:].*$/s, '').replaceAll(/\d+/g, '');
}
