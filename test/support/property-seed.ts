/**
 * Which cases property tests try: the same in every run of CI,
 * and others each time elsewhere. `PROPERTY_SEED` repeats those of a failure. Import it for its effect.
 */
import fc from 'fast-check';

const CI_SEED = 1;

const { CI, PROPERTY_SEED = CI === 'true' ? CI_SEED : undefined } = process.env;

if (PROPERTY_SEED !== undefined) fc.configureGlobal({ seed: Number(PROPERTY_SEED) });
